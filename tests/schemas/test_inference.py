"""Inference records: what polars writes is what fastavro reads, for every type that can be published."""

from __future__ import annotations

import io
import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import inference
from schemas.errors import InferenceRefused
from schemas.inference import InferenceCodec, Lineage
from schemas.values import OutputField
from schemas.wire import fingerprint

LINEAGE = Lineage("flights", 7, "active", "delay", "0b5e", "8f5c393f1ad57572", "flights.events")
LATE = OutputField("late", "scalar", "double")
EPOCH = datetime(1970, 1, 1)
FLOAT32 = st.floats(width=32)
DOUBLES = st.lists(st.none() | st.floats(), max_size=5)

OUTPUTS: dict[str, tuple[OutputField, pl.DataType, st.SearchStrategy[Any]]] = {
    "double": (OutputField("o_double", "scalar", "double"), pl.Float64(), st.floats()),
    "float": (OutputField("o_float", "scalar", "float"), pl.Float32(), FLOAT32),
    "long": (OutputField("o_long", "label", "long"), pl.Int64(), st.integers(-(2**63), 2**63 - 1)),
    "int": (OutputField("o_int", "label", "int"), pl.Int32(), st.integers(-(2**31), 2**31 - 1)),
    "boolean": (OutputField("o_boolean", "label", "boolean"), pl.Boolean(), st.booleans()),
    "string": (OutputField("o_string", "label", "string"), pl.String(), st.text(max_size=20)),
    "vector": (OutputField("o_vector", "vector", "double", ("a", "b")), pl.List(pl.Float64()), DOUBLES),
    "map": (OutputField("o_map", "map", "double", ("a", "b")), pl.List(pl.Float64()), DOUBLES),
}
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1))
ECHOES: dict[str, tuple[pl.DataType, st.SearchStrategy[Any]]] = {
    "bytes": (pl.Binary(), st.binary(max_size=20)),
    "string": (pl.String(), st.text(max_size=20)),
    "int": (pl.Int32(), st.integers(-(2**31), 2**31 - 1)),
    "small": (pl.Int8(), st.integers(-128, 127)),
    "unsigned": (pl.UInt32(), st.integers(0, 2**32 - 1)),
    "enum": (pl.Enum(["red", "green"]), st.sampled_from(["red", "green"])),
    "date": (pl.Date(), st.dates(date(1900, 1, 1), date(2200, 1, 1))),
    "millis": (pl.Datetime("ms", "UTC"), MOMENTS.map(lambda m: m.replace(microsecond=0, tzinfo=UTC))),
    "micros": (pl.Datetime("us", "UTC"), MOMENTS.map(lambda m: m.replace(tzinfo=UTC))),
    "local": (pl.Datetime("us"), MOMENTS),
    "nanos": (pl.Datetime("ns", "UTC"), MOMENTS.map(lambda m: m.replace(tzinfo=UTC))),
    "doubles": (pl.List(pl.Float64()), DOUBLES),
    "words": (pl.List(pl.String()), st.lists(st.none() | st.text(max_size=5), max_size=4)),
    "colours": (pl.List(pl.Enum(["red"])), st.lists(st.just("red"), max_size=3)),
    "pair": (pl.Array(pl.Float64(), 2), st.lists(st.floats(), min_size=2, max_size=2)),
}


def frame_of(rows: int, **columns: pl.Series) -> pl.DataFrame:
    position = {
        "source_partition": pl.Series([3] * rows, dtype=pl.Int32),
        "source_offset": pl.Series(range(rows), dtype=pl.Int64),
        "event_time": pl.Series([1_700_000_000_000] * rows, dtype=pl.Int64),
    }
    return pl.DataFrame({**position, **columns})


def late_frame(rows: int) -> pl.DataFrame:
    return frame_of(rows, late=pl.Series([i / 7 for i in range(rows)]))


