"""Summaries of columns that are too long for memory: quantiles of numbers, and how often each category is there.

Both take memory that hardly grows with the rows, give the same for the same values in the same order whatever the
chunks, and are exact for columns of few values.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from models.binning import QUANTILE_BINS, Cells, Floats, counts_of

VALUES = 1 << 16  # numbers that a level takes before they are halved; up to so many, all are kept
CATEGORIES = 1 << 16  # categories that are counted at a time


class Quantiles:
    """The finite values of a column, thinned: level n holds values that stand for 2^n each.

    A full level is sorted and every second value goes up, now the first of each pair and now the second. Each time a
    rank may move by the weight of the values that were halved, so of N values no rank is off by more than
    N x levels / VALUES: 0.006 % of a million rows, 0.02 % of a billion.
    """

    def __init__(self, size: int = VALUES) -> None:
        self._size = size  # even
        self._levels: list[list[Floats]] = [[]]
        self._filled, self._second = [0], [0]
        self._distinct = np.zeros(0)

    def add(self, values: Floats) -> None:
        """Take values in any number; what is not finite is left out."""
        values = values[np.isfinite(values)] + 0.0  # -0.0 becomes 0.0
        if len(self._distinct) <= QUANTILE_BINS:
            self._distinct = np.unique(np.concatenate((self._distinct, values)))[: QUANTILE_BINS + 1]
        while len(values):
            room = self._size - self._filled[0]
            self._put(0, values[:room].copy())
            values = values[room:]

    @property
    def distinct(self) -> Floats:
        """All values that there were, sorted, or one more than QUANTILE_BINS of them."""
        return self._distinct

    def summary(self) -> tuple[Floats, Cells]:
        """Return values, sorted, and how many each stands for."""
        parts = [(np.concatenate(level), 1 << at) for at, level in enumerate(self._levels) if level]
        if not parts:
            return np.zeros(0), np.zeros(0, np.int64)
        values = np.concatenate([part for part, _ in parts])
        weights = np.concatenate([np.full(len(part), weight, np.int64) for part, weight in parts])
        order = np.argsort(values, kind="stable")
        return values[order], weights[order]

    def _put(self, level: int, values: Floats) -> None:
        if level == len(self._levels):
            self._levels.append([])
            self._filled.append(0)
            self._second.append(0)
        self._levels[level].append(values)
        self._filled[level] += len(values)
        if self._filled[level] == self._size:
            whole = np.sort(np.concatenate(self._levels[level]))
            first = self._second[level]
            self._levels[level], self._filled[level], self._second[level] = [], 0, 1 - first
            self._put(level + 1, whole[first::2].copy())


class Frequencies:
    """How often each category is there; of more than CATEGORIES the rarest are let go.

    What is let go is taken from the counts of all others (Misra and Gries; Agarwal and others, "Mergeable summaries",
    2012), so of N values none that is there more than N / CATEGORIES times is lost.
    """

    def __init__(self, size: int = CATEGORIES) -> None:
        self._size = size
        self._counts = pl.DataFrame(schema={"value": pl.String(), "count": pl.Int64()})

    def add(self, series: pl.Series) -> None:
        """Take values of a text, enum or categorical column; nulls are left out."""
        new = counts_of(series).with_columns(pl.col("count").cast(pl.Int64))
        merged = pl.concat((self._counts, new)).group_by("value").agg(pl.col("count").sum())
        if merged.height > self._size:
            least = merged["count"].top_k(self._size + 1).min()
            merged = merged.with_columns(pl.col("count") - least).filter(pl.col("count") > 0)
        self._counts = merged

    @property
    def counts(self) -> pl.DataFrame:
        """What is known: columns value and count, in no order."""
        return self._counts
