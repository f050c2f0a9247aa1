"""What the loop of a slot does and could do: what batches cost, how long ago it turned, what changed last.

Noted by the loop a few times a batch, read by others once a second. Capacity is what the slot would score in its
largest batches: the share of time in which a loop is busy says little, because with few events it commits many small
batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from schemas.deployment import Quotas
from streams.budget import BATCH_EVENTS, REACH, Cost
from streams.pace import Slowdown, slowest

SMOOTHING = 0.2  # of the way to what the last batches tell, with each one


class Rate:
    """Events a second of the largest batches; known once enough were scored, and then kept while few are."""

    def __init__(self, most: int) -> None:
        self._most, self._cost = most, Cost()
        self.known: float | None = None

    @property
    def at_least(self) -> float:
        """What batches such as the last ones do."""
        return self._cost.at_least()

    def saw(self, events: int, seconds: float) -> None:
        """Learn from a batch."""
        self._cost.saw(events, seconds)
        if not self._cost.enough():
            return
        found = self._cost.rate(min(self._most, math.ceil(self._cost.reach())))
        if found is not None:
            self.known = found if self.known is None else self.known + SMOOTHING * (found - self.known)


class Pulse:
    """One slot's. most: events of its largest batch. clock: seconds of any origin; cpu: seconds the process used."""

    def __init__(
        self,
        most: int = BATCH_EVENTS,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._most, self._clock, self._cpu = most, clock, cpu
        self._wall, self._used = Rate(most), Rate(most)
        self._before = cpu()
        self._turned = self._changed = clock()
        self._quotas = Quotas()
        self._slowdowns: Mapping[str, Slowdown] = MappingProxyType({})

    def turned(self) -> None:
        """Note that the loop came round."""
        self._turned = self._clock()

    def changed(self, quotas: Quotas, slowdowns: Mapping[str, Slowdown]) -> None:
        """Note that another revision scores: what batches of the one before cost says nothing of it."""
        self._quotas, self._slowdowns = quotas, slowdowns
        self._wall, self._used = Rate(self._most), Rate(self._most)
        self._before, self._changed = self._cpu(), self._clock()

    def idle(self) -> None:
        """Note that nothing is being scored: what is used from here on is no batch's."""
        self._before = self._cpu()

    def batch(self, events: int, seconds: float) -> None:
        """Note that the loop was busy for so long with a batch."""
        used = self._cpu()
        self._wall.saw(events, seconds)
        self._used.saw(events, used - self._before)
        self._before = used

    @property
    def capacity(self) -> float | None:
        """Events a second that the slot could score, its quotas included; None before enough were scored to tell."""
        found, limit = self._within_cores(), self._quotas.events_per_second
        if limit is None:
            return found
        if found is None:  # what it does by small batches may be near enough to what it is allowed
            return float(limit) if limit <= REACH * self._wall.at_least else None
        return min(found, float(limit))

    def _within_cores(self) -> float | None:
        wall, cores, busy = self._wall.known, self._quotas.cpu, self._used.known
        if wall is None or cores is None:
            return wall
        return None if busy is None else min(wall, cores * busy)  # busy: events that a CPU-second scores

    @property
    def quotas(self) -> Quotas:
        """Those of the revision that scores."""
        return self._quotas

    @property
    def slowdown(self) -> float | None:
        """See `streams.pace.Slowdown.p95`; of the slowest arm."""
        return slowest(self._slowdowns)

    def row_seconds(self, arm: str) -> float | None:
        """Return the time of a row that an arm's version took at the warm-up."""
        found = self._slowdowns.get(arm)
        return None if found is None else found.pace.row_seconds

    def since_turn(self) -> float:
        """Return how many seconds ago the loop came round."""
        return self._clock() - self._turned

    def since_change(self) -> float:
        """Return how many seconds ago another revision began."""
        return self._clock() - self._changed
