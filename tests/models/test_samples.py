"""Samples and copied labels: columns come back from their records, and damaged records are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import packed
from models.samples import LATEST, LabelCopies, Maker, Samples
from schemas import records
from schemas.errors import RecordInvalid

MAKER = Maker("flights", 7, "flights.events", "fallback", "canary", 0.05, "assigned", "flights", "uuid")
LONG = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32)
TEXT = st.text(max_size=5)


def _series(dtype: Any, values: st.SearchStrategy[Any]) -> Any:
    return lambda rows: st.lists(values, min_size=rows, max_size=rows).map(lambda found: pl.Series("c", found, dtype))


KINDS = [
    _series(pl.Float64, st.floats()),
    _series(pl.Float32, FLOAT32),
    _series(pl.Int64, LONG),
    _series(pl.Boolean, st.booleans()),
    _series(pl.String, st.none() | TEXT),
]


@st.composite
def columns(draw: Any, rows: int) -> dict[str, pl.Series]:
    names = draw(st.lists(TEXT, max_size=3, unique=True))
    return {name: draw(draw(st.sampled_from(KINDS))(rows)).rename(name) for name in names}


def longs(draw: Any, rows: int, least: int, most: int) -> np.ndarray:
    return np.array(draw(st.lists(st.integers(least, most), min_size=rows, max_size=rows)), np.int64)


@st.composite
def samples(draw: Any) -> Samples:
    rows = draw(st.integers(1, 20))
    keys = draw(st.lists(st.binary(max_size=9), min_size=rows, max_size=rows))
    return Samples(
        MAKER,
        np.sort(longs(draw, rows, 0, 2**31 - 1)),
        longs(draw, rows, 0, 2**61),
        longs(draw, rows, -1, LATEST),
        keys,
        draw(columns(rows)),
        {name: series.cast(pl.String) for name, series in draw(columns(rows)).items()},
    )


@st.composite
def label_copies(draw: Any) -> LabelCopies:
    rows = draw(st.integers(0, 20))
    keys = draw(st.lists(st.binary(max_size=9), min_size=rows, max_size=rows))
    return LabelCopies(
        "flights",
        "flights.labels",
        draw(st.integers(0, 2**31 - 1)),
        *(draw(st.integers(-1, 2**61)), draw(st.integers(0, 2**61)), draw(st.integers(-1, 2**61))),
        *(longs(draw, rows, 0, 2**61), longs(draw, rows, -1, LATEST)),
        keys,
        draw(draw(st.sampled_from(KINDS))(rows)),
        draw(columns(rows)),
    )


def same(left: dict[str, pl.Series], right: dict[str, pl.Series]) -> bool:
    return list(left) == list(right) and all(_bits(left[name]) == _bits(right[name]) for name in left)


def _bits(series: pl.Series) -> Any:
    return series.dtype, series.to_numpy().tobytes() if series.dtype.is_float() else series.to_list()


@given(samples())
def test_samples_come_back(made: Samples) -> None:
    found = Samples.decode(made.encode())
    assert found.maker == made.maker
    for name in ("partitions", "offsets", "times"):
        assert getattr(found, name).tolist() == getattr(made, name).tolist()
    assert found.keys == made.keys
    assert same(dict(found.outputs), dict(made.outputs))
    assert same(dict(found.segments), dict(made.segments))


@given(label_copies())
def test_labels_come_back(made: LabelCopies) -> None:
    found = LabelCopies.decode(made.encode())
    for name in ("deployment", "topic", "partition", "position", "watermark", "keys"):
        assert getattr(found, name) == getattr(made, name)
    assert found.offsets.tolist() == made.offsets.tolist()
    assert found.times.tolist() == made.times.tolist()
    assert same({"": found.value}, {"": made.value})
    assert same(dict(found.numbers), dict(made.numbers))


def back(series: pl.Series) -> pl.Series:
    return packed.unpack(packed.pack("c", series), len(series))


def test_integers_and_booleans_with_missing_values_come_back_as_doubles() -> None:
    for series in (pl.Series([1, None], dtype=pl.Int64), pl.Series([True, None])):
        found = back(series).to_list()
        assert found[0] == 1.0
        assert math.isnan(found[1])


def test_narrow_integers_come_back_as_longs() -> None:
    assert back(pl.Series([1, 200], dtype=pl.UInt8)).to_list() == [1, 200]


def test_classes_come_back_as_text() -> None:
    for dtype in (pl.Categorical(), pl.Enum(["late", "on time"])):
        assert back(pl.Series(["late", None, "late"], dtype=dtype)).to_list() == ["late", None, "late"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([[0.25, 0.75], [1.0, 0.0]], [[0.25, 0.75], [1.0, 0.0]]),
        ([[0.5], [1.0, 2.0], None], [[0.5, None], [1.0, 2.0], [None, None]]),
        ([[], []], [[], []]),
        ([[0.5], [None]], [0.5, None]),
    ],
)
def test_vectors_come_back_as_wide_as_the_widest(given: list[Any], told: list[Any]) -> None:
    found = back(pl.Series(given, dtype=pl.List(pl.Float64)))
    missing = [[None if v != v else v for v in row] if isinstance(row, list) else row for row in found.to_list()]
    assert [None if isinstance(row, float) and row != row else row for row in missing] == told


def test_arrays_are_vectors() -> None:
    assert back(pl.Series([[1, 2]], dtype=pl.Array(pl.Int64, 2))).to_list() == [[1.0, 2.0]]


@pytest.mark.parametrize("series", [pl.Series([b"x"]), pl.Series([{"a": 1}]), pl.Series([1], dtype=pl.UInt64)])
def test_what_is_no_number_or_text_is_refused_by_name(series: pl.Series) -> None:
    assert not packed.fits(series.dtype)
    with pytest.raises(ValueError, match="c: values of"):
        packed.pack("c", series)


def test_a_time_that_no_clock_should_say_is_cut() -> None:
    made = Samples(MAKER, *(np.array([n], np.int64) for n in (0, 0, 2**63 - 1)), [b"k"], {})
    assert Samples.decode(made.encode()).times.tolist() == [LATEST]


def damaged(**changed: Any) -> bytes:
    two = np.arange(2)
    outputs = {"score": pl.Series([0.5, 1.0]), "class": pl.Series(["a", "b"]), "late": pl.Series([True, False])}
    record = records.decode("sample", Samples(MAKER, two, two, two, [b"k", b"l"], outputs).encode())
    for name, value in changed.items():
        column, _, key = name.partition("__")
        if key:
            next(each for each in record["outputs"] if each["name"] == column)[key] = value
        else:
            record[name] = value
    return records.encode("sample", record)


def test_the_example_is_whole_without_damage() -> None:
    assert Samples.decode(damaged()).keys == [b"k", b"l"]


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": 0},
        {"rows": 3},
        {"offsets": b"\0"},
        {"times": b"\x80"},
        {"key_sizes": b"\1\2"},
        {"key_sizes": b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\3"},
        {"keys": b"klm"},
        {"score__values": b"123"},
        {"score__kind": "half"},
        {"score__width": -1},
        {"score__width": 1 << 30},
        {"class__values": b"\0\3"},
        {"class__width": 2},
        {"late__values": b"\0\2"},
    ],
    ids=str,
)
def test_columns_that_do_not_add_up_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(RecordInvalid, match="the record sample is damaged"):
        Samples.decode(damaged(**changed))


def test_labels_that_do_not_add_up_are_refused() -> None:
    none = np.zeros(0, np.int64)
    made = LabelCopies("d", "t", 0, 3, 5, 1, none, none, [], pl.Series("late", [], pl.Boolean))
    record = records.decode("labels", made.encode())
    with pytest.raises(RecordInvalid, match="the record labels is damaged"):
        LabelCopies.decode(records.encode("labels", {**record, "rows": 1}))
