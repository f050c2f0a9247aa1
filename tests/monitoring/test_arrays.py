"""Ranges, sums and buffers."""

from __future__ import annotations

import random

import numpy as np

from monitoring.arrays import Buffer, combined, ragged, squares, sums, whole


def test_ranges_lie_end_to_end() -> None:
    assert ragged(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert ragged(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []


def test_rows_have_one_number_where_they_are_equal_however_large_their_values_are() -> None:
    draw = random.Random(1)
    large = [-(2**61), 0, 2**61]
    rows = [(draw.choice(large), draw.choice(large), draw.choice(large)) for _ in range(200)]
    found = combined(*np.array(rows, np.int64).T).tolist()
    assert [row for _, row in sorted(zip(found, rows, strict=True))] == sorted(rows)
    assert len(set(found)) == len(set(rows))


def test_sums_are_exact_beyond_64_bits() -> None:
    values = np.array([2**61, 2**61, 2**61, 5, -7], np.int64)
    assert sums(values, np.array([0, 3])) == [3 * 2**61, -2]
    assert sums(values.astype(object) ** 3, np.array([0])) == [3 * 2**183 + 125 - 343]
    assert sums(values[:0], np.zeros(0, np.int64)) == []
    assert squares(np.array([2**40, -3])).tolist() == [2**80, 9]
    assert squares(np.array([-3])).dtype == np.int64


def test_numbers_become_whole_ones_halves_even() -> None:
    assert whole(np.array([0.5, 1.5, -2.5])).tolist() == [0, 2, -2]
    assert whole(np.array([1e30, 1.0])).tolist() == [int(1e30), 1]


def test_a_buffer_gives_back_what_is_over_and_keeps_the_places_of_the_rest() -> None:
    buffer, draw, kept = Buffer(np.int64), random.Random(3), dict[int, tuple[list[int], int]]()
    longest = 0
    for now in range(3000):
        values, deadline = (
            [draw.randrange(10**9) for _ in range(draw.choice((0, 1, 50)))],
            now + draw.choice((1, 5, 40)),
        )
        kept[buffer.put(np.array(values, np.int64), deadline)] = (values, deadline)
        buffer.forget(now)
        kept = {start: each for start, each in kept.items() if each[1] > now}
        for start, (mine, _) in kept.items():
            assert buffer.at(np.arange(start, start + len(mine))).tolist() == mine
        longest = max(longest, len(buffer))
    assert longest < 6000  # of 50,000
