"""Quantiles of many numbers in little memory: counts in bins whose width grows with the number."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import numpy.typing as npt

GROWTH = 1.01  # of a bin over the one before: a quantile is wrong by half a percent at most


class Quantiles:
    """Of numbers that are 0 or more; the largest is exact."""

    def __init__(self) -> None:
        self._zeros, self._bins = 0, Counter[int]()
        self.count, self.max = 0, 0.0

    def add(self, numbers: npt.NDArray[np.float64]) -> None:
        """Count numbers, all of them finite; shape (n,)."""
        if not len(numbers):
            return
        self.count += len(numbers)
        self.max = max(self.max, float(numbers.max()))
        positive = numbers[numbers > 0]
        self._zeros += len(numbers) - len(positive)
        if len(positive):
            bins, counts = np.unique(np.ceil(np.log(positive) / math.log(GROWTH)).astype(np.int64), return_counts=True)
            self._bins.update(dict(zip(bins.tolist(), counts.tolist(), strict=True)))

    def quantile(self, share: float) -> float:
        """Return the number below which a share from 0 to 1 of them lies; nan of none."""
        if not self.count:
            return math.nan
        rank, seen = share * (self.count - 1), self._zeros
        if rank < seen:
            return 0.0
        for each in sorted(self._bins):
            seen += self._bins[each]
            if rank < seen:
                return float(min(self.max, 2 * GROWTH**each / (GROWTH + 1)))
        return self.max
