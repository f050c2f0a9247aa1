"""What the demo sees while it runs, as any reader of the topics would: each topic is read in a thread of its own."""

from __future__ import annotations

import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

import confluent_kafka
import numpy as np
import numpy.typing as npt
import polars as pl
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from examples.flights.account import LETTER_SCHEMA, SCORED_SCHEMA
from penstock.client import Subscriber
from penstock.client.batches import FrameDecoder
from penstock.client.records import RecordDecoder
from schemas import records

WAIT_SECONDS = 0.2
DECODE_EVERY_MS = 200
UNHURRIED = {"fetch.min.bytes": "100000", "fetch.wait.max.ms": "100"}  # fewer requests where a moment does not matter
Numbers = npt.NDArray[np.int64]
Arrivals = tuple[Numbers, Numbers, Numbers]  # source partitions, source offsets, ms of arrival


class Reading(threading.Thread):
    """A thread that reads a topic from its beginning until told to stop. failure: the error that ended it."""

    def __init__(self, kafka: Mapping[str, str], topic: str) -> None:
        super().__init__(name=f"reads {topic}", daemon=True)
        self.kafka, self.topic = kafka, topic
        self.failure: Exception | None = None
        self._stopping = threading.Event()

    def run(self) -> None:
        try:
            self.read()
        except Exception as error:  # kept for the main thread, which says so and ends the demo
            self.failure = error

    def read(self) -> None:
        """Hand what comes to `take`, in batches."""
        consumer = consumer_from_beginning(self.kafka, self.topic)
        try:
            while not self._stopping.is_set():
                first = consumer.consume(1, WAIT_SECONDS)
                messages = _records([*first, *consumer.consume(2000, 0)]) if first else []
                if messages:
                    self.take(messages)
                else:
                    self.idle()
        finally:
            consumer.close()

    def take(self, messages: Sequence[Message]) -> None:
        """Deal with some messages, in order."""
        raise NotImplementedError

    def idle(self) -> None:
        """Nothing came for a moment."""

    def stop(self) -> None:
        """Ask it to end and wait for that."""
        self._stopping.set()
        self.join(10)


class Events(Reading):
    """When each event was appended to its topic, and a checksum of its bytes.

    most: how many events there can be at most; count: how many were read.
    """

    def __init__(self, kafka: Mapping[str, str], topic: str, partitions: int, most: int) -> None:
        super().__init__({**kafka, **UNHURRIED}, topic)
        self.appended: list[Numbers] = [np.zeros(most, np.int64) for _ in range(partitions)]  # ms; 0: not read yet
        self._sums: list[Numbers] = [np.full(most, -1, np.int64) for _ in range(partitions)]
        self.count = 0

    def take(self, messages: Sequence[Message]) -> None:
        for message in messages:
            partition, offset = message.partition() or 0, message.offset() or 0
            self.appended[partition][offset] = message.timestamp()[1]
            self._sums[partition][offset] = checksum(message.value())
        self.count += len(messages)

    def is_event(self, partition: int, offset: int, value: Any) -> bool:
        """Whether the event at this place has these bytes."""
        return bool(self._sums[partition][offset] == checksum(value))


class Counted(Reading):
    """The number of records in a topic, for where nothing else is asked: `count`."""

    def __init__(self, kafka: Mapping[str, str], topic: str) -> None:
        super().__init__({**kafka, **UNHURRIED}, topic)
        self.count = 0

    def take(self, messages: Sequence[Message]) -> None:
        self.count += len(messages)


class Inferences(Reading):
    """The inferences of an arm as they become visible. count: how many; latest: the last few, for a person.

    A record's time of arrival is noted at once, its content is decoded later, many at a time: a reader that worked on
    each as it comes would slow down what it measures.
    """

    def __init__(self, kafka: Mapping[str, str], topic: str, events: Events) -> None:
        super().__init__(kafka, topic)
        self._events = events
        self._decoder = FrameDecoder(RecordDecoder(kafka))
        self._waiting: list[tuple[Sequence[Message], int]] = []  # messages and ms of arrival
        self._arrived: list[Arrivals] = []
        self.first = self.last = 0  # ms of arrival
        self.count = 0
        self.latest: deque[dict[str, Any]] = deque(maxlen=5)

    def take(self, messages: Sequence[Message]) -> None:
        self.last = time.time_ns() // 1_000_000
        self.first = self.first or self.last
        self._waiting.append((messages, self.last))
        self.count += len(messages)
        if self.last - self._waiting[0][1] > DECODE_EVERY_MS:
            self._decode()

    def idle(self) -> None:
        if self._waiting:
            self._decode()

    def _decode(self) -> None:
        waiting, self._waiting = self._waiting, []
        frame, wrong = self._decoder.decode([message for messages, _ in waiting for message in messages])
        if wrong:
            raise wrong[0]
        times = np.repeat([at for _, at in waiting], [len(messages) for messages, _ in waiting])
        partitions, offsets = (frame[f"source_{name}"].to_numpy().astype(np.int64) for name in ("partition", "offset"))
        self._arrived.append((partitions, offsets, times))
        self.latest.append(frame.row(-1, named=True))

    def recent_latencies(self) -> Numbers:
        """Milliseconds from an event's append to its inference's visibility, of the last batches."""
        return latencies(self._events.appended, self._arrived[-10:])

    def all_latencies(self) -> Numbers:
        """The same of all inferences, in order of arrival."""
        return latencies(self._events.appended, self._arrived)

    def seconds(self) -> float:
        """From the first arrival to the last one."""
        return (self.last - self.first) / 1000


