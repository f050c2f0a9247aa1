"""What source and sink do about a missing topic, markers of transactions, commits that fail, and full queues."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams import sink as sinks
from streams import source as sources
from streams.backlog import Backlog
from streams.batch import Records
from streams.errors import Fenced, ProducerFenced, Refused, Rewind, StartOver
from streams.sink import REFUSALS, AcknowledgedSink, TransactionalSink, producer_settings
from streams.source import KafkaSource
from streams.starts import Hooks
from tests.rig import read_committed


def joined(servers: str, topic: str, backlog: Backlog | None = None) -> KafkaSource:
    source = KafkaSource(
        {"bootstrap.servers": servers}, topic, topic, "0", start="earliest", hooks=Hooks(), backlog=backlog
    )
    source.begin()
    until(lambda: source.poll(1, 0.1) or source.joined)
    return source


def until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline


def test_a_deleted_topic_ends_the_worker_only_when_it_stays_away(
    bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MISSING_SECONDS", 4.0)
    admin, doomed = AdminClient({"bootstrap.servers": bootstrap_servers}), f"doomed.{time.time_ns()}"
    admin.create_topics([NewTopic(doomed, 2, 1)])[doomed].result(20)
    source = joined(bootstrap_servers, doomed)
    try:
        admin.delete_topics([doomed])[doomed].result(20)
        until(lambda: source.poll(1, 0.2) or source._missed, 30)
        missed = time.monotonic()
        with pytest.raises(Refused, match="does not exist"):
            until(lambda: source.poll(1, 0.2))
        assert time.monotonic() - missed > 3
    finally:
        source.close(leave=True)


class Moved:
    """A message that says that a partition's leader moved."""

    def error(self) -> KafkaError:
        return KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)


def test_a_topic_that_was_missing_for_a_moment_ends_nothing_but_the_clients(
    bootstrap_servers: str, topic: Callable[..., str]
) -> None:
    source = joined(bootstrap_servers, topic(2))
    assert source._is_error(Moved())  # type: ignore[arg-type]
    with pytest.raises(StartOver, match="there again"):
        source.poll(1, 0.1)
    source.close(leave=True)


def test_a_markers_offset_is_no_event_that_waits(bootstrap_servers: str, topic: Callable[..., str]) -> None:
    name, backlog = topic(1), Backlog()
    producer = Producer({"bootstrap.servers": bootstrap_servers, "transactional.id": name})
    producer.init_transactions(10)
    source = joined(bootstrap_servers, name, backlog)  # first: joining polls
    producer.begin_transaction()
    for _ in range(10):
        producer.produce(name, b"1", partition=0)
    producer.commit_transaction(10)
    read = 0
    while read < 10:
        batch = source.poll(100, 0.2)
        if batch is not None:
            read += len(batch)
            assert backlog.oldest_seconds() > 0
            source.committed(batch.positions)

    def look() -> float:
        source.poll(1, 0.1)
        assert source.lags() == {0: 1}  # the marker
        return backlog.oldest_seconds()

    until(lambda: look() == 0, 10)
    assert backlog.drain_seconds() == 0
    source.close(leave=True)


class Group:
    """A source whose commits fail for one of two partitions."""

    topic = "events"

    def __init__(self, code: int) -> None:
        self.consumer, self.code = self, code

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[Any]:
        class Done:
            error: KafkaError | None = None

        class Failed:
            error = KafkaError(self.code)

        return [Done(), Failed()]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, StartOver),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Refused),
        (KafkaError.FENCED_INSTANCE_ID, ProducerFenced),  # the worker asks the group who has the slot
        (KafkaError.ILLEGAL_GENERATION, Rewind),
    ],
)
def test_a_commit_that_fails_for_one_partition_is_no_commit(code: int, error: type[Exception]) -> None:
    sink = AcknowledgedSink({"bootstrap.servers": "127.0.0.1:1"}, "s", Group(code), message_bytes=1_000_000)  # type: ignore[arg-type]
    with pytest.raises(error):
        sink.publish([], {0: 5, 1: 7})
    sink.close()


class Failing:
    """A producer whose commits fail while `fails`, and whose transactions can be aborted."""

    def __init__(self, code: int) -> None:
        self._error, self.fails = KafkaError(code, txn_requires_abort=True), True

    def begin_transaction(self) -> None: ...
    def produce(self, *_: Any, **__: Any) -> None: ...
    def send_offsets_to_transaction(self, *_: Any) -> None: ...
    def abort_transaction(self, _: float) -> None: ...
    def purge(self, **_: bool) -> None: ...
    def flush(self, _: float) -> None: ...

    def commit_transaction(self, _: float) -> None:
        if self.fails:
            raise KafkaException(self._error)


