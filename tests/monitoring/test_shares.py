"""Shares by the chance to be the best: they go to the better arm, and not to who had more events in better times."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.shares import chances, effects, shares
from monitoring.trials import Outcomes

ARMS = ("active", "one", "two")


def outcomes(count: int, good: float) -> Outcomes:
    return Outcomes(count, good, good)


def test_nobody_is_preferred_before_anything_is_known() -> None:
    assert chances({}, ARMS) == pytest.approx(1 / 3, abs=0.02)


def test_who_is_better_is_likely_the_best() -> None:
    table = {1: {"active": outcomes(500, 400), "one": outcomes(500, 450), "two": outcomes(500, 350)}}
    assert chances(table, ARMS)[1] > 0.99


def test_levels_of_revisions_do_not_count_for_who_had_more_events_then() -> None:
    table = {
        1: {"active": outcomes(9000, 2700), "one": outcomes(1000, 300)},  # a bad day, of which one had little
        2: {"active": outcomes(1000, 900), "one": outcomes(9000, 8100)},  # a good one, of which it had most
    }
    mean, covariance = effects(table, ("active", "one"))
    assert mean[1] - mean[0] == pytest.approx(0.0, abs=1e-6)
    assert chances(table, ("active", "one")) == pytest.approx(0.5, abs=0.02)
    assert covariance.shape == (2, 2)


def test_effects_are_those_of_least_squares() -> None:
    draw = np.random.default_rng(1)
    table = {
        r: {arm: outcomes(200, float(draw.binomial(200, 0.4 + 0.1 * r + 0.05 * k))) for k, arm in enumerate(ARMS)}
        for r in range(1, 4)
    }
    mean, _ = effects(table, ARMS)
    rows, values, weights = [], [], []
    for r in range(1, 4):
        for k, arm in enumerate(ARMS):
            rows.append([*(r == each for each in range(1, 4)), *(k == each for each in (1, 2))])
            values.append(table[r][arm].total / 200)
            weights.append(200.0)
    root = np.sqrt(np.array(weights))[:, None]
    solved = np.linalg.lstsq(np.array(rows, float) * root, np.array(values) * root[:, 0], rcond=None)[0]
    assert mean[1:] - mean[0] == pytest.approx(solved[3:], abs=0.002)


@pytest.mark.parametrize("floor", [0.0, 1.0, 5.0, 30.0])
def test_shares_are_whole_percents_with_a_floor(floor: float) -> None:
    draw = np.random.default_rng(2)
    for _ in range(200):
        chance = draw.dirichlet(np.full(3, 0.3))
        found = shares(chance, floor)
        assert sum(found) == 100
        assert min(found) >= max(1, int(floor))
        assert int(np.argmax(found)) in np.flatnonzero(chance >= chance.max() - 0.12)


def test_the_same_table_gives_the_same_chances() -> None:
    table = {1: {"active": outcomes(50, 40), "one": outcomes(50, 41)}}
    assert (chances(table, ARMS[:2]) == chances(table, ARMS[:2])).all()
