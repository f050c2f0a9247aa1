"""How long to wait for a batch and how large to make it, so that events are committed within a latency. Pure.

Fewer and larger batches cost the brokers and the model less, so the time that is left of the budget is spent waiting
for more events. What is left is measured, not computed: the age of events at their commit holds everything, the
producer's linger and the network included. The wait grows while that age is below the aim, and shrinks by what it is
above it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

BATCH_EVENTS = 10_000  # at most: of a transaction's cost, the same whatever it holds, each pays next to nothing
AIM = 0.75  # of the budget, for the 95th percentile of each batch: what varies between batches has room
GAIN = 0.1  # of the way to the aim that a wait grows by with each batch
LONGEST_WAIT = 1.0  # seconds: signals and ticks wait as long
WORTH = 0.9  # of what the largest batches would score a second: a smaller batch must not cost more
MEMORY = 0.98  # of older batches in the estimate of costs, with each new one
ENOUGH_BATCHES = 7.0  # by their weights: eight
ENOUGH_EVENTS, ENOUGH_SECONDS = 1_000.0, 1.0  # of the last batches, by their weights: then they tell of larger ones
REACH = 50.0  # times the size of the last batches, up to which they do
WINDOW_SECONDS = 10.0  # over which it is judged whether the budget is met
AGAIN_SECONDS = 600.0  # after which a budget that is still not met is said again
LATE_SHARE = 0.05  # of events that may be late: the budget is for the 95th percentile


class Cost:
    """What a batch costs: a fixed part, and one for each event; least squares over the last batches."""

    def __init__(self) -> None:
        self._weight = self._n = self._nn = self._t = self._nt = 0.0

    def saw(self, events: int, seconds: float) -> None:
        """Learn from a batch."""
        self._weight = self._weight * MEMORY + 1
        self._n = self._n * MEMORY + events
        self._nn = self._nn * MEMORY + events**2
        self._t = self._t * MEMORY + seconds
        self._nt = self._nt * MEMORY + events * seconds

    def enough(self) -> bool:
        """Say whether the last batches tell what larger ones would cost: few events in little time do not."""
        return self._weight >= ENOUGH_BATCHES and (self._n >= ENOUGH_EVENTS or self._t >= ENOUGH_SECONDS)

    def reach(self) -> float:
        """Return how many events of a batch the last ones tell of; 0 before the first one."""
        return REACH * math.sqrt(self._nn / self._weight) if self._weight else 0.0

    def at_least(self) -> float:
        """Return how many events a second batches such as the last ones do; 0 before the first one."""
        return self._n / self._t if self._t else 0.0

    def parts(self) -> tuple[float, float] | None:
        """Return the seconds of any batch and those of each event; None while batches are all of one size."""
        if not self._weight:
            return None
        mean_n, mean_t = self._n / self._weight, self._t / self._weight
        spread = self._nn / self._weight - mean_n**2
        if spread <= 0.001 * mean_n**2:
            return None
        slope = max(0.0, (self._nt / self._weight - mean_n * mean_t) / spread)
        return max(0.0, mean_t - slope * mean_n), slope

    def rate(self, events: int) -> float | None:
        """Return how many events a second batches of so many would do; of the batches seen, where all are of one size.

        None before the first batch.
        """
        if not self._t:
            return None
        fixed, each = self.parts() or (self._t / self._weight, 0.0)
        size = events if self.parts() else self._n / self._weight
        return size / taken if (taken := fixed + each * size) > 0 else None


@dataclass(slots=True)
class _Window:
    """What was committed since it began."""

    began: float
    batches: int = 0
    whole: int = 0  # batches that were as large as allowed: more was waiting
    events: int = 0
    late: int = 0
    seconds: float = 0.0  # from read to commit, of all batches


class Budget:
    """The plan for the next batch. latency: seconds from an event's record time to its commit. most: of any batch."""

    def __init__(self, latency: float, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.latency, self._most, self._clock = latency, most, clock
        self.events, self.wait = most, 0.0  # the largest batch, and seconds to wait for it once it has an event
        self.met, self._told = True, clock()
        self._cost = Cost()
        self._window = _Window(clock())

    def committed(self, events: int, late: int, age: float, seconds: float, whole: bool) -> str | None:
        """Learn from a batch. Returns a sentence when the budget begins or ceases to be met, and again while it is not.

        late: of its events. age: the 95th percentile of its events' at the commit, in seconds. seconds: from read to
        commit. whole: it was as large as allowed.
        """
        self._cost.saw(events, seconds)
        aim = AIM * self.latency
        self.events = max(1, min(self._most, int(self._largest(aim / 2, seconds, whole))))
        # an event that comes just after a batch was read waits for that batch, and then for its own
        room = min(LONGEST_WAIT, max(0.0, aim - 2 * seconds))
        step = aim - age
        self.wait = min(room, max(0.0, self.wait + (GAIN * step if step > 0 else step)))
        return self._judge(events, late, seconds, whole)

    def _largest(self, allowed: float, seconds: float, whole: bool) -> float:
        """Return the largest batch that takes so long at most; larger, if small ones would cost too much throughput."""
        parts = self._cost.parts()
        if parts is None:  # batches of one size do not tell what others cost; full ones try another
            return self.events if not whole else 0.7 * self.events if seconds > allowed else 1.5 * self.events + 1
        fixed, each = parts
        if each <= 0:
            return self._most
        return max((allowed - fixed) / each, WORTH / (1 - WORTH) * fixed / each)

    def _judge(self, events: int, late: int, seconds: float, whole: bool) -> str | None:
        window = self._window
        window.batches += 1
        window.whole += whole
        window.events += events
        window.late += late
        window.seconds += seconds
        lasted = self._clock() - window.began
        if lasted < WINDOW_SECONDS:
            return None
        self._window = _Window(self._clock())
        met, now = window.late <= LATE_SHARE * window.events, self._clock()
        due = met != self.met or (not met and now - self._told > AGAIN_SECONDS)
        self.met = met
        if due:
            self._told = now
        return self._said(window, lasted) if due else None

    def _said(self, window: _Window, lasted: float) -> str:
        told = f"latency_ms: {self.latency * 1000:.0f}"
        if self.met:
            return f"{told} is met again"
        share = f"{told} is not met: {window.late / window.events:.0%} of the events of {lasted:.0f} s are late"
        each, mean = window.seconds / window.batches * 1000, window.events / window.batches
        if window.whole > window.batches / 2:
            advice = f"this slot scores {window.events / lasted:,.0f} a second: run more slots, up to one a partition"
            return f"{share}; events wait, and {advice}"
        if 2 * each > self.latency * 1000:
            why = f"declare {2 * each:,.0f} ms or more, or take a faster model or brokers"
            return f"{share}; a batch of {mean:,.0f} takes {each:,.0f} ms from read to commit: {why}"
        return f"{share}; batches take {each:,.0f} ms, so events come late, or producers' clocks are behind"
