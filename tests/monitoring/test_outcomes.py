"""Errors that are as usual raise no more alarms than the budget has; more errors are found. Others fail the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
import pytest

from monitoring.alerts import Explanation, Finding
from monitoring.budget import WEEK_MS
from monitoring.outcomes import ACCURACY, AGREEMENT, DIFFERENCES, ERRORS, SCORES, Outcomes, Usual, measured
from monitoring.settings import Settings
from monitoring.tilts import Zone
from tests.monitoring import dict_judging

TICK_MS = 60_000
BUDGET = 200  # ticks in which one false alarm may come
SETTINGS = Settings(false_alarms=WEEK_MS / TICK_MS / BUDGET, design_effect=1.0)
SEEDS, TICKS, ROWS = 8, 1_500, 100
LATER = 150  # ticks after which a change comes
PATIENCE = 100  # ticks within which it is found
GRID = 2.0 ** (np.arange(-10, 15) / 2)  # sizes of errors of numbers
Sizes = dict[float, int]
Draw = Callable[[np.random.Generator, float], Sizes]  # a tick of events; how much worse than usual they are


class Watcher(Protocol):
    def update(self, tick: int, sizes: Mapping[float, int]) -> Iterator[Finding]: ...


def classes(rng: np.random.Generator, worse: float) -> Sizes:
    """One in ten is wrong; worse: more of all."""
    wrong = int(rng.binomial(ROWS, 0.1 + worse))
    return {0.0: ROWS - wrong, 1.0: wrong}


def numbers(rng: np.random.Generator, worse: float) -> Sizes:
    """Errors with a long tail; worse: so many of them are the largest."""
    shares = np.exp(-((np.log2(GRID) - 1) ** 2) / 4)
    counts = rng.multinomial(ROWS, (1 - worse) * shares / shares.sum() + worse * (GRID[-1] == GRID))
    return {size: int(count) for size, count in zip(GRID.tolist(), counts.tolist(), strict=True)}


def learned(measure: str) -> Watcher:
    return Outcomes(TICK_MS, SETTINGS, measure)


class Never:
    def update(self, tick: int, sizes: Mapping[float, int]) -> Iterator[Finding]:
        return iter(())


class Always:
    def update(self, tick: int, sizes: Mapping[float, int]) -> Iterator[Finding]:
        yield Finding(True, False, 1.0, 1.0, ROWS, tick, tick, lambda: Explanation(""), False)


class Careless:
    """Takes the first 200 events for the truth, as if it had seen millions."""

    def __init__(self, measure: str) -> None:
        self._measure, self._first, self._own = measure, Outcomes(TICK_MS, SETTINGS, measure, Usual(first=200)), None

    def update(self, tick: int, sizes: Mapping[float, int]) -> Iterator[Finding]:
        if self._own is None:
            list(self._first.update(tick, sizes))
            if self._first.reference:
                known = tuple(100_000 * each for each in self._first.reference)
                args = TICK_MS, SETTINGS, self._measure, Usual(), {}, self._first.bounds, known
                self._own = Outcomes(*args)
            return
        yield from self._own.update(tick, sizes)


def alarms(make: Callable[[str], Watcher], measure: str, draw: Draw) -> int:
    """How often it fires on SEEDS streams of TICKS without a change."""
    found = 0
    for seed in range(SEEDS):
        rng, watcher = np.random.default_rng(seed), make(measure)
        for tick in range(TICKS):
            found += sum(each.deviates for each in watcher.update(tick, draw(rng, 0.0)))
    return found


def misses(make: Callable[[str], Watcher], measure: str, draw: Draw, worse: float) -> int:
    """How many of the streams have a change that is not found in time, or was before it came."""
    missed = 0
    for seed in range(SEEDS):
        rng, watcher, when = np.random.default_rng(seed), make(measure), None
        for tick in range(LATER + PATIENCE):
            found = [each for each in watcher.update(tick, draw(rng, worse if tick >= LATER else 0.0)) if each.deviates]
            when = tick if found and when is None else when
        missed += when is None or when < LATER
    return missed


def verdict(make: Callable[[str], Watcher], measure: str, draw: Draw, worse: float) -> str:
    """`fine`, or what is wrong."""
    if alarms(make, measure, draw) > SEEDS * TICKS / BUDGET:
        return "more alarms than its budget"
    return "misses changes" if misses(make, measure, draw, worse) > SEEDS // 4 else "fine"


CASES = [(ACCURACY, classes, 0.06), (ERRORS, numbers, 0.04)]


@pytest.mark.parametrize(("measure", "draw", "worse"), CASES)
def test_false_alarms_stay_within_their_budget_and_what_is_worse_is_found(
    measure: str, draw: Draw, worse: float
) -> None:
    assert verdict(learned, measure, draw, worse) == "fine"


@pytest.mark.parametrize(("measure", "draw", "worse"), CASES)
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda _: Never(), "misses changes"),
        (lambda _: Always(), "more alarms than its budget"),
        (Careless, "more alarms than its budget"),
    ],
    ids=["never", "always", "careless"],
)
def test_detectors_that_keep_no_budget_or_see_nothing_fail_the_same(
    make: Callable[[str], Watcher], told: str, measure: str, draw: Draw, worse: float
) -> None:
    assert verdict(make, measure, draw, worse) == told


def test_a_declared_share_is_tested_from_the_first_tick_on() -> None:
    rng, found = np.random.default_rng(1), Outcomes(TICK_MS, SETTINGS, ACCURACY, Usual(errors=0.1))
    ticks = [tick for tick in range(60) for each in found.update(tick, classes(rng, 0.1)) if each.deviates]
    assert ticks
    assert ticks[0] < 20  # what is learned needs as many to begin with


def test_what_may_be_worse_is_not_looked_for_and_more_is() -> None:
    def make(_: str) -> Watcher:
        return Outcomes(TICK_MS, SETTINGS, ACCURACY, Usual(errors=0.1, worse=0.03))

    def strict(_: str) -> Watcher:
        return Outcomes(TICK_MS, SETTINGS, ACCURACY, Usual(errors=0.1))

    def a_little_worse(rng: np.random.Generator, worse: float) -> Sizes:
        return classes(rng, 0.03 + worse)

    assert alarms(make, ACCURACY, a_little_worse) <= SEEDS * TICKS / BUDGET
    assert misses(make, ACCURACY, a_little_worse, 0.05) <= SEEDS // 4
    assert alarms(strict, ACCURACY, a_little_worse) > SEEDS * TICKS / BUDGET


def test_the_zone_lets_every_share_below_grow_by_as_much() -> None:
    zone = Usual(worse=0.02).zone(0.5)
    for share in (0.5, 0.2, 0.01):
        assert share + zone.shares * (1 - share) >= share + 0.02
    assert Usual().zone(0.3) == Zone()
    assert Usual(worse=0.1).zone(1.0).shares == 0.5


@pytest.mark.parametrize(("measure", "draw"), [(ACCURACY, classes), (ERRORS, numbers)])
def test_what_becomes_better_raises_no_alarm(measure: str, draw: Draw) -> None:
    rng, found = np.random.default_rng(2), Outcomes(TICK_MS, SETTINGS, measure)
    for tick in range(100):
        list(found.update(tick, draw(rng, 0.02)))
    better: Draw = (lambda rng, _: classes(rng, -0.08)) if measure == ACCURACY else lambda rng, _: {GRID[0]: ROWS}
    assert [each for tick in range(100, 400) for each in found.update(tick, better(rng, 0.0)) if each.deviates] == []


def test_larger_errors_of_the_few_are_found_where_most_stay_as_they_are() -> None:
    """One in fifty becomes huge: four of five are as good as ever."""
    rng, found = np.random.default_rng(3), Outcomes(TICK_MS, SETTINGS, ERRORS)
    for tick in range(100):
        list(found.update(tick, numbers(rng, 0.0)))
    told = [each for tick in range(100, 250) for each in found.update(tick, numbers(rng, 0.05)) if each.deviates]
    assert told
    explanation = told[0].explain()
    assert explanation.evidence[0]["bin"].startswith("error above ")
    assert explanation.evidence[0]["observed"] > explanation.evidence[0]["expected"]
    assert "is usual" in explanation.summary


def test_errors_larger_than_any_at_first_are_found_where_all_were_alike() -> None:
    """Three of a hundred lie where none did: no quantile of the first ones is below them."""
    found = Outcomes(TICK_MS, SETTINGS, ERRORS)
    for tick in range(40):
        list(found.update(tick, {1.0: 100}))
    assert [each for tick in range(40, 100) for each in found.update(tick, {1.0: 100})] == []
    told = [each for tick in range(100, 160) for each in found.update(tick, {1.0: 97, 4.0: 3}) if each.deviates]
    assert told
    assert told[0].explain().evidence == [{"bin": "error above 1", "expected": 0.0, "observed": 0.03}]


def test_an_alarm_tells_the_shares_before_and_since() -> None:
    rng, found = np.random.default_rng(4), Outcomes(TICK_MS, SETTINGS, ACCURACY)
    told = [each for tick in range(200) for each in found.update(tick, classes(rng, 0.2 if tick > 100 else 0.0))]
    (wrong,) = next(each for each in told if each.deviates).explain().evidence
    assert wrong["bin"] == "wrong"
    assert wrong["expected"] == pytest.approx(0.1, abs=0.03)
    assert wrong["observed"] == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("amid", [3, 30, 130])
def test_a_restart_changes_nothing(amid: int) -> None:
    rng = np.random.default_rng(5)
    log = [numbers(rng, 0.1 if tick > 110 else 0.0) for tick in range(160)]
    once, again = (Outcomes(TICK_MS, SETTINGS, ERRORS) for _ in range(2))
    told = [(tick, each.value) for tick, sizes in enumerate(log) for each in once.update(tick, sizes)]
    found = [(tick, each.value) for tick, sizes in enumerate(log[:amid]) for each in again.update(tick, sizes)]
    again = Outcomes.load(TICK_MS, SETTINGS, Usual(), json.loads(json.dumps(again.dump())))
    for tick, sizes in enumerate(log[amid:], amid):
        found += [(tick, each.value) for each in again.update(tick, sizes)]
    assert found == told
    assert told


def cells(counted: dict_judging.Counted) -> dict[int, int]:
    found: dict[int, int] = {}
    for _, _, cell, by in counted:
        found[cell] = found.get(cell, 0) + by
    return found


def test_measures_are_taken_from_the_cells_of_each_kind() -> None:
    found = dict(measured("binary", cells(dict_judging.judged("binary", 0.9, False))))
    assert found == {ACCURACY: {0.0: 0, 1.0: 1}, SCORES: {57.5 / 64: 1}}
    for score, truth, size in ((0.0, True, 1.0), (0.0, False, 0.0), (1.0, True, 0.0), (1.0, False, 1.0)):
        assert dict(measured("binary", cells(dict_judging.judged("binary", score, truth))))[SCORES] == {size: 1}
    ((measure, sizes),) = measured("regression", cells(dict_judging.judged("regression", 3.0, 0.0)))
    ((size, count),) = sizes.items()
    assert (measure, count) == (ERRORS, 1)
    assert 3.0 <= size < 3.0 * 2**0.5
    classes_ = dict(measured("divergence", cells(dict_judging.compared("binary", 0.9, 0.4, "x"))))
    assert classes_ == {DIFFERENCES: {33 / 64: 1}, AGREEMENT: {0.0: 0, 1.0: 1}}
    assert dict(measured("divergence", cells(dict_judging.compared("multiclass", "a", "a", "x")))) == {
        AGREEMENT: {0.0: 1, 1.0: 0}
    }
    ((measure, sizes),) = measured("divergence", cells(dict_judging.compared("regression", 1.0, 4.0, "x")))
    assert measure == DIFFERENCES
    assert sum(sizes.values()) == 1
    assert list(measured("scored", {3: 1})) == []
