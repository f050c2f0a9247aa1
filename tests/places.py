"""Where an inference came from, read from its first bytes: quicker than decoding millions of them."""

from __future__ import annotations

from schemas.longs import read_long

Place = tuple[int, int]  # source partition and offset


def place_of(value: bytes) -> Place:
    """Return where an inference came from: single-object header, strings and a long of lineage, then the source."""
    length, at = read_long(value, 10)  # deployment
    _, at = read_long(value, at + length)  # revision
    for _ in range(5):  # arm, model, version, event schema, source topic
        length, at = read_long(value, at)
        at += length
    partition, at = read_long(value, at + 1)
    offset, _ = read_long(value, at + 1)
    return partition, offset