class Attempt:
    """A sink on a failing producer."""

    def __init__(self, code: int, protocol: str = "classic") -> None:
        settings = {"bootstrap.servers": "127.0.0.1:1"}
        self.source = KafkaSource(
            {**settings, "group.protocol": protocol}, "t", "g", "0", start="earliest", hooks=Hooks()
        )
        self.sink = TransactionalSink(settings, "g.0", self.source, message_bytes=1_000_000)
        self.sink.close()
        self._producer = Failing(code)
        self.sink._producers = [self._producer, self._producer]  # type: ignore[list-item]

    def publish(self, partition: int, events: int = 1, *, fails: bool = True) -> None:
        self._producer.fails = fails
        self.sink.publish([Records("t", [b"1"] * events, [None] * events)], {partition: 8})


@pytest.fixture
def attempt() -> Iterator[Callable[..., Attempt]]:
    made: list[Attempt] = []

    def make(*arguments: Any) -> Attempt:
        made.append(Attempt(*arguments))
        return made[-1]

    yield make
    for each in made:
        each.source.close(leave=False)


@pytest.mark.parametrize("code", [KafkaError.INVALID_RECORD, KafkaError.MSG_SIZE_TOO_LARGE])
def test_events_whose_records_a_topic_refuses_for_good_end_the_worker_though_others_are_taken(
    attempt: Callable[..., Attempt], code: int
) -> None:
    on = attempt(code)
    for i in range(REFUSALS - 1):
        with pytest.raises(Rewind):
            on.publish(i % 2)
        on.publish(2, fails=False)
    with pytest.raises(Refused, match=r"cleanup\.policy or max\.message\.bytes"):
        on.publish(1)


@pytest.mark.parametrize(
    ("code", "events"),
    [
        (KafkaError._MSG_TIMED_OUT, 1),
        (KafkaError.NOT_ENOUGH_REPLICAS, 1),
        (KafkaError.MSG_SIZE_TOO_LARGE, 2),  # a smaller batch may be taken
    ],
)
def test_what_may_be_taken_later_is_tried_for_ever(attempt: Callable[..., Attempt], code: int, events: int) -> None:
    on = attempt(code)
    for _ in range(3 * REFUSALS):
        with pytest.raises(Rewind):
            on.publish(0, events)


def test_an_event_that_was_taken_after_all_does_not_count_as_refused(attempt: Callable[..., Attempt]) -> None:
    on = attempt(KafkaError.MSG_SIZE_TOO_LARGE)
    for _ in range(3 * REFUSALS):
        with pytest.raises(Rewind):
            on.publish(0)
        on.publish(0, fails=False)


@pytest.mark.parametrize(("group", "asked"), [("classic", False), ("consumer", True)])
@pytest.mark.parametrize("members", [[], ["somebody"]])
def test_only_a_member_that_is_not_static_asks_the_group_why_its_producer_was_fenced(
    monkeypatch: pytest.MonkeyPatch, attempt: Callable[..., Attempt], group: str, asked: bool, members: list[str]
) -> None:
    monkeypatch.setattr(sources, "FENCED_SECONDS", 0.0)
    on = attempt(KafkaError.PRODUCER_FENCED, group)
    source = on.source
    source._owners = lambda: members
    assert source.hold(0.01)
    with pytest.raises(ProducerFenced):
        on.publish(0)
    if members and asked:
        with pytest.raises(Fenced, match="a --slot of its own"):
            source.hold(0.01)
    else:
        assert source.hold(0.01)


def test_producing_waits_while_the_queue_is_full(bootstrap_servers: str, topic: Callable[..., str]) -> None:
    name = topic(1)
    settings = producer_settings({"bootstrap.servers": bootstrap_servers}, 100_000, 100_000)
    producer = Producer({**settings, "queue.buffering.max.kbytes": 100, "message.max.bytes": 50_000})
    values = [b"%06d" % i + bytes(10_000) for i in range(500)]
    sinks._produce(producer, Records(name, values, [None] * 500, [0] * 500))
    assert producer.flush(10) == 0
    assert [(message.value() or b"")[:6] for message in read_committed(bootstrap_servers, name, 500)] == [
        b"%06d" % i for i in range(500)
    ]


def test_a_broker_that_takes_nothing_fills_the_queue_to_its_bound_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "PATIENCE", 0.3)
    settings = producer_settings({"bootstrap.servers": "127.0.0.1:1"}, 1_000_000, 1_000_000)
    assert settings["queue.buffering.max.kbytes"] == 64 << 10
    producer = Producer(settings)
    with pytest.raises(BufferError):
        sinks._produce(producer, Records("t", [bytes(900_000)] * 100, [None] * 100))
    assert len(producer) <= (64 << 20) // 900_000
    producer.purge(in_queue=True, in_flight=True)
    producer.flush(1)


def test_a_queue_has_room_for_the_largest_records() -> None:
    assert producer_settings({}, 100 << 20, 1_000)["queue.buffering.max.kbytes"] >= 400 << 10
