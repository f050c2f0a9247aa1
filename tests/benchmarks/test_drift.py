"""The tests of the drift detector tell a good one from bad ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import polars as pl
import pytest

from benchmarks.drift import Delays, Found, delays, false_alarms, null, verdict
from benchmarks.drift_cost import PARTITIONS, ROWS, Cost, frames, measured, ticks
from benchmarks.drift_streams import BURST, CORRELATION, DAY, NULLS, STORIES, SWING, Columns, draw
from benchmarks.drift_watchers import OTHERS, certain, learning
from models.binning import Binner
from models.reference import Reference
from schemas import records

GOOD = Found({name: Delays(story.target, story.target, 0.0, 0.0) for name, story in STORIES.items()}, {"a": 1.0})
BAD = replace(GOOD, alarms={"independent": 1.1})


@pytest.fixture(scope="module")
def columns() -> Columns:
    return Columns.drawn(3, 50_000)


def test_values_are_counted_as_workers_count_them(columns: Columns) -> None:
    values = draw(np.random.default_rng(1), 3, 5_000, STORIES["1 % of values x100"])
    binner = Binner(columns.reference.features)
    frame = pl.DataFrame({f"x{1000 + at}": pl.Series(values[at]).fill_nan(None) for at in range(3)})
    expected = np.bincount(binner.cells(frame, pl.DataFrame(), 3).ravel(), minlength=binner.size)
    assert columns.tally(values).cells.tolist() == expected.tolist()


def test_the_e_detector_finds_a_change_and_the_bad_ones_are_told_from_it(columns: Columns) -> None:
    story = STORIES["two bumps, same mean and variance"]
    found = delays(certain, columns, story, 1)
    assert found.good(story.target)
    assert found.onset is not None
    for bad in OTHERS.values():
        assert not delays(bad, columns, story, 1).good(story.target)


def test_effects_are_judged_when_they_have_settled() -> None:
    told = Delays(1.0, 1.0, 0.0, 0.0, 0.0, effect=0.3, settled=0.2)
    assert told.good(100)
    assert not replace(told, settled=0.3).good(100)


def test_a_tick_that_takes_too_long_is_missed() -> None:
    slow = Cost(tick_ms=1.1, snapshot_ms=1.0, snapshot_bytes=1, profile_bytes=1)
    assert slow.ratio == pytest.approx(1.1)
    found = {"e-detector": GOOD, "ADWIN": BAD}
    assert verdict(found, slow) == (False, "FAIL the e-detector misses a tick within 1 ms; each of the others fails")
    assert verdict(found, replace(slow, tick_ms=0.9))[0]


def test_what_watching_costs_is_measured_on_profiles_of_every_partition() -> None:
    cost = measured(blocks=1, warm=4)
    assert cost.tick_ms > 0
    assert cost.snapshot_ms > 0
    assert 10_000 < cost.snapshot_bytes < 500_000
    assert 1_000 < cost.profile_bytes <= 5_000
    assert cost.document()["columns"] == 30
    reference = Reference.from_frame(*frames(np.random.default_rng(1), 5_000))
    found = [records.decode("profile", value) for value in next(ticks(reference, 1))]
    assert [each["partition"] for each in found] == list(range(PARTITIONS))
    assert sum(each["rows"] for each in found) == ROWS


def test_two_bumps_have_the_mean_and_the_variance_of_the_column() -> None:
    values = draw(np.random.default_rng(1), 1, 1_000_000, STORIES["two bumps, same mean and variance"])[0]
    assert np.nanmean(values) == pytest.approx(0, abs=0.01)
    assert np.nanvar(values) == pytest.approx(1, abs=0.01)


def _values(name: str, ticks: int) -> np.ndarray:
    return np.concatenate(list(islice(NULLS[name](np.random.default_rng(3), 4, 100), ticks)), axis=1)


@pytest.mark.parametrize("name", ["independent", "autocorrelated", "bursty"])
def test_streams_without_a_change_are_standard_normal(name: str) -> None:
    values = _values(name, 500)
    assert np.nanmean(values) == pytest.approx(0, abs=0.05)
    assert np.nanvar(values) == pytest.approx(1, abs=0.05)
    assert np.isnan(values).mean() == pytest.approx(0.01, abs=0.005)


def test_events_of_a_stream_depend_on_each_other_as_it_says() -> None:
    filled = np.nan_to_num(_values("autocorrelated", 500))
    assert np.corrcoef(filled[0, 1:], filled[0, :-1])[0, 1] == pytest.approx(CORRELATION, abs=0.05)
    alike = np.nan_to_num(_values("bursty", 500))
    assert (np.diff(alike[0]) != 0).mean() == pytest.approx(1 / BURST, abs=0.05)


def test_the_seasonal_stream_goes_up_and_down_in_a_day() -> None:
    values = np.stack(list(islice(NULLS["seasonal"](np.random.default_rng(3), 2, 100), DAY)))
    levels = np.nanmean(values, axis=(1, 2))
    assert levels[DAY // 4 - 60 : DAY // 4 + 60].mean() == pytest.approx(SWING, abs=0.05)
    assert levels[3 * DAY // 4 - 60 : 3 * DAY // 4 + 60].mean() == pytest.approx(-SWING, abs=0.05)


def test_false_alarms_are_counted_as_a_share_of_the_budget(columns: Columns) -> None:
    assert false_alarms(OTHERS["always"], columns, null("independent", 3, 1), 1_000, 0, 50) == 1_000
    assert false_alarms(OTHERS["never"], columns, null("independent", 3, 1), 1_000, 0, 50) == 0
    assert false_alarms(certain, columns, null("independent", 3, 1), 1_000, 0, 50) <= 10


def test_bursts_break_the_budget_unless_they_are_learned(columns: Columns) -> None:
    assert false_alarms(certain, columns, null("bursty", 3, 1), 1_000, 0, 300) > 5
    assert false_alarms(learning, columns, null("bursty", 3, 1), 1_000, 400, 300) <= 5


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"e-detector": GOOD, "ADWIN": BAD}, (True, "PASS the e-detector misses nothing; each of the others fails")),
        ({"e-detector": BAD, "ADWIN": BAD}, (False, "FAIL the e-detector misses independent; each of the others")),
        (
            {"e-detector": GOOD, "e-detector, learned": BAD, "ADWIN": BAD},
            (False, "FAIL the e-detector misses independent; each of the others"),
        ),
        ({"e-detector": GOOD, "ADWIN": GOOD}, (False, "do not show that ADWIN is worse")),
    ],
)
def test_the_verdict(found: dict[str, Found], told: tuple[bool, str]) -> None:
    good, text = verdict(found)
    assert good == told[0]
    assert told[1] in text


@pytest.mark.parametrize(
    "change",
    [{"median": 1e9}, {"high": 1e9}, {"missed": 0.02}, {"early": 0.02}, {"onset": 101.0}, {"settled": 0.3}],
)
def test_delays_are_bad_for_each_reason_alone(change: dict[str, float]) -> None:
    fine = Delays(100, 150, 0.0, 0.0, 100.0, 0.5, 0.25)
    assert fine.good(100)
    assert not replace(fine, **change).good(100)
