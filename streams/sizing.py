"""How many events to read at a time, and how many rows to hand a model, so that one that is slow is not taken for one
that hangs. Pure.

A backlog makes batches larger while scoring one costs no wait. A failure makes them smaller, and so does a batch that
takes long to score: rebalances and rollbacks wait for one. A run of a model ends after `limits.model_seconds`: it is
handed what it should score in half of that, by what rows took at the warm-up and by what they take since.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from streams.pace import Pace

FIRST_EVENTS = 2_000  # of the first batches: a backlog doubles them while that costs no wait
ENOUGH_SECONDS = 0.25  # a batch that takes so long to score is large enough
CALM_SECONDS = 10.0  # that scoring a batch of slow models is to take
SLOW_SECONDS = 2 * CALM_SECONDS  # a batch that took longer is followed by smaller ones
LEAST = 16  # rows: runs are padded to a multiple of as many, so that fewer gain nothing
MOST = 1 << 30
SHARE = 0.5  # of a run's time that it should take
GROWTH = 0.75  # of that, up to which twice the rows are tried: they may take long, but not too long


class Sizing:
    """The largest batch to read now. most: of any batch."""

    def __init__(self, most: int, first: int = FIRST_EVENTS) -> None:
        self.events, self._most = min(first, most), most
        self._tried = self.events
        self._lowered = first < FIRST_EVENTS  # because models are slow

    def follow(self, first: int) -> None:
        """Begin with other models, which may take longer for as many events. first: with how many at most."""
        self.events = min(self.events, first)
        self._lowered = first < FIRST_EVENTS

    def scores(self, events: int) -> None:
        """A batch of so many events is being scored."""
        self._tried = events

    def scored(self, events: int, seconds: float) -> None:
        """Scoring a batch took so long."""
        if seconds > SLOW_SECONDS:
            self.events = min(self.events, max(LEAST, int(events * CALM_SECONDS / seconds)))
            self._lowered = True
        elif self._lowered and events >= self.events and seconds <= CALM_SECONDS / 2:
            self.events = min(FIRST_EVENTS, self._most, 2 * self.events)
            self._lowered = self.events < FIRST_EVENTS

    def more(self, seconds: float, fitting: int) -> None:
        """A batch was as large as allowed and went well in so many seconds. fitting: events of its kind in memory."""
        if seconds < ENOUGH_SECONDS:
            self.events *= 2
        self.events = min(self._most, fitting, self.events)

    def failed(self) -> None:
        """Try less: on a slow broker a batch may take longer than a transaction is given."""
        self.events = max(1, min(self.events, self._tried) // 4)


def first_events(paces: Mapping[str, Pace], shares: Mapping[str, float], everywhere: Collection[str]) -> int:
    """Return with how many events to begin, so that all models together score them in CALM_SECONDS.

    paces: by arms, where known. shares: percent of the events that each arm is assigned. everywhere: arms that score
    every event beside that.
    """
    parts = [(paces[arm], share / 100) for arm, share in shares.items() if arm in paces]
    parts += [(paces[arm], 1.0) for arm in everywhere if arm in paces]
    events = FIRST_EVENTS
    while events > LEAST and sum(pace.expected(math.ceil(events * part)) for pace, part in parts) > CALM_SECONDS:
        events //= 2
    return max(LEAST, events)


class Fit:
    """The most rows that a model is handed at once. seconds: that a run may take. pace: by its warm-up, where known."""

    def __init__(self, seconds: float, pace: Pace | None = None) -> None:
        self._aim = SHARE * seconds
        self.rows = MOST if pace is None else self._fitting(pace)

    def ran(self, rows: int, seconds: float) -> None:
        """Learn from rows that were scored, in runs of at most `rows` of this object."""
        if not rows:
            return
        handed = min(rows, self.rows)
        took = seconds * handed / rows
        if took > self._aim:
            self.rows = max(LEAST, int(handed * self._aim / took) // LEAST * LEAST)
        elif took <= GROWTH * self._aim and 2 * handed > self.rows:
            self.rows = min(MOST, 2 * self.rows)

    def timed_out(self, rows: int) -> None:
        """Learn from a run that was given all of its time and did not end: hand it a quarter next."""
        self.rows = min(self.rows, -(-rows // (4 * LEAST)) * LEAST)

    def _fitting(self, pace: Pace) -> int:
        rows = LEAST
        while pace.expected(2 * rows) <= self._aim:
            rows *= 2
            if rows >= MOST:
                break
        return rows
