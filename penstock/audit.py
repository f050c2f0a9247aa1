"""The entries of the audit as lineage and events read them: all of a topic, and what was before and after a change."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from penstock.client.errors import ConnectionFailed
from penstock.client.records import RecordReader
from schemas.control import Entry
from schemas.errors import RecordInvalid
from schemas.values import as_bytes

TOPIC = "penstock.audit"
PATIENCE = 30.0  # seconds without a record before a reader gives up


def state(text: str | None) -> dict[str, Any] | None:
    """Return what an entry's `before` or `after` says, or None for nothing. Raises ValueError when it is no object."""
    if text is None:
        return None
    try:
        found = json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{type(found).__name__} instead of a JSON object")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def read(
    kafka: Mapping[str, str],
    topic: str = TOPIC,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Entry], list[int]]:
    """Return every entry that is committed now, in their order, and the offsets of records that are none.

    Raises NoSuchTopic, ConnectionFailed.
    """
    settings: dict[str, Any] = {"log_level": 2, **kafka}
    servers = settings.pop("bootstrap.servers")
    entries, unreadable = [], []
    reader = RecordReader(servers, topic, start="earliest", **settings)
    try:
        deadline = clock() + PATIENCE
        while not reader.at_end:
            messages = reader.read(1000, 0.5)
            for message in messages:
                try:
                    entries.append(Entry.decode(as_bytes(message.value()) or b""))
                except RecordInvalid:
                    unreadable.append(int(message.offset() or 0))
            if messages:
                deadline = clock() + PATIENCE
            elif clock() > deadline:
                raise ConnectionFailed(f"topic {topic!r} on {servers} could not be read to its end; try again")
    finally:
        reader.close()
    return entries, unreadable
