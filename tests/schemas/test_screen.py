"""The walk over a batch: sound messages pass it, whatever they hold, and no message passes that ends elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from schemas.nodes import parse
from schemas.screen import PADDING, compile_screen
from tests.schemas.fuzz import encode

NUMBERS = [0, -1, 63, 64, 8191, -8193, 1 << 20, 1 << 34, 1 << 48, 1 << 55, 1 << 62, (1 << 63) - 1, -(1 << 63)]
LETTERS = {"type": "enum", "name": "Letter", "symbols": ["A", "B", "C"]}
MANY = {"type": "enum", "name": "Many", "symbols": [f"S{i}" for i in range(70)]}
KINDS: list[tuple[Any, list[Any]]] = [
    ("double", [0.0, 1.5]),
    ({"type": "fixed", "name": "F", "size": 3}, [b"abc"]),
    ("long", NUMBERS),
    ("int", [0, -1, 64, 1 << 20, -(1 << 31)]),
    ("boolean", [True, False]),
    (LETTERS, ["A", "C"]),
    (MANY, ["S0", "S63", "S64", "S69"]),
    ("string", ["", "a", "x" * 63, "x" * 64, "x" * 9000]),
    (["null", "double"], [None, 1.5]),
    (["long", "null"], [None, *NUMBERS]),
    (["null", "string"], [None, "", "x" * 70]),
    ({"type": "array", "items": "double"}, [[], [1.0], [1.0] * 90]),
    ({"type": "array", "items": "string"}, [[], ["", "abc"]]),
    (["null", {"type": "array", "items": ["null", "long"]}], [None, [], [None, *NUMBERS]]),
]


def screened(schema: Any, datums: list[bytes]) -> npt.NDArray[np.bool_]:
    sizes = np.array([len(datum) for datum in datums])
    ends = np.cumsum(sizes + 8) - 8
    return compile_screen(parse(schema))(bytes(8).join(datums) + bytes(PADDING), ends - sizes, ends)


def record(*kinds: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": f"f{i}", "type": kind} for i, kind in enumerate(kinds)]}


def batch(count: int) -> tuple[Any, list[bytes]]:
    """All kinds in one record, numbers beside each other; every value meets others."""
    schema = record(*(kind for kind, _ in KINDS), "long", "int", "long")
    values = [values for _, values in KINDS] + [NUMBERS, [3, 1 << 30], NUMBERS[::-1]]
    rows = [{f"f{i}": found[(row + i) % len(found)] for i, found in enumerate(values)} for row in range(count)]
    return schema, [encode(schema, row) for row in rows]


def test_sound_messages_are_plainly_good_so_that_none_is_read_value_by_value() -> None:
    assert screened(*batch(200)).all()


@pytest.mark.parametrize(("kind", "values"), KINDS)
def test_every_kind_is_plainly_good_alone(kind: Any, values: list[Any]) -> None:
    schema = record(kind)
    assert screened(schema, [encode(schema, {"f0": value}) for value in values]).all()


@pytest.mark.parametrize("numbers", [1, 2, 5, 9, 20])
def test_neighbouring_numbers_of_any_size_are_walked_over(numbers: int) -> None:
    schema = record(*["long"] * numbers)
    for sizes in (NUMBERS[:2], NUMBERS[2:5], NUMBERS):
        rows = [{f"f{i}": sizes[(i * 5 + row) % len(sizes)] for i in range(numbers)} for row in range(30)]
        assert screened(schema, [encode(schema, row) for row in rows]).all()


def test_messages_that_end_elsewhere_are_not_good_and_cost_their_neighbours_nothing() -> None:
    schema, datums = batch(100)
    spoiled = [datum if row % 3 else datum[:-1] if row % 2 else datum + b"\0" for row, datum in enumerate(datums)]
    assert screened(schema, spoiled).tolist() == [row % 3 != 0 for row in range(100)]


@pytest.mark.parametrize(
    ("kind", "datum"),
    [
        ("boolean", b"\2"),
        (LETTERS, b"\6"),
        (LETTERS, b"\1"),
        (MANY, b"\x8c\x01"),
        (["null", "double"], b"\4" + bytes(8)),
        (["null", "string"], b"\1" + bytes(8)),
        ("long", b"\xff" * 9 + b"\2"),
        ("long", b"\xff" * 10 + b"\0"),
        ("string", b"\1a"),
        ("string", b"\xff" * 9 + b"\1" + b"a"),
        ({"type": "array", "items": "double"}, b"\xfe" * 9 + b"\1"),
        ({"type": "array", "items": "double"}, b"\2" + bytes(8) + b"\2"),
    ],
)
def test_what_is_out_of_range_is_not_good_although_the_length_is_right(kind: Any, datum: bytes) -> None:
    assert not screened(record(kind), [datum, datum]).any()
