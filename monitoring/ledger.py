"""Which state belongs to which position, what is to be published, what a snapshot may contain: the recipe's heart.

No Kafka here. A state is only ever moved by the record that follows its position; a record above it is a hole and ends
the process, because the snapshot it starts over from is always right.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from monitoring.errors import Hole, SnapshotForeign, SnapshotInvalid
from monitoring.folds import Anew, Figure, Figuring, Fold, Folding, Out, Record

S = TypeVar("S")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state and the offset of the record that comes next; the state holds the fold of everything before it.

    low: where reading begins again, for folds that leave something out of their states; None: at `next`.
    """

    next: int
    state: bytes
    low: int | None = None

    def encode(self) -> bytes:
        """Return `{"next", "low"}` as a JSON line, then the state."""
        low = self.next if self.low is None else self.low
        return json.dumps({"next": self.next, "low": low}).encode() + b"\n" + self.state

    @classmethod
    def decode(cls, value: bytes) -> Snapshot:
        """Read what `encode` wrote. Raises SnapshotInvalid."""
        head, newline, state = value.partition(b"\n")
        try:
            document = json.loads(head)
            position = int(document["next"])
            low = int(document.get("low", position))
        except (ValueError, KeyError, TypeError) as error:
            raise SnapshotInvalid(f"a snapshot without a position: {error}") from error
        if not newline or not 0 <= low <= position:
            raise SnapshotInvalid("a snapshot without a state")
        return cls(position, state, low if low < position else None)


@dataclass(frozen=True, slots=True)
class Cut:
    """What one instant holds: outputs so far, and the snapshots that may be published once these are acknowledged."""

    outs: list[Out]
    snapshots: dict[int, bytes]


class Ledger(Generic[S]):
    """The foldings of the partitions that this process owns."""

    def __init__(self, fold: Fold[S], role: str = "", anew: Anew = "whole") -> None:
        self._fold, self._role, self._anew = fold, role, anew
        self._foldings: dict[int, Folding[S]] = {}
        self._owned: set[int] = set()
        self._pending: list[Out] = []
        self._dirty: set[int] = set()
        self.lost = 0  # records that retention removed before they were folded
        self.repeated = 0  # records below the position, dropped

    def own(self, partitions: Iterable[int]) -> None:
        """Say which partitions this process owns now; the others' states stay in memory, but are not published."""
        self._owned = set(partitions)

    def restore(self, partition: int, snapshot: Snapshot | None, beginning: int) -> int:
        """Take the snapshot unless memory is as new, and return the offset to read from.

        beginning: the first offset that the source still holds. Where the snapshot is of another release, the log is
        folded anew if that is exact. Raises SnapshotInvalid, for a snapshot that is damaged or of another release.
        """
        known = self._foldings.get(partition)
        if snapshot and (known is None or snapshot.next > max(known.position, known.counted)):
            known = self._loaded(partition, snapshot, beginning)
        elif known is None:
            known = Folding(self._fold, partition, beginning)
        if known.position < beginning:
            self.lost += beginning - known.position
            log.error("retention removed %d records before they were monitored", beginning - known.position)
            known.position = beginning
        self._foldings[partition] = known
        return known.position

    def _loaded(self, partition: int, snapshot: Snapshot, beginning: int) -> Folding[S]:
        try:
            return Folding(self._fold, partition, snapshot.next, snapshot.state, snapshot.low)
        except SnapshotForeign as error:
            whose = f"the snapshot of {self._role}, partition {partition}, is of another release: {error}"
            if self._anew == "always" or (self._anew == "whole" and beginning == 0):
                log.warning("%s; its topic is read anew from offset %d, which comes to the same", whose, beginning)
                return Folding(self._fold, partition, beginning)
            why = f"its topic lacks what came before offset {beginning}"
            if self._anew == "never":
                why = "what follows from its topic was published under numbers, and would be counted twice"
            raise SnapshotInvalid(
                f"{whose}. It cannot be made anew exactly, for {why}. Run the release that wrote it; or stop all "
                f"monitors of the deployment and give up what it knows with `penstock monitor ... --forget "
                f'{self._role}` (docs/operations.md, "A snapshot of another release")'
            ) from error

    def accept(self, record: Record, follows: int | None) -> None:
        """Fold a record; one below the position is dropped.

        follows: the position of the reader before this record: no record that it may see lies between.
        Raises Hole when records between the state and this one were skipped, or nobody restored the state.
        """
        folding = self._foldings.get(record.partition)
        if folding is None:
            raise Hole(f"partition {record.partition}: record {record.offset} was read before the state was restored")
        if follows is None or follows > folding.position:
            raise Hole(
                f"partition {record.partition}: record {record.offset} follows {follows}, "
                f"but the state ends at {folding.position}"
            )
        if record.offset < folding.position:
            self.repeated += 1
            return
        self._pending += folding.apply(record)
        if not folding.rewinding:
            self._dirty.add(record.partition)

    def idle(self, partition: int, position: int, watermark: int) -> None:
        """Say that a partition held nothing more from a position on at a time; passed over where it was read since.

        watermark: ms since 1970; what comes is later.
        """
        folding = self._foldings.get(partition)
        if folding is not None and partition in self._owned and folding.position == position:
            self._pending += folding.idle(watermark)
            self._dirty.add(partition)

    @property
    def pending(self) -> int:
        """Number of outputs that wait to be published."""
        return len(self._pending)

    def cut(self) -> Cut:
        """Take outputs and changed states in one step; nothing may be folded in between."""
        dirty, self._dirty = self._dirty, set()
        changed = [self._foldings[partition] for partition in sorted(dirty & self._owned)]
        for folding in changed:
            self._pending += folding.flush()
        outs, self._pending = self._pending, []
        return Cut(outs, {f.partition: Snapshot(f.next, f.dump(), f.low()).encode() for f in changed})

    def position(self, partition: int) -> int:
        """Return the next offset of a partition, owned or not; 0 where nothing is known of it."""
        folding = self._foldings.get(partition)
        return folding.position if folding is not None else 0

    def positions(self) -> dict[int, int]:
        """Return the next offset of each owned partition."""
        return {p: f.position for p, f in self._foldings.items() if p in self._owned}

    def states(self) -> list[S]:
        """Return the states of the owned partitions, to look at."""
        return [f.state for p, f in self._foldings.items() if p in self._owned]

    def figures(self) -> list[Figure]:
        """Return the numbers to look at of all owned partitions."""
        fold, owned = self._fold, [f for p, f in self._foldings.items() if p in self._owned]
        return [each for f in owned for each in fold.figures(f.state)] if isinstance(fold, Figuring) else []

    def facts(self) -> dict[int, Mapping[str, Any]]:
        """Return the fold's numbers of each owned partition."""
        return {p: self._fold.facts(f.state) for p, f in self._foldings.items() if p in self._owned}
