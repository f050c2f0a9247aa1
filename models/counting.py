"""Counts whole frames in the bins of a reference, block by block in arrays that are used again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from models.binning import Binner, Bins, Cells
from models.segments import Crossings, Segment
from models.unusual import Surprise

WHOLE = 32_768  # counters from which on a frame is counted at once: clearing them for every block would cost more


class Counter:
    """Counts features and outputs, columns apart by segments, and surprise. Not for several threads at once."""

    def __init__(
        self,
        features: Sequence[Bins],
        outputs: Sequence[Bins],
        segments: Sequence[Segment] = (),
        surprise: Surprise | None = None,
    ) -> None:
        columns = (*features, *outputs)
        self._binner, self._split = Binner(columns), len(features)
        self._crossings = Crossings(columns, segments, self._binner.rows) if segments else None
        apart = sum(each.cells(columns) for each in segments)
        self._surprise, self._last = surprise, self._binner.size + apart
        self.size = self._last + (surprise.bins.size if surprise is not None else 0)  # cells

    def count(
        self, features: pl.DataFrame, outputs: pl.DataFrame, codes: Cells | None = None, groups: int = 1
    ) -> Cells:
        """Return how often each cell is hit by the rows of each group, shape (groups, size).

        features, outputs: of the same height. codes: the group of each row; None: there is one.
        """
        counts = np.zeros(groups * self.size, np.int64)
        blocks: Iterator[Cells] = self._binner.blocks(features, outputs, self._split)
        if len(counts) > WHOLE:
            blocks = iter([self._binner.cells(features, outputs, self._split)])
        start = 0
        for cells in blocks:
            end = start + cells.shape[1]
            shift = None if codes is None or groups == 1 else codes[start:end] * self.size
            counts += np.bincount(self._all(cells, shift), minlength=len(counts))
            start = end
        return counts.reshape(groups, self.size)

    def _all(self, cells: Cells, shift: Cells | None) -> Cells:
        """Return the cells of a block, also those of what follows from them, in one row. shift: of each row's group."""
        apart = [] if self._crossings is None else list(self._crossings.cells(cells))
        places = None if self._surprise is None else self._surprise.places(cells) + self._last
        if shift is not None:
            cells += shift
            for found, at in apart:
                found += shift[at]
            places = None if places is None else places + shift
        others = [*(found.ravel() for found, _ in apart), *([] if places is None else [places])]
        return np.concatenate([cells.ravel(), *others]) if others else cells.ravel()
