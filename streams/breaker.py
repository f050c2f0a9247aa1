"""Stops calling a model that keeps failing: while its circuit is open, its rows go to the next arm at once. Pure.

Only failures of the model itself count (`model_failed`, `model_timed_out`): a row that it refuses costs nothing. Opens
when at least SHARE of the last rows, LEAST or more of them, failed; after REST seconds one batch is tried again, and
the rest doubles with each trial that fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST = 20  # rows that are needed to judge
SHARE = 0.5
MEMORY = 0.9  # of what older batches count for, with each new one, as long as that leaves enough rows to judge
REST, LONGEST_REST = 5.0, 120.0  # seconds


class Breaker:
    """The circuit of one model. clock: seconds of any origin."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rows = self._failed = 0.0
        self._rest = REST
        self._until: float | None = None

    @property
    def open(self) -> bool:
        """Whether rows must go elsewhere now; a trial is due when the rest is over."""
        return self._until is not None and self._clock() < self._until

    @property
    def broken(self) -> bool:
        """Whether the last trial failed or none was made yet: what a gauge shows."""
        return self._until is not None

    def saw(self, rows: int, failed: int) -> None:
        """Learn from a batch: how many rows the model was given, and of how many it failed or took too long."""
        if self._until is not None:
            self._tried(rows, failed)
            return
        kept = MEMORY if self._rows * MEMORY + rows >= LEAST else 1.0
        self._rows = self._rows * kept + rows
        self._failed = self._failed * kept + failed
        if self._rows >= LEAST and self._failed >= SHARE * self._rows:
            self._until, self._rest = self._clock() + REST, REST

    def _tried(self, rows: int, failed: int) -> None:
        if not rows:
            return
        if failed >= SHARE * rows:
            self._rest = min(LONGEST_REST, 2 * self._rest)
            self._until = self._clock() + self._rest
        else:
            self._rows = self._failed = 0.0
            self._until, self._rest = None, REST
