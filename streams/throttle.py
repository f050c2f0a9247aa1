"""Keeps a slot within its quotas by reading less: what it may not score yet waits in Kafka, never in the process.

Pure but for the clocks passed in. Two buckets fill with time: one of events, emptied by what is read, one of
CPU-seconds, emptied by what the process used. While one is empty nothing is read. CPU time is known only after it was
spent, so a batch may overdraw its bucket; the pause that follows makes up for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from schemas.deployment import Quotas

BURST_SECONDS = 1.0  # of a quota that an idle slot saves up
SLICE_SECONDS = 0.1  # of a quota that is waited for at least: one event at a time would be a transaction each
SHORTEST_PAUSE = 1e-6  # less is rounding
LONGEST_PAUSE = 60.0  # seconds that are owed at most, whatever a batch or a model that was loaded took


@dataclass(slots=True)
class Bucket:
    """Fills with `rate` a second, up to BURST_SECONDS of it. level: what may be taken; below 0: what is owed."""

    rate: float
    at: float
    level: float = 0.0

    def fill(self, now: float) -> None:
        """Add what came since the last time."""
        self.level = min(self.rate * BURST_SECONDS, self.level + self.rate * (now - self.at))
        self.at = now

    def take(self, amount: float) -> None:
        """Remove what was used."""
        self.level = max(-self.rate * LONGEST_PAUSE, self.level - amount)

    def until(self, level: float) -> float:
        """Return in how many seconds there is so much."""
        return max(0.0, (min(level, self.rate * BURST_SECONDS) - self.level) / self.rate)


class Throttle:
    """The quotas of the slot of this process. clock: seconds of any origin; cpu: seconds that this process used."""

    def __init__(
        self,
        quotas: Quotas | None = None,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock, self._cpu = clock, cpu
        self._quotas = Quotas()
        self._events: Bucket | None = None
        self._seconds: Bucket | None = None
        self._used = cpu()
        self._held = False
        self.follow(quotas or Quotas())

    def follow(self, quotas: Quotas) -> None:
        """Keep to these from now on; what was owed under a quota that stays is still owed."""
        now, before = self._clock(), self._quotas
        if quotas.events_per_second != before.events_per_second:
            self._events = None if quotas.events_per_second is None else Bucket(quotas.events_per_second, now)
        if quotas.cpu != before.cpu:
            self._seconds, self._used = None if quotas.cpu is None else Bucket(quotas.cpu, now), self._cpu()
        self._quotas = quotas

    def pause(self) -> float:
        """Return how many seconds nothing may be read, 0.0 when something may."""
        if self._events is None and self._seconds is None:
            return 0.0
        now, pause = self._clock(), 0.0
        if self._events is not None:
            self._events.fill(now)
            pause = self._events.until(max(1.0, self._events.rate * SLICE_SECONDS))
        if self._seconds is not None:
            used = self._cpu()
            self._seconds.fill(now)
            self._seconds.take(used - self._used)
            self._used = used
            pause = max(pause, self._seconds.until(0.0))
        if pause < SHORTEST_PAUSE:
            return 0.0
        self._held = True
        return pause

    def most(self, events: int) -> int:
        """Return how many events may be read at once, of so many."""
        return events if self._events is None else max(1, min(events, int(self._events.level)))

    def took(self, events: int) -> None:
        """Note that so many events were read."""
        if self._events is not None:
            self._events.take(events)

    def held(self) -> bool:
        """Say whether reading was held back since the last call."""
        held, self._held = self._held, False
        return held
