"""Segments of a reference: features by whose values other columns are counted apart, each in bins of its own cells.

What is told apart is chosen once, from training rows, and stands in the reference: training, workers and monitor share
it as they share bins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.binning import Bins, Categories, Cells
from models.errors import ReferenceInvalid

VALUES = 16  # of a category that are told apart, the most frequent ones
RANGES = 8  # of a number, with about equally many training rows
ROWS = 1_000  # training rows that a value needs: of fewer nothing small could be found
MOST = 256  # columns apart: values of all segments times the columns that are counted by them
CHARACTERS = 100  # of a value's name


@dataclass(frozen=True, slots=True)
class Segment:
    """A feature by whose values columns are counted apart.

    place: of the feature among the columns of the reference. groups: of each value the feature's first bin, and the one
    behind its last. columns: places of those that are counted.
    """

    place: int
    groups: tuple[tuple[int, int], ...]
    columns: tuple[int, ...]

    def label(self, bins: Bins, value: int) -> str:
        """Return the name of a value for a person. bins: of the feature."""
        first, end = self.groups[value]
        if isinstance(bins, Categories) or end == first + 1:
            return bins.label(first)[:CHARACTERS]
        return bins.range_label(first, end)

    def cells(self, columns: Sequence[Bins]) -> int:
        """Return how many cells its columns apart have. columns: all of the reference."""
        return len(self.groups) * sum(columns[at].size for at in self.columns)


@dataclass(frozen=True, slots=True)
class Apart:
    """The cells of one column for one value of a segment: `start` to `end`."""

    segment: Segment
    value: int
    column: int
    start: int
    end: int


def layout(columns: Sequence[Bins], segments: Sequence[Segment]) -> Iterator[Apart]:
    """Yield where each column apart lies, behind the cells of all columns: by segment, column, value."""
    start = sum(bins.size for bins in columns)
    for segment in segments:
        for column in segment.columns:
            for value in range(len(segment.groups)):
                end = start + columns[column].size
                yield Apart(segment, value, column, start, end)
                start = end


def chosen(
    features: Sequence[Bins], outputs: Sequence[Bins], counts: Cells, names: Sequence[str], more: Sequence[str] = ()
) -> tuple[Segment, ...]:
    """Return the segments of features, by how many training rows fell into each bin of each column.

    counts: of the cells of all columns. names: of the segments. more: features that are counted by them, besides all
    outputs. Raises ReferenceInvalid for what is no profiled feature, a segment of which no value has enough rows,
    nothing to count, and too many columns apart.
    """
    columns, found = (*features, *outputs), []
    plain = {bins.name: at for at, bins in enumerate(features) if bins.item is None}
    for name in (*names, *more):
        if name not in (plain if name in names else {bins.name for bins in features}):
            raise ReferenceInvalid(f"{name!r} is no profiled feature; there are {', '.join(plain)}")
    apart = [at for at, bins in enumerate(columns) if at >= len(features) or bins.name in more]
    starts = np.cumsum([0, *(bins.size for bins in columns)])
    for name in dict.fromkeys(names):
        place = plain[name]
        groups = _groups(columns[place], counts[starts[place] : starts[place + 1]])
        if not groups:
            raise ReferenceInvalid(
                f"no value of the segment {name} has {ROWS:,} training rows, which it takes to tell it apart: leave it "
                "out, or build the reference from more rows"
            )
        mine = tuple(at for at in apart if at != place)
        if not mine:
            raise ReferenceInvalid(f"there is nothing to count by the segment {name}: give scores, or features apart")
        found.append(Segment(place, groups, mine))
    if (count := sum(len(each.groups) * len(each.columns) for each in found)) > MOST:
        raise ReferenceInvalid(
            f"{count:,} columns would be counted apart (values of segments times columns), and {MOST} is the most: "
            "take fewer segments, or fewer features apart"
        )
    return tuple(found)


def _groups(bins: Bins, counts: Cells) -> tuple[tuple[int, int], ...]:
    """Return the bins of each value that is told apart, missing and what training did not know left out."""
    if isinstance(bins, Categories):
        own = [(at, at + 1) for at in range(bins.own) if counts[at] >= ROWS]
        return tuple(own[:VALUES])
    return tuple(_ranges(counts[:-1]))


def _ranges(counts: Cells) -> Iterator[tuple[int, int]]:
    """Yield ranges of bins, all bins in order, each of about a RANGES-th of the rows, and of ROWS at least."""
    total, first, rows, past, cut = int(counts.sum()), 0, 0, 0, 0
    if total < ROWS:
        return
    for at, count in enumerate(counts.tolist()):
        rows, past = rows + count, past + count
        share = (past + total // 64) * RANGES // total  # to the nearest bin: most have a 32nd of the rows
        if rows >= ROWS and total - past >= ROWS and cut < share < RANGES:
            yield first, at + 1
            first, rows, cut = at + 1, 0, share
    yield first, len(counts)


def check(columns: Sequence[Bins], features: int, segments: Sequence[Segment]) -> None:
    """Raise ReferenceInvalid where segments do not fit columns, of which the first ones are features."""
    for segment in segments:
        if not _fits(columns, features, segment):
            raise ReferenceInvalid("the reference is damaged: a segment does not fit its columns")
    if sum(len(each.groups) * len(each.columns) for each in segments) > MOST:
        raise ReferenceInvalid(f"the reference is damaged: more than {MOST} columns are counted apart")


def _fits(columns: Sequence[Bins], features: int, segment: Segment) -> bool:
    edges = [edge for group in segment.groups for edge in group]
    if not (0 <= segment.place < features and edges and segment.columns) or columns[segment.place].item is not None:
        return False
    if len(set(segment.columns)) < len(segment.columns) or not all(0 <= at < len(columns) for at in segment.columns):
        return False
    rising = all(a < b for a, b in segment.groups) and all(a <= b for a, b in pairwise(edges))
    return rising and edges[0] >= 0 and edges[-1] <= columns[segment.place].size


class Crossings:
    """Finds the cells of columns apart from the cells of the columns themselves, all columns of a segment at once."""

    def __init__(self, columns: Sequence[Bins], segments: Sequence[Segment], rows: Sequence[int]) -> None:
        """rows: of the matrix of cells, in which each column stands."""
        starts = np.cumsum([0, *(bins.size for bins in columns)])
        places = {(each.segment, each.column, each.value): each.start for each in layout(columns, segments)}
        self._parts = []
        for segment in segments:
            values = np.full(columns[segment.place].size, -1)
            for value, (first, end) in enumerate(segment.groups):
                values[first:end] = value
            sizes = np.array([[columns[at].size] for at in segment.columns])
            begin = np.array([[places[segment, at, 0] - starts[at]] for at in segment.columns])
            mine = np.array([rows[at] for at in segment.columns])
            self._parts.append((rows[segment.place], int(starts[segment.place]), values, mine, begin, sizes))

    def cells(self, cells: Cells) -> Iterator[tuple[Cells, Cells]]:
        """Yield of each segment the cells of its columns apart, shape (columns, n), and the n rows that have a value.

        cells: of all columns, shape (columns, rows).
        """
        for row, start, values, mine, begin, sizes in self._parts:
            value = values[cells[row] - start]
            at = np.flatnonzero(value >= 0)
            found = cells[np.ix_(mine, at)]
            found += begin
            found += sizes * value[at]
            yield found, at
