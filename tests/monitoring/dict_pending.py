"""The events and labels that may still change what is known, by key, and when each may be forgotten.

What is pending at a position of the log is a function of the log and of one clock: whatever lies beyond its deadline is
gone. So a restart finds it again by reading the log from `low` on, and no snapshot holds it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Literal

from tests.monitoring.dict_histories import Event, History, Label, Said

_CLOSE, _LABEL, _EVENT = range(3)  # at the same deadline an event is judged before its labels are forgotten


@dataclass(frozen=True, slots=True)
class Window:
    """How long is waited. within, grace: ms."""

    within: int  # after its event's time a label counts
    grace: int  # more, for what arrives out of order

    def closes(self, event: int) -> int:
        """Return when an event that has no label will have none."""
        return event + self.within + self.grace

    def label(self, time: int) -> int:
        """Return when a label is forgotten."""
        return time + self.within + self.grace

    def event(self, time: int) -> int:
        """Return when an event is forgotten: not before any label that it can have."""
        return time + 2 * self.within + self.grace


Gone = tuple[Literal["missing", "unmatched"], Event | Label]


@dataclass(slots=True)
class Pending:
    """Histories by key. keep: ms, what has its deadline up to it is gone; the fold moves it."""

    window: Window
    keep: int = 0
    histories: dict[bytes, History] = field(default_factory=dict)
    _deadlines: list[tuple[int, int, bytes, int, int, int]] = field(default_factory=list)
    _trail: deque[tuple[int, int]] = field(default_factory=deque)  # offset in the log, deadline of what it brought

    def history(self, key: bytes) -> History:
        """Return the history of a key; a new one is kept once something is added."""
        found = self.histories.get(key)
        return found if found is not None else self.histories.setdefault(key, History(self.window.within))

    def closed(self, time: int) -> bool:
        """Say whether an event of this time has been judged."""
        return self.window.closes(time) <= self.keep

    def remember_event(self, key: bytes, event: Event) -> None:
        """Plan when an event that was added is judged and forgotten."""
        rank = _EVENT if self.closed(event.time) else _CLOSE
        self._plan(rank, key, event.order)

    def remember_label(self, key: bytes, label: Label) -> None:
        """Plan when a label that was added is forgotten."""
        self._plan(_LABEL, key, label[:3])

    def again_event(self, key: bytes, event: Event, said: Said) -> None:
        """Take what a sample says about an event of this window, after a restart."""
        history = self.history(key)
        kept = history.event(*event.order)
        if kept is None:
            history.add_event(event)
            self.remember_event(key, event)
        (kept or event).said.setdefault(said.source.arm, said)

    def again_label(self, key: bytes, label: Label) -> None:
        """Take a label of this window, after a restart."""
        history = self.history(key)
        if not history.has_label(label):
            history.add_label(label)
            self.remember_label(key, label)

    def _plan(self, rank: int, key: bytes, order: tuple[int, int, int]) -> None:
        deadline = (self.window.closes, self.window.label, self.window.event)[rank](order[0])
        heappush(self._deadlines, (deadline, rank, key, *order))

    def mark(self, offset: int, deadline: int) -> None:
        """Note that a record of the log brought what stays until a deadline."""
        self._trail.append((offset, deadline))

    def low(self, position: int) -> int:
        """Return the offset from which the log holds all that is pending."""
        while self._trail and self._trail[0][1] <= self.keep:
            self._trail.popleft()
        return self._trail[0][0] if self._trail else position

    def expire(self, keep: int) -> Iterator[Gone]:
        """Move the clock; yield events that will have no label and labels that found no event, and forget."""
        self.keep = max(self.keep, keep)
        while self._deadlines and self._deadlines[0][0] <= self.keep:
            _, rank, key, *order = heappop(self._deadlines)
            history = self.histories[key]
            if rank == _LABEL:
                label = history.label(*order)
                if history.owner(label) is None:
                    yield "unmatched", label
                history.drop_label(label)
            else:
                event = history.known(*order)
                if rank == _CLOSE:
                    if not history.labels_of(event):
                        yield "missing", event
                    self._plan(_EVENT, key, event.order)
                else:
                    history.drop_event(event)
            if not history.events and not history.labels:
                del self.histories[key]
