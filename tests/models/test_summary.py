"""A reference profile in words."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from models.binning import edge_told
from models.reference import Reference
from models.summary import summary_of


def values(*column: Any) -> str:
    (found,) = summary_of(Reference.from_frame(pl.DataFrame({"x": pl.Series(column, strict=False)})))
    return found.values


def test_numbers_say_where_most_of_them_lie() -> None:
    said = values(*(float(n) for n in range(1000)))
    low, high = (float(part) for part in said.removeprefix("90 % in ").partition(", ")[0].split(" .. "))
    assert 0 <= low <= 50
    assert 949 <= high <= 999
    middle = [float(part) for part in said.partition("median in ")[2].split(" .. ")]
    assert middle[0] <= 500 <= middle[1]


def test_categories_name_the_most_frequent_and_count_the_others() -> None:
    assert values("a", "a", "a", "b", "b", "c", "d", "e") == "a 37.5%, b 25.0%, c 12.5%, 2 others 25.0%"
    assert values("a", "b") == "a 50.0%, b 50.0%"


@pytest.mark.parametrize("column", [[1.0, None, None, None], ["a", None, None, None]])
def test_missing_values_are_a_share_of_all_rows(column: list[Any]) -> None:
    (found,) = summary_of(Reference.from_frame(pl.DataFrame({"x": column})))
    assert found.missing == 0.75
    assert found.kind == "feature"


def test_a_column_without_values_says_none() -> None:
    frame = pl.DataFrame({"x": pl.Series([None, None], dtype=pl.Float64)})
    assert summary_of(Reference.from_frame(frame))[0].values == "none"


def test_features_come_before_outputs_and_places_of_a_vector_have_names() -> None:
    scores = pl.DataFrame({"probabilities": [[0.1, 0.9], [0.2, 0.8]]})
    found = summary_of(Reference.from_frame(pl.DataFrame({"x": [1.0, 2.0], "late": [True, False]}), scores))
    assert [(each.kind, each.name, each.type) for each in found] == [
        ("feature", "x", "number"),
        ("feature", "late", "number"),
        ("output", "probabilities[0]", "number"),
        ("output", "probabilities[1]", "number"),
    ]


def test_an_edge_just_beside_zero_is_zero_for_a_person() -> None:
    assert [edge_told(each) for each in (5e-324, -5e-324, 0.0, 0.125, -3.0)] == ["0", "0", "0", "0.125", "-3"]
