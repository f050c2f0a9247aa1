"""Rows that make a model fail are found, and rows that were scored are not scored again."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.errors import LeafUnavailable, ModelFailed, ModelTimedOut, RowsFailed
from models.runtimes.base import Prepared
from schemas.values import OutputField
from streams.pace import Pace
from streams.search import Search
from streams.sizing import Fit


class Hierarchy:
    """Doubles numbers; the hundreds tell the leaf. A leaf fails as a whole when one of its numbers ends in 13 or 17.

    Leaf 9 cannot be loaded. A run ends with the leaf that hangs, and after `most` leaves.
    """

    name, version = "hierarchy", "v1"
    outputs = (OutputField("double", "scalar", "double"),)

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.tried: Counter[int] = Counter()
        self.seconds: list[float] = []

    def prepare(self, frame: pl.DataFrame) -> Prepared:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def run(self, inputs: Mapping[str, Any], seconds: float) -> pl.DataFrame:
        numbers = inputs["x"]
        self.seconds.append(seconds)
        groups = [np.flatnonzero(numbers // 100 == leaf) for leaf in np.unique(numbers // 100)]
        scored: list[Any] = []
        failed: list[tuple[Any, ModelFailed]] = []
        tried = 0
        for rows in groups:
            tried += 1
            self.tried.update(numbers[rows].tolist())
            error = self._error(numbers[rows])
            if error is None:
                scored.append(rows)
            else:
                failed.append((rows, error))
            if isinstance(error, ModelTimedOut) or tried == self.most:
                break
        if len(groups) == 1 and failed:
            raise failed[0][1]
        done = np.sort(np.concatenate([*scored, np.zeros(0, np.int64)]))
        outputs = pl.DataFrame({"double": numbers[done] * 2.0})
        if len(done) < len(numbers):
            untried = np.sort(np.concatenate([*groups[tried:], np.zeros(0, np.int64)]))
            raise RowsFailed(outputs, done, failed, untried)
        return outputs

    def _error(self, numbers: Any) -> ModelFailed | None:
        if numbers[0] // 100 == 9:
            return LeafUnavailable("leaf 9 cannot be loaded")
        if (numbers % 100 == 17).any():
            return ModelTimedOut("thinks for ever about 17")
        return ModelFailed("cannot do 13") if (numbers % 100 == 13).any() else None


def search(model: Any, numbers: Any, clock: Callable[[], float] = lambda: 0.0) -> Any:
    return Search(model, 8.0, clock).score({"x": np.array(numbers, np.int64)}, len(numbers))


def shuffled(count: int = 900) -> Any:
    return np.random.default_rng(1).permutation(count)


def test_rows_that_make_their_leaf_fail_stand_alone_in_the_end() -> None:
    model, numbers = Hierarchy(), shuffled()
    outputs, rows, refused = search(model, numbers)
    bad = {int(row) for row in np.flatnonzero(np.isin(numbers % 100, (13, 17)))}
    assert {r.row for r in refused} == bad
    assert [r.row for r in refused] == sorted(bad)
    assert rows.tolist() == [row for row in range(900) if row not in bad]
    assert outputs["double"].to_list() == [2.0 * numbers[row] for row in rows]
    assert {(int(numbers[r.row]) % 100, r.reason) for r in refused} == {(13, "model_failed"), (17, "model_timed_out")}


def test_leaves_that_did_not_fail_are_scored_once() -> None:
    numbers = shuffled(800)
    numbers = numbers[(numbers % 100 != 17) & ((numbers % 100 != 13) | (numbers < 100))]
    model = Hierarchy()
    _, _, refused = search(model, numbers)
    assert len(refused) == 1
    assert {model.tried[number] for number in range(100, 800) if number in numbers} == {1}
    assert model.tried[13] > 5  # its own leaf was halved


def test_scoring_everything_again_after_a_failure_is_told_from_that() -> None:
    """The control: a model that only says that it failed costs all of its rows several runs."""

    class Silent(Hierarchy):
        def run(self, inputs: Mapping[str, Any], seconds: float) -> pl.DataFrame:
            try:
                return super().run(inputs, seconds)
            except RowsFailed as error:
                raise ModelFailed(str(error)) from None

    model, numbers = Silent(), shuffled(500)
    search(model, numbers)
    assert max(model.tried[number] for number in range(500) if number % 100 not in (13, 17)) > 3


def test_rows_of_a_leaf_that_cannot_be_loaded_are_refused_at_once() -> None:
    model, numbers = Hierarchy(), [*range(900, 950), 1, 2]
    outputs, rows, refused = search(model, numbers)
    assert [(r.row, r.reason, r.exception) for r in refused] == [
        (row, "model_failed", "LeafUnavailable") for row in range(50)
    ]
    assert rows.tolist() == [50, 51]
    assert outputs["double"].to_list() == [2.0, 4.0]
    assert max(model.tried.values()) == 1
    alone = search(Hierarchy(), range(900, 950))
    assert (len(alone[0]), alone[1].tolist(), len(alone[2])) == (0, [], 50)


@pytest.mark.parametrize("most", [1, 2, 7])
def test_what_a_run_did_not_come_to_is_tried_in_the_next(most: int) -> None:
    model, numbers = Hierarchy(most), [number for number in shuffled(1500) if number % 100 not in (13, 17)]
    numbers = [number for number in numbers if number // 100 != 9]
    outputs, rows, refused = search(model, numbers)
    assert (rows, refused) == (None, [])
    assert outputs["double"].to_list() == [2.0 * number for number in numbers]
    assert set(model.tried.values()) == {1}
    assert set(model.seconds) == {8.0}


def test_a_hang_costs_its_leaf_shorter_and_shorter_runs() -> None:
    model = Hierarchy()
    _, _, refused = search(model, [17, 20, 21, 22, 150])
    assert [(r.row, r.reason) for r in refused] == [(0, "model_timed_out")]
    assert model.seconds == [8.0, 4.0, 4.0, 4.0, 4.0, 8.0]  # all; quarters of its leaf; what came after
    assert model.tried[150] == 1
    model = Hierarchy()
    search(model, [*range(20, 83), 17])
    assert model.seconds == [8.0] + 4 * [4.0] + 4 * [2.0] + 4 * [1.0]


def test_leaves_that_hang_without_end_are_given_up_before_the_group_loses_patience() -> None:
    now = itertools.count(0.0, 7.0)
    numbers = [*range(0, 3000, 10), *(leaf * 100 + 17 for leaf in range(30) if leaf != 9)]
    numbers = [number for number in numbers if number // 100 != 9]
    outputs, rows, refused = search(Hierarchy(), numbers, lambda: next(now))
    assert "was not tried" in refused[-1].detail
    assert {r.reason for r in refused} == {"model_timed_out"}
    assert len(outputs) + len(refused) == len(numbers)
    assert sorted([*rows.tolist(), *(r.row for r in refused)]) == list(range(len(numbers)))
    assert next(now) < 300


def seven_seconds_a_look() -> Callable[[], float]:
    now = itertools.count(0.0, 7.0)
    return lambda: next(now)


def within(model: Any, numbers: Any, **given: float) -> Any:
    inputs = {"x": np.array(numbers, np.int64)}
    return Search(model, 8.0, seven_seconds_a_look()).score(inputs, len(numbers), **given)


def test_loading_for_long_is_no_hang() -> None:
    """Nothing failed, each run only came to one leaf: somebody's patience with a model that hangs has not begun."""
    numbers = [*range(0, 900, 50)]
    outputs, rows, refused = within(Hierarchy(most=1), numbers, patience=16.0)
    assert (len(outputs), rows, refused) == (18, None, [])
    outputs, rows, refused = within(Hierarchy(most=1), [*range(900, 1700, 50)], patience=16.0)
    assert ([r.row for r in refused], len(outputs)) == ([0, 1], 14)  # leaf 9 cannot be loaded
    outputs, rows, refused = within(Hierarchy(most=1), [17, *numbers], patience=16.0)
    assert refused[0].reason == "model_timed_out"
    assert any("was not tried: after 21 s" in r.detail for r in refused)  # the control: one that hangs