def nanos(value: datetime | None) -> int | None:
    return None if value is None else (value - EPOCH.replace(tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return type(one) is type(other) and bool(one == other)


@st.composite
def batches(draw: st.DrawFn) -> tuple[InferenceCodec, pl.DataFrame, dict[str, list[Any]]]:
    """A codec, a frame for it (sliced, in several chunks), and the values that must be read back."""
    rows = draw(st.integers(1, 12))
    outputs = draw(st.lists(st.sampled_from(sorted(OUTPUTS)), min_size=1, unique=True))
    echoes = draw(st.lists(st.sampled_from(sorted(ECHOES)), unique=True))
    columns, expected, fields, echo = {}, {}, [], []
    for name in outputs:
        field, dtype, values = OUTPUTS[name]
        expected[field.name] = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        columns[field.name] = pl.Series(expected[field.name], dtype=dtype)
        fields.append(field)
    for name in echoes:
        dtype, values = ECHOES[name]
        drawn = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        columns[name] = pl.Series(drawn, dtype=dtype)
        expected[name] = [nanos(value) for value in drawn] if name == "nanos" else drawn
        echo.append((name, dtype))
    cut = draw(st.integers(0, rows))
    frame = frame_of(rows, **columns)
    parts = pl.concat([frame[:cut], frame[cut:]], rechunk=False)
    return InferenceCodec("flights", fields, echo), parts, expected


@given(batches())
@settings(max_examples=300, deadline=None)
def test_what_is_encoded_is_what_a_strict_reader_reads(
    batch: tuple[InferenceCodec, pl.DataFrame, dict[str, list[Any]]],
) -> None:
    codec, frame, expected = batch
    messages = codec.encode(frame, codec.prefix(LINEAGE))
    assert len(messages) == frame.height
    for row, message in enumerate(messages):
        record = codec.decode(message)
        for name, values in expected.items():
            assert equal(record[name], values[row]), (name, record[name], values[row])
        assert record["source_offset"] == row
        assert record["source_partition"] == 3
        assert record["event_time"] == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_a_message_is_a_single_object_that_any_avro_library_can_read() -> None:
    codec = InferenceCodec("flights", [LATE], [])
    (message,) = codec.encode(late_frame(1), codec.prefix(LINEAGE))
    assert message[:2] == b"\xc3\x01"
    assert message[2:10].hex() == codec.fingerprint == fingerprint(codec.schema)
    record = fastavro.schemaless_reader(io.BytesIO(message[10:]), fastavro.parse_schema(codec.schema), None)
    assert isinstance(record, dict)
    lineage = {name: record[name] for name in inference.LINEAGE}
    assert lineage == {name: getattr(LINEAGE, name) for name in inference.LINEAGE}


def test_each_row_can_have_a_prefix_of_its_own() -> None:
    codec = InferenceCodec("flights", [LATE], [])
    arms = [Lineage("flights", 7, arm, "delay", "v" * i, "", "t") for i, arm in enumerate(["active", "canary"])]
    messages = codec.encode(late_frame(4), [codec.prefix(arms[i % 2]) for i in range(4)])
    assert [codec.decode(message)["arm"] for message in messages] == ["active", "canary"] * 2


def test_a_prefix_too_few_is_an_error() -> None:
    codec = InferenceCodec("flights", [LATE], [])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        codec.encode(late_frame(3), [codec.prefix(LINEAGE)] * 2)


@pytest.mark.parametrize("revision", [0, 1, 63, 64, -1, -65, 2**31 - 1, 2**63 - 1, -(2**63)])
def test_every_revision_survives(revision: int) -> None:
    codec = InferenceCodec("flights", [LATE], [])
    lineage = Lineage("flights", revision, "å", "m" * 100, "", "", "t")
    (message,) = codec.encode(late_frame(1), codec.prefix(lineage))
    assert codec.decode(message)["revision"] == revision


def test_an_empty_frame_is_no_message() -> None:
    codec = InferenceCodec("flights", [LATE], [])
    assert codec.encode(late_frame(0), b"") == []


def test_a_million_rows_are_one_block() -> None:
    codec = InferenceCodec("flights", [LATE], [])
    frame = pl.concat([late_frame(10_000)] * 100, rechunk=False)
    messages = codec.encode(frame, codec.prefix(LINEAGE))
    assert len(messages) == 1_000_000
    assert codec.decode(messages[-1])["late"] == 9_999 / 7


def test_a_number_that_also_stands_in_a_datum_is_drawn_again() -> None:
    codec = InferenceCodec("flights", [LATE], [("note", pl.Binary())])
    unlucky, lucky = b"\x01\x02\x03\x04\x05\x06\x07\x08", b"\x11\x12\x13\x14\x15\x16\x17\x18"
    frame = late_frame(2).with_columns(note=pl.Series([b"\x02" + unlucky, b"x"]))
    drawn: list[bytes] = []

    def entropy(size: int) -> bytes:
        drawn.append(lucky if drawn else unlucky)
        return drawn[-1]

    datums = inference._datums(frame, entropy)
    assert drawn == [unlucky, lucky]
    prefix = codec.prefix(LINEAGE)
    assert [codec.decode(prefix + datum)["note"] for datum in datums] == [b"\x02" + unlucky, b"x"]


def test_decode_refuses_other_schemas_and_trailing_bytes() -> None:
    codec, other = InferenceCodec("flights", [LATE], []), InferenceCodec("other", [LATE], [])
    (message,) = codec.encode(late_frame(1), codec.prefix(LINEAGE))
    with pytest.raises(InferenceRefused, match="not an inference of this schema"):
        other.decode(message)
    with pytest.raises(InferenceRefused, match="trailing"):
        codec.decode(message + b"\0")


def test_schemas_that_differ_where_a_fingerprint_is_blind_have_two_fingerprints() -> None:
    def of(classes: tuple[str, ...], time: pl.DataType) -> str:
        outputs = [OutputField("p", "vector", "double", classes)]
        return InferenceCodec("flights", outputs, [("at", time)]).fingerprint

    ms, us = pl.Datetime("ms", "UTC"), pl.Datetime("us", "UTC")
    assert len({of(("a", "b"), ms), of(("b", "a"), ms), of(("a", "b"), us)}) == 3
    assert of(("a", "b"), ms) == of(("a", "b"), ms)


def test_the_schema_says_what_is_an_output_and_what_an_echo() -> None:
    outputs = [OutputField("p", "map", "double", ("no", "yes"))]
    codec = InferenceCodec("9-flights.eu", outputs, [("weather.temp", pl.Float64())])
    fields = {field["name"]: field for field in codec.schema["fields"]}
    assert fields["p"]["penstock.role"] == "output"
    assert fields["p"]["classes"] == ["no", "yes"]
    assert fields["weather_temp"]["penstock.role"] == "echo"
    assert fields["weather_temp"]["penstock.path"] == "weather.temp"
    assert codec.columns == ("source_partition", "source_offset", "event_time", "p", "weather.temp")
    assert codec.schema["namespace"] == "penstock._9_flights_eu"


@pytest.mark.parametrize(
    ("outputs", "echo", "message"),
    [
        ([OutputField("model", "label", "string")], [], "output 'model': the lineage has the name 'model' too"),
        ([LATE], [("source_offset", pl.Int64())], "echo 'source_offset': the lineage has"),
        ([LATE], [("late", pl.Int64())], "echo 'late': output 'late' has the name"),
        ([LATE], [("a.b", pl.Int64()), ("a_b", pl.Int64())], "echo 'a_b': echo 'a.b' has the name 'a_b' too"),
        ([OutputField("late %", "scalar", "double")], [], "output 'late %': not a name that Avro allows"),
        ([OutputField("late", "scalar", "float16")], [], "output 'late': kind 'scalar' of type 'float16'"),
        ([OutputField("late", "tensor", "double")], [], "output 'late': kind 'tensor'"),
        ([LATE], [("big", pl.UInt64())], "echo 'big': values of UInt64 cannot be published"),
        ([LATE], [("nested", pl.Struct({"a": pl.Int64()}))], "echo 'nested': values of Struct"),
    ],
)
def test_what_cannot_be_published_is_refused_by_name(
    outputs: list[OutputField], echo: list[tuple[str, pl.DataType]], message: str
) -> None:
    with pytest.raises(InferenceRefused) as caught:
        InferenceCodec("flights", outputs, echo)
    assert message in str(caught.value)


def test_every_clash_is_named_at_once() -> None:
    with pytest.raises(InferenceRefused, match=r"'model'.*'arm'"):
        InferenceCodec("flights", [OutputField(name, "label", "string") for name in ("model", "arm")], [])


def test_a_frame_with_other_columns_is_refused() -> None:
    codec = InferenceCodec("flights", [LATE], [])
    with pytest.raises(InferenceRefused, match="needs"):
        codec.encode(late_frame(1).select(pl.all().reverse(), extra=pl.lit(1)), b"")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        (OutputField("late", "label", "long"), pl.Series([1.5])),
        (OutputField("late", "label", "string"), pl.Series([1])),
        (OutputField("late", "label", "int"), pl.Series([2**40])),
        (OutputField("late", "label", "boolean"), pl.Series([1])),
        (OutputField("late", "vector", "double"), pl.Series([["a"]])),
    ],
)
def test_a_value_that_a_cast_would_change_is_refused(field: OutputField, values: pl.Series) -> None:
    codec = InferenceCodec("flights", [field], [])
    with pytest.raises(InferenceRefused, match="column 'late'"):
        codec.encode(frame_of(1, late=values), b"")


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_an_event_time_of_any_unit_is_written_in_milliseconds(unit: Any) -> None:
    codec = InferenceCodec("flights", [LATE], [])
    moment = datetime(2013, 5, 1, 12, tzinfo=UTC)
    frame = late_frame(1).with_columns(event_time=pl.Series([moment], dtype=pl.Datetime(unit, "UTC")))
    (message,) = codec.encode(frame, codec.prefix(LINEAGE))
    assert codec.decode(message)["event_time"] == moment


def test_columns_of_nulls_without_a_type_are_written_as_nulls() -> None:
    codec = InferenceCodec("flights", [LATE], [("note", pl.String())])
    frame = frame_of(2, late=pl.Series([None, None]), note=pl.Series([None, None]))
    for message in codec.encode(frame, codec.prefix(LINEAGE)):
        record = codec.decode(message)
        assert (record["late"], record["note"]) == (None, None)
