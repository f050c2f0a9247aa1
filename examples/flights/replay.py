"""The year as a stream: its flights in event order, at a steady rate, published through the client."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from examples.flights.corrupt import Corrupter
from examples.flights.labels import Labels
from penstock.client import Producer

ENCODED_AT_ONCE = 2000
BURST_SECONDS = 0.005  # events that are due within it go out together
MOST_UNSCORED, MOST_SECONDS = 500, 0.1  # events, or seconds at the given rate: a replay runs ahead no further
RAMP_SECONDS = 5.0  # in which the rate rises: a Kafka that was just started is slow until its code is compiled


class Replay(threading.Thread):
    """Publishes `events`, followed by corrupt copies of some of them, and `labels` as they become known; record
    timestamps are now.

    rate: events per second, 0 for as fast as Kafka takes them. scored: how many were scored so far; while these are too
    few, a replay with a rate waits, so that a slow machine shows the latency of scoring and not that of a queue.
    sent, corrupt: how many of each; at: the scheduled departure that it has come to; held: seconds that it waited;
    failure: the error that ended it.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        topic: str,
        schema: Path,
        events: pl.DataFrame,
        *,
        rate: float,
        percent: float,
        scored: Callable[[], int],
        labels: Labels,
    ) -> None:
        super().__init__(name="replay", daemon=True)
        others: dict[str, Any] = {name: value for name, value in kafka.items() if name != "bootstrap.servers"}
        self._producer = Producer(kafka["bootstrap.servers"], topic, schema, key="flight_id", linger_ms=5, **others)
        self._corrupter = Corrupter(self._producer.encoder, percent)
        self._events, self._rate, self._scored, self._labels = events, rate, scored, labels
        self._most_unscored = max(MOST_UNSCORED, rate * MOST_SECONDS)
        self.sent, self.at = 0, events["scheduled_departure"][0] if len(events) else datetime.min
        self.held = 0.0
        self.failure: Exception | None = None
        self._stopping = threading.Event()
        self._began = 0.0

    @property
    def corrupt(self) -> int:
        """Number of corrupt events among those sent."""
        return self._corrupter.total

    def run(self) -> None:
        self._began = time.monotonic()
        try:
            with self._producer:
                for chunk in self._events.iter_slices(ENCODED_AT_ONCE):
                    self._publish(chunk)
                    if self._stopping.is_set():
                        return
            self._labels.rest()
        except Exception as error:  # kept for the main thread, which says so and ends the demo
            self.failure = error

    def stop(self) -> None:
        """End before the year does."""
        self._stopping.set()

    def _publish(self, chunk: pl.DataFrame) -> None:
        values = self._producer.encoder.encode_frame(chunk)
        keys, times = chunk["flight_id"].to_list(), chunk["scheduled_departure"].to_list()
        for row, (value, key) in enumerate(zip(values, keys, strict=True)):
            self._producer.publish(value, key)
            self.sent += 1
            follows, damaged = self._corrupter.copy(lambda row=row: chunk.row(row, named=True), value)  # type: ignore[misc]
            if follows:
                self._producer.publish(damaged, key)  # type: ignore[arg-type]
                self.sent += 1
            if not row % 16:
                self.at = times[row]
                self._wait()
        self._labels.until(times[-1])

    def _wait(self) -> None:
        """Be as far as the rate says; also lets delivery errors through."""
        self._producer.poll()
        if not self._rate:
            return
        began = time.monotonic()
        while self.sent - self._scored() > self._most_unscored and not self._stopping.wait(BURST_SECONDS):
            self._producer.poll()
        self.held += time.monotonic() - began
        ahead = due_after(self.sent, self._rate) - (time.monotonic() - self._began - self.held)
        if ahead > BURST_SECONDS:
            self._stopping.wait(ahead)


def due_after(count: int, rate: float) -> float:
    """Seconds after the start at which so many events are out: the rate rises evenly during RAMP_SECONDS."""
    risen = rate * RAMP_SECONDS / 2
    if count >= risen:
        return RAMP_SECONDS + (count - risen) / rate
    return math.sqrt(2 * count * RAMP_SECONDS / rate)
