"""Has a column moved? The histogram e-detector: a Shiryaev-Roberts mixture over tilts, with a budget of false alarms.

For each tilt and each tick as the start of a change, the product of likelihood ratios since then is an e-process: while
the column stays in the insensitive zone around its reference it grows on average by nothing. Their sum over all starts
follows M <- (M + 1) L, and M less the number of ticks is a supermartingale; so is a weighted mean of such sums. An
alarm at M >= A therefore comes on average no earlier than after A ticks while nothing has changed (Shin, Ramdas and
Rinaldo, "E-detectors", 2022; the proof is in docs/drift.md). One false alarm a week: A is the ticks of a week.

Everything is a pure function of the ticks' integer counts: increments are multiples of a grid, so their sums are exact,
and states are cut to fewer binary digits than two machines' exponentials can differ in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from monitoring.errors import SnapshotInvalid
from monitoring.tilts import GRID, Floats, Tilts

Counts = npt.NDArray[np.int64]
MOST = 1e30  # a sum is held to this: it is restarted long before
_STEEPEST = 500.0  # largest log of a tick's likelihood ratio that is taken into account
_DIGITS = np.int64(-1 << 29)  # of a double's 52 binary digits those that a float32 has, rounding down


class EDetector:
    """The sums of all tilts of some columns, advanced a tick at a time.

    columns: the tilts of each. effect: events that tell as much as one independent event does (the design effect of
    bursts and autocorrelation; 1 for independent events).
    """

    def __init__(self, columns: Sequence[Tilts], *, effect: float = 1.0) -> None:
        if not effect >= 1:
            raise ValueError(f"a design effect of {effect} makes no sense: it is at least 1")
        bins = max((tilts.increments.shape[0] for tilts in columns), default=0)
        most = max((len(tilts.names) for tilts in columns), default=0)
        self._increments = np.zeros((len(columns), bins, most))
        self._weights, self._steep, self._sums = np.zeros((3, len(columns), most))
        self._along = np.zeros((len(columns), most), np.int64)
        for at, tilts in enumerate(columns):
            width = len(tilts.names)
            self._weights[at, :width], self._along[at, :width] = tilts.weights, tilts.along
        self.bet(columns)
        self._divisors: Floats | None = None  # of increments, and times GRID: what is left is whole multiples of it
        if effect > 1:
            self.allow(np.full((len(columns), int(self._along.max(initial=0)) + 1), effect))

    def bet(self, columns: Sequence[Tilts]) -> None:
        """Go on with the same tilts of other references."""
        self._columns = columns
        for at, tilts in enumerate(columns):
            height, width = tilts.increments.shape
            self._increments[at, :height, :width] = tilts.increments
            self._steep[at, :width] = tilts.steepness

    @property
    def bins(self) -> int:
        """Bins of the widest column."""
        return int(self._increments.shape[1])

    def allow(self, effects: Floats) -> None:
        """Take evidence for less than it seems from now on. effects: of each direction, shape (columns, directions).

        Where events repeat each other, rare ones that repeat weigh more than their variance tells: of steep tilts more
        is allowed for (docs/drift.md).
        """
        beyond = np.take_along_axis(effects, self._along, axis=1) - 1.0
        self._divisors = (1.0 + beyond * (1.0 + self._steep / 2)) * GRID if beyond.any() else None

    def update(self, counts: Counts) -> Floats:
        """Take a tick and return each column's evidence M, shape (columns,).

        counts: shape (columns, bins of the widest), events of the tick; zeros behind a column's own bins.
        """
        steps = np.matmul(counts[:, None, :].astype(np.float64), self._increments)[:, 0, :]
        if self._divisors is not None:
            steps /= self._divisors
            np.floor(steps, out=steps)
            steps *= GRID
        np.minimum(steps, _STEEPEST, out=steps)
        self._sums += 1.0
        self._sums *= np.exp(steps, out=steps)
        np.minimum(self._sums, MOST, out=self._sums)
        self._sums.view(np.int64)[...] &= _DIGITS
        return self.evidence()

    def evidence(self) -> Floats:
        """Return each column's M, shape (columns,)."""
        return np.asarray((self._sums * self._weights).sum(axis=1), np.float64)

    def strongest(self, column: int) -> tuple[str, Floats]:
        """Return name and increments (one a bin) of the tilt that weighs most in a column's evidence."""
        own = len(self._columns[column].names)
        at = int(np.argmax((self._sums[column] * self._weights[column])[:own]))
        return self._columns[column].names[at], self._columns[column].increments[:, at]

    def restart(self, column: int) -> None:
        """Begin a column's sums again."""
        self._sums[column] = 0.0

    def dump(self) -> bytes:
        """Return the state, exactly."""
        return self._sums.astype(np.float32).tobytes()

    def load(self, state: bytes) -> None:
        """Take a dumped state. Raises SnapshotInvalid when it is not of these columns."""
        sums = np.frombuffer(state, np.float32)
        if sums.size != self._sums.size:
            raise SnapshotInvalid(f"a detector's state holds {sums.size} sums, but its columns have {self._sums.size}")
        self._sums = sums.astype(np.float64).reshape(self._weights.shape)
