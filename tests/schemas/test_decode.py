"""What `EventDecoder` accepts, refuses and returns."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest

from schemas.decode import EventDecoder
from schemas.deployment import Check
from schemas.errors import DeploymentInvalid, SchemaRefused, SourceUnavailable, UnknownSchema
from schemas.wire import confluent_header, fingerprint, single_object_header
from tests.schemas.fuzz import Known, encode, varint

POINT = {
    "type": "record",
    "name": "Point",
    "fields": [{"name": "x", "type": "double"}, {"name": "tag", "type": ["null", "string"], "default": None}],
}
DOUBLES = {"type": "record", "name": "D", "fields": [{"name": f"f{i}", "type": "double"} for i in range(3)]}


def message(schema: Any, record: Any) -> bytes:
    return single_object_header(fingerprint(schema)) + encode(schema, record)


def points(n: int) -> list[bytes | None]:
    return [message(POINT, {"x": float(i), "tag": None if i % 3 else f"t{i}"}) for i in range(n)]


def decoder(reader: Any = POINT, *writers: Any, **options: Any) -> EventDecoder:
    return EventDecoder(reader, writers=Known(*(writers or (reader,))), **options)


def test_a_sound_batch_is_one_frame_in_message_order() -> None:
    decoded = decoder().decode(points(7))
    assert decoded.rows is None
    assert decoded.rejected == []
    assert decoded.schemas == (fingerprint(POINT),)
    assert decoded.schema_of is None
    assert decoded.frame["x"].to_list() == [float(i) for i in range(7)]
    assert decoded.frame["tag"].to_list() == ["t0", None, None, "t3", None, None, "t6"]


@pytest.mark.parametrize("schema", [POINT, DOUBLES])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda value: value[:-1], "truncated"),
        (lambda value: value + b"\0", "trailing_bytes"),
        (lambda value: None, "tombstone"),
        (lambda value: b"", "tombstone"),
        (lambda value: b"hello", "bad_header"),
        (lambda value: value[:6], "bad_header"),
        (lambda value: b"{no json", "not_json"),
        (lambda value: value + bytes(1 << 20), "oversize"),
        (lambda value: value[:10], "truncated"),
    ],
)
def test_one_bad_message_costs_that_message(schema: Any, spoil: Any, reason: str) -> None:
    record = {"x": 1.0, "tag": "a", "f0": 1.0, "f1": 2.0, "f2": 3.0}
    header = single_object_header(fingerprint(schema))
    values: list[bytes | None] = [
        header + encode(schema, {**record, "x": float(i), "f0": float(i)}) for i in range(2000)
    ]
    values[7] = spoil(values[7])
    decoded = decoder(schema).decode(values)
    assert [(item.row, item.reason) for item in decoded.rejected] == [(7, reason)]
    assert decoded.rows is not None
    assert decoded.rows.tolist() == [*range(7), *range(8, 2000)]
    assert decoded.frame.to_series(0).to_list() == [float(i) for i in range(2000) if i != 7]


def test_a_short_and_a_long_neighbour_do_not_share_bytes() -> None:
    """Given two messages whose bytes moved over by one, when decoded, then both are refused and no other changes."""
    values = points(10)
    first, second = values[3] or b"", values[4] or b""
    values[3], values[4] = first[:-1], second[:10] + first[-1:] + second[10:]
    decoded = decoder().decode(values)
    assert [item.row for item in decoded.rejected] == [3, 4]
    assert decoded.frame["x"].to_list() == [float(i) for i in range(10) if i not in (3, 4)]


def test_a_union_index_past_the_end_is_refused_whoever_its_neighbours_are() -> None:
    bad = single_object_header(fingerprint(POINT)) + struct.pack("<d", 1.0) + varint(2) + varint(1) + b"a"
    alone, among = decoder().decode([bad]), decoder().decode([*points(5), bad])
    assert [item.reason for item in alone.rejected] == ["malformed"]
    assert [(item.row, item.reason) for item in among.rejected] == [(5, "malformed")]


def test_text_that_is_not_utf8_costs_its_message() -> None:
    bad = single_object_header(fingerprint(POINT)) + struct.pack("<d", 1.0) + varint(1) + varint(2) + b"\xff\xfe"
    decoded = decoder().decode([*points(5), bad, *points(5)])
    assert [(item.row, item.reason, item.exception) for item in decoded.rejected] == [
        (5, "malformed", "UnicodeDecodeError")
    ]
    assert len(decoded.frame) == 10


def test_a_boolean_byte_other_than_0_and_1_reads_as_fastavro_reads_it() -> None:
    schema = {"type": "record", "name": "B", "fields": [{"name": "b", "type": "boolean"}]}
    header = single_object_header(fingerprint(schema))
    decoded = decoder(schema).decode([header + bytes([byte]) for byte in (0, 1, 2, 255)])
    assert decoded.frame["b"].to_list() == [False, True, True, True]


def test_several_writers_in_one_batch_keep_message_order() -> None:
    old = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "int"}]}
    values = points(6)
    for row in (1, 4):
        values[row] = message(old, {"x": -row})
    values[2] = b'{"x": 2.5}'
    values[3] = confluent_header(1) + encode(old, {"x": 33})
    decoded = decoder(POINT, POINT, old).decode(values)
    assert decoded.frame["x"].to_list() == [0.0, -1.0, 2.5, 33.0, -4.0, 5.0]
    assert decoded.schemas == (fingerprint(POINT), fingerprint(old))
    assert decoded.schema_of is not None
    assert decoded.schema_of.tolist() == [0, 1, 0, 1, 1, 0]


def test_aliases_defaults_promotions_enums_times_and_nested_records_resolve() -> None:
    reader = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "new", "type": "double", "aliases": ["old"]},
            {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["B", "A", "other"], "default": "other"}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {
                "name": "weather",
                "type": ["null", {"type": "record", "name": "W", "fields": [{"name": "t", "type": "float"}]}],
            },
            {"name": "list", "type": {"type": "array", "items": "double"}},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
            {"name": "added", "type": "string", "default": "none"},
        ],
    }
    writer = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
            {"name": "unread", "type": {"type": "map", "values": "long"}},
            {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["A", "B", "C"]}},
            {
                "name": "weather",
                "type": ["null", {"type": "record", "name": "W", "fields": [{"name": "t", "type": "int"}]}],
            },
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "old", "type": "long"},
            {"name": "list", "type": {"type": "array", "items": "double"}},
        ],
    }
    without_map = {**writer, "fields": [field for field in writer["fields"] if field["name"] != "unread"]}
    for schema, extra in ((writer, encode({"type": "map", "values": "long"}, {"a": 1})), (without_map, b"")):
        at = varint(1_000_000)
        rest = at + varint(5) + varint(1) + struct.pack("<d", 0.5) + b"\0"
        datums = [
            varint(2) + (-125).to_bytes(2, "big", signed=True) + extra + varint(2) + varint(0) + rest,
            varint(2) + (125).to_bytes(2, "big", signed=True) + extra + varint(1) + varint(1) + varint(7) + rest,
        ]
        decoded = decoder(reader, schema).decode([single_object_header(fingerprint(schema)) + one for one in datums])
        assert decoded.rejected == []
        assert dict(decoded.frame.schema) == dict(decoder(reader).columns)
        assert decoded.frame["new"].to_list() == [5.0, 5.0]
        assert decoded.frame["kind"].to_list() == ["other", "B"]
        assert decoded.frame["at"].cast(pl.Int64()).to_list() == [1_000_000, 1_000_000]
        assert decoded.frame["weather.t"].to_list() == [None, 7.0]
        assert decoded.frame["list"].to_list() == [[0.5], [0.5]]
        assert decoded.frame["price"].to_list() == [-1.25, 1.25]
        assert decoded.frame["added"].to_list() == ["none", "none"]


def test_an_int_outside_32_bits_costs_its_message() -> None:
    schema = {"type": "record", "name": "I", "fields": [{"name": "n", "type": "int"}]}
    header = single_object_header(fingerprint(schema))
    decoded = decoder(schema).decode([header + varint(n) for n in (1, 1 << 31, -(1 << 31), (1 << 63) - 1)])
    assert decoded.frame["n"].to_list() == [1, -(1 << 31)]
    assert [(item.row, item.reason) for item in decoded.rejected] == [(1, "malformed"), (3, "malformed")]


@pytest.mark.parametrize(
    "writer",
    [
        {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "string"}]},
        {"type": "record", "name": "Point", "fields": [{"name": "y", "type": "double"}]},
        {"type": "record", "name": "Other", "fields": [{"name": "x", "type": "double"}]},
    ],
)
def test_a_writer_that_does_not_resolve_is_rejected_in_words(writer: Any) -> None:
    header = single_object_header(fingerprint(writer))
    decoded = decoder(POINT, writer).decode([header + b"\0" * 8])
    assert [item.reason for item in decoded.rejected] == ["unresolvable"]
    assert decoded.rejected[0].detail
    assert list(decoded.frame.columns) == ["x", "tag"]


def test_a_refused_writer_schema_rejects_its_messages_by_name() -> None:
    bomb = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": {"type": "array", "items": "null"}}]}
    values: list[bytes | None] = [confluent_header(0) + varint(1 << 60) + b"\0"]
    decoded = decoder(POINT, bomb).decode(values)
    assert [item.reason for item in decoded.rejected] == ["refused_schema"]
    assert "array of null" in decoded.rejected[0].detail


def test_an_unknown_schema_rejects_its_messages_only() -> None:
    class Unknown(Known):
        def by_id(self, schema_id: int) -> Any:
            raise UnknownSchema(f"no schema has the id {schema_id}")

    events = EventDecoder(POINT, writers=Unknown(POINT))
    decoded = events.decode([*points(2), confluent_header(9) + b"x", *points(2)])
    assert [(item.row, item.reason) for item in decoded.rejected] == [(2, "unknown_schema")]
    assert len(decoded.frame) == 4


def test_a_source_that_does_not_answer_stops_the_batch() -> None:
    class Down(Known):
        def by_fingerprint(self, wanted: str) -> Any:
            raise SourceUnavailable("the registry does not answer")

    with pytest.raises(SourceUnavailable):
        EventDecoder(POINT, writers=Down()).decode(points(1))


def test_a_writer_schema_is_asked_for_once() -> None:
    known = Known(POINT)
    events = EventDecoder(POINT, writers=known)
    for _ in range(3):
        events.decode(points(5))
    assert known.asked == 1


def test_a_decoder_made_of_another_knows_its_schemas_and_counts_anew() -> None:
    known = Known(POINT)
    first = EventDecoder(POINT, writers=known, checks={"x": Check(min=1)})
    first.decode(points(5))
    second = first.again()
    assert second.decode(points(5)).frame.equals(first.decode(points(5)).frame)
    assert known.asked == 1
    assert (first.broken_checks, second.broken_checks) == ({"x": 2}, {"x": 1})
    assert EventDecoder(POINT, writers=known).decode(points(5)).rejected == []
    assert known.asked == 2  # the control: one of its own asks


def test_checks_reject_clear_or_count() -> None:
    checks = {
        "x": Check(min=1, max=8),
        "tag": Check(pattern="t[0-5]", otherwise="null"),
    }
    events = decoder(checks=checks)
    decoded = events.decode([*points(10), message(POINT, {"x": float("nan"), "tag": None})])
    assert [(item.row, item.reason) for item in decoded.rejected] == [(row, "check_failed") for row in (0, 9, 10)]
    assert decoded.frame["tag"].to_list() == [None, None, "t3", None, None, None, None, None]
    assert events.broken_checks == {"x": 3, "tag": 2}
    counting = decoder(checks={"x": Check(one_of=[1, 2], otherwise="pass")})
    assert len(counting.decode(points(4)).frame) == 4
    assert counting.broken_checks == {"x": 2}


@pytest.mark.parametrize(
    ("name", "check", "words"),
    [
        ("nope", Check(min=0), "no such column"),
        ("tag", Check(min=0), "need a number"),
        ("x", Check(pattern="a"), "needs text"),
        ("x", Check(one_of=["a"]), "does not fit"),
        ("x", Check(min=0, otherwise="null"), "nullable"),
        ("tag", Check(pattern="(?=a)"), "look-around"),
    ],
)
def test_a_check_that_cannot_work_is_refused_at_the_start(name: str, check: Check, words: str) -> None:
    with pytest.raises(DeploymentInvalid, match=words):
        decoder(checks={name: check})


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (b'{"x": "1"}', "wrong_type"),
        (b'{"x": true}', "wrong_type"),
        (b'{"x": null}', "wrong_type"),
        (b'{"tag": "a"}', "missing_field"),
        (b"[1]", "wrong_type"),
        (b'{"x": 1', "not_json"),
        (b'{"x": NaN}', "not_json"),
        (b"[" * 100_000, "not_json"),
    ],
)
def test_json_is_validated_against_the_same_schema(event: bytes, reason: str) -> None:
    decoded = decoder(framing="json").decode([b'{"x": 1}', event, b'{"x": 2.5, "tag": "a", "more": []}'])
    assert [(item.row, item.reason) for item in decoded.rejected] == [(1, reason)]
    assert decoded.frame.rows() == [(1.0, None), (2.5, "a")]


def test_a_tombstone_batch_gives_an_empty_frame_with_all_columns() -> None:
    decoded = decoder().decode([None, None])
    assert dict(decoded.frame.schema) == dict(decoder().columns)
    assert decoded.rows is not None
    assert decoded.rows.tolist() == []
    assert decoder().decode([]).frame.columns == ["x", "tag"]


def test_a_reader_without_columns_for_its_types_is_refused() -> None:
    for kind in ({"type": "map", "values": "int"}, ["null", "int", "string"], "null"):
        with pytest.raises(SchemaRefused, match="no column"):
            decoder({"type": "record", "name": "R", "fields": [{"name": "f", "type": kind}]})


@pytest.mark.parametrize("size", [varint(1 << 40), varint((1 << 63) - 1), varint(-1), b"\xff" * 10])
def test_a_few_bytes_that_claim_much_are_refused_without_using_it(size: bytes) -> None:
    kinds = ["string", {"type": "array", "items": "double"}, {"type": "array", "items": "string"}, ["null", "bytes"]]
    for kind in kinds:
        schema = {"type": "record", "name": "R", "fields": [{"name": "f", "type": kind}]}
        head = single_object_header(fingerprint(schema)) + (varint(1) if isinstance(kind, list) else b"")
        decoded = decoder(schema).decode([head + size, head + size + b"abc"])
        assert len(decoded.rejected) == 2


SOUND = "from tests.schemas.fuzz import run; run(20_000, 5)"
UNSCREENED = """
from collections import Counter
import numpy as np
import schemas.blocks
schemas.blocks.compile_screen = lambda writer: lambda data, starts, ends: np.ones(len(starts), bool)
from tests.schemas.fuzz import Difference, one_batch
for seed in range(5 << 32, (5 << 32) + 60):
    try:
        one_batch(seed, Counter())
    except Difference:
        pass
