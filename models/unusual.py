"""How unusual the features of an event are, all of them together: a further column that is counted beside them.

The surprise of a row is the sum over its features of -log2 of the share of training rows that lie at least as far out
there (Fisher's way to put p-values together). It sees what no feature shows alone: several that are each a little far
out at once, and it asks for no model and no sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from models.binning import TAILS, Binner, Bins, Cells, Floats, Numbers

NAME = "unusual"
KIND = "group"  # what is told of many columns together
UNIT = 64  # surprise is added up in 64ths of a bit, so that sums are exact in any order
ROWS = 1_000  # training rows that it takes: of fewer nobody knows what one in a thousand is like
SMOOTHING = 0.5  # events added to each bin: none is impossible


@dataclass(frozen=True, slots=True)
class Surprise:
    """bins: of the surprise of a row. weights: of each cell of all columns, in UNITs; 0 of outputs."""

    bins: Numbers
    weights: Cells

    def places(self, cells: Cells) -> Cells:
        """Return the bin of the surprise of each row. cells: of all columns, shape (columns, rows)."""
        found: Cells = np.searchsorted(self.bins.edges, self.weights.take(cells).sum(axis=0), side="right")
        return found


def weights_of(features: Sequence[Bins], counts: Cells, size: int) -> Cells:
    """Return what each cell adds to the surprise of a row, shape (size,). counts: of training rows, features first."""
    weights, start = np.zeros(size, np.int64), 0
    for bins in features:
        shares = counts[start : start + bins.size].astype(np.float64) + SMOOTHING
        shares /= shares.sum()
        weights[start : start + bins.size] = np.rint(-np.log2(_further_out(bins, shares)) * UNIT)
        start += bins.size
    return weights


def _further_out(bins: Bins, shares: Floats) -> Floats:
    """Return for each bin the share of rows at least as far out: of a number in both directions, else as rare."""
    if isinstance(bins, Numbers):
        values = shares[:-1]
        tails = np.minimum(np.cumsum(values), np.cumsum(values[::-1])[::-1])
        return np.append(np.minimum(2 * tails, 1.0), shares[-1])
    rarest = np.sort(shares)
    return np.cumsum(rarest)[np.searchsorted(rarest, shares, side="right") - 1]


def surprises(features: Sequence[Bins], counts: Cells, frame: pl.DataFrame) -> Floats:
    """Return the surprise of each row of a frame, in UNITs."""
    binner = Binner(features)
    weights = weights_of(features, counts, binner.size)
    parts = [weights.take(cells).sum(axis=0) for cells in binner.blocks(frame, pl.DataFrame(), len(features))]
    return np.concatenate([np.zeros(0), *parts])


def is_known(features: Sequence[Bins], rows: int) -> bool:
    """Say whether training rows tell how unusual rows are: two features at least, and enough rows."""
    return len(features) > 1 and rows >= ROWS


def beyond(counts: Sequence[int] | Cells) -> float:
    """Return the share of events that are more unusual than 99.9 % of the training rows. counts: of the bins."""
    found: list[int] = np.asarray(counts).tolist()
    return sum(found[-1 - len(TAILS) : -1]) / max(sum(found), 1)  # the bins behind the body; the last one is missing
