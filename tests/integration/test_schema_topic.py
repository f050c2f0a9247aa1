"""The schema topic on a real Kafka: publish once, find by fingerprint, refuse what is not what its key says."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from schemas import topic as module
from schemas.errors import SchemaRefused, SourceUnavailable, UnknownSchema
from schemas.sources import SchemaTopic
from schemas.wire import fingerprint

TopicFactory = Callable[..., str]


def schema(name: str = "Event", **field: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": "x", "type": "double"} | field]}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def absent(bootstrap_servers: str) -> Iterator[str]:
    """The name of a topic that is not there; it is deleted after the test."""
    name = f"schemas.{secrets.token_hex(4)}"
    yield name
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    if name in admin.list_topics(timeout=10).topics:
        admin.delete_topics([name])[name].result()


@pytest.fixture
def connect(bootstrap_servers: str) -> Iterator[Callable[..., SchemaTopic]]:
    """A factory of connections to a schema topic, closed after the test."""
    made: list[SchemaTopic] = []

    def connected(name: str, **options: Any) -> SchemaTopic:
        made.append(SchemaTopic({"bootstrap.servers": bootstrap_servers}, name, **options))
        return made[-1]

    yield connected
    for one in made:
        one.close()


def put(servers: str, topic: str, *records: tuple[bytes | None, bytes | None], partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": servers, "log_level": 2})
    for key, value in records:
        producer.produce(topic, value, key, partition)
    assert producer.flush(10) == 0


def record(document: Any) -> tuple[bytes, bytes]:
    return fingerprint(document).encode(), json.dumps(document).encode()


def count(servers: str, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "count"})
    _, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), 10)
    consumer.close()
    return int(high)


def test_a_published_schema_is_found_by_everyone(connect: Callable[..., SchemaTopic], absent: str) -> None:
    published = connect(absent).publish(schema(doc="kept"))
    assert published == fingerprint(schema())
    assert connect(absent).by_fingerprint(published) == schema(doc="kept")


def test_the_topic_is_made_with_one_partition_that_is_compacted(
    connect: Callable[..., SchemaTopic], absent: str, bootstrap_servers: str
) -> None:
    connect(absent).publish(schema())
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    assert len(admin.list_topics(absent, 10).topics[absent].partitions) == 1
    resource = ConfigResource(ResourceType.TOPIC, absent)
    assert admin.describe_configs([resource])[resource].result()["cleanup.policy"].value == "compact"


def test_publishing_again_writes_nothing(
    connect: Callable[..., SchemaTopic], absent: str, bootstrap_servers: str
) -> None:
    first = connect(absent).publish(schema())
    assert connect(absent).publish(schema(doc="another text, the same schema")) == first
    assert connect(absent).publish(fastavro.parse_schema(schema())) == first  # with fastavro's own marks in it
    assert count(bootstrap_servers, absent) == 1


def test_what_libraries_add_to_a_schema_is_not_published(connect: Callable[..., SchemaTopic], absent: str) -> None:
    published = connect(absent).publish(fastavro.parse_schema(schema(type="long", logicalType="date")))
    assert not [key for key in connect(absent).by_fingerprint(published) if key.startswith("__")]


def test_a_reader_asks_again_for_what_was_published_after_it_looked(
    connect: Callable[..., SchemaTopic], absent: str
) -> None:
    clock = Clock()
    reader = connect(absent, clock=clock)
    with pytest.raises(UnknownSchema, match="publish the schema before its events"):
        reader.by_fingerprint(fingerprint(schema()))
    connect(absent).publish(schema())
    connect(absent).publish(schema("Other"))
    assert reader.by_fingerprint(fingerprint(schema("Other"))) == schema("Other")  # a new one: asked for at once
    assert reader.by_fingerprint(fingerprint(schema())) == schema()


def test_an_unknown_fingerprint_is_asked_for_once_a_second(
    connect: Callable[..., SchemaTopic], topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, looks = Clock(), []
    reader = connect(topic(), clock=clock)
    read = reader._read_to_end
    monkeypatch.setattr(reader, "_read_to_end", lambda: (looks.append(clock.now), read()))
    for moment in (0.0, 0.5, 0.9, 1.5):
        clock.now = moment
        with pytest.raises(UnknownSchema):
            reader.by_fingerprint("00" * 8)
    assert looks == [0.0, 1.5]


def test_records_that_are_not_what_they_say_are_passed_over(
    connect: Callable[..., SchemaTopic],
    topic: TopicFactory,
    bootstrap_servers: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name, good = topic(), schema("Good")
    recursive = {"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}
    put(
        bootstrap_servers,
        name,
        (fingerprint(good).encode(), json.dumps(schema("Evil")).encode()),
        (b"00" * 8, b"{"),
        (None, b"[" * 100_000),
        (b"11" * 8, json.dumps(recursive).encode()),
        (fingerprint(good).encode(), None),
        record(good),
    )
    reader = connect(name)
    with caplog.at_level(logging.WARNING, "penstock.schemas"):
        assert reader.by_fingerprint(fingerprint(good)) == good
    assert len(caplog.messages) == 4
    assert f"{name} offset 0: the key says" in caplog.messages[0]
    with pytest.raises(UnknownSchema):
        reader.by_fingerprint(fingerprint(schema("Evil")))


def test_the_first_schema_of_a_fingerprint_stays(
    connect: Callable[..., SchemaTopic], topic: TopicFactory, bootstrap_servers: str
) -> None:
    name, millis = topic(), {"type": "long", "logicalType": "timestamp-millis"}
    first, second = schema(type=millis), schema(type="long")
    assert fingerprint(first) == fingerprint(second)
    put(bootstrap_servers, name, record(first), record(second))
    assert connect(name).by_fingerprint(fingerprint(first)) == first


@pytest.mark.parametrize("logical", ["timestamp-micros", None])
def test_a_schema_that_differs_only_in_logical_types_is_refused(
    connect: Callable[..., SchemaTopic], absent: str, logical: str | None
) -> None:
    connect(absent).publish(schema(type={"type": "long", "logicalType": "timestamp-millis"}))
    other = schema(type={"type": "long", "logicalType": logical} if logical else "long")
    with pytest.raises(SchemaRefused, match="give the record another name"):
        connect(absent).publish(other)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"type": "record", "name": "R", "fields": [{"name": "r", "type": "R"}]}, "recursive"),
        ({"type": "record", "name": "R", "fields": [{"name": "r", "type": "strnig"}]}, "strnig"),
        (schema(doc="x" * (1 << 20)), "the limit is 1048576"),
    ],
)
def test_what_readers_would_refuse_is_not_published(
    connect: Callable[..., SchemaTopic], absent: str, document: dict[str, Any], says: str
) -> None:
    with pytest.raises(SchemaRefused, match=says):
        connect(absent).publish(document)


def test_a_schema_larger_than_the_broker_takes_is_refused(
    connect: Callable[..., SchemaTopic], topic: TopicFactory
) -> None:
    with pytest.raises(SchemaRefused, match="the broker takes no such record"):
        connect(topic(max_message_bytes="1000")).publish(schema(doc="x" * 2000))


def test_publishers_at_the_same_time_do_not_disturb_each_other(
    connect: Callable[..., SchemaTopic], absent: str
) -> None:
    publishers = [connect(absent) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert len({*pool.map(lambda publisher: publisher.publish(schema()), publishers)}) == 1
    assert connect(absent).by_fingerprint(fingerprint(schema())) == schema()


def test_a_topic_of_several_partitions_is_read_whole(
    connect: Callable[..., SchemaTopic], topic: TopicFactory, bootstrap_servers: str
) -> None:
    name = topic(partitions=3)
    for partition in range(3):
        put(bootstrap_servers, name, record(schema(f"S{partition}")), partition=partition)
    reader = connect(name)
    for partition in range(3):
        assert reader.by_fingerprint(fingerprint(schema(f"S{partition}"))) == schema(f"S{partition}")


def test_what_a_reader_holds_is_bounded(
    connect: Callable[..., SchemaTopic],
    topic: TopicFactory,
    bootstrap_servers: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = topic()
    put(bootstrap_servers, name, record(schema("A")), record(schema("B")))
    monkeypatch.setattr(module, "HELD_BYTES", 100)
    reader = connect(name)
    assert reader.by_fingerprint(fingerprint(schema("A"))) == schema("A")
    with pytest.raises(UnknownSchema):
        reader.by_fingerprint(fingerprint(schema("B")))
    assert "more than 100 bytes together" in caplog.text


def test_a_closed_reader_connects_again(connect: Callable[..., SchemaTopic], absent: str) -> None:
    reader = connect(absent)
    reader.publish(schema("A"))
    reader.close()
    connect(absent).publish(schema("B"))
    assert reader.by_fingerprint(fingerprint(schema("B"))) == schema("B")


def test_a_topic_that_was_made_anew_is_read_from_its_start(
    connect: Callable[..., SchemaTopic], absent: str, bootstrap_servers: str
) -> None:
    reader = connect(absent)
    for name in "AB":
        reader.publish(schema(name))
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.delete_topics([absent])[absent].result()
    connect(absent).publish(schema("C"))
    assert reader.by_fingerprint(fingerprint(schema("C"))) == schema("C")


def test_a_broker_that_does_not_answer_makes_the_batch_wait(capfd: pytest.CaptureFixture[str]) -> None:
    source = SchemaTopic({"bootstrap.servers": "127.0.0.1:1"}, "schemas", seconds=0.5)
    with pytest.raises(SourceUnavailable, match=r"schemas on 127\.0\.0\.1:1 cannot be read .* nothing is lost"):
        source.by_fingerprint("00" * 8)
    with pytest.raises(SourceUnavailable):
        source.publish(schema())
    assert capfd.readouterr().err == ""


def test_the_topic_knows_no_ids(connect: Callable[..., SchemaTopic]) -> None:
    with pytest.raises(UnknownSchema, match="registry"):
        connect("schemas").by_id(7)
