"""Which label belongs to which event of one key: a function of what is there, in whatever order it came.

A label belongs to the last event whose time is not after its own, if it came within the window; else it waits. Several
labels of one event are a chain in the order of their times: what repeats is a duplicate, what differs a correction.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from tests.monitoring.dict_judging import Value


class Source(NamedTuple):
    """Who made a prediction. role: assigned, beside or shadow."""

    arm: str
    model: str
    version: str
    role: str


class Said(NamedTuple):
    """One prediction. kind, width: of the output's column, see schemas/avsc/sample.avsc."""

    source: Source
    kind: str
    width: int
    value: Value
    others: tuple[float | None, ...] = ()  # outputs that formulas need


class Event:
    """An event and what the arms said about it, by arm. segments: names and values of its declared fields."""

    __slots__ = ("offset", "partition", "said", "segments", "time")

    def __init__(self, time: int, partition: int, offset: int, segments: tuple[tuple[str, str], ...] = ()) -> None:
        self.time, self.partition, self.offset, self.segments = time, partition, offset, segments
        self.said: dict[str, Said] = {}

    @property
    def order(self) -> tuple[int, int, int]:
        return self.time, self.partition, self.offset


class Truth(NamedTuple):
    """What a label says. numbers: the further ones, in the declared order, None where missing."""

    value: Value
    numbers: tuple[float | None, ...] = ()


class Label(NamedTuple):
    """A label at its place in the topic of labels."""

    time: int
    partition: int
    offset: int
    truth: Truth


class Change(NamedTuple):
    """An event whose labels change, and its chains before and after."""

    event: Event
    before: Sequence[Label]
    after: Sequence[Label]


_order, _time = attrgetter("order"), attrgetter("time")


class History:
    """The events and labels of one key. within: ms that a label may be later than its event."""

    __slots__ = ("_within", "events", "labels")

    def __init__(self, within: int) -> None:
        self._within = within
        self.events: list[Event] = []
        self.labels: list[Label] = []

    def event(self, time: int, partition: int, offset: int) -> Event | None:
        """Return the event of this place; None where it is not known."""
        wanted = (time, partition, offset)
        at = bisect_left(self.events, wanted, key=_order)
        found = self.events[at] if at < len(self.events) else None
        return found if found is not None and found.order == wanted else None

    def known(self, time: int, partition: int, offset: int) -> Event:
        """Return an event that was added."""
        return self.events[bisect_left(self.events, (time, partition, offset), key=_order)]

    def label(self, time: int, partition: int, offset: int) -> Label:
        """Return a label that was added."""
        return self.labels[bisect_left(self.labels, (time, partition, offset), key=lambda each: each[:3])]

    def add_event(self, event: Event) -> list[Change]:
        """Take an event that is not known yet; return whose labels change."""
        at = bisect_left(self.events, event.order, key=_order)
        before = self.chain(at - 1) if at else []
        self.events.insert(at, event)
        changes = [Change(event, [], self.chain(at))]
        if at:
            changes.append(Change(self.events[at - 1], before, self.chain(at - 1)))
        return [change for change in changes if change.before != change.after]

    def add_label(self, label: Label) -> Change | None:
        """Take a label that is not known yet; return whose labels change, None where it waits."""
        at = self._owner(label)
        before = self.chain(at) if at is not None else []
        insort(self.labels, label)
        return None if at is None else Change(self.events[at], before, self.chain(at))

    def owner(self, label: Label) -> Event | None:
        """Return the event that a label belongs to."""
        at = self._owner(label)
        return None if at is None else self.events[at]

    def labels_of(self, event: Event) -> Sequence[Label]:
        """Return the chain of an event that is known."""
        return self.chain(bisect_left(self.events, event.order, key=_order))

    def chain(self, at: int) -> list[Label]:
        """Return the labels of an event by its place, in order."""
        start, last = self.events[at].time, self.events[at].time + self._within
        low = bisect_left(self.labels, start, key=_time)
        high = bisect_right(self.labels, last, key=_time)
        if at + 1 < len(self.events):
            high = min(high, bisect_left(self.labels, self.events[at + 1].time, key=_time))
        return self.labels[low:high]

    def late_from(self, time: int) -> int:
        """Return how many labels from a time to the next event are too late for the event that is before them."""
        at = bisect_right(self.events, time, key=_time) - 1
        if at < 0:
            return 0
        low = bisect_right(self.labels, max(time - 1, self.events[at].time + self._within), key=_time)
        if at + 1 < len(self.events):
            return max(bisect_left(self.labels, self.events[at + 1].time, key=_time) - low, 0)
        return len(self.labels) - low

    def drop_event(self, event: Event) -> None:
        """Forget an event."""
        del self.events[bisect_left(self.events, event.order, key=_order)]

    def drop_label(self, label: Label) -> None:
        """Forget a label."""
        del self.labels[bisect_left(self.labels, label[:3], key=lambda each: each[:3])]

    def _owner(self, label: Label) -> int | None:
        at = bisect_right(self.events, label.time, key=_time) - 1
        return at if at >= 0 and label.time - self.events[at].time <= self._within else None


def repeats(chain: Sequence[Label]) -> tuple[int, int]:
    """Return how many labels of a chain are duplicates and how many corrections."""
    corrections = sum(one.truth != other.truth for one, other in pairwise(chain))
    return max(len(chain) - 1, 0) - corrections, corrections
