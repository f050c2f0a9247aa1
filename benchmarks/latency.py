"""From log-append of an event to the moment a read_committed reader has its inference."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.longs import read_long

PARTITIONS = 4  # of every topic of a benchmark
Times = npt.NDArray[np.float64]
Place = tuple[int, int]  # source partition and offset


class Reader(threading.Thread):
    """Reads a topic from its present end and notes when each record came."""

    def __init__(self, servers: str, topic: str) -> None:
        super().__init__(daemon=True)
        self._consumer = _consumer(servers)
        partitions = range(PARTITIONS)  # a topic made just now may not show all of its partitions yet
        ends = [TopicPartition(topic, p, _end(self._consumer, topic, p)) for p in partitions]
        self._consumer.assign(ends)
        self.values: list[bytes] = []
        self.arrivals: list[tuple[int, float]] = []  # how many records had come, and when
        self._stop_it = threading.Event()

    def run(self) -> None:
        while not self._stop_it.is_set():
            messages = self._consumer.consume(1, 0.05)
            if messages:
                messages += self._consumer.consume(5_000, 0)
                now = time.time()
                self.values += [m.value() or b"" for m in messages]
                self.arrivals.append((len(self.values), now))
        self._consumer.close()

    def stop(self) -> None:
        self._stop_it.set()
        self.join()

    def latencies(self, appended: dict[int, Times], place: Callable[[bytes], Place]) -> tuple[Times, Times]:
        """Return per inference when its event was appended and how long it took, both in ms.

        appended: log-append time in ms by partition and offset.
        """
        times = np.empty(len(self.values))
        last = 0
        for count, now in self.arrivals:
            times[last:count] = now * 1000
            last = count
        starts = np.array([appended[p][o] for p, o in map(place, self.values)])
        return starts, np.asarray(times - starts, np.float64)


def by_second(starts: Times, times: Times) -> list[float]:
    """Return the p95 of the inferences of each second, in ms; a last second of which little was seen is left out."""
    seconds = ((starts - starts.min()) // 1000).astype(int)
    counts = np.bincount(seconds)
    return [float(np.percentile(times[seconds == s], 95)) for s in np.flatnonzero(counts > counts.max() / 2)]


def _consumer(servers: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"penstock.bench.{time.time_ns()}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 5,
            "fetch.queue.backoff.ms": 2,
        }
    )


def _end(consumer: Consumer, topic: str, partition: int) -> int:
    """Return the end of a partition; a topic made just now may have no leader yet."""
    for _ in range(100):
        try:
            end: int = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)[1]
            return end
        except KafkaException:
            time.sleep(0.05)
    raise RuntimeError(f"{topic}/{partition} has no leader")


def append_times(servers: str, topic: str) -> dict[int, Times]:
    """Return the log-append time in ms of every record of a topic, by partition and offset."""
    consumer = _consumer(servers)
    partitions = range(PARTITIONS)
    ends = {p: _end(consumer, topic, p) for p in partitions}
    times = {p: np.zeros(end) for p, end in ends.items()}
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    left = sum(ends.values())
    while left:
        messages = consumer.consume(10_000, 5)
        if not messages:
            raise RuntimeError(f"{left} records of {topic} cannot be read")
        for m in messages:
            partition, offset = m.partition(), m.offset()
            assert partition is not None
            times[partition][offset] = m.timestamp()[1]
        left -= len(messages)
    consumer.close()
    return times


def bare_place(value: bytes) -> Place:
    """Return where a bare loop's record came from: ten bytes, nullable score, version, source partition, offset."""
    at = 10
    at += 1 + 8  # union branch, double
    length, at = read_long(value, at + 1)
    partition, at = read_long(value, at + length + 1)
    offset, _ = read_long(value, at + 1)
    return partition, offset


def worker_place(value: bytes) -> Place:
    """Return where an inference came from: single-object header, strings and a long of lineage, then the source."""
    length, at = read_long(value, 10)  # deployment
    _, at = read_long(value, at + length)  # revision
    for _ in range(5):  # arm, model, version, event schema, source topic
        length, at = read_long(value, at)
        at += length
    partition, at = read_long(value, at + 1)
    offset, _ = read_long(value, at + 1)
    return partition, offset
