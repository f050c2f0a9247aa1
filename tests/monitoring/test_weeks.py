"""Weeks of record time: workdays and weekends are each compared with their own kind, and nothing is hidden by that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl
import pytest

from models.reference import Reference, Tally
from monitoring.seasons import DAY_MS, HOUR_MS, Season
from monitoring.settings import Settings
from monitoring.watch import Watch, columns_of

TICK_MS = 300_000
MONDAY = 19_674 * DAY_MS
HOUR, DAY = HOUR_MS // TICK_MS, DAY_MS // TICK_MS  # in ticks
WEEK = 7 * DAY
EVENTS = 1000
LEARNED = 3 * WEEK
Level = Callable[[int], float]  # of the mean, by the tick since Monday


def _swing(tick: int, height: float) -> float:
    """0 at midnight, highest at noon."""
    return height * float(np.sin(np.pi * (tick % DAY) / DAY)) ** 2


def usual(tick: int) -> float:
    """High at noon, but not on weekends; and no day is quite like the other."""
    weekend = tick // DAY % 7 >= 5
    return _swing(tick, 0.1 if weekend else 0.8) + 0.005 * float(np.random.default_rng(tick // DAY).normal())


@cache
def _reference() -> Reference:
    rng = np.random.default_rng(1)
    levels = np.array([usual(tick) for tick in rng.integers(0, WEEK, 20_000)])
    return Reference.from_frame(pl.DataFrame({"x": rng.normal(np.repeat(levels, 5))}))


def _watch(season: Season = "weekly", rolling: int = 14) -> Watch:
    settings = Settings(rolling=rolling, season=season, design_effect=1.0)
    return Watch(_reference(), columns_of(_reference(), settings.zone), TICK_MS, settings)


def _ticks(first: int, last: int, level: Level = usual) -> Iterator[tuple[int, Tally]]:
    edges = np.array(_reference().features[0].edges)  # type: ignore[union-attr]
    for tick in range(first, last):
        values = np.random.default_rng([3, tick]).normal(level(tick), 1, EVENTS)
        cells = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 2)
        yield MONDAY // TICK_MS + tick, Tally(EVENTS, cells)


def _alarms(watch: Watch, ticks: Iterator[tuple[int, Tally]]) -> list[int]:
    """The ticks since Monday in which it alarms."""
    start = MONDAY // TICK_MS
    return [tick - start for tick, tally in ticks for each in watch.update(tick, tally) if each.finding.deviates]


@dataclass(frozen=True)
class Learned:
    """What three weeks have taught, and what was said meanwhile. untested: columns, by the day since Monday."""

    state: str
    alarms: list[int]
    untested: list[int]

    def watch(self) -> Watch:
        watch = _watch()
        watch.load(json.loads(self.state))
        return watch


@pytest.fixture(scope="module")
def learned() -> Learned:
    watch, alarms, untested = _watch(), list[int](), list[int]()
    for day in range(LEARNED // DAY):
        alarms += _alarms(watch, _ticks(day * DAY, (day + 1) * DAY))
        untested.append(watch.untested())
    return Learned(json.dumps(watch.dump()), alarms, untested)


def test_a_week_like_the_ones_before_raises_no_alarm(learned: Learned) -> None:
    assert learned.alarms == []
    assert _alarms(learned.watch(), _ticks(LEARNED, LEARNED + WEEK)) == []


def test_at_midnight_after_each_day_it_is_known_whether_the_next_one_can_be_tested(learned: Learned) -> None:
    first, second, third = (learned.untested[at : at + 7] for at in (0, 7, 14))
    assert first == [1, 0, 0, 0, 1, 1, 0]  # Tuesday is compared with Monday, not tested; Saturday and Sunday are new
    assert second == [0] * 7
    assert third == [0] * 7


@pytest.mark.parametrize("day", [1, 5, 6], ids=["Tuesday", "Saturday", "Sunday"])
@pytest.mark.parametrize("hour", [3, 12])
def test_a_change_on_top_of_the_week_is_found_within_the_hour(learned: Learned, day: int, hour: int) -> None:
    begin = LEARNED + day * DAY + hour * HOUR
    watch = learned.watch()
    assert _alarms(watch, _ticks(LEARNED + day * DAY, begin)) == []
    found = _alarms(watch, _ticks(begin, begin + HOUR, lambda tick: usual(tick) + 0.2))
    assert found
    assert found[0] >= begin


def test_a_day_of_the_other_kind_is_a_change(learned: Learned) -> None:
    saturday, tuesday = LEARNED + 5 * DAY, LEARNED + DAY
    assert _alarms(learned.watch(), _ticks(saturday, saturday + DAY, lambda tick: _swing(tick, 0.8)))
    assert _alarms(learned.watch(), _ticks(tuesday, tuesday + DAY, lambda tick: _swing(tick, 0.1)))


def test_without_weeks_the_first_weekend_is_an_alarm_and_without_a_season_the_first_day() -> None:
    daily = _alarms(_watch("daily"), _ticks(0, 7 * DAY))
    assert daily
    assert min(daily) >= 5 * DAY
    settings = Settings(design_effect=1.0)
    still = Watch(_reference(), columns_of(_reference(), settings.zone), TICK_MS, settings)
    assert min(_alarms(still, _ticks(0, DAY))) < DAY


def test_what_stays_for_longer_than_is_remembered_is_the_usual_in_the_end(learned: Learned) -> None:
    watch = learned.watch()
    moved = _alarms(watch, _ticks(LEARNED, LEARNED + 6 * WEEK, lambda tick: usual(tick) + 0.5))
    assert moved[0] < LEARNED + HOUR
    assert _alarms(watch, _ticks(LEARNED + 6 * WEEK, LEARNED + 7 * WEEK, lambda tick: usual(tick) + 0.5)) == []


@pytest.mark.parametrize("cut", [5 * DAY + 100, WEEK + 5 * DAY + 7])
def test_it_goes_on_from_its_dump_amid_a_weekend_as_if_nothing_had_happened(cut: int) -> None:
    whole, part = _watch(), _watch()
    for watch in (whole, part):
        _alarms(watch, _ticks(0, cut))
    again = _watch()
    again.load(json.loads(json.dumps(part.dump())))
    for level in (usual, lambda tick: usual(tick) + 0.3):
        assert _alarms(whole, _ticks(cut, cut + DAY, level)) == _alarms(again, _ticks(cut, cut + DAY, level))
        cut += DAY
    assert json.dumps(whole.dump()) == json.dumps(again.dump())
