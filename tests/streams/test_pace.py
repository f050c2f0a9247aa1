"""The time of a row is that of its own batch size, and a slow-down is told from small batches."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy.typing as npt
import polars as pl
import pytest

from models.bundle import Bundle
from models.errors import ModelFailed
from models.manifest import Manifest
from models.runtimes.onnx import load
from streams.pace import REPEATS, Pace, Slowdown, measure, sample, slowest
from tests.rig import sum_model

COLUMNS: dict[str, Any] = {"a": pl.Float64, "b": pl.Float64}


class Timed:
    """A model that takes a fixed time and one for each row, on a clock of its own."""

    name, version, outputs = "timed", "v", ()

    def __init__(self, fixed: float, each: float, fails_from: int = 1 << 60) -> None:
        self.fixed, self.each, self.fails_from = fixed, each, fails_from
        self.now, self.ran = 0.0, list[int]()

    def prepare(self, frame: pl.DataFrame) -> Any:
        return SimpleNamespace(inputs={"x": frame["a"].to_numpy()}, rows=None, refused=[])

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> pl.DataFrame:
        rows = len(inputs["x"])
        if rows >= self.fails_from:
            raise ModelFailed("too many")
        self.ran.append(rows)
        self.now += self.fixed + self.each * rows
        return pl.DataFrame()

    def close(self) -> None:
        """There is nothing to close."""


def manifest(**more: Any) -> Manifest:
    return Bundle.build(name="sum", model=sum_model(), features=["a", "b"], **more).manifest


def paced(model: Timed, most: int = 10_000) -> Pace | None:
    return measure(model, manifest(), COLUMNS, most, 10.0, lambda: model.now)


def test_sizes_up_to_the_largest_batch_are_timed() -> None:
    model = Timed(1e-4, 1e-6)
    pace = paced(model)
    assert pace is not None
    assert pace.rows[-1] == max(model.ran) == 10_000
    assert pace.row_seconds == pytest.approx(1e-6 + 1e-8)
    assert model.ran.count(10_000) == REPEATS + 1
    for rows in (16, 100, 5_000, 20_000):
        assert pace.expected(rows) == pytest.approx(1e-4 + 1e-6 * rows, rel=0.02)


def test_a_slow_model_is_timed_on_small_batches_only() -> None:
    model = Timed(0.0, 2e-3)
    pace = paced(model)
    assert pace is not None
    assert model.now < 1.5
    assert pace.expected(10_000) == pytest.approx(20.0)


def test_a_model_that_is_very_slow_holds_a_start_up_for_one_run_only() -> None:
    model = Timed(3.0, 0.0)
    pace = paced(model)
    assert model.ran == [16]
    assert pace is not None
    assert pace.expected(16) == pytest.approx(3.0)


def test_a_model_that_scores_none_of_the_rows_has_no_pace_and_is_not_refused() -> None:
    assert paced(Timed(0.0, 1e-6, fails_from=1)) is None
    few = paced(Timed(0.0, 1e-6, fails_from=1_000))
    assert few is not None
    assert few.rows[-1] == 128


def test_a_real_model_is_timed_on_its_examples_or_on_zeros() -> None:
    for more in ({}, {"example": [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": None}], "missing": {"b": 0.5}}):
        bundle = Bundle.build(name="sum", model=sum_model(), features=["a", "b"], **more)
        model = load(bundle, COLUMNS, bounds=None)
        pace = measure(model, bundle.manifest, COLUMNS, 2_000, 10.0)
        model.close()
        assert pace is not None
        assert 0 < pace.row_seconds < 1e-3
        assert list(pace.seconds) == sorted(pace.seconds)


def test_samples_repeat_the_examples_and_stand_in_for_what_they_lack() -> None:
    frame = sample(manifest(example=[{"a": 1.0}, {"a": 3.0}]), COLUMNS, 5)
    assert frame["a"].to_list() == [1.0, 3.0, 1.0, 3.0, 1.0]
    assert frame["b"].to_list() == [0.0] * 5


def test_samples_of_arrays_have_the_shape_that_the_model_takes() -> None:
    part = SimpleNamespace(features=["image"], shape=[2, 3])
    fake: Any = SimpleNamespace(features=["image"], inputs=[part], example=[])
    flat = sample(fake, {"image": pl.List(pl.Float64)}, 3)
    assert flat["image"].to_list() == [[0.0] * 6] * 3
    nested = sample(fake, {"image": pl.List(pl.List(pl.Float64))}, 2)
    assert nested["image"].to_list() == [[[0.0] * 3] * 2] * 2


def test_a_batch_is_compared_with_what_its_own_size_took() -> None:
    pace = Pace((16, 1_000), (1e-4, 2e-4))
    slowdown = Slowdown(pace, lambda: 0.0)
    assert slowdown.p95() is None
    for rows in (1, 16, 500, 1_000, 5_000):
        slowdown.ran(rows, pace.expected(rows))
    assert slowdown.p95() == pytest.approx(1.0)
    for _ in range(5):
        slowdown.ran(1_000, 5e-4)
    assert slowdown.p95() == pytest.approx(2.5)


def test_the_95th_percentile_is_of_rows_and_a_stutter_does_not_move_it() -> None:
    slowdown = Slowdown(Pace((1_000,), (1e-3,)), lambda: 0.0)
    for _ in range(30):
        slowdown.ran(1_000, 1e-3)
    slowdown.ran(1_000, 1.0)
    assert slowdown.p95() == pytest.approx(1.0)
    slowdown.ran(1_000, 1.0)
    assert slowdown.p95() == pytest.approx(1_000)


def test_runs_of_long_ago_are_forgotten() -> None:
    now = [0.0]
    slowdown = Slowdown(Pace((10,), (1e-3,)), lambda: now[0])
    slowdown.ran(10, 1.0)
    now[0] = 60.0
    assert slowdown.p95() is None
    slowdown.ran(10, 3e-3)
    assert slowest({"active": slowdown, "canary": Slowdown(slowdown.pace)}) == pytest.approx(3.0)
    assert slowest({}) is None
