"""References by hour of the day: what comes every day is no change, other things are, the first days are silent."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from models.reference import Reference, Tally
from monitoring.seasons import DAY_MS, HOUR_MS, Season, hours_kept, phase_of, phases
from monitoring.settings import Settings
from monitoring.watch import Watch, columns_of

MINUTE = 60_000
START = 19_676 * DAY_MS  # a Wednesday
EVENTS = 300
DAY = 24 * 60


def _wave(minute: int) -> float:
    return 0.5 * float(np.sin(2 * np.pi * minute / DAY))


def _reference() -> Reference:
    rng = np.random.default_rng(1)
    levels = np.array([_wave(minute) for minute in rng.integers(0, DAY, 100_000)])
    return Reference.from_frame(pl.DataFrame({"x": rng.normal(levels)}))


REFERENCE = _reference()
SEASONAL = Settings(detector="e_detector", rolling=7, season="daily", design_effect=1.0)


def _watch(settings: Settings = SEASONAL) -> Watch:
    return Watch(REFERENCE, columns_of(REFERENCE), MINUTE, settings)


def _minutes(first: int, last: int, shift: float = 0.0) -> Iterator[tuple[int, Tally]]:
    edges = np.array(REFERENCE.features[0].edges)  # type: ignore[union-attr]
    for minute in range(first, last):
        rng = np.random.default_rng([7, minute])
        values = rng.normal(_wave(minute) + shift, 1, EVENTS)
        cells = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 2)
        yield START // MINUTE + minute, Tally(EVENTS, cells)


def _alarms(watch: Watch, minutes: Iterator[tuple[int, Tally]]) -> list[int]:
    """The minutes in which it alarms."""
    return [
        tick - START // MINUTE for tick, tally in minutes for each in watch.update(tick, tally) if each.finding.deviates
    ]


def test_what_comes_every_day_is_no_change_and_what_does_not_is_found_within_minutes() -> None:
    watch = _watch()
    assert _alarms(watch, _minutes(0, 4 * DAY)) == []
    assert min(_alarms(watch, _minutes(4 * DAY, 4 * DAY + 60, 0.4))) < 4 * DAY + 20


def test_the_check_fails_without_a_season() -> None:
    assert _alarms(_watch(Settings(detector="e_detector", design_effect=1.0)), _minutes(0, DAY))


def test_nothing_is_tested_on_the_first_two_days_and_that_is_told() -> None:
    watch = _watch()
    assert _alarms(watch, _minutes(0, DAY)) == []
    assert _alarms(watch, _minutes(DAY, DAY + 1080, 2.0)) == []
    assert watch.untested() == 1


def test_on_the_third_day_all_is_tested() -> None:
    watch = _watch()
    _alarms(watch, _minutes(0, 2 * DAY + 10))
    assert watch.untested() == 0


def _few(first: int, last: int, shift: float = 0.0) -> Iterator[tuple[int, Tally]]:
    """About six events an hour, and none in many slots."""
    edges = np.array(REFERENCE.features[0].edges)  # type: ignore[union-attr]
    for minute in range(first, last):
        rng = np.random.default_rng([8, minute])
        if rows := int(rng.poisson(0.1)):
            values = rng.normal(_wave(minute) + shift, 1, rows)
            cells = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 2)
            yield START // MINUTE + minute, Tally(rows, cells)


def test_hours_with_a_handful_of_events_are_compared_with_all_that_were_there_before() -> None:
    watch = _watch()
    assert _alarms(watch, _few(0, 14 * DAY)) == []
    assert watch.untested() == 0
    expected, _ = watch.seen(0, 0)
    assert 30 <= expected.sum() <= 100  # of seven hours and more: what is less than one event is not forgotten
    assert min(_alarms(watch, _few(14 * DAY, 18 * DAY, 2.0))) > 14 * DAY


def test_an_episode_is_not_learned_from() -> None:
    watch = _watch()
    _alarms(watch, _minutes(0, 3 * DAY))
    assert _alarms(watch, _minutes(3 * DAY, 4 * DAY, 0.5))
    assert _alarms(watch, _minutes(4 * DAY, 5 * DAY)) == []


@pytest.mark.parametrize("cut", [100, DAY + 777, 2 * DAY + 61])
def test_it_goes_on_from_its_dump_as_if_nothing_had_happened(cut: int) -> None:
    settings = Settings(detector="e_detector", rolling=2, season="daily")
    whole, first, second = (_watch(settings) for _ in range(3))
    end = cut + 700
    for tick, tally in _minutes(0, cut):
        list(whole.update(tick, tally))
        list(first.update(tick, tally))
    second.load(json.loads(json.dumps(first.dump())))
    expected, found = (_alarms(each, _minutes(cut, end, 0.3)) for each in (whole, second))
    assert found == expected
    assert json.dumps(second.dump()) == json.dumps(whole.dump())


@pytest.mark.parametrize(
    ("ms", "season", "phase"),
    [
        (START, "none", 0),
        (START + 5 * HOUR_MS, "daily", 5),
        (START + 5 * HOUR_MS, "weekly", 5),
        (START + 2 * DAY_MS + 23 * HOUR_MS, "weekly", 23),  # Friday
        (START + 3 * DAY_MS, "weekly", 24),  # Saturday
        (START + 4 * DAY_MS + HOUR_MS, "weekly", 25),
        (START + 5 * DAY_MS + HOUR_MS, "weekly", 1),  # Monday
    ],
)
def test_the_phase_of_a_time(ms: int, season: Season, phase: int) -> None:
    assert phase_of(ms, season) == phase < phases(season)


@pytest.mark.parametrize(("season", "kept"), [("none", 168), ("daily", 7), ("weekly", 5)])
def test_so_many_hours_of_a_phase_are_remembered(season: Season, kept: int) -> None:
    assert hours_kept(season, 7)[0] == kept
    assert len(hours_kept(season, 7)) == phases(season)
    assert hours_kept("weekly", 7)[-1] == 2
