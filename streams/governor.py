"""Stands between the worker's loop and what it may take: keeps the slot within its quotas, and notes what it does."""

from __future__ import annotations

import time
from collections.abc import Callable

from streams.protocols import Source
from streams.pulse import Pulse
from streams.residence import Residence
from streams.throttle import Throttle
from streams.work import Plan

NAP_SECONDS = 0.1  # how soon a stop, a signal or another plan is seen while reading is held back
HOLD_SECONDS = 1.0  # the longest that a group is not heard of: who pauses longer keeps up its membership


class Governor:
    """One slot's. sleep: waits for so many seconds."""

    def __init__(
        self,
        pulse: Pulse | None = None,
        throttle: Throttle | None = None,
        residence: Residence | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.pulse = pulse or Pulse()
        self._throttle, self._residence, self._sleep = throttle or Throttle(), residence or Residence(), sleep
        self._memory: int | None = None

    def follow(self, plan: Plan) -> None:
        """Keep to this plan's quotas from now on."""
        self._throttle.follow(plan.quotas)
        self._memory = plan.quotas.memory
        self.pulse.changed(plan.quotas, plan.slowdowns)

    def rest(self, source: Source, settle: Callable[[], None], waits: Callable[[], None]) -> bool:
        """Wait a little where nothing may be read now; False where something may.

        settle: decides what was read before. waits: told that what is not read was not read to its end. Partitions are
        not paused for short: that throws away what was fetched.
        """
        pause = self._throttle.pause()
        if not pause:
            return False
        settle()
        waits()
        if pause > HOLD_SECONDS:
            source.hold(min(pause - HOLD_SECONDS, HOLD_SECONDS))
        else:
            self._sleep(min(pause, NAP_SECONDS))
        self.pulse.idle()
        return True

    def most(self, events: int) -> int:
        """Return the largest batch to read now, of one of so many events."""
        return self._throttle.most(events)

    def took(self, events: int) -> None:
        """Note that a batch was read."""
        self._throttle.took(events)

    def throttled(self) -> bool:
        """Say whether a quota held reading back since the last call."""
        return self._throttle.held()

    def outgrown(self, settle: Callable[[], None]) -> int | None:
        """Return the bytes of the process where they are over their quota whatever was let go; else None."""
        return self._residence.over(self._memory, settle)
