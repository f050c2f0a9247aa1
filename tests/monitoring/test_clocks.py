"""Who is waited for, and how long."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.clocks import LAG, PATIENCE, Clocks

HOUR = 3_600_000


def clocks(events: dict[int, int], copied: dict[int, int], labels: int = 2) -> Clocks:
    made = Clocks(labels)
    for partition, time in events.items():
        made.saw(partition, time)
    for partition, time in copied.items():
        made.told(partition, time)
    return made


@pytest.mark.parametrize(
    ("events", "copied", "keep"),
    [
        ({0: 50 * HOUR, 1: 49 * HOUR}, {0: 60 * HOUR, 1: 60 * HOUR}, 49 * HOUR),  # the slowest events
        ({0: 50 * HOUR, 1: 49 * HOUR}, {0: 60 * HOUR, 1: 30 * HOUR}, 30 * HOUR),  # the slowest labels
        ({0: 50 * HOUR, 1: 0}, {0: 60 * HOUR, 1: 60 * HOUR}, 47 * HOUR),  # an idle partition of events, not for ever
        ({0: 50 * HOUR}, {0: 60 * HOUR}, 0),  # one of labels has told nothing yet
        ({}, {0: 60 * HOUR, 1: 60 * HOUR}, 60 * HOUR - LAG),  # no events at all
    ],
)
def test_what_is_pending_waits_for_the_slower_side(events: dict[int, int], copied: dict[int, int], keep: int) -> None:
    assert clocks(events, copied).keep(3 * HOUR) == keep


def test_ticks_wait_for_labels_as_long_as_it_takes_and_for_events_some_minutes() -> None:
    assert clocks({0: 50 * HOUR, 1: 40 * HOUR}, {0: 49 * HOUR, 1: 30 * HOUR}).ticks() == 30 * HOUR
    assert clocks({0: 50 * HOUR, 1: 40 * HOUR}, {0: 50 * HOUR, 1: 50 * HOUR}).ticks() == 50 * HOUR - PATIENCE
    assert clocks({0: 40 * HOUR}, {0: 50 * HOUR, 1: 50 * HOUR}).ticks() == 50 * HOUR - PATIENCE
    assert clocks({0: 50 * HOUR}, {}, labels=0).ticks() == 50 * HOUR


def test_clocks_never_go_back_and_come_back_from_a_snapshot() -> None:
    made = clocks({0: 5, 1: 7}, {0: 3, 4: 9})
    made.saw(0, 1)
    made.told(0, 1)
    assert (made.events, made.copied, made.labels) == ({0: 5, 1: 7}, {0: 3, 4: 9}, 5)
    assert made.before(0, np.array([10, 11, 7])) == 1
    assert made.before(0, np.array([9, 11])) == 1
    assert Clocks.load(2, made.dump()) == made
