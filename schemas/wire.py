"""Framing on the wire: what stands in front of an Avro datum and how a schema is named there; pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fastavro.schema

SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT = b"\0"
SINGLE_OBJECT_BYTES = 10
CONFLUENT_BYTES = 5


def fingerprint(schema: Mapping[str, Any]) -> str:
    """CRC-64-AVRO of the parsing canonical form as 16 hex digits, in the byte order in which it stands after C3 01.

    The schema must have passed `schemas.resolve.check_schema` where it comes from outside.
    """
    canonical = fastavro.schema.to_parsing_canonical_form(fastavro.schema.parse_schema(dict(schema), _write_hint=False))
    return str(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))


def single_object_header(fingerprint: str) -> bytes:
    """C3 01 and the 8 bytes of a fingerprint as `fingerprint` returns it."""
    return SINGLE_OBJECT + bytes.fromhex(fingerprint)


def confluent_header(schema_id: int) -> bytes:
    """A zero byte and the registry's id, 4 bytes big endian."""
    return CONFLUENT + schema_id.to_bytes(4, "big")
