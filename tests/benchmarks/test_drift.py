"""The tests of the drift detector tell a good one from bad ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from benchmarks.drift import MAKERS, STORIES, Column, Delays, Found, delays, draw, false_alarms, verdict
from models.binning import Binner, Numbers

GOOD = Found({name: Delays(story.target, story.target, 0.0, 0.0) for name, story in STORIES.items()}, {1_000: 1.0})
BAD = replace(GOOD, alarms={1_000: 1.1})


@pytest.fixture(scope="module")
def columns() -> list[Column]:
    return [Column.drawn(50_000, seed) for seed in range(3)]


def test_values_are_counted_as_workers_count_them(columns: list[Column]) -> None:
    values = draw(np.random.default_rng(1), 1, 5_000, STORIES["1 % of values x100"])[0]
    binner = Binner([Numbers("x", None, tuple(columns[0].edges.tolist()))])
    frame = pl.DataFrame({"x": pl.Series(values).fill_nan(None)})
    expected = np.bincount(binner.cells(frame, pl.DataFrame(), 1).ravel(), minlength=binner.size)
    assert columns[0].count(values).tolist() == expected.tolist()


def test_the_e_detector_finds_a_change_and_the_bad_ones_are_told_from_it(columns: list[Column]) -> None:
    story = STORIES["two bumps, same mean and variance"]
    assert delays(MAKERS["e-detector"], columns, story, 1).good(story.target)
    for bad in ("always", "never", "periodic", "ADWIN"):
        assert not delays(MAKERS[bad], columns, story, 1).good(story.target)


def test_two_bumps_have_the_mean_and_the_variance_of_the_column() -> None:
    values = draw(np.random.default_rng(1), 1, 1_000_000, STORIES["two bumps, same mean and variance"])[0]
    assert np.nanmean(values) == pytest.approx(0, abs=0.01)
    assert np.nanvar(values) == pytest.approx(1, abs=0.01)


def test_false_alarms_are_counted_as_a_share_of_the_budget(columns: list[Column]) -> None:
    assert false_alarms(MAKERS["always"], columns, 1_000, 50, 1) == 1_000
    assert false_alarms(MAKERS["never"], columns, 1_000, 50, 1) == 0
    assert false_alarms(MAKERS["e-detector"], columns, 1_000, 50, 1) <= 10


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"e-detector": GOOD, "ADWIN": BAD}, (True, "PASS the e-detector misses nothing; each of the others fails")),
        ({"e-detector": BAD, "ADWIN": BAD}, (False, "FAIL the e-detector misses budget of 1,000 ticks; each of the")),
        ({"e-detector": GOOD, "ADWIN": GOOD}, (False, "do not show that ADWIN is worse")),
    ],
)
def test_the_verdict(found: dict[str, Found], told: tuple[bool, str]) -> None:
    good, text = verdict(found)
    assert good == told[0]
    assert told[1] in text


@pytest.mark.parametrize("change", [{"median": 1e9}, {"high": 1e9}, {"missed": 0.02}, {"early": 0.02}])
def test_delays_are_bad_for_each_reason_alone(change: dict[str, float]) -> None:
    fine = Delays(100, 150, 0.0, 0.0)
    assert fine.good(100)
    assert not replace(fine, **change).good(100)
