"""Quotas of events and CPU time hold back reading, and no more than they have to: on a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from schemas.deployment import Quotas
from streams.throttle import BURST_SECONDS, LONGEST_PAUSE, Throttle


@dataclass
class Slot:
    """A loop that reads all it may, on simulated clocks."""

    quotas: Quotas
    now: float = 100.0
    used: float = 5.0
    read: int = 0
    reads: int = 0

    def __post_init__(self) -> None:
        self.throttle = Throttle(self.quotas, lambda: self.now, lambda: self.used)

    def run(self, seconds: float, most: int = 10_000, wall: float = 1e-6, cpu: float = 1e-6) -> None:
        """wall, cpu: seconds that an event costs."""
        until = self.now + seconds
        while self.now < until:
            if pause := self.throttle.pause():
                self.now += min(pause, 0.1)
                continue
            events = self.throttle.most(most)
            self.throttle.took(events)
            self.read += events
            self.reads += 1
            self.now += wall * events + 0.001
            self.used += cpu * events + 0.001


@pytest.mark.parametrize("rate", [1, 7, 300, 50_000])
def test_events_a_second_are_kept_to_and_used_up(rate: int) -> None:
    slot = Slot(Quotas(events_per_second=rate))
    slot.run(30, wall=1e-7)
    assert 0.9 * rate * 30 <= slot.read + 1 <= rate * (30 + BURST_SECONDS) + 1
    assert slot.throttle.held()


def test_without_a_quota_nothing_is_held_back() -> None:
    slot = Slot(Quotas())
    slot.run(1, wall=1e-7)
    assert slot.read > 1_000_000
    assert not slot.throttle.held()


def test_events_are_not_read_one_by_one() -> None:
    slot = Slot(Quotas(events_per_second=1_000))
    slot.run(10)
    assert slot.reads <= 10 * 11


def test_an_idle_slot_saves_up_no_more_than_a_burst() -> None:
    slot = Slot(Quotas(events_per_second=100))
    slot.now += 3_600
    slot.run(1)
    assert slot.read <= 100 * (1 + BURST_SECONDS)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_of_a_core_is_kept_to_and_used_up(share: float) -> None:
    slot = Slot(Quotas(cpu=share))
    began = slot.used
    slot.run(60, most=1_000, wall=1e-4, cpu=1e-4)
    assert 0.85 * share * 60 <= slot.used - began <= share * (60 + BURST_SECONDS) + 0.2
    free = Slot(Quotas())
    free.run(60, most=1_000, wall=1e-4, cpu=1e-4)
    assert free.used - began > 50


def test_a_slot_below_its_share_is_never_held_back() -> None:
    slot = Slot(Quotas(cpu=0.5))
    slot.run(60, most=1_000, wall=1e-4, cpu=2e-5)
    assert not slot.throttle.held()


def test_what_a_batch_owes_is_bounded() -> None:
    slot = Slot(Quotas(cpu=0.1))
    slot.used += 3_600.0  # a model that was loaded
    assert slot.throttle.pause() == pytest.approx(LONGEST_PAUSE)


def test_another_quota_holds_at_once_and_one_that_stays_is_not_forgotten() -> None:
    slot = Slot(Quotas(events_per_second=10))
    slot.run(5)
    slot.throttle.took(10)
    assert slot.throttle.pause() > 0
    slot.throttle.follow(Quotas(events_per_second=10, cpu=1.0))
    assert slot.throttle.pause() > 0
    slot.throttle.follow(Quotas())
    assert slot.throttle.pause() == 0
    assert slot.throttle.most(10_000) == 10_000


def test_cpu_time_from_before_a_quota_is_not_owed() -> None:
    slot = Slot(Quotas())
    slot.used += 100
    slot.throttle.follow(Quotas(cpu=0.5))
    assert slot.throttle.pause() == 0
