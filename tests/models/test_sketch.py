"""Summaries of long columns: exact for short ones, within the stated error for long ones, the same in any chunks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.binning import Floats
from models.sketch import Frequencies, Quantiles

SIZE = 64


def sketch(values: Floats, cuts: list[int], size: int = SIZE) -> Quantiles:
    made = Quantiles(size)
    for start, end in pairwise([0, *sorted(cuts), len(values)]):
        made.add(values[start:end])
    return made


def test_few_values_are_all_kept() -> None:
    values = np.random.default_rng(1).normal(size=SIZE - 1)
    found, weights = sketch(values, [10, 50]).summary()
    assert found.tolist() == sorted(values.tolist())
    assert set(weights.tolist()) == {1}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=8), st.integers(0, 2**32))
def test_chunks_change_nothing(cuts: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=3000)
    (once, weights), (cut, same) = sketch(values, []).summary(), sketch(values, cuts).summary()
    assert (once == cut).all()
    assert (weights == same).all()


@pytest.mark.parametrize("order", ["as drawn", "rising", "falling", "two humps"])
@pytest.mark.parametrize("rows", [SIZE, 1000, 40_000])
def test_no_rank_is_off_by_more_than_is_promised(order: str, rows: int) -> None:
    values = np.random.default_rng(rows).normal(size=rows)
    if order == "two humps":
        values = np.where(np.arange(rows) % 2, values, values + 100)
    elif order != "as drawn":
        values = np.sort(values)[:: 1 if order == "rising" else -1]
    found, weights = sketch(values, []).summary()
    assert weights.sum() == rows
    levels = int(np.log2(weights.max()))
    told = np.cumsum(weights)
    truth = np.searchsorted(np.sort(values), found, side="right")
    assert np.abs(told - truth).max() <= rows * levels / SIZE + weights.max()


def test_a_sketch_that_kept_only_the_first_values_would_break_that_promise() -> None:
    values = np.sort(np.random.default_rng(3).normal(size=1000))
    found = values[:SIZE]
    told, truth = np.arange(1, SIZE + 1) * 1000 // SIZE, np.arange(1, SIZE + 1)
    assert len(found) == SIZE
    assert np.abs(told - truth).max() > 1000 * 4 / SIZE + 16


def test_what_is_not_finite_is_left_out_and_zero_has_one_sign() -> None:
    made = Quantiles()
    made.add(np.array([np.nan, np.inf, -np.inf, -0.0, 0.0]))
    assert [str(value) for value in made.summary()[0].tolist()] == ["0.0", "0.0"]
    assert made.distinct.tolist() == [0.0]


def test_few_distinct_values_are_known_however_rare_and_however_many_rows() -> None:
    values = np.concatenate((np.zeros(5000), [7.0], np.ones(5000)))
    assert sketch(values, []).distinct.tolist() == [0.0, 1.0, 7.0]


def test_categories_are_counted_exactly_while_they_are_few() -> None:
    made = Frequencies()
    for part in (["a", "b", None], ["a", "c"]):
        made.add(pl.Series(part))
    assert dict(made.counts.iter_rows()) == {"a": 2, "b": 1, "c": 1}


def test_of_many_categories_none_that_is_frequent_is_lost() -> None:
    rng = np.random.default_rng(5)
    frequent = [f"often {at}" for at in range(8)]
    drawn = [str(rng.choice(frequent)) if rng.random() < 0.8 else f"once {at}" for at in range(20_000)]
    made = Frequencies(SIZE)
    for start in range(0, len(drawn), 700):
        made.add(pl.Series(drawn[start : start + 700]))
    counts = dict(made.counts.iter_rows())
    assert len(counts) <= SIZE
    for name in frequent:
        assert 0 <= drawn.count(name) - counts[name] <= len(drawn) / SIZE
