"""The two detectors over histograms."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.drift import LevelShift, Shift, mean_rank, moved_bins, noise, psi

EVEN = np.full(10, 1000)


def test_equal_shares_have_no_distance() -> None:
    assert psi(EVEN, EVEN // 10) == pytest.approx(0, abs=1e-4)


def test_psi_equals_its_definition() -> None:
    expected, observed = np.array([100, 300]), np.array([250, 150])
    p, q = np.array([100.5, 300.5]) / 401, np.array([250.5, 150.5]) / 401
    assert psi(expected, observed) == pytest.approx(float(((q - p) * np.log(q / p)).sum()))


def test_chance_stays_below_the_noise_and_a_moderate_change_above() -> None:
    rng = np.random.default_rng(4)
    shares = np.full(39, 1 / 39)
    reference = rng.multinomial(50_000, shares)
    windows = [rng.multinomial(1000, shares) for _ in range(300)]
    assert sum(psi(reference, window) > noise(reference, window) for window in windows) <= 1
    moved = shares * np.linspace(0.4, 1.6, 39)
    assert psi(reference, rng.multinomial(1000, moved / moved.sum())) > noise(reference, windows[0])


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=40), st.integers(0, 2**32))
def test_psi_is_finite_and_never_negative(counts: list[int], seed: int) -> None:
    expected = np.array(counts)
    observed = np.random.default_rng(seed).permutation(expected)
    assert 0 <= psi(expected, observed) < np.inf
    assert 0 < noise(expected, observed) < np.inf


def test_the_bins_that_moved_most_come_first() -> None:
    observed = EVEN.copy()
    observed[3], observed[7] = 3000, 100
    found = moved_bins(EVEN, observed, [f"bin {at}" for at in range(10)])
    assert {found[0]["bin"], found[1]["bin"]} == {"bin 3", "bin 7"}
    assert found[0]["expected"] == pytest.approx(0.1, abs=1e-3)


def test_the_mean_rank_is_a_half_for_equal_shares_and_moves_with_them() -> None:
    assert mean_rank(EVEN, EVEN) == pytest.approx(0.5)
    high = np.zeros(10, np.int64)
    high[9] = 50
    assert mean_rank(EVEN, high) == pytest.approx(0.95)
    assert mean_rank(EVEN, np.zeros(10, np.int64)) is None


def _values(count: int, level: float, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [level + rng.gauss(0, 0.01) for _ in range(count)]


def test_a_shift_of_the_level_is_found_and_a_steady_one_is_not() -> None:
    assert not any(map(LevelShift(Shift()).update, _values(500, 0.5)))
    assert any(map(LevelShift(Shift()).update, _values(50, 0.5) + _values(10, 0.7)))
    assert any(map(LevelShift(Shift()).update, _values(50, 0.5) + _values(10, 0.3)))


@pytest.mark.parametrize("cut", [0, 5, 52, 57, 60])
def test_a_detector_goes_on_from_its_dump_as_if_nothing_had_happened(cut: int) -> None:
    values = _values(50, 0.5) + _values(10, 0.8) + _values(40, 0.8, 1)
    whole = LevelShift(Shift())
    expected = [whole.update(value) for value in values]
    first = LevelShift(Shift())
    found = [first.update(value) for value in values[:cut]]
    second = LevelShift(Shift(), first.dump())
    found += [second.update(value) for value in values[cut:]]
    assert found == expected
    assert second.dump() == whole.dump()
    assert any(expected)
