"""Events as bytes: what fits is written as fastavro reads it, what does not is named."""

from __future__ import annotations

import datetime
import decimal
import io
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import fastavro
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.client.errors import ClientError, EventInvalid, SchemaInvalid
from penstock.client.events import EventEncoder

NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=datetime.UTC)
ENUM = {"type": "enum", "name": "Carrier", "symbols": ["UA", "AA"]}
INSTANT = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
DATE = {"type": "int", "logicalType": "date"}
WEATHER = {"type": "record", "name": "Weather", "fields": [{"name": "temp", "type": "double"}]}
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "double": ("double", st.floats(allow_nan=False)),
    "float": ("float", st.floats(width=32, allow_nan=False)),
    "int": ("int", st.integers(-(2**31), 2**31 - 1)),
    "long": ("long", st.integers(-(2**63), 2**63 - 1)),
    "boolean": ("boolean", st.booleans()),
    "string": ("string", st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
    "bytes": ("bytes", st.binary(max_size=8)),
    "enum": (ENUM, st.sampled_from(ENUM["symbols"])),
    "instant": (INSTANT, st.integers(0, 2**41).map(lambda ms: NOON + datetime.timedelta(milliseconds=ms % 10**10))),
    "micros": (MICROS, st.integers(0, 2**41).map(lambda us: NOON + datetime.timedelta(microseconds=us))),
    "date": (DATE, st.dates(datetime.date(1900, 1, 1), datetime.date(2100, 1, 1))),
}


def record(**fields: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "Event",
        "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
    }


def decoded(encoder: EventEncoder, value: bytes) -> Any:
    """The event, through strict fastavro: the whole message is consumed."""
    assert value[:10] == encoder.header
    stream = io.BytesIO(value[10:])
    event = fastavro.schemaless_reader(stream, encoder.parsed, None)
    assert stream.tell() == len(value) - 10
    return event


