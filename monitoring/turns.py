"""Turns: who folds a long backlog lets the others of its process work in between.

A stream whose records have arrived never gives the loop back by itself: a burst of samples would hold up the profiles,
whose ticks find drift, and the snapshots of all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

SECONDS = 0.01  # that one stream is folded before the others have their turn


class Turn:
    """One stream's. clock: s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._begin = clock, clock()

    async def over(self) -> None:
        """Let the others work where this turn was long enough."""
        if self._clock() - self._begin >= SECONDS:
            await asyncio.sleep(0)
            self._begin = self._clock()
