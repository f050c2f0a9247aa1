"""A model that keeps failing is left alone for a while, and tried again."""

from __future__ import annotations

import pytest

from streams.breaker import LEAST, LONGEST_REST, REST, Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def broken(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    breaker.saw(LEAST, LEAST)
    return breaker


def test_it_opens_when_half_of_the_rows_fail(clock: Clock) -> None:
    assert broken(clock).open


def test_it_stays_closed_while_most_rows_are_scored(clock: Clock) -> None:
    breaker = Breaker(clock)
    for _ in range(100):
        breaker.saw(100, 40)
    assert not breaker.open
    assert not breaker.broken


def test_a_few_failures_do_not_open_it(clock: Clock) -> None:
    breaker = Breaker(clock)
    breaker.saw(LEAST - 1, LEAST - 1)
    assert not breaker.open


def test_failures_of_small_batches_add_up(clock: Clock) -> None:
    breaker = Breaker(clock)
    for _ in range(200):
        breaker.saw(3, 3)
    assert breaker.open


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_failures_of_the_smallest_batches_add_up_to_the_rows_that_are_needed(clock: Clock, rows: int) -> None:
    breaker = Breaker(clock)
    for _ in range(-(-LEAST // rows) - 1):
        breaker.saw(rows, rows)
        assert not breaker.open
    breaker.saw(rows, rows)
    breaker.saw(rows, rows)
    assert breaker.open


def test_of_single_events_the_last_ones_count(clock: Clock) -> None:
    breaker = Breaker(clock)
    for _ in range(10_000):
        breaker.saw(1, 0)
    for _ in range(2 * LEAST):
        breaker.saw(1, 1)
    assert breaker.open  # what went well for hours is forgotten
    rare = Breaker(clock)
    for place in range(10_000):
        rare.saw(1, place % 3 == 0)
    assert not rare.open


def test_it_tries_again_after_a_rest_and_closes_when_that_goes_well(clock: Clock) -> None:
    breaker = broken(clock)
    clock.now += REST
    assert not breaker.open
    assert breaker.broken
    breaker.saw(10, 0)
    assert not breaker.broken
    breaker.saw(5, 5)
    assert not breaker.open  # what was before is forgotten


def test_a_trial_that_fails_makes_the_next_rest_longer(clock: Clock) -> None:
    breaker = broken(clock)
    clock.now += REST
    for rest in (2 * REST, 4 * REST, 8 * REST, 16 * REST, LONGEST_REST, LONGEST_REST):
        assert not breaker.open
        breaker.saw(1, 1)
        clock.now += rest - 0.001
        assert breaker.open
        clock.now += 0.001


def test_a_batch_without_rows_for_it_is_no_trial(clock: Clock) -> None:
    breaker = broken(clock)
    clock.now += REST
    breaker.saw(0, 0)
    assert breaker.broken
