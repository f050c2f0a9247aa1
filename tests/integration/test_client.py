"""The client and its commands against a real Kafka: events in, inferences out, dead letters back in."""

from __future__ import annotations

import asyncio
import datetime
import doctest
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
import polars as pl
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, TopicPartition

import penstock.client
from penstock.cli import main
from penstock.client import (
    ClientError,
    DeliveryFailed,
    EventInvalid,
    FlushTimedOut,
    Inference,
    NoSuchTopic,
    Producer,
    RecordUnreadable,
    Subscriber,
)
from penstock.client.deadletters import REPLAYED_FROM, Range, Replay
from penstock.client.events import EventEncoder
from schemas import records
from schemas.inference import InferenceCodec, Lineage
from schemas.sources import SchemaTopic
from schemas.values import OutputField
from tests.rig import ROOT

TopicFactory = Callable[..., str]
SCHEMA = {
    "type": "record",
    "name": "Flight",
    "fields": [
        {"name": "flight", "type": "string"},
        {"name": "distance", "type": ["null", "double"], "default": None},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": None},
    ],
}


def consume(servers: str, topic: str, count: int, seconds: float = 15.0) -> list[Any]:
    """All messages of a topic, at least `count` of them, committed ones only."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "unused",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    try:
        partitions = consumer.list_topics(topic, 10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, each, 0) for each in partitions])
        found: list[Any] = []
        until = time.monotonic() + seconds
        while len(found) < count and time.monotonic() < until:
            found += [each for each in consumer.consume(1000, 0.3) if each.error() is None]
        found += [each for each in consumer.consume(1000, 1.0) if each.error() is None]
    finally:
        consumer.close()
    return found


def publish_inferences(servers: str, topic: str, count: int, *, transactional: str = "", commit: bool = True) -> None:
    """What a worker writes: inferences, and their schema in the schema topic."""
    codec = InferenceCodec("flights", [OutputField("late_probability", "scalar", "double")], [("flight", pl.String())])
    schemas = SchemaTopic({"bootstrap.servers": servers})
    schemas.publish(codec.schema)
    schemas.close()
    frame = pl.DataFrame(
        {
            "source_partition": pl.Series([0] * count, dtype=pl.Int32),
            "source_offset": pl.Series(range(count), dtype=pl.Int64),
            "event_time": pl.Series([1_000] * count, dtype=pl.Int64),
            "late_probability": [0.25] * count,
            "flight": [f"UA{row}" for row in range(count)],
        }
    )
    lineage = Lineage("flights", 7, "active", "flights", "v1", "0123456789abcdef", "flights.events")
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": servers, **({"transactional.id": transactional} if transactional else {})}
    )
    if transactional:
        producer.init_transactions(10)
        producer.begin_transaction()
    for row, value in enumerate(codec.encode(frame, codec.prefix(lineage))):
        producer.produce(topic, value, f"UA{row}".encode())
    producer.flush(10)
    if transactional:
        (producer.commit_transaction if commit else producer.abort_transaction)(10)


def run(servers: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--bootstrap-servers", servers])


def test_the_docstring_example_runs(bootstrap_servers: str, topic: TopicFactory) -> None:
    # the topics of the example have fixed names on purpose, so here they are replaced by fresh ones
    events, inferences = topic(name="events"), topic(name="inferences")
    publish_inferences(bootstrap_servers, inferences, 1)
    text = (penstock.client.__doc__ or "").replace("flights.events", events).replace("flights.inferences", inferences)

    example = doctest.DocTestParser().get_doctest(text, {"bootstrap_servers": bootstrap_servers}, "client", None, 0)
    result = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL).run(example)

    assert result.attempted >= 5
    assert result.failed == 0
    assert len(consume(bootstrap_servers, events, 1)) == 1


def test_dicts_and_frames_arrive_as_single_objects_with_keys_and_todays_timestamp(
    bootstrap_servers: str, topic: TopicFactory
) -> None:
    name = topic(partitions=3)
    old = datetime.datetime(2013, 1, 1, tzinfo=datetime.UTC)
    with Producer(bootstrap_servers, name, SCHEMA, key="flight") as producer:
        producer.send({"flight": "UA1", "distance": 1.5, "at": old})
        assert producer.send_frame(pl.DataFrame({"flight": ["UA2", "UA3"], "at": [old, None]})) == 2

    messages = consume(bootstrap_servers, name, 3)

    header = EventEncoder(SCHEMA).header
    assert sorted(message.key() for message in messages) == [b"UA1", b"UA2", b"UA3"]
    assert all(message.value().startswith(header) for message in messages)
    assert all(abs(message.timestamp()[1] / 1000 - time.time()) < 600 for message in messages)
    schemas = SchemaTopic({"bootstrap.servers": bootstrap_servers})
    assert schemas.by_fingerprint(header[2:].hex())["name"].endswith("Flight")
    schemas.close()


def test_a_frame_with_one_bad_value_sends_nothing(bootstrap_servers: str, topic: TopicFactory) -> None:
    name = topic()
    with (
        Producer(bootstrap_servers, name, SCHEMA) as producer,
        pytest.raises(EventInvalid, match="row 1: field 'flight': expected string, found None"),
    ):
        producer.send_frame(pl.DataFrame({"flight": ["UA1", None]}))

    assert consume(bootstrap_servers, name, 1, seconds=1.0) == []


def test_a_full_queue_waits_and_loses_nothing(bootstrap_servers: str, topic: TopicFactory) -> None:
    name = topic()
    with Producer(bootstrap_servers, name, SCHEMA, queue_buffering_max_messages=50) as producer:
        producer.send_many({"flight": f"UA{number}"} for number in range(5_000))

    assert len({message.value() for message in consume(bootstrap_servers, name, 5_000)}) == 5_000


def test_what_kafka_refuses_is_an_error_with_the_reason(bootstrap_servers: str, topic: TopicFactory) -> None:
    name = topic(max_message_bytes="1000")
    producer = Producer(bootstrap_servers, name, SCHEMA, compression_type="none")
    producer.send({"flight": "x" * 2_000})
    with pytest.raises(DeliveryFailed, match=r"1 message\(s\).*[Tt]oo large|size"):
        producer.close()


def test_a_flush_that_runs_out_of_time_says_so_and_loses_nothing(bootstrap_servers: str, topic: TopicFactory) -> None:
    name = topic()
    with Producer(bootstrap_servers, name, SCHEMA) as producer:
        producer.send_many({"flight": f"UA{number}"} for number in range(2_000))
        with pytest.raises(FlushTimedOut, match="were not acknowledged within 0 s"):
            producer.flush(0)
        producer.flush()
        assert producer.queued == 0

    assert len(consume(bootstrap_servers, name, 2_000)) == 2_000


def test_a_missing_topic_is_named_and_not_created(bootstrap_servers: str) -> None:
    for make in (
        lambda: Producer(bootstrap_servers, "client-no-such", SCHEMA),
        lambda: Subscriber(bootstrap_servers, "client-no-such"),
    ):
        with pytest.raises(NoSuchTopic, match="'client-no-such' does not exist"):
            make()


def test_an_unreachable_broker_is_named() -> None:
    with pytest.raises(ClientError, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
        Producer("127.0.0.1:1", "events", SCHEMA)


def test_inferences_are_typed_and_in_order(bootstrap_servers: str, topic: TopicFactory) -> None:
    name = topic()
    publish_inferences(bootstrap_servers, name, 3)

    with Subscriber(bootstrap_servers, name, start="earliest", until_end=True) as subscriber:
        found = list(subscriber)

    assert [each.source_offset for each in found] == [0, 1, 2]
    first = found[0]
    assert isinstance(first, Inference)
    assert (first.deployment, first.revision, first.arm, first.model) == ("flights", 7, "active", "flights")
    assert first.outputs == {"late_probability": 0.25}
    assert first.echo == {"flight": "UA0"}
    assert (first["flight"], first.key) == ("UA0", b"UA0")
    assert first.event_time == datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC)


def test_what_an_aborted_transaction_wrote_is_not_seen(bootstrap_servers: str, topic: TopicFactory) -> None:
    name = topic()
    publish_inferences(bootstrap_servers, name, 5, transactional=f"{name}.a", commit=False)
    publish_inferences(bootstrap_servers, name, 2, transactional=f"{name}.b")

    with Subscriber(bootstrap_servers, name, start="earliest", until_end=True) as subscriber:
        assert len(list(subscriber)) == 2
    # the negative control: the aborted five stand in front of them in the log
    with Subscriber(bootstrap_servers, name, start="earliest", until_end=True) as subscriber:
        assert next(each.position.offset for each in subscriber) >= 5


def test_async_iteration_and_frames_give_the_same(bootstrap_servers: str, topic: TopicFactory) -> None:
    name = topic(partitions=2)
    publish_inferences(bootstrap_servers, name, 50)

    async def gather() -> list[Inference]:
        async with Subscriber(bootstrap_servers, name, start="earliest", until_end=True) as subscriber:
            return [each async for each in subscriber]

    one_by_one = asyncio.run(gather())
    with Subscriber(bootstrap_servers, name, start="earliest", until_end=True) as subscriber:
        frame = pl.concat(subscriber.batches(rows=20))

    assert len(one_by_one) == len(frame) == 50
    assert {(each.position.partition, each.position.offset, each["flight"]) for each in one_by_one} == set(
        frame.select("_partition", "_offset", "flight").iter_rows()
    )
    assert frame["_key"].to_list() == [flight.encode() for flight in frame["flight"]]


def test_a_group_goes_on_behind_what_was_dealt_with(bootstrap_servers: str, topic: TopicFactory) -> None:
    name = topic()
    publish_inferences(bootstrap_servers, name, 4)
    group = f"{name}.group"

    # Given a member that deals with two inferences and fails in the third
    def deal() -> None:
        with Subscriber(bootstrap_servers, name, group, start="earliest") as subscriber:
            for inference in subscriber:
                if inference.source_offset == 2:
                    raise RuntimeError("in the third")

    with pytest.raises(RuntimeError, match="in the third"):
        deal()

    # Then the next member gets the third again, and not the first two
    with Subscriber(bootstrap_servers, name, group, start="earliest", until_end=True) as subscriber:
        assert [each.source_offset for each in subscriber] == [2, 3]


def test_a_record_that_is_no_inference_is_an_error_and_the_next_one_is_read(
    bootstrap_servers: str, topic: TopicFactory
) -> None:
    name = topic()
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap_servers})
    producer.produce(name, b"garbage")
    producer.flush(10)
    publish_inferences(bootstrap_servers, name, 1)

    with Subscriber(bootstrap_servers, name, start="earliest", until_end=True) as subscriber:
        with pytest.raises(RecordUnreadable, match=f"{name}/0/0 is not a readable record"):
            next(subscriber)
        assert next(subscriber).source_offset == 0
    with Subscriber(bootstrap_servers, name, start="earliest", until_end=True) as subscriber:
        batches = subscriber.batches()
        assert len(next(batches)) == 1
        with pytest.raises(RecordUnreadable, match="single-object header"):
            next(batches)


def test_produce_feeds_a_csv_file(bootstrap_servers: str, topic: TopicFactory, tmp_path: Path) -> None:
    name = topic()
    (tmp_path / "event.avsc").write_text(json.dumps(SCHEMA))
    (tmp_path / "flights.csv").write_text("flight,distance,extra\nUA1,1.5,a\nUA2,,b\n")

    result = run(
        bootstrap_servers, "produce", str(tmp_path / "flights.csv"), "--topic", name,
        "--schema", str(tmp_path / "event.avsc"), "--key", "flight", "--repeat", "2", "--rate", "1000",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert "4 events" in result.output
    assert "left out: extra" in result.output
    assert [each.key() for each in consume(bootstrap_servers, name, 4)] == [b"UA1", b"UA2", b"UA1", b"UA2"]


def test_produce_that_stops_says_how_many_were_published(
    bootstrap_servers: str, topic: TopicFactory, tmp_path: Path
) -> None:
    name = topic()
    (tmp_path / "event.avsc").write_text(json.dumps(SCHEMA))
    (tmp_path / "flights.csv").write_text("flight,distance\n" + "UA1,1.5\n" * 5000 + "UA2,far\n")

    result = run(
        bootstrap_servers, "produce", str(tmp_path / "flights.csv"), "--topic", name,
        "--schema", str(tmp_path / "event.avsc"),
    )  # fmt: skip

    assert result.exit_code == 1
    told = re.search(r"line 5002: field 'distance': .*; ([\d,]+) events before it were published", result.output)
    assert told, result.output
    sent = int(told[1].replace(",", ""))
    assert 0 < sent <= 5000
    assert len(consume(bootstrap_servers, name, sent)) == sent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_produce_that_is_stopped_sends_what_it_has_and_says_how_many(
    bootstrap_servers: str, topic: TopicFactory, tmp_path: Path, number: signal.Signals
) -> None:
    name = topic()
    (tmp_path / "event.avsc").write_text(json.dumps(SCHEMA))
    (tmp_path / "flights.csv").write_text("flight,distance\n" + "UA1,1.5\n" * 100)
    words = ["produce", str(tmp_path / "flights.csv"), "--topic", name, "--schema", str(tmp_path / "event.avsc")]
    words += ["--quiet", "--repeat", "0", "--rate", "200", "--bootstrap-servers", bootstrap_servers]
    command = [sys.executable, "-m", "penstock.cli", *words]
    feed = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    consume(bootstrap_servers, name, 20)  # it sends
    feed.send_signal(number)
    _, said = feed.communicate(timeout=60)
    assert feed.returncode == 0, said
    told = re.search(rf"stopped\n([\d,]+) events to {re.escape(name)} in .*, all acknowledged", said)
    assert told, said
    sent = int(told[1].replace(",", ""))
    assert len(consume(bootstrap_servers, name, sent)) == sent
    ends = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "ends"})
    partitions = ends.list_topics(name).topics[name].partitions
    assert sum(ends.get_watermark_offsets(TopicPartition(name, each), 10)[1] for each in partitions) == sent
    ends.close()


def test_watch_prints_inferences_and_alerts_for_machines(bootstrap_servers: str, topic: TopicFactory) -> None:
    name, alerts = topic(name="inferences"), topic(name="alerts")
    publish_inferences(bootstrap_servers, name, 3)
    alert = {
        "id": "1", "state": "opened", "severity": "warning", "deployment": "flights", "arm": "active", "model": "m",
        "version": "v", "detector": "psi", "kind": "feature", "name": "distance", "onset": 0, "at": 0, "value": 0.5,
        "threshold": 0.2, "rows": 1, "summary": "distance moved", "evidence": [],
    }  # fmt: skip
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap_servers})
    producer.produce(alerts, records.encode("alert", alert))
    producer.flush(10)

    result = run(bootstrap_servers, "watch", name, "--from", "beginning", "--count", "2", "--json")
    lines = [json.loads(line) for line in result.output.splitlines()]
    assert [(line["flight"], line["_message"]["offset"]) for line in lines] == [("UA0", 0), ("UA1", 1)]

    result = run(bootstrap_servers, "watch", name, "--from", "beginning", "--count", "1")
    assert "late_probability=0.25" in result.output
    result = run(bootstrap_servers, "watch", alerts, "--alerts", "--from", "beginning", "--count", "1")
    assert "state=opened" in result.output
    assert "distance moved" in result.output


def put_letters(servers: str, letters: str, source: str, reasons: list[str]) -> None:
    """What a worker writes beside inferences: the events' bytes, own headers, and headers that say why."""
    producer = confluent_kafka.Producer({"bootstrap.servers": servers})
    for number, reason in enumerate(reasons):
        headers = [
            ("trace", b"\xff\x00"), ("penstock.reason", reason), ("penstock.detail", f"number {number}"),
            ("penstock.source.topic", source), ("penstock.source.partition", "1"),
            ("penstock.source.offset", str(number)), ("penstock.time", "2026-01-01T00:00:00Z"),
        ]  # fmt: skip
        producer.produce(
            letters, bytes([number % 256, 255, 0]), b"\xfe" if number else None, headers=headers, partition=0
        )
    producer.flush(10)


