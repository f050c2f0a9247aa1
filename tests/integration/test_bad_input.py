"""Everything that may be wrong with an event ends as a dead letter that says why, and the next good event is scored."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import fastavro
import pytest
from confluent_kafka import Message, Producer

from schemas.wire import confluent_header, fingerprint, single_object_header
from tests.rig import SCHEMA, Rig, encoder, place_of

GOOD = {"id": 1, "a": 1.0, "b": 2.0}
encode = encoder()


def header(message: Message, name: str) -> str:
    found = dict(message.headers() or [])[f"penstock.{name}"]
    assert isinstance(found, bytes)
    return found.decode()


def other_schema() -> bytes:
    """An event whose schema nobody published."""
    schema = {"type": "record", "name": "Stranger", "fields": [{"name": "x", "type": "int"}]}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), {"x": 1})
    return single_object_header(fingerprint(schema)) + out.getvalue()


BAD: dict[str, tuple[bytes | None, set[str]]] = {
    "truncated": (encode(GOOD)[:-3], {"truncated", "malformed"}),
    "cut inside its header": (encode(GOOD)[:6], {"bad_header", "truncated", "not_json"}),
    "trailing bytes": (encode(GOOD) + b"\0", {"trailing_bytes"}),
    "unknown fingerprint": (other_schema(), {"unknown_schema"}),
    "unknown schema id": (confluent_header(4711) + encode(GOOD)[10:], {"unknown_schema"}),
    "tombstone": (None, {"tombstone"}),
    "empty value": (b"", {"tombstone", "truncated", "bad_header", "empty"}),
    "oversize": (encode({**GOOD, "id": 2}) + b"x" * 70_000, {"oversize"}),
    "wrong type in JSON": (json.dumps({**GOOD, "a": "much"}).encode(), {"wrong_type"}),
    "missing field in JSON": (json.dumps({"id": 1, "b": 1.0}).encode(), {"missing_field"}),
    "null where none may be": (json.dumps({**GOOD, "a": None}).encode(), {"wrong_type", "missing_value"}),
    "not JSON": (b"{nonsense", {"not_json", "bad_header"}),
    "NaN": (encode({**GOOD, "a": math.nan}), {"not_finite"}),
    "infinity": (encode({**GOOD, "a": -math.inf}), {"not_finite"}),
    "breaks a check": (encode({**GOOD, "id": -1}), {"check_failed"}),
}


@pytest.mark.timeout(120)
def test_each_bad_event_is_one_dead_letter_byte_for_byte_and_costs_no_other(rig: Callable[..., Rig]) -> None:
    stand = rig(limits={"event_bytes": 65_536}, input={"checks": {"id": {"min": 0}}})
    values: list[bytes | None] = []
    for value, _ in BAD.values():
        values += [encode(GOOD), value]
    stand.produce([*values, encode(GOOD)], partition=0)
    worker = stand.worker()
    stand.wait_committed(len(values) + 1)
    letters = stand.read(stand.dead_letters, len(BAD))
    assert len(letters) == len(BAD)
    for message, (name, (value, reasons)) in zip(letters, BAD.items(), strict=True):
        assert header(message, "reason") in reasons, f"{name}: {message.headers()}"
        assert message.value() == value
        assert len(header(message, "detail")) > 10
        assert header(message, "source.topic") == stand.events
        assert message.key() == b"k%s" % header(message, "source.offset").encode()
    good = [place_of(m.value() or b"") for m in stand.read(stand.inferences, len(BAD) + 1)]
    assert good == [(0, o) for o in range(0, len(values) + 1, 2)]
    assert worker.stop() == 0


@pytest.mark.timeout(120)
def test_absent_keys_and_times_in_the_future_are_scored_like_any_event(rig: Callable[..., Rig]) -> None:
    stand = rig()
    future = int(time.time() * 1000) + 30 * 60 * 1000
    producer = Producer({"bootstrap.servers": stand.servers})
    producer.produce(stand.events, encode(GOOD), timestamp=future, partition=1)
    producer.flush()
    stand.worker()
    (message,) = stand.read(stand.inferences, 1)
    assert message.key() is None
    assert message.partition() == 1


@pytest.mark.timeout(120)
def test_an_inference_too_large_for_its_topic_is_a_dead_letter(
    bootstrap_servers: str, tmp_path: Path, topic: Callable[..., str]
) -> None:
    schema = {**SCHEMA, "name": "Noted", "fields": [*SCHEMA["fields"], {"name": "note", "type": "string"}]}
    small = topic(4, "small", max_message_bytes="40000")
    stand = Rig(bootstrap_servers, tmp_path, topic, schema=schema, output={"topic": small, "echo": ["note"]})
    write = encoder(schema)
    stand.produce([write({**GOOD, "note": "n" * 50_000}), write({**GOOD, "note": "short"})], partition=0)
    try:
        stand.worker()
        (letter,) = stand.read(stand.dead_letters, 1)
        assert header(letter, "reason") == "oversize_inference"
        assert "max.message.bytes" in header(letter, "detail")
        assert [place_of(m.value() or b"") for m in stand.read(small, 1)] == [(0, 1)]
    finally:
        stand.close()


@pytest.mark.timeout(120)
def test_what_is_larger_than_its_topics_does_not_stop_what_is_behind_it(
    bootstrap_servers: str, tmp_path: Path, topic: Callable[..., str]
) -> None:
    small = topic(4, "small", max_message_bytes="40000")
    stand = Rig(bootstrap_servers, tmp_path, topic, output={"topic": small})
    producer = Producer(
        {"bootstrap.servers": stand.servers, "message.max.bytes": 9_000_000, "compression.type": "zstd"}
    )
    producer.produce(stand.events, bytes(8_000_000), partition=0)  # a few hundred bytes for the broker
    producer.produce(stand.events, encode(GOOD), b"k" * 100_000, partition=0)
    producer.flush()
    stand.produce([encode(GOOD)] * 2_000, partition=0)  # in one batch their inferences are larger than 40,000 bytes
    try:
        stand.worker()
        bomb, key = stand.read(stand.dead_letters, 2)
        assert (header(bomb, "reason"), bomb.value()) == ("oversize", None)
        assert header(bomb, "left_out").startswith("value of 8000000 bytes")
        assert (header(key, "reason"), key.value()) == ("oversize_inference", encode(GOOD))
        stand.wait_committed(2_002)
        assert [place_of(m.value() or b"") for m in stand.read(small, 2_000)] == [(0, 2 + i) for i in range(2_000)]
    finally:
        stand.close()


@pytest.mark.timeout(120)
def test_missing_values_follow_the_declared_policy(rig: Callable[..., Rig]) -> None:
    stand = rig(missing={"b": 5.0})
    stand.produce([encode({**GOOD, "b": None})], partition=0)
    stand.worker()
    (message,) = stand.read(stand.inferences, 1)
    assert place_of(message.value() or b"") == (0, 0)


@pytest.mark.timeout(120)
def test_null_without_a_policy_is_refused_before_anything_runs_or_as_a_dead_letter(rig: Callable[..., Rig]) -> None:
    stand = rig(missing={})
    stand.produce([encode({**GOOD, "b": None}), encode(GOOD)], partition=0)
    worker = stand.worker()
    (letter,) = stand.read(stand.dead_letters, 1)
    assert header(letter, "reason") == "missing_value"
    assert "b" in header(letter, "detail")
    assert len(stand.read(stand.inferences, 1)) == 1
    assert worker.stop() == 0


@pytest.mark.timeout(120)
def test_a_flood_of_dead_letters_pauses_the_worker_until_told_to_go_on(rig: Callable[..., Rig]) -> None:
    import signal

    stand = rig(limits={"dead_letters_per_minute": 3})
    stand.produce([b"junk"] * 10, partition=0)
    worker = stand.worker("--metrics-port", "0")
    worker.wait_for("scoring is paused")
    assert worker.get("/ready")[0] == 503
    assert worker.metric("penstock_held", cause="dead_letters") == 1
    time.sleep(1)
    assert stand.committed() < 10
    worker.process.send_signal(signal.SIGUSR1)
    stand.wait_committed(10)
    assert len(stand.read(stand.dead_letters, 10)) == 10
    assert worker.stop() == 0
