"""Which schemas are refused, by name, and which columns a schema has."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from schemas.errors import SchemaRefused
from schemas.resolve import check_schema, columns_of
from schemas.wire import confluent_header, fingerprint, single_object_header


def record(*kinds: Any, name: str = "R") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": f"f{i}", "type": kind} for i, kind in enumerate(kinds)]}


EMPTY = {"type": "record", "name": "Empty", "fields": []}
NULLS = {"type": "record", "name": "Nulls", "fields": [{"name": "n", "type": "null"}]}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (record({"type": "array", "items": "null"}), "array of null"),
        (record({"type": "array", "items": EMPTY}), "array of record 'Empty'"),
        (record({"type": "map", "values": NULLS}), "map of record 'Nulls'"),
        (record({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}), "array of fixed 'F'"),
        (record(["null", "R"]), "contains itself"),
        (record({"type": "array", "items": "R"}), "contains itself"),
        (record("Nowhere"), "not defined"),
        (record(["null", "null"]), "distinct"),
        (record({"type": "fixed", "name": "F", "size": 1 << 40}), "size"),
        (record({"type": "enum", "name": "E", "symbols": []}), "symbols"),
        (record({"type": "array"}), "items"),
        (record(3), "not an Avro type"),
        ({"type": "record", "fields": []}, "needs a name"),
        ({"type": "record", "name": "R", "fields": [{"name": "a.b", "type": "int"}]}, "field name"),
        (record({"type": "enum", "name": "R", "symbols": ["A"]}), "defined twice"),
    ],
)
def test_a_dangerous_or_malformed_schema_is_refused_by_name(schema: Any, words: str) -> None:
    with pytest.raises(SchemaRefused, match=words):
        check_schema(schema)


def test_a_schema_nested_too_deep_is_refused_and_not_followed() -> None:
    schema: Any = "int"
    for i in range(5000):
        schema = {"type": "record", "name": f"R{i}", "fields": [{"name": "f", "type": schema}]}
    with pytest.raises(SchemaRefused, match="deep"):
        check_schema(schema)


def test_names_that_double_at_each_level_are_refused_before_they_are_expanded() -> None:
    fields: list[Any] = []
    inner: Any = record("null", "null", name="L0")
    for level in range(1, 28):
        inner = record(inner, f"L{level - 1}", name=f"L{level}")
    fields.append(inner)
    with pytest.raises(SchemaRefused, match="types once names are expanded"):
        check_schema(record(*fields))


def test_columns_follow_the_types_of_the_schema() -> None:
    schema = record(
        "double",
        "int",
        ["null", "float"],
        {"type": "enum", "name": "E", "symbols": ["A", "B"]},
        {"type": "int", "logicalType": "date"},
        {"type": "long", "logicalType": "timestamp-millis"},
        record("string", name="W"),
        {"type": "array", "items": ["null", "long"]},
        {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
        {"type": "string", "logicalType": "uuid"},
    )
    assert columns_of(schema) == {
        "f0": pl.Float64(),
        "f1": pl.Int32(),
        "f2": pl.Float32(),
        "f3": pl.Enum(["A", "B"]),
        "f4": pl.Date(),
        "f5": pl.Datetime("ms", "UTC"),
        "f6.f0": pl.String(),
        "f7": pl.List(pl.Int64()),
        "f8": pl.Float64(),
        "f9": pl.String(),
    }


def test_fingerprints_stand_as_on_the_wire() -> None:
    """Avro publishes 7275D51A3F395C8F for "int" and 8A8F25CCE724DD63 read from the other end for "null"."""
    assert fingerprint({"type": "int"}) == "8f5c393f1ad57572"
    assert fingerprint({"type": "null"}) == "8a8f25cce724dd63"
    assert single_object_header("8f5c393f1ad57572") == b"\xc3\x01\x8f\x5c\x39\x3f\x1a\xd5\x75\x72"
    assert confluent_header(258) == b"\0\0\0\x01\x02"
