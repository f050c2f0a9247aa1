"""Events in Confluent framing, with schemas from a real Confluent-compatible registry (Apicurio)."""

from __future__ import annotations

import json
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from typing import Any

import polars as pl
import pytest
from confluent_kafka.serialization import MessageField, SerializationContext

from schemas.decode import EventDecoder
from schemas.errors import SourceUnavailable, UnknownSchema
from schemas.registry import SchemaRegistry
from schemas.sources import Writers
from schemas.wire import confluent_header
from tests.integration.apicurio import Apicurio

pytestmark = pytest.mark.timeout(900)  # the first run on a machine downloads 159 MB

with warnings.catch_warnings(record=True):  # the client's own dependencies warn about each other, whatever the filters
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, topic_subject_name_strategy
    from confluent_kafka.schema_registry.avro import AvroSerializer

# the default strategy asks for /associations first; Apicurio has no such path, and never answers one request in 500
SUBJECTS = {"subject.name.strategy": topic_subject_name_strategy}
FIELDS: dict[str, Any] = {
    "flight": {"type": "string"},
    "distance": {"type": "int"},
    "delay": {"type": ["null", "double"], "default": None},
}


def record(*names: str, **other: Any) -> dict[str, Any]:
    fields = {name: other.get(name, FIELDS[name]) for name in names}
    return {"type": "record", "name": "Event", "fields": [{"name": name, **field} for name, field in fields.items()]}


READER = record("flight", "distance", "delay", distance={"type": "long"})


class Producer:
    """What a producer with Confluent's own serializer puts into a topic."""

    def __init__(self, url: str, schema: Mapping[str, Any], topic: str | None = None) -> None:
        self.client = SchemaRegistryClient({"url": url, "timeout": 10})
        self.topic = topic or f"events-{secrets.token_hex(4)}"
        self._serializer = AvroSerializer(self.client, json.dumps(schema), conf=SUBJECTS)

    def value(self, event: Mapping[str, Any]) -> bytes:
        written = self._serializer(dict(event), SerializationContext(self.topic, MessageField.VALUE))
        assert isinstance(written, bytes)
        return written

    def schema_id(self) -> int:
        found = self.client.get_latest_version(f"{self.topic}-value").schema_id
        assert found is not None
        return found


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes in the end what a test opened."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def producer(opened: ExitStack) -> Callable[..., Producer]:
    def open_producer(*arguments: Any) -> Producer:
        made = Producer(*arguments)
        opened.enter_context(made.client)
        return made

    return open_producer


@pytest.fixture
def decoder(opened: ExitStack) -> Callable[[str], EventDecoder]:
    def open_decoder(url: str) -> EventDecoder:
        registry = opened.enter_context(closing(SchemaRegistry(url)))
        return EventDecoder(READER, writers=Writers(topic=None, registry=registry, folder=None), framing="confluent")

    return open_decoder


def test_what_confluents_serializer_wrote_is_read_back_as_columns(
    registry_url: str, producer: Callable[..., Producer], decoder: Callable[[str], EventDecoder]
) -> None:
    written = producer(registry_url, record("flight", "distance", "delay"))
    values = [
        written.value({"flight": "UA1545", "distance": 1400, "delay": 11.0}),
        written.value({"flight": "AA1141", "distance": 1089, "delay": None}),
    ]

    decoded = decoder(registry_url).decode(values)

    assert values[0].startswith(confluent_header(written.schema_id()))
    assert decoded.rejected == []
    assert decoded.frame.to_dicts() == [
        {"flight": "UA1545", "distance": 1400, "delay": 11.0},
        {"flight": "AA1141", "distance": 1089, "delay": None},
    ]
    assert decoded.frame.schema["distance"] == pl.Int64


