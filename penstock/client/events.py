"""Events as bytes: dicts, dataclasses and frames become Avro datums behind a single-object header."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from penstock.client.errors import EventInvalid, SchemaInvalid
from penstock.client.fitting import Record
from schemas import wire


def read_schema(schema: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """The Avro record schema, from a mapping or an .avsc file.

    Raises SchemaInvalid when it is not one.
    """
    if isinstance(schema, Mapping):
        found: Any = dict(schema)
    else:
        try:
            found = json.loads(Path(schema).read_text())
        except OSError as error:
            raise SchemaInvalid(
                f"{schema}: cannot be read ({error.strerror}); give the path of an .avsc file"
            ) from None
        except ValueError as error:
            raise SchemaInvalid(f"{schema}: is not JSON: {error}") from None
    if not isinstance(found, dict) or found.get("type") != "record" or not isinstance(found.get("fields"), list):
        raise SchemaInvalid(f"events need an Avro record schema with `fields`, not {str(found)[:80]}")
    return found


class EventEncoder:
    """One schema's encoder. Every event is looked at before it is written: what does not fit raises EventInvalid."""

    def __init__(self, schema: Mapping[str, Any] | str | Path) -> None:
        self.schema = read_schema(schema)
        try:
            self.parsed: Any = fastavro.parse_schema(self.schema, {})
            expanded: Any = fastavro.parse_schema(self.schema, {}, expand=True)
        except (SchemaParseException, UnknownType, KeyError, TypeError) as error:
            raise SchemaInvalid(f"not a valid Avro schema: {type(error).__name__}: {error}") from None
        self.record = Record(expanded)
        self.fields: list[dict[str, Any]] = expanded["fields"]
        self.fingerprint = wire.fingerprint(self.schema)
        self.header = wire.single_object_header(self.fingerprint)

    def encode(self, event: Any) -> bytes:
        """One event, a mapping or a dataclass instance, as the bytes of a message.

        Raises EventInvalid: field, value and expected type.
        """
        event = as_mapping(event)
        misfit = self.record.first_misfit(event)
        if misfit is not None:
            raise misfit
        return self.write(event)

    def write(self, event: Mapping[str, Any]) -> bytes:
        """Like `encode` for an event that is known to fit."""
        out = io.BytesIO()
        out.write(self.header)
        try:
            fastavro.schemaless_writer(out, self.parsed, event)
        except Exception as error:  # such as a lone surrogate in a string: rare, and fastavro says which field
            raise EventInvalid("?", event, "a value that Avro can carry", found=str(error)) from error
        return out.getvalue()

    def encode_many(self, events: Iterable[Any], first_row: int = 0) -> list[bytes]:
        """Several events; all of them fit, or EventInvalid names the row and nothing is returned."""
        values = []
        for row, event in enumerate(events, start=first_row):
            try:
                values.append(self.encode(event))
            except EventInvalid as error:
                raise error.at(f"row {row}") from None
        return values

    def encode_frame(self, frame: Any, first_row: int = 0) -> list[bytes]:
        """A polars or pandas frame, one message per row; needs that library.

        Times without a zone are taken as UTC. Raises EventInvalid: row (counted from `first_row`), column,
        value and expected type.
        """
        from penstock.client import frames

        return frames.encode(self, frame, first_row)


def as_mapping(event: Any) -> Mapping[str, Any]:
    """The fields of a mapping or of a dataclass instance (dataclasses inside it included)."""
    if isinstance(event, Mapping):
        return event
    if dataclasses.is_dataclass(event) and not isinstance(event, type):
        return {field.name: _plain(getattr(event, field.name)) for field in dataclasses.fields(event)}
    raise EventInvalid("", event, "an event as a mapping or a dataclass instance")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_mapping(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value
