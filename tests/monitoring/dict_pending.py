"""The events and labels that may still change what is known, by key, and when each may be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Literal

from monitoring.rows import Window
from tests.monitoring.dict_histories import Event, History, Label

_CLOSE, _LABEL, _EVENT = range(3)  # at the same deadline an event is judged before its labels are forgotten


Gone = tuple[Literal["missing", "unmatched"], Event | Label]


@dataclass(slots=True)
class Pending:
    """Histories by key. keep: ms, what has its deadline up to it is gone; the fold moves it."""

    window: Window
    keep: int = 0
    histories: dict[bytes, History] = field(default_factory=dict)
    _deadlines: list[tuple[int, int, bytes, int, int, int]] = field(default_factory=list)

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

    def _plan(self, rank: int, key: bytes, order: tuple[int, int, int]) -> None:
        deadline = (self.window.closes, self.window.closes, self.window.event)[rank](order[0])
        heappush(self._deadlines, (deadline, rank, key, *order))

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
