"""The head of an inference record, read without its schema: what precedes the outputs is the same in all of them."""

from __future__ import annotations

import struct

from schemas.longs import read_long
from schemas.values import Lineage
from schemas.wire import SINGLE_OBJECT_BYTES

STRINGS = 6  # behind the revision: arm, model, version, event schema, source topic, assigned arm
PRESENT = 2  # the branch of ["null", ...] that is not null


def read_lineage(value: bytes) -> tuple[Lineage, int]:
    """Return the lineage of an encoded inference and where its position begins.

    Raises ValueError or IndexError for what is no inference.
    """
    deployment, at = _text(value, SINGLE_OBJECT_BYTES)
    revision, at = read_long(value, at)
    names = []
    for _ in range(STRINGS):
        name, at = _text(value, at)
        names.append(name)
    arm, model, version, event_schema, source, assigned = names
    if at + 8 > len(value):
        raise ValueError("no propensity")
    (propensity,) = struct.unpack_from("<d", value, at)
    fallback, at = _text(value, at + 8)
    found = Lineage(deployment, revision, arm, model, version, event_schema, source, assigned, propensity, fallback)
    return found, at


def read_position(value: bytes, at: int) -> tuple[int, int]:
    """Return partition and offset of the source event, which stand behind the lineage.

    Raises ValueError or IndexError for what is no inference.
    """
    if value[at] != PRESENT:
        raise ValueError("no source partition")
    partition, at = read_long(value, at + 1)
    if value[at] != PRESENT:
        raise ValueError("no source offset")
    offset, _ = read_long(value, at + 1)
    if partition < 0 or offset < 0:
        raise ValueError("a position below 0")
    return partition, offset


def _text(value: bytes, at: int) -> tuple[str, int]:
    length, at = read_long(value, at)
    if length < 0 or at + length > len(value):
        raise ValueError("a text that does not end")
    return value[at : at + length].decode(), at + length
