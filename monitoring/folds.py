"""The monitor's state as a pure fold of a log: no clock, no randomness, no Kafka and no Faust.

The same records in the same order give the same state and the same outputs, whoever folds them and however often they
start over from a snapshot. That is what makes alerts repeatable under faults.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from monitoring.errors import PartInvalid, SnapshotForeign, SnapshotInvalid

S = TypeVar("S")
T = TypeVar("T", contravariant=True)
# Whether a log may be folded anew from what is there of it: where all of it is, always, or never.
Anew = Literal["whole", "always", "never"]


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a source topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    time: int = -1  # ms since 1970, of the record; -1 where it has none


@dataclass(frozen=True, slots=True)
class Out:
    """One record to publish; its key and value follow from the fold's input, so a repeat is the same record."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None  # None: the key decides
    headers: tuple[tuple[str, bytes], ...] = ()


def identity(content: str) -> str:
    """Return 32 hexadecimal digits that name a record by what it is about: a repeat has the same."""
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def check_format(document: Mapping[str, Any], reads: int) -> None:
    """Raise SnapshotForeign for the document of a state that another release wrote."""
    if document["format"] != reads:
        raise SnapshotForeign(f"it has the format {document['format']!r}, and this release reads {reads}")


def packed(document: Mapping[str, Any]) -> bytes:
    """Return the document of a state as compressed JSON, the same bytes for the same state."""
    return zlib.compress(json.dumps(document, sort_keys=True, separators=(",", ":")).encode(), 1)


def unpacked(data: bytes, reads: int, made: Callable[[Any], S]) -> S:
    """Return the state that `made` makes of a packed document. Raises SnapshotInvalid, also for what it cannot use.

    reads: the format that the document must have; SnapshotForeign is raised for another one.
    """
    try:
        document = json.loads(zlib.decompress(data))
        check_format(document, reads)
        return made(document)
    except (zlib.error, ValueError, KeyError, TypeError, PartInvalid) as error:
        raise SnapshotInvalid(f"a damaged snapshot: {type(error).__name__}: {error}") from error


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
class Figuring(Protocol[T]):
    """A fold that has figures to show."""

    def figures(self, state: T) -> Iterable[Figure]:
        """Return them as they are now."""


@runtime_checkable
class Rewound(Protocol[T]):
    """A fold whose snapshots leave out what reading the log again from an earlier offset brings back."""

    def low(self, state: T, position: int) -> int:
        """Return the offset to read again from when the state at a position is loaded."""

    def rewind(self, state: T, record: Record) -> None:
        """Take a record below the snapshot's position into what was left out; nothing follows from it."""


@runtime_checkable
class Buffered(Protocol[T]):
    """A fold that puts off outputs to make fewer and larger records of them, and speaks also when nothing comes."""

    def flush(self, state: T) -> list[Out]:
        """Return what was put off; asked for before every snapshot."""

    def idle(self, state: T, position: int, watermark: int) -> list[Out]:
        """Return what follows from a partition being read to its end, at a position.

        watermark: ms since 1970; what comes is later.
        """


@runtime_checkable
class Holding(Protocol[T]):
    """A fold that holds records back to take many as one; its dumped state is that before the first of them."""

    def held(self, state: T) -> int | None:
        """Return the offset of the first record that is held back, None for none."""


class Folding(Generic[S]):
    """One partition's fold with its position. low: where reading begins, at most `position`, up to which is counted."""

    def __init__(
        self, fold: Fold[S], partition: int, position: int, state: bytes | None = None, low: int | None = None
    ) -> None:
        self.fold, self.partition = fold, partition
        self.position, self.counted = position if low is None else low, position
        self.state = fold.new(partition) if state is None else fold.load(state)

    @property
    def rewinding(self) -> bool:
        """Say whether records are still read again that the state counts already."""
        return self.position < self.counted

    @property
    def next(self) -> int:
        """The offset of the first record that the dumped state does not count."""
        if self.rewinding:
            return self.counted
        held = self.fold.held(self.state) if isinstance(self.fold, Holding) else None
        return self.position if held is None else held

    def apply(self, record: Record) -> list[Out]:
        """Take a record at or after the position; the position moves behind it."""
        outs: list[Out] = []
        if record.offset >= self.counted:
            outs = self.fold.apply(self.state, record)
        elif isinstance(self.fold, Rewound):
            self.fold.rewind(self.state, record)
        self.position = record.offset + 1
        return outs

    def flush(self) -> list[Out]:
        """Return outputs that were put off."""
        return self.fold.flush(self.state) if isinstance(self.fold, Buffered) else []

    def idle(self, watermark: int) -> list[Out]:
        """Return what follows from there being nothing more to read."""
        return self.fold.idle(self.state, self.position, watermark) if isinstance(self.fold, Buffered) else []

    def low(self) -> int:
        """Return where a restart from the state as it is must begin to read."""
        position = min(self.position, self.next)
        return self.fold.low(self.state, position) if isinstance(self.fold, Rewound) else position

    def dump(self) -> bytes:
        return self.fold.dump(self.state)
