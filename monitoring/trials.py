"""A trial of one arm against another: evidence that may be looked at after every tick, and still keeps its error rate.

Both score the same stream at the same time, and a hash assigns each event to one of them, so what separates the means
of their outcomes is the arms and nothing else, however both move over the day. In a tick in which the share p of n
events with outcomes y in 0 .. 1 was the candidate's (q = 1 - p), and with m any guess of the mean made before the
tick, let

    z = (y - m) q    where the candidate scored,    z = -(y - m) p    where the incumbent did

The sum of z has the expectation n p q d, where d is the candidate's mean less the incumbent's, both in this tick. For
all d <= d0 the product over ticks of exp(l (sum z - n p q d0) - psi(l) sum z^2), with psi(l) = (-log(1 - c l) - c l)
/ c^2 and z >= -c, is a nonnegative supermartingale (Fan, Grama and Liu, "Exponential inequalities for martingales
with applications", EJP 2015; Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform Chernoff bounds via nonnegative
supermartingales", 2020). Its mean over bets l is an e-value: it ever reaches 1 / a with a chance of a at most
(Ville). No size of sample is fixed before, and shares and both means may change from tick to tick. Asked is that the
outcomes of a tick are independent of each other, given all before; `design` allows for keys that come again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

BETS = 0.005 * math.sqrt(2.0) ** np.arange(16)  # best for differences of 0.001 to 0.5, at variances of 0.05 to 0.25
_MOST = 0.9  # of what a bet may be at most, 1 / c, where its loss has no bound
_STEPS = 60  # of a bisection: more than doubles have


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of one arm in one tick: how many, their sum and their sum of squares, in units of their range."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Outcomes) -> Outcomes:
        return Outcomes(self.count + other.count, self.total + other.total, self.squares + other.squares)

    @property
    def whole(self) -> bool:
        """Whether these can be outcomes: corrections without what they correct cannot."""
        return self.count > 0 and 0 <= self.total <= self.count and 0 <= self.squares <= self.count

    def mirrored(self) -> Outcomes:
        """Return the same where small is good: y becomes 1 - y."""
        return Outcomes(self.count, self.count - self.total, self.count - 2 * self.total + self.squares)

    def dump(self) -> tuple[int, float, float]:
        """Return it as plain values."""
        return self.count, self.total, self.squares

    def around(self, centre: float) -> tuple[float, float]:
        """Return the sum of the distances from a centre, and of their squares."""
        return self.total - self.count * centre, self.squares - 2 * centre * self.total + self.count * centre**2


@dataclass(slots=True)
class Side:
    """Evidence for a difference above (or below) any d0: the logarithm of each bet's product is won - d0 * stake."""

    won: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(BETS)))
    stake: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(BETS)))

    def add(self, total: float, squares: float, weight: float, least: float) -> None:
        """Take a tick: sum of z, sum of squares, n p q, and c, below whose negative no z lies."""
        bets = np.minimum(BETS, _MOST / least)
        loss = (-np.log1p(-least * bets) - least * bets) / least**2
        self.won += bets * total - loss * squares
        self.stake += bets * weight

    def evidence(self, difference: float) -> float:
        """Return the logarithm of the e-value against all differences up to this one."""
        logs = self.won - difference * self.stake
        top = float(logs.max())
        return top + math.log(float(np.exp(logs - top).mean()))

    def bound(self, level: float) -> float:
        """Return the largest difference (in -1 .. 1) that is excluded with all smaller ones."""
        low, high, needed = -1.0, 1.0, math.log(1 / level)
        if self.evidence(low) < needed:
            return low
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.evidence(middle) >= needed else (low, middle)
        return low


@dataclass(slots=True)
class Trial:
    """All that is known of a candidate beside an incumbent. design: events that tell as much as one independent one."""

    design: float = 1.0
    incumbent: Outcomes = Outcomes()
    candidate: Outcomes = Outcomes()
    above: Side = field(default_factory=Side)
    below: Side = field(default_factory=Side)

    def add(self, incumbent: Outcomes, candidate: Outcomes) -> None:
        """Take a tick. One of whose arms has no outcome tells nothing of the difference."""
        count = incumbent.count + candidate.count
        if incumbent.count and candidate.count:
            p, q, centre = candidate.count / count, incumbent.count / count, self._centre()
            (one, ones), (other, others) = candidate.around(centre), incumbent.around(centre)
            sums = q * one - p * other, q * q * ones + p * p * others, count * p * q
            total, squares, weight = (each / self.design for each in sums)
            self.above.add(total, squares, weight, max(centre * q, (1 - centre) * p))
            self.below.add(-total, squares, weight, max((1 - centre) * q, centre * p))
        self.incumbent, self.candidate = self.incumbent + incumbent, self.candidate + candidate

    def better(self, than: float = 0.0) -> float:
        """Return the logarithm of the e-value against "the candidate is better by `than` at most"."""
        return self.above.evidence(than)

    def worse(self, than: float = 0.0) -> float:
        """Return the logarithm of the e-value against "the candidate is worse by `than` at most"."""
        return self.below.evidence(than)

    def interval(self, level: float) -> tuple[float, float]:
        """Return bounds of the difference that hold at all times together with a chance of 1 - level."""
        return self.above.bound(level / 2), -self.below.bound(level / 2)

    def _centre(self) -> float:
        count = self.incumbent.count + self.candidate.count
        return (self.incumbent.total + self.candidate.total + 0.5) / (count + 1)

    def dump(self) -> dict[str, Any]:
        """Return it as plain values."""
        sides = {name: [side.won.tolist(), side.stake.tolist()] for name, side in self._sides()}
        return {"design": self.design, **sides, "incumbent": self.incumbent.dump(), "candidate": self.candidate.dump()}

    def _sides(self) -> tuple[tuple[str, Side], tuple[str, Side]]:
        return ("above", self.above), ("below", self.below)

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Self:
        """Return what was dumped."""
        incumbent, candidate = Outcomes(*document["incumbent"]), Outcomes(*document["candidate"])
        above, below = (Side(*map(np.array, document[name])) for name in ("above", "below"))
        return cls(document["design"], incumbent, candidate, above, below)
