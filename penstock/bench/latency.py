"""From log-append of an event to the moment a read_committed reader has its inference."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, TopicPartition

from penstock.bench.outputs import Numbers, Times, numbers
from penstock.bench.topics import Kafka, consumer_of, end_of

Seconds = list[float]
NEAR = 0.02  # how exactly the share of events with an inference is known, where not all have one


class Reader(threading.Thread):
    """Reads a topic from its present end and notes when each record came, and of which event it is by its key.

    It reads within a `with`, and keeps what it read.
    """

    def __init__(self, kafka: Kafka, topic: str, partitions: int) -> None:
        super().__init__(daemon=True)
        self._consumer: Consumer = consumer_of(kafka)
        places = range(partitions)  # a topic made just now may not show all of its partitions yet
        self._consumer.assign([TopicPartition(topic, p, end_of(self._consumer, topic, p)) for p in places])
        self._keys: list[bytes] = []
        self._arrivals: list[tuple[int, float]] = []  # how many records had come, and when
        self._stop_it = threading.Event()

    def __len__(self) -> int:
        return len(self._keys)

    def run(self) -> None:
        while not self._stop_it.is_set():
            messages = self._consumer.consume(1, 0.05)
            if messages:
                messages += self._consumer.consume(5_000, 0)
                now = time.time()
                self._keys += [m.key() or b"" for m in messages]
                self._arrivals.append((len(self._keys), now))
        self._consumer.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_it.set()
        self.join()

    def arrivals(self) -> tuple[Numbers, Times]:
        """Return the event of each record and when it came, in ms since 1970."""
        times = np.empty(len(self._keys))
        last = 0
        for count, now in self._arrivals:
            times[last:count] = now * 1000
            last = count
        return numbers(self._keys), times


@dataclass(frozen=True, slots=True)
class Latency:
    """One run at an offered rate, in ms; seconds: the p95 of each second of it.

    arrived: the share of events whose inference came in time; where some did not, the times are infinite. cpu,
    broker_cpu: CPU seconds an event of the system and of the broker.
    """

    p50: float
    p95: float
    p99: float
    seconds: Seconds
    arrived: float = 1.0
    cpu: float = math.nan
    broker_cpu: float = math.nan

    def __str__(self) -> str:
        if self.arrived < 1:
            return f"does not keep up: {self.arrived:.0%} came in time"
        return f"p50 {self.p50:.1f} p95 {self.p95:.1f} p99 {self.p99:.1f} ms"


def overrun(arrived: float) -> Latency:
    """Return the latency of who does not keep up."""
    return Latency(math.inf, math.inf, math.inf, [], arrived)


def latencies(events: Numbers, arrived: Times, appended: Times, first: int, due: float = 1.0) -> Latency:
    """Judge the inferences of events from number `first` on; a repeated one counts from its first arrival.

    appended: log-append time of each event in ms, by its number. due: the share of events that has an inference.
    """
    known = (events >= first) & (events < len(appended))
    _, once = np.unique(events[known], return_index=True)
    share = len(once) / (len(appended) - first)
    if share < (due if due == 1 else due - NEAR):
        return overrun(share)
    starts = appended[events[known][once]]
    times = arrived[known][once] - starts
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    return Latency(p50, p95, p99, by_second(starts, times))


def by_second(starts: Times, times: Times) -> Seconds:
    """Return the p95 of the inferences of each second, in ms; a last second of which little was seen is left out."""
    seconds = ((starts - starts.min()) // 1000).astype(int)
    counts: npt.NDArray[np.int64] = np.bincount(seconds)
    return [float(np.percentile(times[seconds == s], 95)) for s in np.flatnonzero(counts > counts.max() / 2)]
