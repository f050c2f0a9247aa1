"""The events of a chaos run, each a pure function of its sequence number: what is sent, and what must become of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.longs import write_long
from schemas.wire import confluent_header, fingerprint, single_object_header

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Event",
    "namespace": "penstock.chaos",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "a", "type": "double"},
        {"name": "b", "type": ["null", "double"], "default": None},
        {"name": "note", "type": "string"},
    ],
}
ECHO = ("id", "note")
NOTE = "spring line " * 2_500  # 30 kB, too large for the output topic of a scenario with oversize inferences
OUTPUT_BYTES = 24 << 10  # max.message.bytes of that topic
POISON = ("junk", "cut", "tail", "empty", "null")
ONE_IN = 1_000_003  # a prime: what is odd about an event spreads over partitions and batches


Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Events:
    """The events of one scenario. poison, oversize: shares of 1. schema_id: Confluent framing; None: single object."""

    poison: float = 0.0
    oversize: float = 0.0
    schema_id: int | None = None

    def kind(self, sequence: int) -> str:
        """Return `good`, `oversize`, or one of POISON."""
        place = (sequence * 7_919 % ONE_IN) / ONE_IN
        if place < self.poison:
            return POISON[sequence % len(POISON)]
        return "oversize" if place >= 1 - self.oversize else "good"

    def scored(self, sequence: int) -> bool:
        """Say whether the event must become an inference; else it must become a dead letter."""
        return self.kind(sequence) == "good"

    def due(self, sequences: Whole) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Return `scored` and `score` of many events at once."""
        places = (sequences * 7_919 % ONE_IN) / ONE_IN
        a = ((sequences % 9_973) * 0.37).astype(np.float32)
        b = np.where(sequences % 3 == 0, 0.0, (sequences % 101) * -1.25).astype(np.float32)
        good = (places >= self.poison) & (places < 1 - self.oversize)
        return good, (a + b).astype(np.float64)

    def key(self, sequence: int) -> bytes:
        return b"k%d" % (sequence % 5_000)

    def value(self, sequence: int) -> bytes | None:
        """Return the event's bytes; None for a tombstone."""
        kind = self.kind(sequence)
        if kind == "null":
            return None
        if kind in ("junk", "empty"):
            return b"no event at all" if kind == "junk" else b""
        note = NOTE.encode() if kind == "oversize" else b""
        head = _HEAD if self.schema_id is None else confluent_header(self.schema_id)
        a, b = _features(sequence)
        second = b"\0" if b is None else b"\2" + struct.pack("<d", b)
        whole = head + write_long(sequence) + struct.pack("<d", a) + second + write_long(len(note)) + note
        return whole[:-5] if kind == "cut" else whole + b"tail" if kind == "tail" else whole

    def score(self, sequence: int) -> float:
        """Return what the sum model makes of the event: the sum of single-precision numbers."""
        a, b = _features(sequence)
        return float(np.float32(a) + np.float32(b or 0.0))


_HEAD = single_object_header(fingerprint(SCHEMA))


def _features(sequence: int) -> tuple[float, float | None]:
    return (sequence % 9_973) * 0.37, None if sequence % 3 == 0 else (sequence % 101) * -1.25
