"""How old the oldest unscored event is and when none will wait, by an injected clock; also while all is stuck."""

from __future__ import annotations

import math

import pytest

from schemas.vitals import Wait
from streams.backlog import Backlog
from streams.batch import Batch, batch_of
from streams.memory import StoredMessage


class Time:
    """Both clocks of a backlog."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def backlog(time: Time) -> Backlog:
    made = Backlog(time, time)
    made.assigned({0: 0, 1: 0}, [0, 1])
    return made


def batch(partition: int, first: int, count: int, at: float) -> Batch:
    """A batch of one partition whose events were recorded from `at` on, a millisecond apart."""
    return batch_of([StoredMessage((b"", None, partition, first + i, int(at * 1000) + i, None)) for i in range(count)])


def test_an_event_in_hand_has_the_age_of_its_record(backlog: Backlog, time: Time) -> None:
    backlog.took(batch(0, 0, 10, 990.0))
    assert backlog.oldest_seconds() == pytest.approx(10)
    time.now += 100  # the worker holds it back: nobody calls, and it ages
    assert backlog.oldest_seconds() == pytest.approx(110)
    backlog.committed({0: 10})
    assert backlog.oldest_seconds() == 0


def test_the_oldest_of_several_batches_and_partitions_counts(backlog: Backlog) -> None:
    backlog.took(batch(0, 0, 10, 995.0))
    backlog.took(batch(0, 10, 10, 998.0))
    backlog.took(batch(1, 0, 10, 990.0))
    assert backlog.oldest_seconds() == pytest.approx(10)
    backlog.committed({1: 10})
    assert backlog.oldest_seconds() == pytest.approx(5)
    backlog.committed({0: 10})
    assert backlog.oldest_seconds() == pytest.approx(2)


def test_the_age_survives_a_rewind_and_new_clients(backlog: Backlog, time: Time) -> None:
    backlog.took(batch(0, 0, 10, 990.0))
    backlog.given_up()
    time.now += 5
    assert backlog.oldest_seconds() == pytest.approx(15)
    backlog.assigned({0: 0}, [0])
    backlog.ends({0: 10})
    assert backlog.oldest_seconds() == pytest.approx(15)


def test_what_is_not_read_yet_ages_from_the_event_before_it(backlog: Backlog, time: Time) -> None:
    backlog.ends({0: 1_000})
    backlog.took(batch(0, 0, 10, 900.0))
    backlog.committed({0: 10})
    assert backlog.oldest_seconds() == pytest.approx(100)  # a backlog: its neighbour is as old
    backlog.revoked([0])
    assert backlog.oldest_seconds() == 0


def test_an_event_that_comes_to_an_idle_partition_ages_from_when_it_was_seen(backlog: Backlog, time: Time) -> None:
    backlog.took(batch(0, 0, 10, 100.0))
    backlog.ends({0: 10})
    backlog.committed({0: 10})
    time.now += 3
    backlog.ends({0: 11})
    time.now += 2
    assert backlog.oldest_seconds() == pytest.approx(2)


def test_markers_of_transactions_are_no_backlog(backlog: Backlog, time: Time) -> None:
    backlog.took(batch(0, 0, 10, 999.0))
    backlog.committed({0: 10})
    backlog.ends({0: 11})
    time.now += 3
    assert backlog.oldest_seconds() > 0
    backlog.read({0: 11})  # the client is behind the marker and got nothing
    assert backlog.oldest_seconds() == 0
    assert backlog.drain_seconds() == 0
    backlog.ends({0: 14})
    time.now += 1
    assert backlog.oldest_seconds() > 0


def drain(backlog: Backlog, time: Time, scored: int, arrived: int, seconds: int = 10) -> None:
    """Start with 10,000 that wait, then score and receive so many a second."""
    position, end = 0, 10_000
    backlog.ends({0: end})
    for _ in range(seconds):
        time.now += 1
        position, end = position + scored, end + arrived
        backlog.committed({0: position})
        backlog.ends({0: end})


def test_a_backlog_that_shrinks_is_drained_at_its_net_rate(backlog: Backlog, time: Time) -> None:
    drain(backlog, time, scored=500, arrived=100)
    assert backlog.drain_seconds() == pytest.approx(6_000 / 400)


def test_a_backlog_that_grows_is_never_drained(backlog: Backlog, time: Time) -> None:
    drain(backlog, time, scored=100, arrived=500)
    assert backlog.drain_seconds() == math.inf


def test_events_just_being_worked_on_are_no_growing_backlog(backlog: Backlog, time: Time) -> None:
    drain(backlog, time, scored=1_995, arrived=1_000)
    for _ in range(30):  # from now on as many come as are scored, and a few are always under way
        time.now += 1
        state = backlog._partitions[0]
        backlog.committed({0: state.position + 1_000})
        backlog.ends({0: state.end + 1_000})
    assert backlog.drain_seconds() < 1


def test_a_stuck_loop_never_drains_and_the_first_seconds_are_not_known(backlog: Backlog, time: Time) -> None:
    backlog.ends({0: 10_000})
    assert math.isnan(backlog.drain_seconds())
    drain(backlog, time, scored=500, arrived=0)
    assert math.isfinite(backlog.drain_seconds())
    time.now += 6  # nothing is noted any more
    assert backlog.drain_seconds() == math.inf


def test_rates_of_the_last_seconds_tell_what_arrives_from_what_is_scored(backlog: Backlog, time: Time) -> None:
    assert backlog.rates() is None
    for second in range(11):
        time.now += 1
        backlog.committed({0: second * (100 if second <= 5 else 300) - (0 if second <= 5 else 1_000)})
        backlog.ends({0: 1_000 + 500 * second})
    assert backlog.rates(5.0) == (pytest.approx(300), pytest.approx(500))
    assert backlog.rates(10.0) == (pytest.approx(200), pytest.approx(500))
    assert backlog.waiting() == 6_000 - 2_000
    assert (backlog.partitions(), backlog.settled_seconds()) == (2, 11.0)
    backlog.revoked([1])
    assert (backlog.rates(), backlog.partitions(), backlog.settled_seconds()) == (None, 1, 0.0)


def test_rates_are_not_known_while_the_loop_is_stuck(backlog: Backlog, time: Time) -> None:
    for _ in range(5):
        time.now += 1
        backlog.ends({0: 100})
    assert backlog.rates(3.0) == (0.0, 0.0)
    time.now += 60
    assert backlog.rates(3.0) is None


def test_what_waits_is_told_of_each_partition(backlog: Backlog, time: Time) -> None:
    backlog.ends({0: 5, 1: 0})
    time.now += 30
    assert backlog.waits() == (Wait(0, 0, 5, 30.0), Wait(1, 0, 0, 0.0))
    backlog.took(batch(0, 0, 4, at=900))
    assert backlog.waits()[0] == Wait(0, 0, 5, 130.0)
    backlog.committed({0: 4})
    assert (backlog.waits()[0].position, backlog.waits()[0].waiting) == (4, 1)
    backlog.revoked([0])
    assert [each.partition for each in backlog.waits()] == [1]
