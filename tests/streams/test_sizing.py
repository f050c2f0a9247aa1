"""Batches and runs are of a size that models can score in their time, and grow again when they can score more."""

from __future__ import annotations

import pytest

from streams.pace import Pace
from streams.sizing import CALM_SECONDS, FIRST_EVENTS, LEAST, MOST, SLOW_SECONDS, Fit, Sizing, first_events


def linear(seconds: float) -> Pace:
    """What a model takes that costs so much a row."""
    return Pace((16, 1_024), (16 * seconds, 1_024 * seconds))


@pytest.mark.parametrize(("seconds", "most"), [(1e-6, 5_000_000), (0.006, 833), (0.1, 50), (10.0, LEAST)])
def test_a_model_is_handed_what_it_scores_in_half_of_its_time(seconds: float, most: int) -> None:
    fit = Fit(10.0, linear(seconds))
    assert fit.rows <= most
    assert fit.rows > most // 2 or fit.rows == LEAST


def test_a_model_whose_pace_is_not_known_is_handed_all_until_it_proves_slow() -> None:
    fit = Fit(10.0)
    assert fit.rows == MOST
    fit.timed_out(2_000)
    assert fit.rows == 512  # a quarter, and what padding it would have
    fit.timed_out(512)
    assert fit.rows == 128
    for _ in range(9):
        fit.timed_out(fit.rows)
    assert fit.rows == LEAST


def test_a_model_that_became_slow_is_handed_less_and_more_again_once_it_is_quick() -> None:
    fit = Fit(10.0)
    fit.ran(2_000, 8.0)
    assert fit.rows == 1_248  # 5 s
    fit.ran(2_000, 8.0)  # in two runs
    assert fit.rows == 1_248
    fit.ran(2_000, 0.5)
    assert fit.rows == 2_496
    fit.ran(100, 0.01)  # says nothing of runs that are as large as allowed
    assert fit.rows == 2_496
    fit.ran(0, 0.0)
    assert fit.rows == 2_496


def test_a_run_that_costs_the_same_whatever_it_holds_is_soon_handed_all() -> None:
    fit = Fit(10.0, Pace((16,), (3.0,)))
    assert fit.rows == LEAST
    for _ in range(10):
        fit.ran(2_000, 3.0 * -(-2_000 // fit.rows))
    assert fit.rows >= 2_000


def test_batches_begin_so_that_all_models_together_score_one_in_time() -> None:
    slow = linear(0.05)
    assert first_events({"active": linear(1e-6)}, {"active": 100.0}, []) == FIRST_EVENTS
    assert first_events({}, {"active": 100.0}, ["trees"]) == FIRST_EVENTS
    alone = first_events({"active": slow}, {"active": 100.0}, [])
    assert alone * 0.05 <= CALM_SECONDS < 2 * alone * 0.05
    beside = first_events({"active": slow, "trees": slow}, {"active": 100.0}, ["trees"])
    assert beside == alone // 2
    assert first_events({"active": linear(1e-6), "canary": slow}, {"active": 95.0, "canary": 5.0}, []) == FIRST_EVENTS
    assert first_events({"active": linear(100.0)}, {"active": 100.0}, []) == LEAST


def test_a_batch_that_took_long_is_followed_by_smaller_ones_and_these_by_larger_ones() -> None:
    sizing = Sizing(10_000)
    sizing.scored(2_000, SLOW_SECONDS)
    assert sizing.events == 2_000
    sizing.scored(2_000, 100.0)
    assert sizing.events == 200
    sizing.scored(50, 1.0)  # says nothing of larger ones
    sizing.scored(200, 6.0)
    assert sizing.events == 200
    sizing.scored(200, 1.0)
    assert sizing.events == 400
    for _ in range(5):
        sizing.scored(sizing.events, 1.0)
    assert sizing.events == FIRST_EVENTS  # beyond, only what costs no wait


def test_a_backlog_doubles_batches_and_a_failure_quarters_them() -> None:
    sizing = Sizing(10_000)
    sizing.more(0.1, 1 << 20)
    assert sizing.events == 4_000
    sizing.more(0.1, 3_000)  # large events
    assert sizing.events == 3_000
    sizing.more(1.0, 1 << 20)
    assert sizing.events == 3_000
    sizing.scores(400)
    sizing.failed()
    assert sizing.events == 100
    sizing.follow(FIRST_EVENTS)
    assert sizing.events == 100
    sizing.follow(16)
    assert sizing.events == 16
