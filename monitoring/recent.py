"""What a lineage has looked like of late, for numbers to look at: the last one to two minutes of ticks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from models.reference import Reference, Tally
from models.unusual import KIND, beyond
from monitoring.detector import dump_tally, load_tally
from monitoring.distances import distances
from monitoring.folds import Figure

SPAN_MS = 60_000


class Recent:
    """The tallies of the present span of record time and of the one before."""

    def __init__(self, tick_ms: int) -> None:
        self._tick_ms, self._span = tick_ms, -1
        self._now: Tally | None = None
        self._before: Tally | None = None

    def add(self, tick: int, tally: Tally) -> None:
        """Take the next tick."""
        span = tick * self._tick_ms // SPAN_MS
        if span != self._span:
            self._before, self._now = self._now if span == self._span + 1 else None, None
            self._span = span
        self._now = tally if self._now is None else self._now + tally

    @property
    def tally(self) -> Tally | None:
        """Both together; None where nothing was seen."""
        if self._now is None or self._before is None:
            return self._now
        return self._before + self._now

    def figures(self, reference: Reference, arm: str, version: str) -> Iterator[Figure]:
        """Yield the distances of each column from its reference."""
        seen = self.tally
        if seen is None:
            return
        for part in reference.slices:
            cells = slice(part.start, part.end)
            found = distances(reference.tally.cells[cells], seen.cells[cells])
            for measure, value in found._asdict().items():
                yield Figure(arm, version, part.name, measure, value)
            if part.kind == KIND:
                yield Figure(arm, version, part.name, "beyond", beyond(seen.cells[cells]))

    def dump(self) -> list[Any]:
        """Return the state as plain values."""
        return [self._span, *(None if each is None else dump_tally(each) for each in (self._before, self._now))]

    def load(self, document: list[Any]) -> None:
        """Take a dumped state. Raises TypeError or ValueError when it is damaged."""
        self._span, before, now = document
        self._before, self._now = (None if each is None else load_tally(each) for each in (before, now))
