"""Values of outputs and labels as two columns, and what is made of them: numbers, scores, classes.

Numbers are doubles. An integer that no double is stays one; a text is its number in a table; a vector the place of its
first number in a buffer. So values are equal where kinds and bits are, as they would be in Python.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from monitoring.arrays import Bools, Buffer, Doubles, Longs, ragged

NONE, NUMBER, LONG, TEXT, VECTOR = range(5)
SCALAR = -1  # width of a column that has no vectors
NOTHING = -1  # no class
LARGEST = 1e15  # numbers beyond it are not usable
_EXACT = 1 << 53
_MANY = 10_000  # texts more than before, beyond which those that nobody has any more are given back


class Texts:
    """Texts by number. Those that nobody has any more give their numbers back, see `keep`."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._texts: list[str] = []
        self._free: list[int] = []
        self._kept = 0

    def code(self, text: str) -> int:
        """Return the number of a text."""
        found = self._codes.get(text)
        if found is None:
            found = self._free.pop() if self._free else len(self._texts)
            self._texts[found : found + 1] = [text]
            self._codes[text] = found
        return found

    def __getitem__(self, code: int) -> str:
        return self._texts[code]

    @property
    def crowded(self) -> bool:
        """Say whether it is time for `keep`."""
        return len(self._codes) > 2 * self._kept + _MANY

    def keep(self, codes: set[int]) -> None:
        """Give back all others."""
        for text, code in [each for each in self._codes.items() if each[1] not in codes]:
            del self._codes[text]
            self._free.append(code)
        self._kept = len(self._codes)


class Values(NamedTuple):
    """One value a row. widths: SCALAR, or of the vectors."""

    kinds: npt.NDArray[np.uint8]
    bits: Longs
    widths: Longs

    def take(self, places: Longs) -> Values:
        """Return the values at places."""
        return Values._make(column[places] for column in self)

    def same(self, one: Longs, other: Longs) -> Bools:
        """Say of pairs of places whether they hold the same value, no vector."""
        found: Bools = (self.kinds[one] == self.kinds[other]) & (self.bits[one] == self.bits[other])
        return found

    @property
    def doubles(self) -> Doubles:
        """The numbers; NaN where there is none that can be reckoned with."""
        found = np.where(self.kinds == NUMBER, self.bits.view(np.float64), np.nan)
        return np.where(np.abs(found) <= LARGEST, found, np.nan)


class Reading:
    """Makes columns of series, and classes of columns."""

    def __init__(self) -> None:
        self.texts, self.vectors = Texts(), Buffer(np.float64)

    def column(self, series: pl.Series, deadline: int) -> tuple[npt.NDArray[np.uint8], Longs, int]:
        """Return kinds, bits and width of the values. deadline: until which the numbers of vectors are kept."""
        if isinstance(series.dtype, pl.List | pl.Array):
            return self._vectors(series, deadline)
        if series.dtype in (pl.String, pl.Enum, pl.Categorical):
            found = [None if text is None else self.texts.code(text) for text in series.cast(pl.String).to_list()]
            bits = np.array([NOTHING if code is None else code for code in found], np.int64)
            return np.where(bits == NOTHING, NONE, TEXT).astype(np.uint8), bits, SCALAR
        if series.dtype.is_integer():
            return *_longs(series), SCALAR
        numbers = series.cast(pl.Float64).to_numpy() + 0.0  # null is NaN, and -0.0 is 0.0
        kinds = np.where(np.isnan(numbers), NONE, NUMBER).astype(np.uint8)
        return kinds, np.where(kinds == NONE, 0.0, numbers).view(np.int64), SCALAR

    def _vectors(self, series: pl.Series, deadline: int) -> tuple[npt.NDArray[np.uint8], Longs, int]:
        rows = len(series)
        flat = series.explode().cast(pl.Float64).to_numpy() if rows and len(series[0]) else np.zeros(0)
        width = len(flat) // max(rows, 1)
        start = self.vectors.put(flat, deadline)
        return np.full(rows, VECTOR, np.uint8), start + width * np.arange(rows), width

    def matrix(self, values: Values, width: int) -> Doubles:
        """Return vectors of one width; shape (n, width)."""
        sizes = np.full(len(values.bits), width)
        found: Doubles = self.vectors.at(ragged(values.bits, sizes)).reshape(-1, width)
        return found

    def scores(self, values: Values) -> Doubles:
        """Return the probabilities of yes: numbers from 0 to 1, the second of two; else NaN."""
        found = values.doubles
        if (two := np.flatnonzero((values.kinds == VECTOR) & (values.widths == 2))).size:
            found[two] = self.matrix(values.take(two), 2)[:, 1]
        return np.where((found >= 0.0) & (found <= 1.0), found, np.nan)

    def tops(self, values: Values) -> Doubles:
        """Return the probability of the class that was chosen, of vectors without negative numbers; else NaN."""
        found = np.full(len(values.bits), np.nan)
        for width, at in self.by_width(values):
            matrix = self.matrix(values.take(at), width)
            usable = (matrix >= 0.0).all(axis=1)
            found[at] = np.where(usable, np.minimum(matrix.max(axis=1), 1.0), np.nan)
        return found

    def classes(self, values: Values) -> Longs:
        """Return the number of the text that names each class: 2 and 2.0 are one, True is 1; NOTHING where none is."""
        found = np.where(values.kinds == TEXT, values.bits, NOTHING)
        for kind in (NUMBER, LONG):
            if (at := np.flatnonzero(values.kinds == kind)).size:
                bits, inverse = np.unique(values.bits[at], return_inverse=True)
                listed = bits.view(np.float64).tolist() if kind == NUMBER else bits.tolist()
                codes = [NOTHING if (name := name_of(each)) is None else self.texts.code(name) for each in listed]
                found[at] = np.array(codes, np.int64)[inverse.reshape(-1)]
        for width, at in self.by_width(values):
            matrix = self.matrix(values.take(at), width)
            places = np.array([self.texts.code(str(place)) for place in range(width)], np.int64)
            found[at] = np.where(np.isnan(matrix).any(axis=1), NOTHING, places[matrix.argmax(axis=1)])
        return found

    def by_width(self, values: Values) -> list[tuple[int, Longs]]:
        """Return the widths of the vectors there are, each with their places."""
        vectors = np.flatnonzero((values.kinds == VECTOR) & (values.widths > 0))
        widths = values.widths[vectors]
        return [(width, vectors[widths == width]) for width in np.unique(widths).tolist()]


def name_of(value: float | int) -> str | None:
    """Return the name of a class that is a number."""
    if isinstance(value, float):
        return None if not math.isfinite(value) else str(int(value)) if value.is_integer() else str(value)
    return str(value)


def _longs(series: pl.Series) -> tuple[npt.NDArray[np.uint8], Longs]:
    longs = series.cast(pl.Int64).to_numpy()
    doubles = longs.astype(np.float64)
    large = np.flatnonzero((longs > _EXACT) | (longs < -_EXACT))
    exact = np.ones(len(longs), bool)
    both = zip(doubles[large].tolist(), longs[large].tolist(), strict=True)
    exact[large] = [int(double) == long for double, long in both]
    return np.where(exact, NUMBER, LONG).astype(np.uint8), np.where(exact, doubles.view(np.int64), longs)