"""


@pytest.mark.parametrize(("script", "silent"), [(SOUND, True), (UNSCREENED, False)])
def test_the_screen_keeps_panics_off_standard_error(script: str, silent: bool) -> None:
    """The second case is the negative control: without the screen the block reader panics and says so."""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "RUST_BACKTRACE": "1"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ("panicked" not in ran.stderr and ran.stderr == "") is silent


def test_rows_index_the_batch_as_integers() -> None:
    decoded = decoder().decode([None, *points(2)])
    assert decoded.rows is not None
    assert decoded.rows.dtype == np.int64


def test_json_and_avro_agree_on_logical_types_enums_and_arrays() -> None:
    schema = {
        "type": "record",
        "name": "L",
        "fields": [
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "days", "type": {"type": "array", "items": {"type": "int", "logicalType": "date"}}},
            {"name": "ats", "type": {"type": "array", "items": {"type": "long", "logicalType": "timestamp-millis"}}},
            {"name": "kinds", "type": {"type": "array", "items": {"type": "enum", "name": "K", "symbols": ["A", "B"]}}},
            {
                "name": "price",
                "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}],
            },
            {"name": "raw", "type": "bytes"},
        ],
    }
    event = (
        b'{"day": "1970-01-03", "at": "1970-01-01T00:00:01Z", "days": [3], "ats": [4, 5], "kinds": ["B"],'
        b' "price": "-1.25", "raw": "\\u00ff"}'
    )
    wrong = event.replace(b"-1.25", b"1e900")
    avro = varint(2) + varint(1000) + varint(1) + varint(3) + b"\0" + varint(2) + varint(4) + varint(5) + b"\0"
    avro += varint(1) + varint(1) + b"\0" + varint(1) + varint(1) + (-125).to_bytes(1, "big", signed=True)
    avro += varint(1) + b"\xff"
    events = decoder(schema)
    decoded = events.decode([event, single_object_header(fingerprint(schema)) + avro, wrong])
    assert [(item.row, item.reason) for item in decoded.rejected] == [(2, "wrong_type")]
    assert dict(decoded.frame.schema) == dict(events.columns)
    assert decoded.frame.row(0) == decoded.frame.row(1)
    assert decoded.frame["price"].to_list() == [-1.25, -1.25]


def test_a_schema_that_fastavro_dislikes_is_refused_and_raises_nothing_else() -> None:
    odd = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "e", "type": {"type": "enum", "name": "E", "symbols": ["a b"]}}],
    }
    with pytest.raises(SchemaRefused):
        decoder(odd)
    decoded = decoder(POINT, odd).decode([confluent_header(0) + b"\0"])
    assert [item.reason for item in decoded.rejected] == ["refused_schema"]
