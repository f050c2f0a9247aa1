"""The year as a stream: its flights in event order, at a steady rate, published through the client."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from examples.flights.corrupt import Corrupter
from penstock.client import Producer

ENCODED_AT_ONCE = 2000
BURST_SECONDS = 0.005  # events that are due within it go out together


class Replay(threading.Thread):
    """Publishes `events`, followed by corrupt copies of some of them; record timestamps are now.

    rate: events per second, 0 for as fast as Kafka takes them; sent, corrupt: how many of each; at: the scheduled
    departure that it has come to; failure: the error that ended it.
    """

    def __init__(
        self, kafka: Mapping[str, str], topic: str, schema: Path, events: pl.DataFrame, rate: float, percent: float
    ) -> None:
        super().__init__(name="replay", daemon=True)
        others: dict[str, Any] = {name: value for name, value in kafka.items() if name != "bootstrap.servers"}
        self._producer = Producer(kafka["bootstrap.servers"], topic, schema, key="flight_id", linger_ms=1, **others)
        self._corrupter = Corrupter(self._producer.encoder, percent)
        self._events, self._rate = events, rate
        self.sent, self.at = 0, events["scheduled_departure"][0] if len(events) else datetime.min
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

    def _wait(self) -> None:
        """Be as far as the rate says; also lets delivery errors through."""
        self._producer.poll()
        if not self._rate:
            return
        ahead = self.sent / self._rate - (time.monotonic() - self._began)
        if ahead > BURST_SECONDS:
            self._stopping.wait(ahead)