def test_dead_letters_are_listed_and_shown(bootstrap_servers: str, topic: TopicFactory, tmp_path: Path) -> None:
    letters = topic(name="dead-letters")
    put_letters(bootstrap_servers, letters, "events", ["truncated", "not_json", "truncated"])
    name = letters  # ends with a random suffix, so `--topic` style names are given whole

    result = run(bootstrap_servers, "deadletters", "list", name, "--reason", "truncated", "--json")
    assert [json.loads(line)["offset"] for line in result.output.splitlines()] == [0, 2], result.output
    result = run(bootstrap_servers, "deadletters", "list", name)
    assert "3 dead letters: 2 truncated, 1 not_json" in result.output
    result = run(bootstrap_servers, "deadletters", "show", name, "0:1", "--save", str(tmp_path / "event"))
    assert "not_json" in result.output
    assert "01 ff 00" in result.output
    assert (tmp_path / "event").read_bytes() == b"\x01\xff\x00"
    assert run(bootstrap_servers, "deadletters", "show", name, "0:99").exit_code == 2


def test_a_replay_is_byte_for_byte_and_never_twice(bootstrap_servers: str, topic: TopicFactory) -> None:
    letters, source = topic(name="dead-letters"), topic(partitions=2, name="events")
    put_letters(bootstrap_servers, letters, source, ["truncated", "not_json", "truncated"])

    # a dry run sends nothing and remembers nothing
    result = run(bootstrap_servers, "deadletters", "replay", letters, "--dry-run")
    assert "3 letters" in result.output, result.output
    # one reason, then everything: the others are still there, what was replayed is not repeated
    assert (
        "replayed 2 letters" in run(bootstrap_servers, "deadletters", "replay", letters, "--reason", "truncated").output
    )
    assert "replayed 1 letter of" in run(bootstrap_servers, "deadletters", "replay", letters).output
    assert "nothing to replay" in run(bootstrap_servers, "deadletters", "replay", letters).output

    messages = consume(bootstrap_servers, source, 3)
    assert [each.value() for each in messages] == [b"\x00\xff\x00", b"\x02\xff\x00", b"\x01\xff\x00"]
    assert [each.key() for each in messages] == [None, b"\xfe", b"\xfe"]
    assert {each.partition() for each in messages} == {1}
    assert messages[0].headers() == [("trace", b"\xff\x00"), (REPLAYED_FROM, f"{letters}/0/0".encode())]
    # letters that come later are replayed; an explicit range is replayed again
    put_letters(bootstrap_servers, letters, source, ["truncated"])
    assert "replayed 1 letter of" in run(bootstrap_servers, "deadletters", "replay", letters).output
    other = topic(name="elsewhere")
    result = run(bootstrap_servers, "deadletters", "replay", letters, "--offsets", "0:0-1", "--to", other)
    assert "replayed 2 letters" in result.output
    assert len(consume(bootstrap_servers, other, 2)) == 2


