"""Confidence sequences: they hold at all times together, narrow down, and controls that peek too often fail."""

from __future__ import annotations

import math
import random

import pytest

from monitoring.intervals import Sequence, boundary


def _misses(seed: int, share: float, ticks: int, level: float, naive: bool = False) -> bool:
    """Whether the interval of any tick misses the truth."""
    draw, sequence = random.Random(seed), Sequence()
    for _ in range(ticks):
        count = draw.randrange(0, 40)
        hits = sum(draw.random() < share for _ in range(count))
        sequence.add(count, hits, hits)
        bounds = sequence.interval(level)
        if bounds is None:
            continue
        low, high = bounds
        if naive:
            mean = sequence.total / sequence.count
            radius = 1.96 * math.sqrt(max(mean * (1 - mean), 1e-9) / sequence.count)
            low, high = mean - radius, mean + radius
        if not low <= share <= high:
            return True
    return False


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.97])
def test_the_truth_is_inside_at_all_times_but_for_the_stated_chance(share: float) -> None:
    assert sum(_misses(seed, share, 120, 0.05) for seed in range(100)) <= 5


def test_an_interval_made_for_one_look_misses_far_more_often() -> None:
    assert sum(_misses(seed, 0.3, 120, 0.05, naive=True) for seed in range(60)) > 12


def test_it_narrows_down() -> None:
    sequence, widths = Sequence(), []
    for _ in range(4):
        for _ in range(100):
            sequence.add(100, 90, 90)
        low, high = sequence.interval() or (0, 1)
        assert low < 0.9 < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.02


def test_values_that_hardly_vary_are_known_sooner() -> None:
    calm, wild = Sequence(), Sequence()
    for _ in range(100):
        calm.add(100, 50, 25.1)  # around a half, by little
        wild.add(100, 50, 50)  # zeros and ones
    assert sum(map(lambda way, bound: way * bound, (-1, 1), calm.interval() or (0, 1))) < 0.5 * sum(
        map(lambda way, bound: way * bound, (-1, 1), wild.interval() or (0, 1))
    )


def test_nothing_is_said_of_nothing_and_bounds_stay_in_the_range() -> None:
    sequence = Sequence()
    assert sequence.interval() is None
    sequence.add(0, 0, 0)
    assert sequence.interval() is None
    sequence.add(1, 1, 1)
    assert sequence.interval() == (0.0, 1.0)


def test_the_boundary_is_that_of_the_paper_where_the_range_does_not_matter() -> None:
    spread, level = 1e9, 0.025
    paper = 1.7 * math.sqrt(spread * (math.log(math.log(2 * spread)) + 0.72 * math.log(5.2 / level)))
    assert boundary(spread, level) == pytest.approx(paper, rel=0.01)
