"""The pace of the replay and the latencies that it leads to."""

from __future__ import annotations

import numpy as np
import pytest

from examples.flights.replay import RAMP_SECONDS, due_after
from examples.flights.watch import latencies


def test_the_rate_rises_evenly_and_then_holds() -> None:
    rate = 1000.0
    risen = int(rate * RAMP_SECONDS / 2)
    assert due_after(0, rate) == 0
    assert due_after(risen, rate) == pytest.approx(RAMP_SECONDS)
    assert due_after(risen // 4, rate) == pytest.approx(RAMP_SECONDS / 2)
    assert due_after(risen + 2000, rate) == pytest.approx(RAMP_SECONDS + 2)


def test_a_latency_is_from_append_to_arrival_by_the_events_place() -> None:
    appended = [np.array([100, 110, 0]), np.array([200, 0, 0])]
    first = (np.array([0, 1]), np.array([1, 0]), np.array([115, 230]))
    second = (np.array([0, 0]), np.array([0, 2]), np.array([190, 500]))  # (0, 2) was not read yet
    assert latencies(appended, [first, second]).tolist() == [5, 30, 90]
    assert latencies(appended, []).tolist() == []
