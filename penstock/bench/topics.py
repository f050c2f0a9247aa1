"""The topics of a measurement: made, read whole, watched and removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from penstock.bench.outputs import Outputs, Times, numbers

Kafka = Mapping[str, str]


class Topics:
    """Topics of one run, named after it; all that are left are removed on close. Raises KafkaException."""

    def __init__(self, kafka: Kafka, run: str, partitions: int) -> None:
        self._run, self.partitions = run, partitions
        self._admin = AdminClient(dict(kafka))
        self._made: list[str] = []
        self._count = 0

    def make(self, name: str, settings: Mapping[str, str] = MappingProxyType({})) -> str:
        """Create a topic and return its name. Its records carry the time at which the broker appended them."""
        self._count += 1
        full = f"{self._run}.{self._count}.{name}"
        config = {"message.timestamp.type": "LogAppendTime", **settings}
        topic = NewTopic(full, num_partitions=self.partitions, config=config)
        self._admin.create_topics([topic])[full].result()
        self._made.append(full)
        return full

    def also(self, *topics: str) -> None:
        """Remove these on close, too, as far as they exist then: what the measured system made."""
        self._made += topics

    def forget(self, *topics: str) -> None:
        """Remove topics now."""
        for future in self._admin.delete_topics(list(topics)).values():
            future.result()
        self._made = [topic for topic in self._made if topic not in topics]

    def close(self) -> None:
        """Remove what is left."""
        for future in self._admin.delete_topics(self._made).values() if self._made else ():
            with suppress(KafkaException):  # it never came to be
                future.result()
        self._made = []


def consumer_of(kafka: Kafka, isolation: str = "read_committed", eof: bool = False) -> Consumer:
    """Return a consumer without a group that sees new records soon. eof: it tells the ends of partitions."""
    return Consumer(
        {
            **kafka,
            "group.id": f"penstock.bench.{time.time_ns()}",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "fetch.wait.max.ms": 5,
            "fetch.queue.backoff.ms": 2,
            "enable.partition.eof": eof,
        }
    )


def end_of(consumer: Consumer, topic: str, partition: int) -> int:
    """Return the end of a partition; a topic made just now may have no leader yet."""
    for _ in range(100):
        try:
            end: int = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)[1]
            return end
        except KafkaException:
            time.sleep(0.05)
    raise RuntimeError(f"{topic}/{partition} has no leader")


@contextmanager
def ends(kafka: Kafka, topic: str, partitions: int) -> Iterator[Callable[[], int]]:
    """Yield a function that says how many records a topic has by now, transactions' markers and all."""
    consumer = consumer_of(kafka, "read_uncommitted")
    try:
        yield lambda: sum(end_of(consumer, topic, partition) for partition in range(partitions))
    finally:
        consumer.close()


def read(kafka: Kafka, topic: str, count: int, values: int = 0, begin: int = 0) -> tuple[Outputs, list[bytes]]:
    """Return all committed records of a topic of `count` partitions, and the values of the first `values` of them.

    begin: the offset in each partition from which on they are read.
    """
    consumer = consumer_of(kafka, eof=True)
    consumer.assign([TopicPartition(topic, p, begin) for p in range(count)])
    reading = set(range(count))
    keys: list[bytes] = []
    partitions: list[int] = []
    appended: list[int] = []
    kept: list[bytes] = []
    while reading:
        messages: list[Any] = []
        for message in consumer.consume(10_000, 0.2):
            if (error := message.error()) is None:
                messages.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                reading.discard(message.partition())
            else:
                raise KafkaException(error)
        keys += [m.key() or b"" for m in messages]
        partitions += [m.partition() for m in messages]
        appended += [m.timestamp()[1] for m in messages]
        if len(kept) < values:
            kept += [m.value() or b"" for m in messages[: values - len(kept)]]
    consumer.close()
    return Outputs(numbers(keys), np.array(partitions, np.int64), np.array(appended, np.float64)), kept


def append_times(kafka: Kafka, topic: str, partitions: int) -> Times:
    """Return the log-append time in ms of every event of a topic, by its number."""
    outputs, _ = read(kafka, topic, partitions)
    known = outputs.event >= 0
    times = np.zeros(int(known.sum()))
    times[outputs.event[known]] = outputs.appended[known]
    return times


@contextmanager
def group_position(kafka: Kafka, group: str, topic: str, partitions: int) -> Iterator[Callable[[], int]]:
    """Yield a function that says how many events of a topic a group has committed."""
    consumer = Consumer({**kafka, "group.id": group, "isolation.level": "read_uncommitted"})
    places = [TopicPartition(topic, p) for p in range(partitions)]
    try:
        yield lambda: sum(max(0, tp.offset) for tp in consumer.committed(places, timeout=10))
    finally:
        consumer.close()


def last_values(kafka: Kafka, topic: str, count: int) -> list[bytes]:
    """Return the values of about the last `count` records, as many of each partition. Raises KafkaException."""
    consumer = consumer_of(kafka, eof=True)
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    share = -(-count // max(1, len(partitions)))
    reading = {}
    for partition in partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        reading[partition] = max(low, high - share)
    consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in reading.items()])
    values = []
    while reading:
        for message in consumer.consume(10_000, 0.2):
            if message.error() is None:
                values.append(message.value() or b"")
            else:
                reading.pop(message.partition(), None)
    consumer.close()
    return values
