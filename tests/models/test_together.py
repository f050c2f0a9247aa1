"""Many records read at once say what each says alone; what is damaged harms no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import packed, together, varint
from models.samples import LabelCopies, Samples
from models.together import Head
from schemas import records
from schemas.errors import RecordInvalid
from tests.models.test_samples import MAKER, columns, damaged, longs, samples

DAMAGED: list[dict[str, Any]] = [
    {"rows": 0},
    {"rows": 3},
    {"rows": -1},
    {"rows": 1 << 40},
    {"partitions": b"\2\2\2"},
    {"offsets": b"\0"},
    {"times": b"\x80"},
    {"times": b"\0\0\0"},
    {"key_sizes": b"\1\2"},
    {"key_sizes": b"\2\1"},
    {"key_sizes": b"\1"},
    {"key_sizes": b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\3"},
    {"keys": b"klm"},
    {"keys": b"k"},
    {"score__values": b"123"},
    {"score__values": b"12345678" * 3},
    {"score__kind": "half"},
    {"score__width": -1},
    {"score__width": 1 << 30},
    {"class__values": b"\0\3"},
    {"class__values": b"\0"},
    {"class__width": 2},
    {"late__values": b"\0\2"},
    {"late__values": b"\0"},
]


@st.composite
def copies(draw: Any) -> LabelCopies:
    rows = draw(st.integers(0, 6))
    values = draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    return LabelCopies(
        "d", "labels", draw(st.integers(0, 3)), draw(st.integers(-1, 9)), draw(st.integers(0, 2**60)),
        draw(st.integers(0, 2**40)), longs(draw, rows, 0, 2**61), longs(draw, rows, -1, 2**40),
        draw(st.lists(st.binary(max_size=9), min_size=rows, max_size=rows)),
        pl.Series("late", values, pl.Boolean), draw(columns(rows)),
    )  # fmt: skip


def said(found: Samples) -> list[Any]:
    """What records of samples say, row by row."""
    outputs, segments = (
        {n: (s.dtype, s.to_list()) for n, s in each.items()} for each in (found.outputs, found.segments)
    )
    numbers = (found.partitions.tolist(), found.offsets.tolist(), found.times.tolist())
    return [
        (
            found.maker, key, *(each[at] for each in numbers),
            {name: (dtype, repr(values[at])) for name, (dtype, values) in outputs.items()},
            {name: values[at] for name, (_, values) in segments.items()},
        )
        for at, key in enumerate(found.keys)
    ]  # fmt: skip


def told(found: Any, partitions: list[int]) -> list[Any]:
    """What records of labels say, row by row."""
    numbers = {name: (series.dtype, series.to_list()) for name, series in found.numbers.items()}
    return [
        (
            partitions[at], key, int(found.offsets[at]), int(found.times[at]), found.value.name, found.value[at],
            {name: (dtype, repr(values[at])) for name, (dtype, values) in numbers.items()},
        )
        for at, key in enumerate(found.keys)
    ]  # fmt: skip


def by_record(values: list[bytes]) -> dict[int, list[Any]]:
    """What `read` says of each record."""
    found = together.read(values)
    rows: dict[int, list[Any]] = {}
    for many in found.samples:
        _share(rows, many.places, many.sizes, said(many.rows))
    for copy in found.copies:
        _share(rows, copy.places, copy.sizes, told(copy, copy.partitions.tolist()))
        for place, head in zip(copy.places.tolist(), copy.heads, strict=True):
            rows[place].insert(0, head)
    assert sorted([*rows, *found.poison]) == list(range(len(values)))
    assert found.poison == sorted(found.poison)
    return rows


def _share(rows: dict[int, list[Any]], places: np.ndarray, sizes: np.ndarray, listed: list[Any]) -> None:
    for place, size in zip(places.tolist(), sizes.tolist(), strict=True):
        rows[place], listed = listed[:size], listed[size:]
    assert listed == []


def alone(value: bytes) -> list[Any] | None:
    """What a record says, read alone."""
    try:
        return said(Samples.decode(value))
    except RecordInvalid:
        pass
    try:
        found = LabelCopies.decode(value)
    except RecordInvalid:
        return None
    head = Head(found.partition, found.follows, found.position, found.watermark)
    return [head, *told(found, [found.partition] * len(found.keys))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(samples(), copies(), st.binary(max_size=20)), max_size=5), st.randoms())
def test_many_records_say_what_each_says_alone(made: list[Any], draw: Any) -> None:
    values = [each if isinstance(each, bytes) else each.encode() for each in made]
    values += draw.sample(values, len(values) // 2)  # of one shape, so that they are read as one
    draw.shuffle(values)
    expected = {at: rows for at, value in enumerate(values) if (rows := alone(value)) is not None}
    assert by_record(values) == expected


def test_records_of_one_maker_and_the_same_columns_are_one() -> None:
    found = together.read([damaged(), damaged(), damaged(revision=8)])
    assert [many.places.tolist() for many in found.samples] == [[0, 1], [2]]
    assert found.samples[0].rows.keys == [b"k", b"l", b"k", b"l"]
    assert found.samples[0].rows.outputs["class"].to_list() == ["a", "b", "a", "b"]
    assert found.samples[0].rows.offsets.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("changed", DAMAGED, ids=str)
def test_what_is_damaged_is_poison_and_harms_no_other(changed: dict[str, Any]) -> None:
    broken = damaged(**changed)
    assert alone(broken) is None
    found = together.read([damaged(), broken, damaged()])
    assert found.poison == [1]
    assert [key for many in found.samples for key in many.rows.keys] == [b"k", b"l", b"k", b"l"]


@pytest.mark.parametrize("name", ["partitions", "offsets", "times", "key_sizes"])
def test_two_damages_that_make_up_for_one_another_are_found(name: str) -> None:
    short, long = damaged(**{name: b"\1"}), damaged(**{name: b"\1\1\1"})
    assert together.read([short, long]).poison == [0, 1]
    cut, whole = damaged(**{name: b"\1\1\x81"}), damaged(**{name: b"\1\1"})
    assert together.read([cut, whole, damaged()]).poison == [0]


def test_values_and_keys_of_one_record_are_not_taken_for_those_of_another() -> None:
    eight = b"12345678"
    assert together.read([damaged(score__values=eight), damaged(score__values=eight * 3)]).poison == [0, 1]
    assert together.read([damaged(keys=b"k"), damaged(keys=b"klm")]).poison == [0, 1]
    # the second has three texts; that the first has one more does not let it name a third
    more = {"class__texts": ["a", "b", "c"]}
    assert together.read([damaged(class__values=b"\1\3"), damaged(**more)]).poison == [0]


def test_labels_that_claim_rows_are_refused_before_memory_is_taken() -> None:
    none = np.zeros(0, np.int64)
    made = LabelCopies("d", "t", 0, 3, 5, 1, none, none, [], pl.Series("late", [], pl.Boolean))
    record = records.decode("labels", made.encode())
    values = [records.encode("labels", {**record, "rows": rows}) for rows in (1, -1, 1 << 50, 0)]
    found = together.read(values)
    assert found.poison == [0, 1, 2]
    assert found.copies[0].heads == [Head(0, 3, 5, 1)]


@given(st.lists(st.lists(st.integers(-(2**61), 2**61 - 1), max_size=4), max_size=6))
def test_parts_of_deltas_begin_anew(parts: list[list[int]]) -> None:
    bytes_of = [varint.pack_deltas(np.array(part, np.int64)) for part in parts]
    sizes = np.array([len(part) for part in parts], np.int64)
    assert varint.unpack_deltas_parts(bytes_of, sizes).tolist() == [value for part in parts for value in part]


def test_texts_of_many_records_keep_their_numbers() -> None:
    made = [pl.Series("c", texts, pl.String) for texts in (["b", None, "a"], ["a"], [None], ["c", "a"])]
    found = packed.unpack_parts([packed.pack("c", each) for each in made], np.array([3, 1, 1, 2]))
    assert found.to_list() == ["b", None, "a", "a", None, "c", "a"]


def test_the_maker_of_the_example_is_whole() -> None:
    assert together.read([damaged()]).samples[0].rows.maker == MAKER
