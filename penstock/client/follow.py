"""Follow any topic of Avro records, or of CloudEvents in JSON, as plain dicts, for tools that show them."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Message

from penstock.client.errors import RecordUnreadable
from penstock.client.inference import Position
from penstock.client.records import RecordDecoder, RecordReader, Start, position, unreadable
from schemas.values import as_bytes


def follow(
    settings: Mapping[str, Any], topic: str, start: Start, known: Sequence[Mapping[str, Any]] = ()
) -> Iterator[tuple[Position, dict[str, Any] | RecordUnreadable] | None]:
    """Each record with its position, or what is wrong with it; None about five times a second while nothing comes.

    Raises NoSuchTopic, ConnectionFailed, schemas.errors.SourceUnavailable.
    """
    kafka = dict(settings)
    reader = RecordReader(kafka.pop("bootstrap.servers"), topic, start=start, **kafka)
    decoder = RecordDecoder(reader.configuration, known)
    try:
        while True:
            messages = reader.read(500, 0.2)
            for message in messages:
                try:
                    yield position(message), _event(message) or decoder.decode(message)[0]
                except RecordUnreadable as error:
                    yield position(message), error
            if not messages:
                yield None
    finally:
        reader.close()
        decoder.close()


def _event(message: Message) -> dict[str, Any] | None:
    """Return a CloudEvent in structured JSON; None for another record. Raises RecordUnreadable."""
    kind = dict(message.headers() or []).get("content-type")
    if not (as_bytes(kind) or b"").startswith(b"application/cloudevents+json"):
        return None
    try:
        found = json.loads(message.value() or b"")
    except (ValueError, RecursionError) as error:
        raise unreadable(message, f"it is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise unreadable(message, "it is no JSON object")
    return found


def plain(value: Any) -> Any:
    """A value as JSON can say it: times as ISO 8601, bytes in base64, decimals and UUIDs as text."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
