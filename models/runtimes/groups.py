"""The rows of a run in groups by their model, and tensors in which each group's rows lie together, padded."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.runtimes.session import ROWS

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]

GROUP_ROWS = 1024  # at most, a multiple of 16: a run is short, so that what a slow model did is not lost with the rest
CHUNK_ROWS = 4096  # padded rows that are copied at a time: with a row in each group padding is 16 times the rows


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of rows, each scored by one model; those of a model with many rows are several groups.

    models, counts: of each group, its model and how many rows it has. rows: those of one group after the other, those
    of a group ascending. first: where each group begins in `rows`.
    """

    models: Numbers
    counts: Numbers
    rows: Numbers
    first: Numbers

    def __len__(self) -> int:
        return len(self.models)

    def of(self, group: int) -> Numbers:
        """Return the rows of a group."""
        begin = self.first[group]
        return self.rows[begin : begin + self.counts[group]]

    def chosen(self, groups: list[int]) -> Numbers:
        """Return the rows of some groups, in the order of the groups, which ascend."""
        if len(groups) == len(self):
            return self.rows
        mask = np.zeros(len(self), np.bool_)
        mask[groups] = True
        return self.rows[np.repeat(mask, self.counts)]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tensors of some groups, padded. pieces: model, begin and end of each group in them, and how many rows it has."""

    tensors: Mapping[str, Array]
    pieces: list[tuple[int, int, int, int]]


def groups_of(models: Numbers, ready: Container[int]) -> Groups:
    """Return the groups of rows, given the model of each row; models that are ready come first."""
    order = np.argsort(models, kind="stable")
    ordered = models[order]
    starts = np.flatnonzero(np.concatenate((np.ones(min(1, len(order)), np.bool_), ordered[1:] != ordered[:-1])))
    parts = -(-np.diff(starts, append=len(order)) // GROUP_ROWS)
    within = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    starts = np.repeat(starts, parts) + within * GROUP_ROWS
    names = ordered[starts]
    turn = np.argsort([name not in ready for name in names.tolist()], kind="stable")
    counts = np.diff(starts, append=len(order))[turn]
    first = np.cumsum(counts) - counts
    places = np.arange(len(order)) + np.repeat(starts[turn] - first, counts)
    return Groups(names[turn], counts, order[places], first)


def chunks(groups: Groups, tensors: Mapping[str, Array]) -> Iterator[Chunk]:
    """Yield the groups in their order, with their rows copied from tensors and padded to a multiple of 16.

    The padding of a group is its last row, as `models.runtimes.session.padded` has it.
    """
    sizes = -(-groups.counts // ROWS) * ROWS
    stops = np.cumsum(sizes)
    begin = 0
    while begin < len(groups):
        done = stops[begin] - sizes[begin]
        end = int(np.searchsorted(stops, done + CHUNK_ROWS, side="right"))
        yield _chunk(groups, slice(begin, max(end, begin + 1)), sizes, tensors)
        begin = max(end, begin + 1)


def _chunk(groups: Groups, which: slice, sizes: Numbers, tensors: Mapping[str, Array]) -> Chunk:
    size, count, first = sizes[which], groups.counts[which], groups.first[which]
    stops = np.cumsum(size)
    begins = stops - size
    within = np.arange(stops[-1]) - np.repeat(begins, size)
    taken = groups.rows[np.repeat(first, size) + np.minimum(within, np.repeat(count - 1, size))]
    pieces = zip(groups.models[which].tolist(), begins.tolist(), stops.tolist(), count.tolist(), strict=True)
    return Chunk({name: array[taken] for name, array in tensors.items()}, list(pieces))