def test_two_replays_at_once_repeat_nothing(bootstrap_servers: str, topic: TopicFactory) -> None:
    letters, source = topic(name="dead-letters"), topic(partitions=2, name="events")
    put_letters(bootstrap_servers, letters, source, ["truncated"] * 1_200)
    settings = {"bootstrap.servers": bootstrap_servers}

    # Given a replay that is overtaken by another after its first transaction
    overtaken = Replay(settings, letters)

    def overtake(done: int) -> None:
        if done == 500:
            assert Replay(settings, letters).run() == 700

    with pytest.raises(ClientError, match="500 letters were replayed"):
        overtaken.run(overtake)

    offsets = [dict(each.headers())[REPLAYED_FROM] for each in consume(bootstrap_servers, source, 1_200)]
    assert len(offsets) == len(set(offsets)) == 1_200


def test_a_letter_that_lacks_its_value_is_named_and_not_replayed(bootstrap_servers: str, topic: TopicFactory) -> None:
    letters, source = topic(name="dead-letters"), topic(partitions=2, name="events")
    put_letters(bootstrap_servers, letters, source, ["truncated"])
    headers = [
        *(
            (f"penstock.source.{part}", value)
            for part, value in (("topic", source), ("partition", "1"), ("offset", "7"))
        ),
        ("penstock.reason", "truncated"),
        ("penstock.left_out", "value of 9000000 bytes"),
    ]
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap_servers})
    producer.produce(letters, None, headers=headers)
    producer.flush(10)
    result = run(bootstrap_servers, "deadletters", "replay", letters)
    assert "replayed 1 letter of" in result.output
    assert f"not replayed: the event at {source}/1/7, whose letter lacks its value of 9000000 bytes" in result.output
    assert len(consume(bootstrap_servers, source, 1)) == 1


def test_a_letter_without_a_source_topic_needs_a_destination(bootstrap_servers: str, topic: TopicFactory) -> None:
    letters, other = topic(name="dead-letters"), topic(name="elsewhere")
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap_servers})
    producer.produce(letters, b"x", headers=[("penstock.reason", "malformed")])
    producer.flush(10)
    settings = {"bootstrap.servers": bootstrap_servers}

    with pytest.raises(ClientError, match="names no source topic; say where with --to"):
        Replay(settings, letters).run()
    assert Replay(settings, letters, to=other, ranges=[Range(0, 0, 0)]).run() == 1
