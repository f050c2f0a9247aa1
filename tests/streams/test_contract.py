"""What the worker relies on, asked of the real Kafka and of its in-memory twin alike."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streams.batch import Batch, Records
from streams.memory import MemoryKafka, MemorySink, MemorySource
from streams.protocols import Sink, Source
from streams.sink import TransactionalSink
from streams.source import KafkaSource
from streams.starts import Hooks

PARTITIONS = 2


@dataclass
class World:
    """One input and one output topic on some Kafka."""

    source: str
    target: str
    connect: Callable[[], tuple[Source, Sink]]
    append: Callable[[bytes, int], None]
    read: Callable[[], list[tuple[int, bytes | None]]]


@pytest.fixture
def memory() -> World:
    kafka = MemoryKafka({"in": PARTITIONS, "out": PARTITIONS})

    def connect() -> tuple[Source, Sink]:
        source = MemorySource(kafka, "in")
        return source, MemorySink(kafka, source)

    return World(
        "in",
        "out",
        connect,
        lambda value, partition: kafka.append("in", value, None, partition),
        lambda: [(m.partition(), m.value()) for m in kafka.read("out")],
    )


@pytest.fixture
def real(bootstrap_servers: str, topic: Callable[..., str]) -> World:
    kafka = {"bootstrap.servers": bootstrap_servers}
    source_topic, target = topic(PARTITIONS), topic(PARTITIONS)
    group = f"contract.{uuid.uuid4()}"
    producer = Producer(kafka)

    def connect() -> tuple[Source, Sink]:
        source = KafkaSource(kafka, source_topic, group, "0", start="earliest", hooks=Hooks())
        return source, TransactionalSink(kafka, f"{group}.0", source, message_bytes=1_000_000)

    def append(value: bytes, partition: int) -> None:
        producer.produce(source_topic, value, partition=partition)
        producer.flush()

    return World(source_topic, target, connect, append, lambda: read_committed(bootstrap_servers, target))


def read_committed(servers: str, topic: str) -> list[tuple[int, bytes | None]]:
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": str(uuid.uuid4()),
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    found: list[tuple[int, bytes | None]] = []
    ended: set[int] = set()
    deadline = time.monotonic() + 20
    while len(ended) < PARTITIONS and time.monotonic() < deadline:
        for message in consumer.consume(100, 0.2):
            if message.error():
                ended.add(message.partition())
            else:
                found.append((message.partition(), message.value()))
    consumer.close()
    assert len(ended) == PARTITIONS
    return found


@pytest.fixture(params=["memory", "real"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def pair(world: World) -> Iterator[tuple[Source, Sink]]:
    source, sink = world.connect()
    sink.begin()
    source.begin()
    yield source, sink
    source.close(leave=True)
    sink.close()


def drain(source: Source, count: int) -> list[Batch]:
    """Poll until `count` messages came, or none comes any more."""
    batches: list[Batch] = []
    deadline = time.monotonic() + 20
    while sum(map(len, batches)) < count and time.monotonic() < deadline:
        batch = source.poll(100, 0.2)
        if batch is not None:
            batches.append(batch)
    return batches


def pairs(batches: list[Batch]) -> set[tuple[int, int]]:
    return {(int(p), int(o)) for batch in batches for p, o in zip(batch.partitions, batch.offsets, strict=True)}


def echoed(world: World, batch: Batch) -> list[Records]:
    return [Records(world.target, batch.values, batch.keys, batch.partitions.tolist())]


def test_a_poll_gives_every_message_once_with_its_place(world: World, pair: tuple[Source, Sink]) -> None:
    for i in range(10):
        world.append(b"%d" % i, i % 2)
    batches = drain(pair[0], 10)
    assert pairs(batches) == {(p, o) for p in range(2) for o in range(5)}
    assert sum(map(len, batches)) == 10
    assert pair[0].poll(100, 0.1) is None


def test_a_poll_never_gives_more_than_asked(world: World, pair: tuple[Source, Sink]) -> None:
    for i in range(10):
        world.append(b"%d" % i, 0)
    drained = []
    while sum(map(len, drained)) < 10:
        batch = pair[0].poll(3, 0.2)
        if batch is not None:
            assert len(batch) <= 3
            drained.append(batch)
    assert [value for batch in drained for value in batch.values] == [b"%d" % i for i in range(10)]


def test_a_poll_waits_for_more_as_long_as_it_is_told_but_not_for_more_than_asked(
    world: World, pair: tuple[Source, Sink]
) -> None:
    world.append(b"joins", 0)
    drain(pair[0], 1)
    world.append(b"0", 0)
    later = threading.Timer(0.3, lambda: world.append(b"1", 1))
    later.start()
    both = pair[0].poll(2, 5.0, 10.0)
    assert both is not None
    assert sorted(filter(None, both.values)) == [b"0", b"1"]
    world.append(b"2", 0)
    alone = pair[0].poll(100, 5.0, 0.2)
    assert alone is not None
    assert alone.values == [b"2"]


def test_published_records_are_seen_in_order_at_their_partition(world: World, pair: tuple[Source, Sink]) -> None:
    for i in range(6):
        world.append(b"%d" % i, i % 2)
    for batch in drain(pair[0], 6):
        pair[1].publish(echoed(world, batch), batch.positions)
        pair[0].committed(batch.positions)
    seen = world.read()
    assert [value for partition, value in seen if partition == 0] == [b"0", b"2", b"4"]
    assert [value for partition, value in seen if partition == 1] == [b"1", b"3", b"5"]


def test_a_rewind_reads_again_what_was_not_committed(world: World, pair: tuple[Source, Sink]) -> None:
    source, sink = pair
    world.append(b"a", 0)
    (first,) = drain(source, 1)
    sink.publish(echoed(world, first), first.positions)
    source.committed(first.positions)
    world.append(b"b", 0)
    assert drain(source, 1)[0].values == [b"b"]
    source.rewind()
    assert drain(source, 1)[0].values == [b"b"]


def test_a_successor_goes_on_where_the_last_commit_was(world: World) -> None:
    source, sink = world.connect()
    sink.begin()
    source.begin()
    world.append(b"a", 0)
    (first,) = drain(source, 1)
    sink.publish(echoed(world, first), first.positions)
    source.committed(first.positions)
    world.append(b"b", 0)
    drain(source, 1)  # read, but not committed
    source.close(leave=True)
    sink.close()
    source, sink = world.connect()
    sink.begin()
    source.begin()
    assert drain(source, 1)[0].values == [b"b"]
    source.close(leave=True)
    sink.close()


def test_holding_keeps_the_place(world: World, pair: tuple[Source, Sink]) -> None:
    source, _ = pair
    world.append(b"a", 0)
    assert len(drain(source, 1)) == 1
    world.append(b"b", 0)
    for _ in range(3):
        assert source.hold(0.1)
    assert drain(source, 1)[0].values == [b"b"]


def test_the_source_knows_its_partitions_and_its_lag(world: World, pair: tuple[Source, Sink]) -> None:
    source, _ = pair
    for i in range(4):
        world.append(b"%d" % i, i % 2)
    drain(source, 4)
    assert source.assigned() == [0, 1]
    assert source.lags() == {0: 0, 1: 0}
    assert source.joined


def test_keys_and_headers_arrive(world: World, pair: tuple[Source, Sink]) -> None:
    headers: list[Any] = [[("why", b"because")]]
    pair[1].publish([Records(world.target, [b"v"], [b"k"], [1], headers)], {})
    assert world.read() == [(1, b"v")]
