"""Records of several topics in one order, that of the times at which they were written; pure.

A record is taken once every topic has been read to a record that is as late, or to its end at a moment that is later by
SLACK_MS: a record under way then is not older. So the order is that of the log, whoever reads it and in which pieces.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

SLACK_MS = 1000  # that a record may be under way, and clocks may differ

T = TypeVar("T")


class Place(NamedTuple):
    """Where a record stands, and when it was written; the order is that of these."""

    at: int
    topic: str
    offset: int


@dataclass(slots=True)
class Order(Generic[T]):
    """reached: by topic, the time up to which everything of it is here."""

    reached: dict[str, int]
    _waiting: list[tuple[Place, int, T]] = field(default_factory=list)
    _count: int = 0

    @classmethod
    def of(cls, topics: Iterable[str]) -> Order[T]:
        """Return the order of records of these topics."""
        return cls(dict.fromkeys(topics, -1))

    def add(self, place: Place, record: T) -> None:
        """Take the next record of a topic. Its clock never goes back: a record that says so counts as one of now."""
        at = max(place.at, self.reached[place.topic])
        self.reached[place.topic] = at
        self._count += 1
        heapq.heappush(self._waiting, (place._replace(at=at), self._count, record))

    def ended(self, topic: str, now: int) -> None:
        """Say that a topic was read to its end at a time (ms)."""
        self.reached[topic] = max(self.reached[topic], now - SLACK_MS)

    def due(self) -> Iterator[tuple[Place, T]]:
        """Yield what can be taken."""
        until = min(self.reached.values())
        while self._waiting and self._waiting[0][0].at < until:  # of the same millisecond more may come
            place, _, record = heapq.heappop(self._waiting)
            yield place, record
