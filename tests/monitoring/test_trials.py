"""Evidence that may be looked at after every tick: it keeps its error rate, and a test of fixed size does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monitoring.trials import Outcomes, Trial

LEVEL = 0.05
NEEDED = math.log(1 / LEVEL)
TICKS, EVENTS = 200, 100


def ticks(rng: np.random.Generator, gain: float, share: float = 0.5, swing: float = 0.0) -> list[tuple[int, ...]]:
    """Right answers and events of the incumbent and the candidate, tick by tick."""
    found = []
    for tick in range(TICKS):
        mean = 0.8 + swing * math.sin(tick / 10)
        candidate = int(rng.binomial(EVENTS, share))
        counts = EVENTS - candidate, candidate
        rights = (int(rng.binomial(n, m)) for n, m in zip(counts, (mean, mean + gain), strict=True))
        found.append((*rights, *counts))
    return found


def outcomes(right: int, count: int) -> Outcomes:
    return Outcomes(count, float(right), float(right))


def found_better(run: list[tuple[int, ...]]) -> int | None:
    """The tick at which the trial says that the candidate is better."""
    trial = Trial()
    for number, (one, other, ones, others) in enumerate(run):
        trial.add(outcomes(one, ones), outcomes(other, others))
        if trial.better() >= NEEDED:
            return number
    return None


def z_test_says_better(run: list[tuple[int, ...]]) -> bool:
    """A test of fixed size, looked at after every tick."""
    sums = np.zeros(4)
    for tick in run:
        sums += tick
        one, other, ones, others = sums
        if not (ones and others):
            continue
        pooled = (one + other) / (ones + others)
        spread = math.sqrt(max(pooled * (1 - pooled) * (1 / ones + 1 / others), 1e-12))
        if (other / others - one / ones) / spread > 1.645:
            return True
    return False


@pytest.mark.parametrize(("share", "swing"), [(0.5, 0.0), (0.05, 0.0), (0.2, 0.15)])
def test_a_candidate_that_is_no_better_is_seldom_called_better_however_often_one_looks(
    share: float, swing: float
) -> None:
    runs = [ticks(np.random.default_rng(seed), 0.0, share, swing) for seed in range(300)]
    wrong = sum(found_better(run) is not None for run in runs)
    assert wrong <= 300 * LEVEL + 3 * math.sqrt(300 * LEVEL * (1 - LEVEL))


def test_a_test_of_fixed_size_on_the_same_data_is_wrong_far_more_often() -> None:
    runs = [ticks(np.random.default_rng(seed), 0.0) for seed in range(300)]
    assert sum(map(z_test_says_better, runs)) > 300 * 4 * LEVEL


def test_a_true_gain_is_found() -> None:
    runs = [ticks(np.random.default_rng(seed), 0.06) for seed in range(100)]
    assert sum(found_better(run) is not None for run in runs) > 95


def test_the_interval_holds_the_difference_and_becomes_narrow() -> None:
    trial = Trial()
    widths = []
    for one, other, ones, others in ticks(np.random.default_rng(1), 0.05):
        trial.add(outcomes(one, ones), outcomes(other, others))
        low, high = trial.interval(LEVEL)
        assert low <= 0.05 <= high
        widths.append(high - low)
    assert widths[-1] < 0.06 < widths[10]


def test_evidence_of_worse_is_that_of_better_with_the_sides_changed() -> None:
    forth, back = Trial(), Trial()
    for one, other, ones, others in ticks(np.random.default_rng(2), -0.05):
        forth.add(outcomes(one, ones), outcomes(other, others))
        back.add(outcomes(other, others), outcomes(one, ones))
    assert forth.worse() == pytest.approx(back.better())
    assert forth.worse() > NEEDED > forth.better()


def test_a_design_effect_takes_so_many_times_the_events() -> None:
    alone, design = Trial(), Trial(4.0)
    for one, other, ones, others in ticks(np.random.default_rng(3), 0.1):
        alone.add(outcomes(one, ones), outcomes(other, others))
        for _ in range(4):
            design.add(outcomes(one, ones), outcomes(other, others))
    assert design.better() == pytest.approx(alone.better(), rel=0.02)


def test_a_tick_in_which_one_arm_has_no_outcome_is_no_evidence() -> None:
    trial = Trial()
    trial.add(Outcomes(100, 100.0, 100.0), Outcomes())
    assert trial.better() == pytest.approx(0.0)
    assert trial.interval(LEVEL) == (-1.0, 1.0)
    assert trial.incumbent.count == 100


def test_a_trial_comes_back_as_it_was() -> None:
    trial = Trial(2.0)
    trial.add(outcomes(50, 60), outcomes(45, 60))
    again = Trial.load(trial.dump())
    assert again.dump() == trial.dump()
    for each in (trial, again):
        each.add(outcomes(50, 60), outcomes(45, 60))
    assert again.better() == trial.better()


def test_corrections_without_what_they_correct_are_no_outcomes() -> None:
    assert not Outcomes(1, 2.0, 2.0).whole
    assert not Outcomes(0, 1.0, 1.0).whole
    assert not Outcomes(3, -1.0, 1.0).whole
    assert (Outcomes(1, 2.0, 2.0) + Outcomes(1, 0.0, 0.0)).whole


def test_where_small_is_good_outcomes_are_mirrored() -> None:
    assert Outcomes(4, 1.0, 0.5).mirrored() == Outcomes(4, 3.0, 2.5)