def test_loading_ends_when_the_time_of_the_batch_is_over() -> None:
    _, _, refused = within(Hierarchy(most=1), [*range(0, 900, 50)], left=30.0)
    assert {"was not tried: after 35 s the time that its batch may take was over"} == {r.detail for r in refused}


def test_one_run_is_made_however_little_time_there_is() -> None:
    outputs, rows, refused = within(Hierarchy(), [*range(10)], patience=0.0, left=0.0)
    assert (len(outputs), rows, refused) == (10, None, [])


def test_no_rows_are_not_scored() -> None:
    model = Hierarchy()
    outputs, rows, refused = search(model, [])
    assert (len(outputs), rows, refused, model.seconds) == (0, None, [], [])


class Slow(Hierarchy):
    """One graph that takes its time for each row, and is well."""

    def __init__(self, each: float) -> None:
        super().__init__()
        self.each, self.now, self.rows = each, 0.0, list[int]()

    def run(self, inputs: Mapping[str, Any], seconds: float) -> pl.DataFrame:
        self.rows.append(len(inputs["x"]))
        took = self.each * len(inputs["x"])
        self.now += min(took, seconds)
        if took > seconds:
            raise ModelTimedOut("took longer")
        return pl.DataFrame({"double": inputs["x"] * 2.0})


