"""Kafka in memory: the twin of source and sink for tests and tools, under the same contract suite.

It keeps what the worker relies on: partitions in order, offsets committed with the records or not at all, messages of
an aborted transaction never seen. It has one member a group and no rebalances but those a test asks for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from streams.batch import Batch, Headers, Records, batch_of
from streams.errors import Rewind


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A record in a partition, read like a consumed message."""

    stored: tuple[
        bytes | None, bytes | None, int, int, int, Headers | None
    ]  # value, key, partition, offset, ms, headers

    def value(self) -> bytes | None:
        return self.stored[0]

    def key(self) -> bytes | None:
        return self.stored[1]

    def partition(self) -> int:
        return self.stored[2]

    def offset(self) -> int:
        return self.stored[3]

    def timestamp(self) -> tuple[int, int]:
        return 1, self.stored[4]

    def headers(self) -> Headers | None:
        return self.stored[5]


@dataclass(slots=True)
class MemoryKafka:
    """Topics of a number of partitions, and the committed offsets of one group."""

    counts: Mapping[str, int]
    topics: dict[str, list[list[StoredMessage]]] = field(default_factory=dict)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for topic, count in self.counts.items():
            self.topics[topic] = [[] for _ in range(count)]

    def append(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int = 0,
        *,
        ms: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """Store one record."""
        log = self.topics[topic][partition]
        log.append(StoredMessage((value, key, partition, len(log), ms, headers)))

    def read(self, topic: str) -> list[StoredMessage]:
        """Return what a read_committed reader sees, partition by partition."""
        return [message for log in self.topics[topic] for message in log]


class MemorySource:
    """A source on MemoryKafka; see streams.protocols.Source."""

    def __init__(self, kafka: MemoryKafka, topic: str, revoked: Callable[[], None] = lambda: None) -> None:
        self.topic, self.joined = topic, False
        self._kafka, self._revoked = kafka, revoked
        self._next: dict[int, int] = {}
        self._parked: set[int] = set()

    def begin(self) -> None:
        self.joined = True
        self._next = {
            p: self._kafka.offsets.get((self.topic, p), 0) for p in range(len(self._kafka.topics[self.topic]))
        }

    def poll(self, limit: int, seconds: float, wait: float = 0.0) -> Batch | None:
        messages = self._take(limit)
        deadline = time.monotonic() + wait
        while messages and len(messages) < limit and time.monotonic() < deadline:
            time.sleep(0.001)
            messages += self._take(limit - len(messages))
        return batch_of(messages) if messages else None

    def _take(self, limit: int) -> list[StoredMessage]:
        messages: list[StoredMessage] = []
        for partition, position in self._next.items():
            if partition in self._parked:
                continue
            taken = self._kafka.topics[self.topic][partition][position : position + limit - len(messages)]
            self._next[partition] += len(taken)
            messages += taken
        return messages

    def committed(self, positions: Mapping[int, int]) -> None:
        """The offsets are in MemoryKafka already."""

    def rewind(self) -> None:
        self._next = {p: self._kafka.offsets.get((self.topic, p), 0) for p in self._next}

    def hold(self, seconds: float) -> bool:
        time.sleep(seconds)
        return True

    def take_away(self, partition: int) -> None:
        """Act a rebalance that gives a partition to somebody else."""
        self._revoked()
        del self._next[partition]

    def park(self, partition: int, offset: int) -> None:
        self._next[partition] = offset
        self._parked.add(partition)

    def unpark(self) -> None:
        self._parked.clear()

    def assigned(self) -> Sequence[int]:
        return sorted(self._next)

    def positions(self) -> Mapping[int, int]:
        return dict(self._next)

    def lags(self) -> Mapping[int, int]:
        return {p: len(self._kafka.topics[self.topic][p]) - position for p, position in self._next.items()}

    def close(self, leave: bool) -> None:
        self._next = {}


class MemorySink:
    """A sink on MemoryKafka; see streams.protocols.Sink. `fail` is called before each commit and may raise."""

    def __init__(self, kafka: MemoryKafka, source: MemorySource, fail: Callable[[], None] = lambda: None) -> None:
        self._kafka, self._source, self._fail = kafka, source, fail

    def begin(self) -> None:
        """There is nothing to abort."""

    def publish(self, records: Sequence[Records], positions: Mapping[int, int]) -> None:
        self._fail()
        for partition in positions:
            if partition not in self._source.assigned():
                raise Rewind(f"partition {partition} belongs to somebody else")
        for group in records:
            self._append(group)
        for partition, position in positions.items():
            self._kafka.offsets[(self._source.topic, partition)] = position

    def _append(self, group: Records) -> None:
        count = len(self._kafka.topics[group.topic])
        places = group.partitions or [-1] * len(group.values)
        headers: Sequence[Headers | None] = group.headers or [None] * len(group.values)
        for value, key, place, own in zip(group.values, group.keys, places, headers, strict=True):
            partition = place if place >= 0 else hash(key) % count
            self._kafka.append(group.topic, value, key, partition, headers=own)

    def close(self) -> None:
        """There is nothing to close."""
