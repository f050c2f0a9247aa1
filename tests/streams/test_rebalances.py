"""What a source on the real Kafka does when partitions leave and return, and when offsets cannot be told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from streams.errors import Rewind, StartOver
from streams.source import KafkaSource
from streams.starts import Hooks


class Group:
    """One topic of two partitions with 50 events each, and the sources of one group."""

    def __init__(self, servers: str, topic: str) -> None:
        self.servers, self.topic = servers, topic
        self.sources: list[KafkaSource] = []
        self.append(50)

    def append(self, count: int) -> None:
        producer = Producer({"bootstrap.servers": self.servers})
        for i in range(2 * count):
            producer.produce(self.topic, b"%d" % i, partition=i % 2)
        assert producer.flush(10) == 0

    def join(self, slot: str, hooks: Hooks | None = None, start: str = "earliest") -> KafkaSource:
        settings = {"bootstrap.servers": self.servers}
        source = KafkaSource(settings, self.topic, self.topic, slot, start=start, hooks=hooks or Hooks())
        self.sources.append(source)
        source.begin()
        return source


@pytest.fixture
def group(bootstrap_servers: str, topic: Callable[..., str]) -> Iterator[Group]:
    made = Group(bootstrap_servers, topic(2))
    yield made
    for source in made.sources:
        source.close(leave=True)


def until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline


def read(source: KafkaSource, count: int) -> list[tuple[int, int]]:
    places: list[tuple[int, int]] = []
    deadline = time.monotonic() + 10
    while len(places) < count and time.monotonic() < deadline:
        batch = source.poll(1_000, 0.2)
        if batch is not None:
            places += zip(batch.partitions.tolist(), batch.offsets.tolist(), strict=True)
    return places


def lose_while_held(group: Group, first: KafkaSource) -> tuple[KafkaSource, int]:
    """Let a second member take one of the partitions that the first holds back; return it and which partition."""
    assert len(read(first, 100)) == 100
    second = group.join("1")
    until(lambda: second.poll(1, 0.01) or not first.hold(0.05))
    (left,) = {0, 1} - set(first.assigned())
    return second, left


def test_a_partition_that_left_while_held_is_read_again_when_it_returns(group: Group) -> None:
    first = group.join("0")
    second, left = lose_while_held(group, first)
    until(lambda: [first.hold(0.05), second.poll(1, 0.05), second.assigned()][-1])
    second.close(leave=True)
    assert set(read(first, 50)) == {(left, offset) for offset in range(50)}


def test_a_rewind_out_of_a_rebalance_while_held_goes_on_reading(group: Group) -> None:
    def revoked() -> None:
        raise Rewind("the batch before was aborted")

    first = group.join("0", Hooks(revoked))
    with pytest.raises(Rewind):
        lose_while_held(group, first)
    (kept,) = first.assigned()
    first.rewind()
    assert set(read(first, 50)) == {(kept, offset) for offset in range(50)}


def test_starting_at_the_end_is_remembered_before_anything_was_scored(group: Group) -> None:
    first = group.join("0", start="latest")
    until(lambda: first.poll(1, 0.05) or first.assigned())
    first.close(leave=True)
    group.append(3)
    assert set(read(group.join("0", start="latest"), 6)) == {(p, o) for p in (0, 1) for o in (50, 51, 52)}


class Consumer:
    """Answers like a confluent_kafka consumer in trouble."""

    def consume(self, limit: int, seconds: float) -> list[Any]:
        return []

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[Any]:
        class Unknown:
            topic, partition, offset = "t", 0, -1001
            error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)

        return [Unknown()]


class OutOfRange:
    """Says that an offset to read is not in the log any more."""

    def __init__(self, partition: int) -> None:
        self._partition = partition

    def error(self) -> KafkaError:
        return KafkaError(KafkaError._AUTO_OFFSET_RESET)

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return 10


def source_on(consumer: Consumer) -> KafkaSource:
    source = KafkaSource({"bootstrap.servers": "127.0.0.1:1"}, "t", "g", "0", start="earliest", hooks=Hooks())
    source.consumer.close()
    source.consumer = source._starts._consumer = consumer  # type: ignore[assignment]
    source._next[0] = 10
    return source


def test_a_reader_that_retention_overtook_starts_over_once_what_it_has_in_hand_is_decided() -> None:
    source = source_on(Consumer())
    assert source._is_error(OutOfRange(0))  # type: ignore[arg-type]
    assert source.poll(1, 0.1) is None  # the worker commits what it has in hand when there is nothing new
    with pytest.raises(StartOver):
        source.poll(1, 0.1)


def test_an_offset_out_of_range_of_a_partition_that_left_is_nothing() -> None:
    source = source_on(Consumer())
    assert source._is_error(OutOfRange(1))  # type: ignore[arg-type]
    assert [source.poll(1, 0.1) for _ in range(3)] == [None] * 3


def test_an_offset_that_cannot_be_told_is_not_taken_for_none() -> None:
    with pytest.raises(KafkaException):
        source_on(Consumer())._starts.find([TopicPartition("t", 0)])


def test_a_broken_client_is_not_hidden_by_a_rewind() -> None:
    source = source_on(Consumer())
    for error in (Rewind("aborted"), StartOver("broken"), Rewind("again")):
        source._fail(error)
    assert isinstance(source._failure, StartOver)


class Leaving(Consumer):
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: self.asked.append(name)


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ("given back", True),
        ("given back as it closes", True),
        ("given back long ago", False),
        ("lost", False),
        ("kept", False),
    ],
)
def test_who_makes_new_clients_amid_a_rebalance_leaves_the_group_so_that_what_it_gave_back_is_given_out(
    monkeypatch: pytest.MonkeyPatch, left: str, expected: bool
) -> None:
    consumer = Leaving()
    source = source_on(consumer)
    mine: Any = [TopicPartition("t", 0, 0)]
    if left == "given back as it closes":  # the group waits for it, and it has not heard of that
        consumer.consume = lambda *_: source._revoke(consumer, mine)  # type: ignore[arg-type, attr-defined]
    elif left == "lost":
        source._lose(consumer, mine)  # type: ignore[arg-type]
    elif left != "kept":
        source._revoke(consumer, mine)  # type: ignore[arg-type]
    if left == "given back long ago":
        monkeypatch.setattr("streams.source.ROUNDS_SECONDS", 0.0)
    source.close(leave=False)
    assert ("unsubscribe" in consumer.asked) is expected
    assert "close" in consumer.asked