def test_a_model_that_is_only_slow_scores_in_parts_what_it_could_not_score_together() -> None:
    """12 s for 2,000 rows, and 10 s a run: within the patience for a model for which another stands in."""
    model, fit = Slow(0.006), Fit(10.0)
    slow = Search(model, 10.0, lambda: model.now, fit)
    outputs, rows, refused = slow.score({"x": np.arange(2_000)}, 2_000, patience=20.0)
    assert (rows, refused) == (None, [])
    assert outputs["double"].to_list() == [2.0 * row for row in range(2_000)]
    assert model.rows == [2_000, 500, 500, 500, 500]
    model.rows.clear()
    slow.score({"x": np.arange(2_000)}, 2_000)
    assert max(model.rows) == fit.rows == 512  # it was learned from


def test_rows_that_fit_by_the_warm_up_never_time_out() -> None:
    model = Slow(0.006)
    pace = Pace((16, 1_024), (16 * 0.006, 1_024 * 0.006))
    outputs, rows, refused = Search(model, 10.0, lambda: model.now, Fit(10.0, pace)).score(
        {"x": np.arange(5_000)}, 5_000
    )
    assert (len(outputs), rows, refused) == (5_000, None, [])
    assert max(model.rows) * 0.006 <= 5.0


def test_no_run_goes_on_beyond_the_end_of_the_batch() -> None:
    model = Slow(1.0)
    outputs, _, refused = Search(model, 60.0, lambda: model.now, Fit(120.0)).score({"x": np.arange(99)}, 99, ends=50.0)
    assert model.now <= 50.0
    assert len(outputs) + len(refused) == 99


def test_parts_and_what_a_run_did_not_come_to_are_each_scored_once() -> None:
    model, fit = Hierarchy(most=2), Fit(8.0)
    fit.rows = 64
    numbers = [number for number in shuffled(800) if number % 100 not in (13, 17)]
    inputs = {"x": np.array(numbers, np.int64)}
    outputs, rows, refused = Search(model, 8.0, lambda: 0.0, fit).score(inputs, len(numbers))
    assert (rows, refused) == (None, [])
    assert outputs["double"].to_list() == [2.0 * number for number in numbers]
    assert set(model.tried.values()) == {1}
