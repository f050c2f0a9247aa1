"""What the join needs of arrays: ranges of rows, sums that are exact, and a buffer that forgets its beginning."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

Longs = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]
_LARGEST = 1 << 62


def ragged(starts: Longs, sizes: Longs) -> Longs:
    """Return starts[i], starts[i] + 1, ... of sizes[i] each, end to end; shape (sum of sizes,)."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(int(ends[-1]) if len(ends) else 0)


def combined(*columns: Longs) -> Longs:
    """Return a number for each row: equal where all columns are, and in their order, the first one before the others.

    columns: one or more of shape (n,). Returns shape (n,).
    """
    found, size = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        if not len(column):
            return found
        column = column - column.min()
        if size * (int(column.max()) + 1) >= _LARGEST:  # places among the values there are take less room
            found, column = (np.unique(each, return_inverse=True)[1].reshape(-1) for each in (found, column))
            size = int(found.max()) + 1
        wide = int(column.max()) + 1
        found, size = found * wide + column, size * wide
    return found


def sums(values: Array, starts: Longs) -> list[int]:
    """Return the exact sums of whole numbers from each start to the next. values: int64, or objects of any size."""
    if values.dtype != object and len(values) * int(np.abs(values).max(initial=0)) >= _LARGEST:
        values = values.astype(object)
    found: list[int] = np.add.reduceat(values, starts).tolist() if len(starts) else []
    return found


def squares(values: Array) -> Array:
    """Return the exact squares of whole numbers, as int64 where all of them fit."""
    if values.dtype != object and int(np.abs(values).max(initial=0)) >= 1 << 31:
        values = values.astype(object)
    return values * values


def whole(values: Doubles) -> Array:
    """Return the nearest whole numbers, halves to the even one; as objects where int64 does not hold them all."""
    near = np.rint(values)
    if float(np.abs(near).max(initial=0.0)) < _LARGEST:
        return near.astype(np.int64)
    return np.array([int(each) for each in near.tolist()], object)


class Buffer:
    """Values put in at the end, each with a deadline; what lies before all that is still due is given back.

    Places count from the first value ever put in, and so stay what they are.
    """

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._data = np.zeros(1024, dtype)
        self._base, self._end = 0, 0
        self._due: deque[tuple[int, int]] = deque()  # end, deadline

    def __len__(self) -> int:
        return self._end - self._base

    def put(self, values: Array, deadline: int) -> int:
        """Append values that are needed until a deadline; return the place of the first."""
        start, needed = self._end, self._end - self._base + len(values)
        if needed > len(self._data):
            self._move(max(needed, len(self._data) + len(self._data) // 2))
        self._data[start - self._base : needed] = values
        self._end += len(values)
        self._due.append((self._end, deadline))
        return start

    def forget(self, keep: int) -> None:
        """Give back what no deadline after `keep` holds."""
        begin = self._base
        while self._due and self._due[0][1] <= keep:
            begin = self._due.popleft()[0]
        if begin - self._base > 1024 + len(self) // 4:
            self._data = self._data[begin - self._base : self._end - self._base].copy()
            self._base = begin
        elif begin > self._base and self._due:
            self._due.appendleft((begin, keep))  # it is given back with what follows

    def at(self, places: Longs) -> Array:
        """Return the values at places; shape (n,)."""
        found: Array = self._data[places - self._base]
        return found

    def _move(self, size: int) -> None:
        held = len(self)
        data = np.zeros(size, self._data.dtype)
        data[:held] = self._data[:held]
        self._data = data
