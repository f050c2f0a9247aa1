"""PSI, Jensen-Shannon and Kolmogorov-Smirnov of two histograms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.distances import distances, told_distances
from monitoring.drift import psi

EVEN = np.full(4, 1_000_000)


def test_equal_shares_have_no_distance() -> None:
    assert distances(EVEN, EVEN * 2) == pytest.approx((0, 0, 0), abs=1e-6)


def test_the_distances_equal_their_definitions() -> None:
    found = distances(EVEN, np.array([2_000_000, 2_000_000, 0, 0]))
    assert found.psi == psi(EVEN, np.array([2_000_000, 2_000_000, 0, 0]))
    assert found.ks == pytest.approx(0.5, abs=1e-5)
    assert found.js == pytest.approx(np.sqrt(0.5 * (np.log2(4 / 3) + 0.5 * np.log2(2 / 3) + 0.5)), abs=1e-3)


def test_histograms_that_share_nothing_are_as_far_apart_as_can_be() -> None:
    found = distances(np.array([10**9, 0]), np.array([0, 10**9]))
    assert (found.js, found.ks) == pytest.approx((1, 1), abs=1e-3)
    assert told_distances(EVEN, EVEN) == "PSI 0.000, JS 0.000, KS 0.000"


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=40), st.integers(0, 2**32))
def test_they_are_finite_and_within_their_bounds(counts: list[int], seed: int) -> None:
    expected = np.array(counts)
    found = distances(expected, np.random.default_rng(seed).permutation(expected))
    assert 0 <= found.psi < np.inf
    assert 0 <= found.js <= 1
    assert 0 <= found.ks <= 1
