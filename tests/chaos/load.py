"""The producer of a chaos run: it remembers which event the brokers acknowledged at which offset, and when."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tests.chaos.events import Events

UNKNOWN = -1
TICK = 0.005
FLUSH_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Step:
    """So many seconds at so many events a second."""

    seconds: float
    rate: float


class Ledger:
    """What was acknowledged: per partition, by offset, the sequence number and the log-append time in seconds."""

    def __init__(self) -> None:
        self.sequences: dict[int, array[int]] = {}
        self.times: dict[int, array[float]] = {}
        self.count = 0

    def note(self, partition: int, offset: int, sequence: int, appended: float) -> None:
        sequences = self.sequences.get(partition)
        if sequences is None:
            sequences = self.sequences[partition] = array("q")
            self.times[partition] = array("d")
        times = self.times[partition]
        while len(sequences) <= offset:
            sequences.append(UNKNOWN)
            times.append(0.0)
        if sequences[offset] != UNKNOWN:
            raise RuntimeError(f"{partition}@{offset} was acknowledged for two events: {sequences[offset]}, {sequence}")
        self.count += 1
        sequences[offset], times[offset] = sequence, appended


class Load(threading.Thread):
    """Produces `events` over the partitions in turn, at the rates of the steps, the last of them until `release`.

    acks=all and idempotent: each event is appended once or reported as failed.
    """

    def __init__(
        self, servers: str, topic: str, partitions: int, steps: Sequence[Step], events: Events, *, limit: int = 0
    ) -> None:
        super().__init__(name="load", daemon=True)
        self._topic, self._partitions, self._steps, self._events = topic, partitions, list(steps), events
        self._limit = limit
        self.ledger = Ledger()
        self.failed: list[str] = []  # events that were not acknowledged: the brokers owe nothing for them
        self.failure: BaseException | None = None
        self.sent = 0
        self.began = 0.0  # seconds since 1970
        self._halt, self._released = threading.Event(), threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                "compression.type": "lz4",
                "delivery.timeout.ms": 300_000,
                "queue.buffering.max.messages": 2_000_000,
                "topic.metadata.refresh.interval.ms": 5_000,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )

    def run(self) -> None:
        try:
            self._produce()
        except BaseException as error:
            self.failure = error

    def _produce(self) -> None:
        self.began = time.time()
        start, due, ends = time.monotonic(), 0.0, 0.0
        for step in self._steps:
            begin, before = ends, due
            ends += step.seconds
            last = step is self._steps[-1]
            while not self._halt.is_set():
                now = time.monotonic() - start
                if now >= ends and (not last or self._released.is_set()):
                    break
                self._send_until(before + (now - begin) * step.rate)
                self._producer.poll(0)
                self._halt.wait(TICK)
            due = before + step.seconds * step.rate
            if self._limit and self.sent >= self._limit:
                break
        self._left = self._producer.flush(FLUSH_SECONDS)
        if self._left:
            self.failed.append(f"{self._left} events were neither acknowledged nor refused")

    def grow(self, partitions: int, seconds: float = 30.0) -> None:
        """Produce to so many partitions from now on; blocks until the producer knows of them."""
        deadline = time.monotonic() + seconds
        while len(self._producer.list_topics(self._topic, timeout=10).topics[self._topic].partitions) < partitions:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the producer does not see {partitions} partitions of {self._topic}")
            time.sleep(0.1)
        self._partitions = partitions

    @property
    def partitions(self) -> int:
        """How many partitions events go to."""
        return self._partitions

    def release(self) -> None:
        """Let the load end with its last step; until then that step goes on."""
        self._released.set()

    def missing(self) -> str:
        """Say what of the events to be sent nobody acknowledged or refused; empty when all is accounted for."""
        if self.failure is not None:
            return f"the producer failed: {type(self.failure).__name__}: {self.failure}"
        if not self.ledger.count:
            return "no event was acknowledged"
        if self._limit and self.sent != self._limit:
            return f"{self.sent:,} of {self._limit:,} events were sent"
        if self.ledger.count + len(self.failed) < self.sent:
            return f"{self.sent:,} events were sent, {self.ledger.count:,} acknowledged, {len(self.failed):,} refused"
        return ""

    def stop(self) -> None:
        """End the load now; what was sent is still acknowledged."""
        self._halt.set()

    def _send_until(self, due: float) -> None:
        events = self._events
        if self._limit:
            due = min(due, self._limit)
        while self.sent < due:
            sequence = self.sent
            try:
                self._producer.produce(
                    self._topic,
                    events.value(sequence),
                    events.key(sequence),
                    sequence % self._partitions,
                    on_delivery=partial(self._delivered, sequence),
                )
            except BufferError:
                self._producer.poll(0.05)
                continue
            except KafkaException as error:
                if error.args[0].code() == KafkaError._UNKNOWN_PARTITION:  # its metadata is older than a new partition
                    self._producer.poll(0.05)
                    continue
                self.failed.append(str(error))
                self._halt.set()  # a fatal one: later events cannot be sent either
                return
            self.sent += 1
            if not self.sent % 500:
                self._producer.poll(0)

    def _delivered(self, sequence: int, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed.append(f"event {sequence}: {error.str()}")
            return
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        self.ledger.note(partition, offset, sequence, message.timestamp()[1] / 1000)
