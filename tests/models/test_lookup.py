"""A row's leaf is the most specific one that exists for its values, found a column at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.manifest import PartitionField
from models.runtimes.lookup import Lookup, _Level

COUNTRY, CITY = PartitionField(name="country", type="string"), PartitionField(name="city", type="string")
PATHS = [("DE",), ("DE", "Berlin"), ("FR", "Paris"), ("FR", "Berlin")]


def found(paths: Any, frame: pl.DataFrame, *fields: PartitionField) -> list[Any]:
    """The paths of the rows' leaves, () for the root."""
    lookup = Lookup(fields or (COUNTRY, CITY), paths)
    return [((), *paths)[number] for number in lookup.leaf_of(frame).tolist()]


def test_the_most_specific_leaf_scores_a_row_else_its_parent() -> None:
    rows = [
        ("DE", "Berlin", ("DE", "Berlin")),
        ("DE", "Bonn", ("DE",)),
        ("DE", None, ("DE",)),
        ("FR", "Berlin", ("FR", "Berlin")),
        ("FR", "Bonn", ()),  # FR has no model of its own
        ("IT", "Berlin", ()),
        (None, "Berlin", ()),
        ("", "", ()),
    ]
    frame = pl.DataFrame([row[:2] for row in rows], schema={"country": pl.String, "city": pl.String}, orient="row")
    assert found(PATHS, frame) == [row[2] for row in rows]


def test_no_rows_have_no_leaves() -> None:
    assert found(PATHS, pl.DataFrame(schema={"country": pl.String, "city": pl.String})) == []


def test_integers_and_booleans_tell_leaves_apart_too() -> None:
    store, online = PartitionField(name="store", type="int64"), PartitionField(name="online", type="bool")
    paths = [(7,), (7, True), (-(2**63), False)]
    frame = pl.DataFrame(
        {"store": [7, 7, 7, -(2**63), 8, None, 0], "online": [True, False, None, False, True, True, True]},
        schema={"store": pl.Int64, "online": pl.Boolean},
    )
    assert found(paths, frame, store, online) == [(7, True), (7,), (7,), (-(2**63), False), (), (), ()]
    narrow = pl.DataFrame({"store": [7, 0], "online": [True, True]}, schema={"store": pl.Int32, "online": pl.Boolean})
    assert found(paths, narrow, store, online) == [(7, True), ()]


def test_an_enum_of_the_event_schema_is_compared_as_text() -> None:
    kind = pl.Enum(["XX", "FR", "DE"])
    frame = pl.DataFrame({"country": ["DE", "XX", None, "FR"]}, schema={"country": kind})
    assert found([("DE",), ("FR",)], frame, COUNTRY) == [("DE",), (), (), ("FR",)]


VALUES = st.sampled_from(["a", "b", "c", "a/b", "%"])
DEEP = [PartitionField(name=name, type="string") for name in "xyz"]


def plainly(paths: list[tuple[str, ...]], row: tuple[str | None, ...]) -> tuple[str | None, ...]:
    """The same, a row at a time: the longest beginning of the row that is a path."""
    return next((row[:length] for length in range(len(row), 0, -1) if row[:length] in paths), ())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(VALUES, min_size=1, max_size=3).map(tuple), min_size=1, unique=True),
    st.lists(st.tuples(*[st.none() | VALUES | st.just("z")] * 3), max_size=30),
)
def test_whatever_leaves_there_are_each_row_gets_the_longest_path_that_leads_to_it(
    paths: list[tuple[str, ...]], rows: list[tuple[str | None, ...]]
) -> None:
    depth = max(map(len, paths))
    frame = pl.DataFrame(rows, schema=dict.fromkeys("xyz", pl.String), orient="row")
    assert found(paths, frame, *DEEP[:depth]) == [plainly(paths, row[:depth]) for row in rows]


def test_a_lookup_that_forgets_the_parent_is_told_from_the_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("DE", "Berlin"), ("FR", "Berlin")]
    frame = pl.DataFrame(rows, schema=["country", "city"], orient="row")
    step = _Level.step
    monkeypatch.setattr(_Level, "step", lambda self, node, frame: step(self, np.minimum(node, 1), frame))
    assert found(PATHS, frame) != [plainly(PATHS, row) for row in rows]
