"""When is the next event due? At a fixed rate, or as its event time says, times a speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

TICK = 0.01  # seconds; events that are due within one tick go out together


class Pace(Protocol):
    """due(n, t): the second since the start at which the event number n (from 0) with event time t (seconds) is due."""

    def due(self, number: int, event_time: float | None) -> float: ...


class Unlimited:
    """As fast as Kafka takes them."""

    def due(self, number: int, event_time: float | None) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class FixedRate:
    """So many events per second."""

    per_second: float

    def due(self, number: int, event_time: float | None) -> float:
        return number / self.per_second


class EventTime:
    """As far apart as their event times, divided by `speed`.

    An event without an event time, or earlier than one before it, is due at once; `disordered` counts these.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self.disordered = 0
        self._first: float | None = None
        self._latest = 0.0

    def due(self, number: int, event_time: float | None) -> float:
        if event_time is not None and self._first is None:
            self._first = event_time
        due = self._latest if event_time is None or self._first is None else (event_time - self._first) / self.speed
        if event_time is None or due < self._latest:
            self.disordered += 1
        self._latest = max(due, self._latest)
        return self._latest


class Clock:
    """Waits until something is due; `behind` is how late the sender is, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self._now, self._sleep = now, sleep
        self._start = now()
        self.behind = 0.0

    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._now() - self._start

    def wait_until(
        self, due: float, meanwhile: Callable[[], None] = lambda: None, ended: Callable[[], bool] = lambda: False
    ) -> None:
        """Return `due` seconds after the start, at once when that is past; or when `ended` says so.

        `meanwhile` is called now and then.
        """
        while (left := due - self.elapsed()) > TICK and not ended():
            meanwhile()
            self._sleep(min(left, 0.1))
        self.behind = max(0.0, -left)
