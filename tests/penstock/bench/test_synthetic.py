"""Synthetic events are such that the schema, the declared checks and the model's arrays take them."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import numpy as np
import orjson

from penstock.bench.load import Events
from penstock.bench.subject import HEADER_BYTES, synthetic
from penstock.bench.synthetic import Synthesizer
from penstock.config import Loaded
from schemas.deployment import Check, Deployment
from schemas.json_events import JsonEvents
from schemas.nodes import parse

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Event",
    "namespace": "shop",
    "fields": [
        {"name": "amount", "type": "double"},
        {"name": "count", "type": ["null", "int"]},
        {"name": "total", "type": "long"},
        {"name": "country", "type": {"type": "enum", "name": "Country", "symbols": ["DE", "FR"]}},
        {"name": "home", "type": ["null", "Country"]},
        {"name": "note", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "clock", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
        {"name": "raw", "type": "bytes"},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 4}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "more", "type": {"type": "map", "values": "double"}},
        {
            "name": "where",
            "type": {"type": "record", "name": "Place", "fields": [{"name": "x", "type": "float"}]},
        },
        {"name": "image", "type": {"type": "array", "items": {"type": "array", "items": "float"}}},
        {"name": "pixels", "type": {"type": "array", "items": "int"}},
        {"name": "yes", "type": "boolean"},
    ],
}
CHECKS = {
    "amount": Check(min=5, max=6),
    "total": Check(min=10),
    "note": Check(one_of=["a", "b"]),
}
SHAPES = {"image": [1, 2, 3], "pixels": [4]}


def deployment(framing: str) -> Loaded:
    declared = {
        "name": "shop",
        "input": {"topic": "in", "schema": "event.avsc", "framing": framing, "checks": CHECKS},
        "output": {"topic": "out"},
        "arms": [{"role": "active", "model": "m@production"}],
    }
    return Loaded(Deployment.model_validate(declared), SCHEMA, None)  # type: ignore[arg-type]


def test_rows_are_within_the_checks_and_arrays_have_the_models_shape() -> None:
    rows = Synthesizer(SCHEMA, CHECKS, SHAPES).rows(200)
    assert all(5 <= row["amount"] <= 6 for row in rows)
    assert all(10 <= row["total"] <= 110 for row in rows)
    assert {row["note"] for row in rows} == {"a", "b"}
    assert {np.shape(row["image"]) for row in rows} == {(2, 3)}
    assert {np.shape(row["pixels"]) for row in rows} == {(4,)}
    assert any(row["count"] is None for row in rows)
    assert {row["home"] for row in rows} == {None, "DE", "FR"}


def test_avro_events_can_be_read() -> None:
    parsed: Any = fastavro.parse_schema(SCHEMA, {})
    events = synthetic(deployment("auto"), SHAPES)
    for value in events.values[:100]:
        fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), parsed, None)


def test_json_events_are_taken_by_the_worker() -> None:
    plain = {**SCHEMA, "fields": [field for field in SCHEMA["fields"] if field["name"] not in ("price", "more")]}
    loaded = deployment("json")
    events = synthetic(Loaded(loaded.deployment, plain, loaded.path), SHAPES)
    assert set(orjson.loads(events.values[0])) == {field["name"] for field in plain["fields"]}
    _, rows, rejected = JsonEvents(parse(plain)).decode(events.values[:200])
    assert not rejected
    assert len(rows) == 200


def test_events_lead_to_every_leaf_of_a_hierarchy_of_models() -> None:
    parsed: Any = fastavro.parse_schema(SCHEMA, {})
    leaves = [{"country": "DE"}, {"country": "FR", "note": "Paris"}, {"country": "FR", "absent.field": "x"}]
    events = synthetic(deployment("auto"), SHAPES, leaves)
    read = [fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), parsed, None) for value in events.values[:6]]
    assert [row["country"] for row in read] == ["DE", "FR", "FR"] * 2
    assert [row["note"] for row in read][1::3] == ["Paris"] * 2
    many = [{"note": str(number)} for number in range(6_000)]
    assert len(synthetic(deployment("auto"), SHAPES, many).values) == 6_000


def test_events_come_back_from_a_file(tmp_path: Any) -> None:
    for events in (Events([b"", b"a" * 70_000], [("name", "x")]), Events([b"\x00\xff"])):
        events.write(tmp_path / "events")
        assert Events.read(tmp_path / "events") == events
