"""Columns under one watch: weights, what moves a little everywhere, and what is learned of bursts."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from models.reference import Reference, Tally
from monitoring.detector import Verdict
from monitoring.effects import FIRST
from monitoring.settings import Settings
from monitoring.tilts import Zone
from monitoring.watch import TOGETHER, Watch, columns_of

COLUMNS, EVENTS = 12, 200
REFERENCE = Reference.from_frame(
    pl.DataFrame({f"c{at}": np.random.default_rng(at).normal(size=200_000) for at in range(COLUMNS)})
)
BINS = REFERENCE.slices[0].end


def _watch(**settings: object) -> Watch:
    chosen = Settings(**({"detector": "e_detector", "design_effect": 1.0} | settings))  # type: ignore[arg-type]
    return Watch(REFERENCE, columns_of(REFERENCE, chosen.zone), 1000, chosen)


def _ticks(count: int, shifts: list[float], seed: int, size: float = 1.0, *, alike: bool = False) -> Iterator[Tally]:
    """Ticks whose columns are off by so many standard deviations.

    size: events that are alike, on average. alike: all columns have the same values.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        cells = []
        same = rng.normal(0, 1, EVENTS)
        for at, shift in enumerate(shifts):
            values = same + shift if alike else rng.normal(shift, 1, EVENTS)
            if size > 1:
                values = np.repeat(values, rng.geometric(1 / size, EVENTS))[:EVENTS]
            part = REFERENCE.slices[at]
            places = np.searchsorted(part.bins.edges, values, side="right")  # type: ignore[union-attr]
            cells.append(np.bincount(places, minlength=part.end - part.start))
        yield Tally(EVENTS, np.concatenate(cells))


def _verdicts(watch: Watch, ticks: Iterator[Tally], start: int = 0) -> list[tuple[int, Verdict]]:
    return [(tick, each) for tick, tally in enumerate(ticks, start) for each in watch.update(tick, tally)]


STILL = [0.0] * COLUMNS
EVERYWHERE = [0.12] * COLUMNS


def test_what_moves_a_little_everywhere_is_found_before_any_column_alone_and_names_columns() -> None:
    watch = _watch(budget="deployment", false_alarms=0.001)
    (tick, first), *_ = _verdicts(watch, _ticks(200, EVERYWHERE, 1, alike=True))
    assert first.name == TOGETHER
    told = first.finding.explain()
    assert "no column alone, but several together: c" in told.summary
    assert "mean +" in told.summary
    assert all(": " in entry["bin"] for entry in told.evidence)
    assert first.finding.value >= first.finding.threshold
    alone = _verdicts(_watch(budget="deployment", false_alarms=0.001 / COLUMNS), _ticks(200, EVERYWHERE, 1, alike=True))
    assert tick < min(at for at, each in alone if each.name != TOGETHER)


def test_one_column_that_moves_is_told_as_such_and_not_as_all() -> None:
    verdicts = _verdicts(_watch(budget="deployment"), _ticks(200, [0.3, *STILL[1:]], 2))
    assert {each.name for _, each in verdicts} == {"c0"}
    assert all(each.finding.value >= each.finding.threshold for _, each in verdicts)


def test_what_moved_everywhere_closes_when_it_is_over() -> None:
    watch = _watch(budget="deployment", false_alarms=0.001)
    moved = _verdicts(watch, _ticks(60, EVERYWHERE, 3, alike=True))
    assert moved[0][1].name == TOGETHER
    after = _verdicts(watch, _ticks(400, STILL, 4, alike=True), 60)
    ends = [each for _, each in after if each.name == TOGETHER]
    assert ends[-1].finding.calm


def test_with_budgets_of_their_own_columns_are_not_judged_together() -> None:
    assert all(each.name != TOGETHER for _, each in _verdicts(_watch(), _ticks(200, EVERYWHERE, 1, alike=True)))


def test_a_column_of_weight_0_is_not_tested() -> None:
    shifts = [0.5, 0.5, *STILL[2:]]
    names = {each.name for _, each in _verdicts(_watch(weights={"c0": 0.0}), _ticks(40, shifts, 5))}
    assert names == {"c1"}


def test_a_change_within_the_zone_raises_no_alert_and_one_beyond_does() -> None:
    shifts = [0.08, 0.5, *STILL[2:]]
    names = {each.name for _, each in _verdicts(_watch(zone=Zone(0.2)), _ticks(300, shifts, 6))}
    assert names == {"c1"}
    assert {each.name for _, each in _verdicts(_watch(), _ticks(300, shifts, 6))} >= {"c0", "c1"}


def test_bursts_raise_no_alert_when_their_effect_is_learned_and_changes_are_found_all_the_same() -> None:
    learned = _watch(design_effect=None)
    assert _verdicts(learned, _ticks(700, STILL, 7, size=5.0)) == []
    found = _verdicts(learned, _ticks(100, [0.5, *STILL[1:]], 8, size=5.0), 700)
    assert {each.name for _, each in found} == {"c0"}
    assert _verdicts(_watch(), _ticks(700, STILL, 7, size=5.0)) != []


def test_what_is_gross_is_found_before_it_is_known_how_much_events_tell_and_what_is_small_after_that() -> None:
    shifts = [1.0, 0.15, *STILL[2:]]
    watch = _watch(design_effect=None)
    verdicts = _verdicts(watch, _ticks(FIRST - 1, shifts, 9))
    assert {each.name for _, each in verdicts} == {"c0"}
    assert watch.untested() == COLUMNS
    assert {each.name for _, each in _verdicts(watch, _ticks(60, shifts, 12), FIRST - 1)} == {"c0", "c1"}


def test_bursts_and_waves_raise_no_alert_from_the_first_tick_on() -> None:
    bursts = _ticks(FIRST, STILL, 13, size=8.0)
    assert _verdicts(_watch(design_effect=None), bursts) == []
    assert _verdicts(_watch(), _ticks(FIRST, STILL, 13, size=8.0)) != []


@pytest.mark.parametrize("cut", [50, 300, 420])
def test_it_goes_on_from_its_dump_as_if_nothing_had_happened(cut: int) -> None:
    ticks = [*_ticks(400, STILL, 10, 2.0), *_ticks(60, EVERYWHERE, 11, 2.0)]
    settings = {"design_effect": None, "budget": "deployment", "false_alarms": 100.0}
    whole, first, second = (_watch(**settings) for _ in range(3))
    _verdicts(whole, iter(ticks[:cut]))
    _verdicts(first, iter(ticks[:cut]))
    second.load(json.loads(json.dumps(first.dump())))
    told = [
        [(tick, each.name, each.finding.value) for tick, each in _verdicts(watch, iter(ticks[cut:]), cut)]
        for watch in (whole, second)
    ]
    assert told[0] == told[1]
    assert json.dumps(second.dump()) == json.dumps(whole.dump())
