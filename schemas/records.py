"""Low-rate records (profile, alert, ...) as Avro single objects of the schemas committed in `avsc/`.

What an earlier release wrote is read, too: `avsc/NAME.1.avsc` and so on are the schemas that a record had before.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from itertools import count, takewhile
from typing import Any, cast

import fastavro

from schemas.errors import RecordInvalid
from schemas.wire import SINGLE_OBJECT_BYTES, fingerprint, single_object_header

__all__ = ["RecordInvalid", "decode", "encode", "schema", "written"]


@cache
def schema(name: str) -> dict[str, Any]:
    """Return the committed schema `avsc/NAME.avsc`."""
    text = resources.files("schemas").joinpath("avsc", f"{name}.avsc").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def written(name: str) -> list[dict[str, Any]]:
    """Return the schemas that records of this name may be written with, that of today first."""
    return [schema(each) for each in _names(name)]


def _names(name: str) -> list[str]:
    folder = resources.files("schemas").joinpath("avsc")
    earlier = (f"{name}.{number}" for number in count(1))
    return [name, *takewhile(lambda each: folder.joinpath(f"{each}.avsc").is_file(), earlier)]


@cache
def _codec(name: str) -> tuple[bytes, Any]:
    document = schema(name)
    return single_object_header(fingerprint(document)), fastavro.parse_schema(document)


@cache
def _earlier(name: str) -> dict[bytes, Any]:
    """The schemas that a record had before, by the headers of what was written with them."""
    return dict(_codec(each) for each in _names(name)[1:])


def encode(name: str, record: Mapping[str, Any]) -> bytes:
    """Return the record as an Avro single object. Raises ValueError when it does not fit the schema."""
    header, parsed = _codec(name)
    out = io.BytesIO(header)
    out.seek(len(header))
    fastavro.schemaless_writer(out, parsed, record)
    return out.getvalue()


def decode(name: str, data: bytes) -> dict[str, Any]:
    """Return the record; what an earlier one lacks has its default.

    Raises RecordInvalid for other schemas, damaged or trailing bytes.
    """
    header, parsed = _codec(name)
    writer = parsed
    if not data.startswith(header):
        begin = data[:SINGLE_OBJECT_BYTES]
        if begin not in _earlier(name):
            raise RecordInvalid(f"not the record {name}: it begins with {begin.hex()}, not {header.hex()}")
        writer = _earlier(name)[begin]
    source = io.BytesIO(data)
    source.seek(SINGLE_OBJECT_BYTES)
    try:
        record = cast(
            "dict[str, Any]", fastavro.schemaless_reader(source, writer, None if writer is parsed else parsed)
        )
    except Exception as error:
        raise RecordInvalid(f"the record {name} is damaged: {type(error).__name__}: {error}") from error
    if source.read(1):
        raise RecordInvalid(f"the record {name} has trailing bytes")
    return record
