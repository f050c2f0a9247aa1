"""The monitor's state as a pure fold of a log: no clock, no randomness, no Kafka and no Faust.

The same records in the same order give the same state and the same outputs, whoever folds them and however often they
start over from a snapshot. That is what makes alerts repeatable under faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

S = TypeVar("S")
In = TypeVar("In", contravariant=True)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a source topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Out:
    """One record to publish; its key and value follow from the fold's input, so a repeat is the same record."""

    topic: str
    key: bytes
    value: bytes


class Fold(Protocol[S]):
    """A deterministic state per source partition."""

    def new(self, partition: int) -> S:
        """Return the state before the first record of a partition."""

    def apply(self, state: S, record: Record) -> list[Out]:
        """Take the next record into the state and return what follows from it; never raises on bad records."""

    def dump(self, state: S) -> bytes:
        """Return the state as bytes."""

    def load(self, data: bytes) -> S:
        """Return the state that was dumped. Raises SnapshotInvalid."""

    def facts(self, state: S) -> Mapping[str, int]:
        """Return numbers about the state for metrics."""


class Figure(NamedTuple):
    """A number to look at: how far a column of a version in an arm is from its reference, by a measure."""

    arm: str
    version: str
    column: str
    measure: str
    value: float


@runtime_checkable
class Figuring(Protocol[In]):
    """A fold that has figures to show."""

    def figures(self, state: In) -> Iterable[Figure]:
        """Return them as they are now."""


class Folding(Generic[S]):
    """One partition's fold with its position."""

    def __init__(self, fold: Fold[S], partition: int, position: int, state: bytes | None = None) -> None:
        self.fold, self.partition, self.position = fold, partition, position
        self.state = fold.new(partition) if state is None else fold.load(state)

    def apply(self, record: Record) -> list[Out]:
        """Take a record at or after the position; the position moves behind it."""
        outs = self.fold.apply(self.state, record)
        self.position = record.offset + 1
        return outs

    def dump(self) -> bytes:
        return self.fold.dump(self.state)