@st.composite
def frames(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A schema of plain fields, some nullable (null first, or last), and rows of it."""
    names = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, unique=True))
    shapes = {
        name: draw(st.sampled_from(["never", "first", "last"] if draw(st.booleans()) else ["never", "first"]))
        for name in names
    }
    kinds = {name: KINDS[name][0] for name in names}
    fields = {
        name: kinds[name]
        if shapes[name] == "never"
        else ["null", kinds[name]]
        if shapes[name] == "first"
        else [kinds[name], "null"]
        for name in names
    }
    values = {name: KINDS[name][1] if shapes[name] == "never" else st.none() | KINDS[name][1] for name in names}
    return record(**fields), draw(st.lists(st.fixed_dictionaries(values), max_size=5))


@settings(max_examples=300, deadline=None)
@given(frames())
def test_a_frame_is_encoded_as_fastavro_encodes_its_rows(case: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    schema, rows = case
    encoder = EventEncoder(schema)
    columns = {name: [row[name] for row in rows] for name in encoder.record.fields}

    values = encoder.encode_frame(pl.DataFrame(columns, strict=False, infer_schema_length=None))

    assert values == encoder.encode_many(rows)
    assert [decoded(encoder, value) for value in values] == rows


def test_neighbouring_rows_of_a_long_frame_are_kept_apart() -> None:
    encoder = EventEncoder(record(text=["null", "string"], number="long", name="string", at=INSTANT))
    rows = [{"text": "x" * (row % 7) or None, "number": row, "name": str(row), "at": NOON} for row in range(20_000)]

    values = encoder.encode_frame(pl.DataFrame(rows))

    assert [decoded(encoder, value) for value in values] == rows


def test_a_frame_with_nested_columns_is_encoded_too() -> None:
    encoder = EventEncoder(record(weather=WEATHER, speeds={"type": "array", "items": "double"}, at=INSTANT))
    frame = pl.DataFrame({"weather": [{"temp": 1.5}], "speeds": [[1.0, 2.0]], "at": [NOON.replace(tzinfo=None)]})

    (value,) = encoder.encode_frame(frame)

    assert decoded(encoder, value) == {"weather": {"temp": 1.5}, "speeds": [1.0, 2.0], "at": NOON}


def test_a_pandas_frame_has_null_for_missing_values_and_whole_floats_for_integers() -> None:
    encoder = EventEncoder(record(count=["null", "long"], share=["null", "double"], at=INSTANT, carrier=ENUM))
    frame = pd.DataFrame(
        {
            "count": [3.0, None],
            "share": [0.5, None],
            "at": [pd.Timestamp("2013-01-01T12:00")] * 2,
            "carrier": ["UA", "AA"],
        }
    )

    values = encoder.encode_frame(frame)

    assert decoded(encoder, values[0]) == {"count": 3, "share": 0.5, "at": NOON, "carrier": "UA"}
    assert decoded(encoder, values[1]) == {"count": None, "share": None, "at": NOON, "carrier": "AA"}


def test_dataclasses_are_events() -> None:
    @dataclass
    class Weather:
        temp: float

    @dataclass
    class Event:
        flight: str
        weather: Weather

    encoder = EventEncoder(record(flight="string", weather=WEATHER))

    assert decoded(encoder, encoder.encode(Event("UA1", Weather(2.5)))) == {"flight": "UA1", "weather": {"temp": 2.5}}
    with pytest.raises(EventInvalid, match="expected an event as a mapping or a dataclass instance, found 5"):
        encoder.encode(5)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("int", 1.5, "expected int (32 bits), found 1.5 (float)"),
        ("int", 2**31, "expected int (32 bits), found 2147483648 (int)"),
        ("long", True, "expected long (64 bits), found True (bool)"),
        ("double", "1", "expected double, found '1' (str)"),
        ("float", 1e39, "expected float, found 1e+39 (float)"),
        ("boolean", 1, "expected boolean, found 1 (int)"),
        ("string", b"x", "expected string, found b'x' (bytes)"),
        ("bytes", "x", "expected bytes, found 'x' (str)"),
        ("string", None, "expected string, found None (NoneType)"),
        (["null", "double"], "far", "expected null or double, found 'far' (str)"),
        (ENUM, "DL", "expected one of UA, AA, found 'DL' (str)"),
        (INSTANT, datetime.datetime(2013, 1, 1), "found 2013-01-01 00:00:00 without a time zone"),
        (DATE, NOON, "expected a date or an int of days since 1970"),
        ({"type": "fixed", "name": "F", "size": 2}, b"x", "expected exactly 2 bytes"),
        ({"type": "map", "values": "long"}, {"a": "b"}, "expected a map from string to long"),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
            decimal.Decimal("123.45"),
            "expected a Decimal of at most 4 digits, 2 of them behind the point",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_the_expected_type(kind: Any, value: Any, message: str) -> None:
    encoder = EventEncoder(record(field=kind))
    with pytest.raises(EventInvalid) as caught:
        encoder.encode({"field": value})
    assert caught.value.field == "field"
    assert message in str(caught.value)


def test_the_innermost_field_is_named() -> None:
    encoder = EventEncoder(record(weather=["null", WEATHER], speeds={"type": "array", "items": "double"}))
    with pytest.raises(EventInvalid, match=r"field 'weather.temp': expected double, found 'hot'"):
        encoder.encode({"weather": {"temp": "hot"}, "speeds": []})
    with pytest.raises(EventInvalid, match=r"field 'speeds\[1\]': expected double, found None"):
        encoder.encode({"weather": None, "speeds": [1.0, None]})


def test_a_missing_and_an_unknown_field_are_named() -> None:
    encoder = EventEncoder(record(distance="double", gust=["null", "double"]))
    assert decoded(encoder, encoder.encode({"distance": 1})) == {"distance": 1.0, "gust": None}
    with pytest.raises(EventInvalid, match="'distance': expected double, the field is missing"):
        encoder.encode({"gust": 1.0})
    with pytest.raises(EventInvalid, match=r"'distanse'.*did you mean 'distance'"):
        encoder.encode({"distance": 1.0, "distanse": 1.0})


@pytest.mark.parametrize(
    ("kind", "column", "message"),
    [
        ("int", [1, 2**31], "row 1: field 'field': expected int"),
        ("long", [1.5], "found a column of type Float64; cast it first"),
        ("double", [1.0, None], "row 1: field 'field': expected double, found None"),
        ("float", [1e39], "row 0: field 'field': expected float"),
        (ENUM, ["UA", "DL"], "row 1: field 'field': expected one of UA, AA, found 'DL'"),
        ("boolean", [1], "found a column of type Int64"),
    ],
)
def test_a_column_that_does_not_fit_is_named_with_the_row(kind: Any, column: list[Any], message: str) -> None:
    with pytest.raises(EventInvalid) as caught:
        EventEncoder(record(field=kind)).encode_frame(pl.DataFrame({"field": column}))
    assert message in str(caught.value)


def test_missing_and_unknown_columns_are_named_and_defaults_are_filled_in() -> None:
    schema = record(distance="double")
    schema["fields"].append({"name": "carrier", "type": ENUM, "default": "AA"})
    encoder = EventEncoder(schema)
    (value,) = encoder.encode_frame(pl.DataFrame({"distance": [1.0]}))
    assert decoded(encoder, value) == {"distance": 1.0, "carrier": "AA"}
    with pytest.raises(EventInvalid, match="'distance': expected double, the column is missing"):
        encoder.encode_frame(pl.DataFrame({"carrier": ["UA"]}))
    with pytest.raises(EventInvalid, match=r"'distanse'.*did you mean"):
        encoder.encode_frame(pl.DataFrame({"distance": [1.0], "distanse": [1.0]}))
    with pytest.raises(ClientError, match="expected a polars or pandas DataFrame, found list"):
        encoder.encode_frame([1])


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "record"}, record(field="no_such_type")])
def test_a_schema_that_is_no_record_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaInvalid):
        EventEncoder(schema)


def test_a_recursive_schema_is_refused_by_name() -> None:
    with pytest.raises(SchemaInvalid, match="recursive at 'Event'"):
        EventEncoder(record(next=["null", "Event"]))


def test_importing_the_client_imports_nothing_heavy() -> None:
    heavy = ("numpy", "polars", "pandas", "pydantic", "onnxruntime", "orjson", "click", "rich")
    code = f"import sys, penstock.client; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
