"""Ends a run that takes too long, at no cost worth naming to those that do not.

A run writes down how long it may take and takes the note away again; a sleeping thread looks a few times a second how
long it has seen the same note. Time in which nothing ran, because the process or the machine was suspended, is not
held against the run. Without runs the thread sleeps until the next one wakes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

PERIOD = 0.1  # seconds between two looks while there are runs
HURRY_SECONDS = 1.0  # that a run may take while somebody waits for its end
IDLE_LOOKS = 20  # looks without a run after which the thread sleeps until it is woken


class Watchdog:
    """Terminates one run at a time through its `RunOptions`. hurried: set by whoever waits for the end of a run."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self.hurried = clock, False
        self._lock = threading.Lock()
        self._current: tuple[Any, float] | None = None
        self._seen: tuple[Any, float] | None = None
        self._spent = self._looked = 0.0
        self._fired = self._asleep = self._closed = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="penstock-watchdog", daemon=True)
        self._thread.start()

    def begin(self, options: Any, seconds: float) -> None:
        """A run with these options starts and may take that long."""
        self._current = (options, seconds)
        if self._asleep:
            self._wake.set()

    def end(self) -> bool:
        """The run is over; true when it was told to terminate, so that its options must not be used again."""
        with self._lock:
            self._current = None
            fired, self._fired = self._fired, False
        return fired

    def close(self) -> None:
        """Stop the thread and wait for its end."""
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _watch(self) -> None:
        idle = 0
        while not self._closed:
            idle = 0 if self._current else idle + 1
            if idle < IDLE_LOOKS:
                time.sleep(PERIOD)
            else:
                self._rest()
                idle = 0
            self._look()

    def _rest(self) -> None:
        self._asleep = True  # before the look at _current: a run that begins meanwhile sees it and wakes us
        if self._current is None and not self._closed:
            self._wake.wait()
        self._asleep = False
        self._wake.clear()

    def _look(self) -> None:
        now = self._clock()
        passed, self._looked = now - self._looked, now
        with self._lock:
            run = self._current
            self._spent = self._spent + min(passed, 2 * PERIOD) if run is self._seen else 0.0
            self._seen = run
            if run is not None and self._spent > (min(run[1], HURRY_SECONDS) if self.hurried else run[1]):
                run[0].terminate = True
                self._fired = True
