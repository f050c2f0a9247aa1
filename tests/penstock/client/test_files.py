"""Files of events: values in the schema's types, errors with file, line and column."""

from __future__ import annotations

import datetime
import io
import json
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest

from penstock.client.errors import ClientError, EventInvalid, FileInvalid
from penstock.client.events import EventEncoder
from penstock.client.files import open_file

NOON = datetime.datetime(2013, 1, 1, 12, tzinfo=datetime.UTC)
SCHEMA = {
    "type": "record",
    "name": "Flight",
    "fields": [
        {"name": "flight", "type": "string"},
        {"name": "carrier", "type": {"type": "enum", "name": "Carrier", "symbols": ["UA", "AA"]}},
        {"name": "stops", "type": "int"},
        {"name": "gust", "type": ["null", "double"]},
        {"name": "late", "type": ["null", "boolean"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
    ],
}
EVENT = {"flight": "UA1", "carrier": "UA", "stops": 1, "gust": None, "late": True, "at": NOON, "day": NOON.date()}
HEADER = "flight,carrier,stops,gust,late,at,day\n"
LINE = "UA1,UA,1,,true,2013-01-01T12:00:00Z,2013-01-01\n"


@pytest.fixture
def encoder() -> EventEncoder:
    return EventEncoder(SCHEMA)


def events(path: Path, encoder: EventEncoder, **options: Any) -> list[Any]:
    return [
        fastavro.schemaless_reader(io.BytesIO(value[10:]), encoder.parsed, None)
        for chunk in open_file(path, encoder).chunks(**options)
        for value in chunk.values
    ]


def test_csv_json_lines_and_parquet_give_the_same_events(tmp_path: Path, encoder: EventEncoder) -> None:
    (tmp_path / "a.csv").write_text("\ufeff" + HEADER + LINE, encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(
        json.dumps({**EVENT, "at": "2013-01-01T13:00:00+01:00", "day": "2013-01-01"}) + "\n\n"
    )
    pl.DataFrame([EVENT]).with_columns(pl.col("gust").cast(pl.Float64)).write_parquet(tmp_path / "a.parquet")

    for name in ("a.csv", "a.jsonl", "a.parquet"):
        assert events(tmp_path / name, encoder) == [EVENT], name
        (chunk,) = open_file(tmp_path / name, encoder).chunks("flight", "at")
        assert (chunk.keys, chunk.times) == ([b"UA1"], [NOON.timestamp()])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEADER + LINE + "UA1,UA,x,,true,2013-01-01T12:00:00Z,\n",
            "line 3: field 'stops': expected int (32 bits), found 'x'",
        ),
        (HEADER + "UA1,UA,1_0,,true,0,\n", "line 2: field 'stops'"),
        (HEADER + "UA1,UA,4294967296,,true,0,\n", "line 2: field 'stops': expected int (32 bits), found 4294967296"),
        (HEADER + "UA1,DL,1,,true,0,\n", "line 2: field 'carrier': expected one of UA, AA, found 'DL'"),
        (HEADER + "UA1,UA,1,fast,true,0,\n", "line 2: field 'gust': expected null or double, found 'fast'"),
        (HEADER + "UA1,UA,1,,maybe,0,\n", "line 2: field 'late': expected null or boolean, found 'maybe'"),
        (HEADER + "UA1,UA,1,,true,noon,\n", "line 2: field 'at': expected a datetime"),
        (HEADER + "UA1,UA,1\n", "line 2: 3 values, the header has 7"),
        (HEADER.replace("stops", "stopps") + LINE, "the header has none of this name; did you mean 'stopps'?"),
        (HEADER.replace("day", "flight") + LINE, "line 1: the column 'flight' stands twice"),
        (HEADER + 'UA1,"UA\n', "line 2"),
    ],
)
def test_a_bad_csv_file_is_named_with_line_and_column(
    tmp_path: Path, encoder: EventEncoder, text: str, message: str
) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ClientError) as caught:
        events(tmp_path / "a.csv", encoder)
    assert str(caught.value).startswith(f"{tmp_path / 'a.csv'}: line")
    assert message in str(caught.value)


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path, encoder: EventEncoder) -> None:
    (tmp_path / "a.csv").write_bytes(HEADER.encode() + b"\xff\xfe,\n")
    with pytest.raises(FileInvalid, match="line 2: is not UTF-8 text"):
        events(tmp_path / "a.csv", encoder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: is not JSON"),
        ("[]", "line 2: must be a JSON object, not list"),
        ('{"flight": 1}', "field 'flight'"),
    ],
)
def test_a_bad_json_line_is_named(tmp_path: Path, encoder: EventEncoder, line: str, message: str) -> None:
    good = json.dumps({**EVENT, "at": 0, "day": None})
    (tmp_path / "a.jsonl").write_text(good + "\n" + line + "\n")
    with pytest.raises(ClientError, match=message):
        events(tmp_path / "a.jsonl", encoder)


def test_a_bad_row_of_a_parquet_file_is_counted_from_the_start_of_the_file(
    tmp_path: Path, encoder: EventEncoder
) -> None:
    rows = [{**EVENT, "gust": 1.0, "carrier": "DL" if row == 5_000 else "UA"} for row in range(5_001)]
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(EventInvalid, match=r"a.parquet: row 5000: field 'carrier'"):
        events(tmp_path / "a.parquet", encoder)


def test_columns_that_the_schema_does_not_have_are_left_out_and_said(tmp_path: Path, encoder: EventEncoder) -> None:
    (tmp_path / "a.csv").write_text("extra," + HEADER + "1," + LINE)
    file = open_file(tmp_path / "a.csv", encoder)
    assert [len(chunk.values) for chunk in file.chunks()] == [1]
    assert file.ignored == ("extra",)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path, encoder: EventEncoder) -> None:
    with pytest.raises(FileInvalid, match=r"unknown kind of file; its name must end with .csv"):
        open_file(tmp_path / "a.xls", encoder)
    with pytest.raises(FileInvalid, match="cannot be read"):
        open_file(tmp_path / "none.csv", encoder)
    (tmp_path / "a.parquet").write_text("no parquet")
    with pytest.raises(FileInvalid, match="is not a readable Parquet file"):
        open_file(tmp_path / "a.parquet", encoder)


def test_an_event_time_must_be_a_timestamp_field(tmp_path: Path, encoder: EventEncoder) -> None:
    (tmp_path / "a.csv").write_text(HEADER + LINE)
    with pytest.raises(EventInvalid, match="field 'stops': expected a timestamp field"):
        events(tmp_path / "a.csv", encoder, event_time="stops")