class Letters(Reading):
    """Dead letters by reason, as they become visible."""

    def __init__(self, kafka: Mapping[str, str], topic: str) -> None:
        super().__init__(kafka, topic)
        self.reasons: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many there are."""
        return self.reasons.total()

    def take(self, messages: Sequence[Message]) -> None:
        self.reasons.update(header(message, "reason") for message in messages)


class Alerts(Reading):
    """The alerts of one deployment, in order. new: those to show that were not shown yet."""

    def __init__(self, kafka: Mapping[str, str], topic: str, deployment: str) -> None:
        super().__init__(kafka, topic)
        self._deployment = deployment
        self.new: deque[dict[str, Any]] = deque()
        self.opened: dict[str, dict[str, Any]] = {}  # by the episode's id
        self.closed: dict[str, dict[str, Any]] = {}
        self.repeats = 0
        self._told: set[tuple[str, int]] = set()  # ids of episodes, numbers of their records

    def take(self, messages: Sequence[Message]) -> None:
        for message in messages:
            alert = records.decode("alert", message.value() or b"") if message.value() else None
            if alert is None or alert["deployment"] != self._deployment:
                continue
            record = (alert["id"], alert["number"])
            self.repeats += record in self._told
            self._told.add(record)
            if is_told(alert):
                self.new.append(alert)
            if alert["state"] != "updated":
                (self.opened if alert["state"] == "opened" else self.closed)[alert["id"]] = alert

    @property
    def told(self) -> bool:
        """Whether there was one to show that opened."""
        return any(map(is_told, list(self.opened.values())))


def is_told(alert: Mapping[str, Any]) -> bool:
    """Whether a person is shown it: the shadow's events are those of the active arm, its outputs are its own."""
    return bool(alert["arm"] == "active" or alert["kind"] == "output")


def latencies(appended: Sequence[Numbers], arrived: Sequence[Arrivals]) -> Numbers:
    """Milliseconds between append and arrival; events whose append was not read yet are left out.

    appended: per partition, ms by offset, 0 for unknown; arrived: partitions, offsets and ms of batches.
    """
    if not arrived:
        return np.zeros(0, np.int64)
    partitions, offsets, times = (np.concatenate(parts) for parts in zip(*arrived, strict=True))
    since = np.zeros(len(times), np.int64)
    for partition, stamps in enumerate(appended):
        own = partitions == partition
        since[own] = stamps[offsets[own]]
    return (times - since)[since > 0]


def read_scored(kafka: Mapping[str, str], topic: str) -> pl.DataFrame:
    """All inferences of a topic up to its end, in the form of SCORED_SCHEMA."""
    columns = [pl.col(name).cast(dtype) for name, dtype in SCORED_SCHEMA.items()]
    with subscriber(kafka, topic) as subscribed:
        frames = [frame.select(columns) for frame in subscribed.batches(20_000, 1.0)]
    return pl.concat([pl.DataFrame(schema=SCORED_SCHEMA), *frames])


def read_letters(kafka: Mapping[str, str], topic: str, events: Events) -> pl.DataFrame:
    """All dead letters of a topic up to its end, in the form of LETTER_SCHEMA."""
    rows = []
    for message in read_to_end(kafka, topic):
        partition, offset = (int(header(message, f"source.{name}")) for name in ("partition", "offset"))
        unaltered = events.is_event(partition, offset, message.value())
        rows.append((partition, offset, header(message, "reason"), unaltered))
    return pl.DataFrame(rows, schema=LETTER_SCHEMA, orient="row")


def read_to_end(kafka: Mapping[str, str], topic: str) -> list[Message]:
    """All committed messages of a topic up to its present end."""
    consumer = consumer_from_beginning(kafka, topic)
    left = {place.partition for place in consumer.assignment()}
    found: list[Message] = []
    try:
        while left:
            for message in consumer.consume(2000, 1.0):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
                else:
                    found.extend(_records([message]))
    finally:
        consumer.close()
    return found


def ends(kafka: Mapping[str, str], topic: str) -> dict[int, int]:
    """The number of events per partition that a fresh topic holds."""
    consumer = consumer_from_beginning(kafka, topic)
    try:
        return {place.partition: consumer.get_watermark_offsets(place, 10)[1] for place in consumer.assignment()}
    finally:
        consumer.close()


def subscriber(kafka: Mapping[str, str], topic: str) -> Subscriber:
    """A subscriber to all inferences of a topic up to its end; `kafka` are librdkafka settings."""
    others = {name: value for name, value in kafka.items() if name != "bootstrap.servers"}
    return Subscriber(kafka["bootstrap.servers"], topic, start="earliest", until_end=True, **others)


def consumer_from_beginning(kafka: Mapping[str, str], topic: str) -> confluent_kafka.Consumer:
    """A read_committed consumer at the beginning of all partitions; it commits nothing."""
    consumer = confluent_kafka.Consumer(
        {
            "fetch.wait.max.ms": 20,
            **kafka,
            "group.id": "penstock.demo.unused",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    return consumer


def checksum(value: Any) -> int:
    """32 bits of a message's value; another number for none."""
    return -2 if value is None else zlib.crc32(value)


def header(message: Message, name: str) -> str:
    """One of the headers that Penstock gives a dead letter."""
    found: dict[str, Any] = dict(message.headers() or [])
    return bytes(found[f"penstock.{name}"]).decode()


def _records(messages: Sequence[Message]) -> list[Message]:
    """Without the marks of a partition's end; raises KafkaException for errors that do not go away."""
    kept = []
    for message in messages:
        error = message.error()
        if error is None:
            kept.append(message)
        elif error.code() != KafkaError._PARTITION_EOF and not error.retriable():
            raise KafkaException(error)
    return kept
