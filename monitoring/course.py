"""How a lineage went over a range of time, in a bounded number of time bins, whatever the number of ticks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.reference import Counts, Reference, Slice
from monitoring.drift import SMOOTHING
from monitoring.hindsight import Look, Span
from monitoring.tilts import Floats

MOST = 500  # time bins
SECOND = 1000


@dataclass(frozen=True, slots=True)
class Grid:
    """Time bins of one length that cover a span; begin, width: ms."""

    begin: int
    width: int
    bins: int

    @classmethod
    def over(cls, span: Span, most: int = MOST, unit: int = SECOND) -> Grid:
        """Return bins of whole units (ms), at most so many."""
        units = max(-(-(span.end - span.begin) // unit), 1)
        width = -(-units // most) * unit
        return cls(span.begin, width, max(-(-(span.end - span.begin) // width), 1))

    def place(self, ms: int) -> int:
        """Return the bin of a moment of the span."""
        return min(max((ms - self.begin) // self.width, 0), self.bins - 1)

    def starts(self) -> list[int]:
        """Return when each bin begins, ms."""
        return [self.begin + at * self.width for at in range(self.bins)]


class Course:
    """The counts of one lineage, added up in each time bin, and the highest evidence of each column in it.

    rows: shape (bins,). cells: shape (bins, cells of the reference). evidence: natural logarithms, shape (bins,
    columns), NaN where no tick closed or the detector has none. alarm: the evidence of an alarm, None without one.
    first, last: ms at which the first and the last tick began.
    """

    def __init__(self, reference: Reference, grid: Grid) -> None:
        self.reference, self.grid = reference, grid
        self.rows = np.zeros(grid.bins, np.int64)
        self.cells = np.zeros((grid.bins, len(reference.tally.cells)), np.int64)
        self.evidence = np.full((grid.bins, len(reference.slices)), np.nan)
        self.alarm: float | None = None
        self.first, self.last = -1, -1

    def add(self, look: Look) -> None:
        """Take a closed tick."""
        at = self.grid.place(look.start)
        self.rows[at] += look.tally.rows
        self.cells[at] += look.tally.cells
        self.first = look.start if self.first < 0 else min(self.first, look.start)
        self.last = max(self.last, look.start)
        if look.evidence is not None:
            found, self.alarm = look.evidence
            self.evidence[at] = np.fmax(self.evidence[at], found)

    def total(self, part: Slice) -> Counts:
        """Return a column's counts over the range."""
        return np.asarray(self.cells[:, part.start : part.end].sum(axis=0), np.int64)

    def psi(self, part: Slice) -> Floats:
        """Return a column's population stability index in each time bin, NaN where it has no events; shape (bins,)."""
        expected, counts = self._expected(part), self.cells[:, part.start : part.end]
        p = (expected + SMOOTHING) / (expected + SMOOTHING).sum()
        q = (counts + SMOOTHING) / (counts + SMOOTHING).sum(axis=1, keepdims=True)
        return self._where_seen(counts, ((q - p) * np.log(q / p)).sum(axis=1))

    def missing(self, part: Slice) -> Floats:
        """Return the share of a column's events that are missing in each time bin, NaN where it has none."""
        counts = self.cells[:, part.start : part.end]
        return self._where_seen(counts, counts[:, -1] / np.maximum(counts.sum(axis=1), 1))

    def _expected(self, part: Slice) -> Counts:
        return self.reference.tally.cells[part.start : part.end]

    @staticmethod
    def _where_seen(counts: Counts, values: npt.NDArray[np.float64]) -> Floats:
        return np.where(counts.sum(axis=1) > 0, values, np.nan)
