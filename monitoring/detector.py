"""What every detector is: a pure fold of the closed ticks of one lineage that says what has moved.

A detector sees ticks in order, as merged integer counts; it knows no clock, no partition and no Kafka. Its state can be
written down as plain values and read back, and goes on from there as if nothing had happened.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from models import varint
from models.reference import Tally
from monitoring.alerts import Finding


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector says about one column with one tick.

    detector: its name in alerts. kind, name: the column. patience: findings in a row that open an episode; rest: calm
    ones in a row that close it.
    """

    detector: str
    kind: str
    name: str
    finding: Finding
    patience: int = 1
    rest: int = 1


class Detector(Protocol):
    """Watches one version in one arm against one reference."""

    def update(self, tick: int, tally: Tally) -> Iterator[Verdict]:
        """Take the next closed tick; yield what there is to say about columns."""

    def untested(self) -> int:
        """Return of how many columns too little is known yet to test them."""

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""

    def load(self, document: Mapping[str, Any]) -> None:
        """Take a dumped state. Raises SnapshotInvalid, KeyError, TypeError or ValueError when it is damaged."""


def dump_tally(tally: Tally) -> list[Any]:
    """Return a tally as plain values."""
    return [tally.rows, base64.b64encode(varint.pack(tally.cells)).decode()]


def load_tally(document: list[Any]) -> Tally:
    """Return the dumped tally."""
    return Tally(document[0], np.array(varint.unpack(base64.b64decode(document[1])), np.int64))
