"""Confidence sequences: intervals around a mean that hold at all times together, so they may be looked at always.

The empirical Bernstein sequence of Howard, Ramdas, McAuliffe and Sekhon ("Time-uniform, nonparametric, nonasymptotic
confidence sequences", Annals of Statistics 2021, theorem 4 with the polynomial stitching of theorem 1). It asks for
values in a known range and nothing else: no independence, no size of sample. It covers the running mean of what each
value was expected to be given those before it. docs/quality.md has the formula.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LEVEL = 0.05  # chance that an interval is ever wrong
_ETA, _POWER = 2.0, 1.4  # of the stitching: epochs double, and the k-th may fail with a chance of about 1 / k^1.4
_ZETA = 3.105547  # zeta(1.4), rounded up
_K1 = (_ETA**0.25 + _ETA**-0.25) / math.sqrt(2)
_K2 = (math.sqrt(_ETA) + 1) / 2


@dataclass(slots=True)
class Sequence:
    """The sums that the interval follows from, in units of the range: values lie between 0 and 1.

    Values of one tick are added together: each is compared with the mean before its tick, which is known before it.
    """

    count: int = 0
    total: float = 0.0
    spread: float = 0.0  # sum of squared distances from the mean before the tick

    def add(self, count: int, total: float, squares: float) -> None:
        """Take a tick's number of values, their sum and sum of squares."""
        if count <= 0:
            return
        centre = self.total / self.count if self.count else 0.5
        self.spread += max(squares - 2 * centre * total + count * centre * centre, 0.0)
        self.count += count
        self.total += total

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Return the bounds, within 0 and 1; None before the first value.

        The chance that any of the intervals of all times is wrong is `level` at most.
        """
        if not self.count:
            return None
        mean = min(max(self.total / self.count, 0.0), 1.0)
        radius = boundary(self.spread, level / 2) / self.count
        return max(mean - radius, 0.0), min(mean + radius, 1.0)


def boundary(spread: float, level: float) -> float:
    """Return what a sum of centred values, in units of their range, exceeds at any time with a chance of `level`."""
    spread = max(spread, 1.0)
    epochs = math.log(_ZETA / level) + _POWER * math.log(math.log(spread, _ETA) + 1.0)
    return math.sqrt(_K1**2 * spread * epochs + (_K2 * epochs) ** 2) + _K2 * epochs
