"""How much less events tell than independent ones would: the design effect of each direction, learned from live ticks.

Bursts of alike events and autocorrelation make counts vary more than the same number of independent draws would. Blocks
of the past that lie side by side tell by how much: half of the squared difference of their means, as a multiple of what
independence predicts, is 1 on average for independent events, and the design effect of blocks of that length otherwise.
A level that moved once moves one pair of blocks, and pairs in which an episode begins or ends do not count: a change is
no dependence. A block is looked at only when eight of its length have followed, so evidence is never judged by what was
learned from itself.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from monitoring.past import Pair
from monitoring.tilts import Floats, Tilts

LEVELS = 12  # lengths of blocks that are looked at: 1, 2, 4, ... 2,048 ticks
FIRST = 256  # ticks until there are neighbours enough to go by ...
EARLY = 32.0  # ... and what the effect of every direction is taken for before: only what is gross is found
TRUST = 32.0  # pairs that blocks of half the length count for, as long as there are few of a length
FEWEST = 8  # pairs of a length that say something about it
SHORT = 3  # lengths of blocks that tell what is usual ...
MOST_OF = 0.9  # ... of so many directions; the others are taken to be like that
ENOUGH = 8.0  # events of the rarest kind that a block is to hold; with fewer its pair counts for less of one, ...
LEAST = 1.0  # ... with fewer than this for nothing
DOUBT = 2.0  # deviations above 1 that are taken for chance
_DIGITS = np.int64(-1 << 29)  # of a double's 52 binary digits those that a float32 has
Flags = npt.NDArray[np.bool_]


class Effects:
    """The design effects of some columns' directions; see `values`.

    levels: lengths of blocks that are compared. declared: what all are taken for, instead of what could be learned.
    """

    def __init__(self, columns: Sequence[Tilts], levels: int = LEVELS, declared: float | None = None) -> None:
        bins = max((tilts.directions.shape[0] for tilts in columns), default=0)
        most = max((tilts.directions.shape[1] for tilts in columns), default=0)
        self._directions = np.zeros((len(columns), bins, most))
        self._variances = np.ones((len(columns), most))
        self._peaks = np.full((len(columns), most), np.inf)  # behind a column's own directions nothing tells anything
        for at, tilts in enumerate(columns):
            height, width = tilts.directions.shape
            self._directions[at, :height, :width] = tilts.directions
            self._variances[at, :width], self._peaks[at, :width] = _spreads(tilts)
        self._sums = np.zeros((levels, len(columns), most))
        self._pairs = np.zeros((levels, len(columns), most))
        self._ticks = 0
        self._values = np.full((len(columns), most), declared or EARLY)
        self._declared = declared is not None

    @property
    def known(self) -> bool:
        """Whether enough was seen for the values to mean something."""
        return self._declared or self._ticks >= FIRST

    @property
    def values(self) -> Floats:
        """Design effects, at least 1, shape (columns, directions of the column with most)."""
        return self._values

    def tick(self) -> bool:
        """Note that a tick has passed; return whether the values are others now."""
        self._ticks += 1
        if self._declared or self._ticks < FIRST or self._ticks % 16:
            return False
        self._values = self._judged()
        return True

    def take(self, pair: Pair, cells: npt.NDArray[np.int64], steady: Flags, moved: Flags) -> None:
        """Take two blocks that lie side by side.

        cells: their events, shape (2, columns, bins). steady: the columns in which no episode begins or ends within
        them. moved: those that have one: their variance is not that of the reference.
        """
        if self._declared or pair.level >= len(self._sums):
            return
        events = cells.astype(np.float64)
        rows = events.sum(axis=2)
        sums = np.matmul(events[:, :, None, :], self._directions[None])[:, :, 0, :]
        variances = self._variances
        if moved.any():
            variances = np.where(moved[:, None], np.maximum(variances, self._seen(events.sum(axis=0))), variances)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = variances * (1 / rows[0] + 1 / rows[1])[:, None]
            difference = sums[0] / rows[0][:, None] - sums[1] / rows[1][:, None]
            found = difference * difference / scale
            rarest = rows.min(axis=0)[:, None] * self._variances / self._peaks
        weights = np.where(steady[:, None] & (rarest >= LEAST), np.minimum(rarest / ENOUGH, 1.0), 0.0)
        for kept, more in ((self._sums, np.where(weights > 0, found, 0.0) * weights), (self._pairs, weights)):
            kept[pair.level] += more
            kept[pair.level].view(np.int64)[...] &= _DIGITS

    def _seen(self, events: Floats) -> Floats:
        """Return the variances of directions under the shares of some events, shape (columns, bins)."""
        shares = (events / np.maximum(events.sum(axis=1, keepdims=True), 1.0))[:, None, :]
        means = np.matmul(shares, self._directions)
        squares = np.matmul(shares, (self._directions - means) ** 2)
        return np.asarray(squares[:, 0, :], np.float64)

    def _judged(self) -> Floats:
        """Return the largest effect over the lengths of blocks; what none tells of is as most directions at worst."""
        surest, found = self._over(SHORT, int(TRUST), np.ones((len(self._values), 1)))
        usual = _quantiles(surest, found)[:, None]
        worst, known = self._over(len(self._sums), FEWEST, usual)
        judged = np.where(known, worst, usual)
        judged.view(np.int64)[...] &= _DIGITS
        return np.asarray(np.maximum(judged, 1.0))

    def _over(self, levels: int, fewest: int, usual: Floats) -> tuple[Floats, Flags]:
        """Return the largest effect over the first lengths of blocks, and which directions they tell of at all."""
        effect, worst = np.ones(self._values.shape) * usual, np.ones(self._values.shape)
        shorter = np.zeros(self._values.shape, np.bool_)
        for sums, pairs in zip(self._sums[:levels], self._pairs[:levels], strict=True):
            known = pairs >= fewest
            trust = np.where(shorter, TRUST, np.minimum(TRUST, 256 / np.maximum(pairs, 1.0)))
            effect = np.where(known, (sums + trust * effect) / (pairs + trust), effect)
            shorter |= known
            doubt = DOUBT * np.sqrt(2 / (pairs + TRUST))
            worst = np.where(known & (effect > 1 + doubt), np.maximum(worst, effect * (1 + doubt)), worst)
        return worst, shorter

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""
        arrays = (self._sums, self._pairs, self._values)
        packed = [base64.b64encode(each.astype(np.float32).tobytes()).decode() for each in arrays]
        return {"ticks": self._ticks, "arrays": packed}

    def load(self, document: Mapping[str, Any]) -> None:
        """Take a dumped state. Raises KeyError, TypeError or ValueError when it is damaged."""
        self._ticks = int(document["ticks"])
        arrays = [np.frombuffer(base64.b64decode(each), np.float32).astype(np.float64) for each in document["arrays"]]
        shapes = (self._sums.shape, self._pairs.shape, self._values.shape)
        self._sums, self._pairs, self._values = (
            array.reshape(shape) for array, shape in zip(arrays, shapes, strict=True)
        )


def _quantiles(values: Floats, known: Flags) -> Floats:
    """Return of each row the value that MOST_OF of the known ones do not exceed; 1 where none is."""
    ranked = np.sort(np.where(known, values, np.inf), axis=1)
    at = np.maximum(MOST_OF * (known.sum(axis=1) - 1), 0.0)
    low, rows = np.floor(at).astype(np.int64), np.arange(len(values))
    first, second = ranked[rows, low], ranked[rows, np.ceil(at).astype(np.int64)]
    with np.errstate(invalid="ignore"):  # of rows without any
        return np.where(known.any(axis=1), first + (second - first) * (at - low), 1.0)


def _spreads(tilts: Tilts) -> tuple[Floats, Floats]:
    """Return of each direction its variance under the reference, and the square of its largest deviation."""
    means = (tilts.shares[:, None] * tilts.directions).sum(axis=0)
    squares = (tilts.directions - means) ** 2
    return (tilts.shares[:, None] * squares).sum(axis=0), squares.max(axis=0)
