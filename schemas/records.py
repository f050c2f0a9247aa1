"""Low-rate records (profile, alert, ...) as Avro single objects of the schemas committed in `avsc/`."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, cast

import fastavro

from schemas.errors import RecordInvalid
from schemas.wire import SINGLE_OBJECT_BYTES, fingerprint, single_object_header

__all__ = ["RecordInvalid", "decode", "encode", "schema"]


@cache
def schema(name: str) -> dict[str, Any]:
    """Return the committed schema `avsc/NAME.avsc`."""
    text = resources.files("schemas").joinpath("avsc", f"{name}.avsc").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


@cache
def _codec(name: str) -> tuple[bytes, Any]:
    document = schema(name)
    return single_object_header(fingerprint(document)), fastavro.parse_schema(document)


def encode(name: str, record: Mapping[str, Any]) -> bytes:
    """Return the record as an Avro single object. Raises ValueError when it does not fit the schema."""
    header, parsed = _codec(name)
    out = io.BytesIO(header)
    out.seek(len(header))
    fastavro.schemaless_writer(out, parsed, record)
    return out.getvalue()


def decode(name: str, data: bytes) -> dict[str, Any]:
    """Return the record. Raises RecordInvalid for other schemas, damaged or trailing bytes."""
    header, parsed = _codec(name)
    if not data.startswith(header):
        begin = data[:SINGLE_OBJECT_BYTES].hex()
        raise RecordInvalid(f"not the record {name}: it begins with {begin}, not {header.hex()}")
    source = io.BytesIO(data)
    source.seek(SINGLE_OBJECT_BYTES)
    try:
        record = cast("dict[str, Any]", fastavro.schemaless_reader(source, parsed, None))
    except Exception as error:
        raise RecordInvalid(f"the record {name} is damaged: {type(error).__name__}: {error}") from error
    if source.read(1):
        raise RecordInvalid(f"the record {name} has trailing bytes")
    return record