def test_versions_of_one_subject_in_one_batch_are_resolved_each_from_its_own_schema(
    registry_url: str, producer: Callable[..., Producer], decoder: Callable[[str], EventDecoder]
) -> None:
    old = producer(registry_url, record("flight", "distance"))
    new = producer(registry_url, record("delay", "distance", "flight"), old.topic)
    values = [
        old.value({"flight": "UA1545", "distance": 1400}),
        new.value({"flight": "AA1141", "distance": 1089, "delay": 2.5}),
        old.value({"flight": "B6725", "distance": 1576}),
    ]

    decoded = decoder(registry_url).decode(values)

    assert decoded.rejected == []
    assert len(decoded.schemas) == 2
    assert decoded.frame.rows() == [("UA1545", 1400, None), ("AA1141", 1089, 2.5), ("B6725", 1576, None)]


def test_an_id_that_the_registry_does_not_know_costs_that_event_only(
    registry_url: str, producer: Callable[..., Producer], decoder: Callable[[str], EventDecoder]
) -> None:
    written = producer(registry_url, record("flight", "distance", "delay"))
    good = written.value({"flight": "UA1545", "distance": 1400, "delay": 11.0})
    unknown = confluent_header(2_000_000_000) + good[5:]

    decoded = decoder(registry_url).decode([unknown, good])

    assert [(bad.row, bad.reason) for bad in decoded.rejected] == [(0, "unknown_schema")]
    assert decoded.frame["flight"].to_list() == ["UA1545"]


def test_an_id_of_a_schema_that_is_not_avro_costs_that_event_only(
    registry_url: str, producer: Callable[..., Producer], decoder: Callable[[str], EventDecoder]
) -> None:
    written = producer(registry_url, record("flight", "distance", "delay"))
    good = written.value({"flight": "UA1545", "distance": 1400, "delay": 11.0})
    other = Schema('{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}', "JSON")
    other_id = written.client.register_schema(f"json-{secrets.token_hex(4)}", other)

    decoded = decoder(registry_url).decode([good, confluent_header(other_id) + good[5:]])

    assert [(bad.row, bad.reason) for bad in decoded.rejected] == [(1, "refused_schema")]
    assert decoded.frame.height == 1


def test_a_recursive_schema_from_the_registry_is_refused_by_name(
    registry_url: str, producer: Callable[..., Producer], decoder: Callable[[str], EventDecoder]
) -> None:
    node = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"], "default": None}]}
    written = producer(registry_url, node)
    value = written.value({"next": {"next": None}})

    decoded = decoder(registry_url).decode([value])

    assert [bad.reason for bad in decoded.rejected] == ["refused_schema"]
    assert "Node" in decoded.rejected[0].detail


def test_the_batch_waits_while_the_registry_is_down_and_known_ids_need_no_registry(
    registry: Apicurio, producer: Callable[..., Producer], decoder: Callable[[str], EventDecoder]
) -> None:
    written = producer(registry.url, record("flight", "distance", "delay"))
    later = producer(registry.url, record("flight", "distance"))
    known = written.value({"flight": "UA1545", "distance": 1400, "delay": 11.0})
    unseen = later.value({"flight": "AA1141", "distance": 1089})
    reads = decoder(registry.url)
    assert reads.decode([known]).frame.height == 1

    registry.stop()
    try:
        assert reads.decode([known]).frame.height == 1
        with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1.*does not answer"):
            reads.decode([known, unseen])
    finally:
        registry.start()

    decoded = reads.decode([known, unseen])
    assert decoded.rejected == []
    assert decoded.frame["flight"].to_list() == ["UA1545", "AA1141"]


def test_an_address_without_the_api_is_told_from_an_unknown_id(registry_url: str, opened: ExitStack) -> None:
    wrong = opened.enter_context(closing(SchemaRegistry(registry_url.replace("ccompat", "no/such/path"))))
    right = opened.enter_context(closing(SchemaRegistry(registry_url)))

    for _ in range(3):  # see SUBJECTS
        with pytest.raises(SourceUnavailable) as refused:
            wrong.by_id(1)
        if "does not answer" not in str(refused.value):
            break
    assert "check the path of its URL" in str(refused.value)
    with pytest.raises(UnknownSchema, match="does not know it"):
        right.by_id(2_000_000_000)
