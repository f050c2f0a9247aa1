"""What a slot could score is told from batches of any size, and from its quotas."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from schemas.deployment import Quotas
from streams.pulse import Pulse


@dataclass
class Loop:
    """Batches that cost a fixed part and one for each event; of CPU time a share of it."""

    fixed: float = 0.006
    each: float = 4e-6
    now: float = 0.0
    used: float = 0.0

    def __post_init__(self) -> None:
        self.pulse = Pulse(10_000, lambda: self.now, lambda: self.used)

    def run(self, sizes: list[int], share: float = 1.0, noise: float = 0.0) -> None:
        chance = random.Random(1)
        for events in sizes:
            taken = (self.fixed + self.each * events) * (1 + chance.uniform(-noise, noise))
            self.now += taken
            self.used += share * taken
            self.pulse.batch(events, taken)

    @property
    def true(self) -> float:
        return 10_000 / (self.fixed + self.each * 10_000)


def test_small_batches_tell_what_large_ones_would_do() -> None:
    loop = Loop()
    assert loop.pulse.capacity is None
    loop.run([5, 20, 90, 10, 50] * 20, noise=0.02)
    assert loop.pulse.capacity == pytest.approx(loop.true, rel=0.6)
    assert loop.pulse.capacity > 10 * 90 / (loop.fixed + loop.each * 90)  # many times what it scores by small ones


def test_tiny_batches_tell_nothing() -> None:
    """What a batch of one event takes is not what one of many takes by each."""
    loop = Loop()
    loop.run([1, 3, 2, 5, 1, 10] * 100, noise=0.3)
    assert loop.pulse.capacity is None


def test_a_few_batches_tell_nothing_yet() -> None:
    loop = Loop()
    loop.run([10_000] * 7)
    assert loop.pulse.capacity is None
    loop.run([10_000])
    assert loop.pulse.capacity == pytest.approx(loop.true)


def test_what_was_known_is_kept_while_little_is_scored() -> None:
    loop = Loop()
    loop.run([2_000, 10_000] * 10)
    known = loop.pulse.capacity
    assert known == pytest.approx(loop.true, rel=0.01)
    loop.run([1, 2] * 1_000, noise=0.5)
    assert loop.pulse.capacity == pytest.approx(known, rel=0.5)


def test_of_a_slow_model_few_events_tell() -> None:
    loop = Loop(each=0.05)
    loop.run([1, 2, 4, 2] * 10, noise=0.05)
    assert loop.pulse.capacity == pytest.approx(20, rel=0.2)


def test_one_slow_batch_moves_it_by_little() -> None:
    loop = Loop()
    loop.run([5_000, 10_000] * 30)
    loop.fixed = 0.5
    loop.run([10_000])
    loop.fixed = 0.006
    assert loop.pulse.capacity == pytest.approx(loop.true, rel=0.2)


def test_a_quota_that_small_batches_reach_is_what_it_can_score() -> None:
    loop = Loop()
    loop.pulse.changed(Quotas(events_per_second=100), {})
    loop.run([1, 3, 2] * 20)
    assert loop.pulse.capacity == 100
    loop.pulse.changed(Quotas(events_per_second=100_000), {})
    loop.run([1, 3, 2] * 20)
    assert loop.pulse.capacity is None


def test_full_batches_tell_it_exactly() -> None:
    loop = Loop()
    loop.run([10_000] * 50)
    assert loop.pulse.capacity == pytest.approx(loop.true)


def test_quotas_bound_it() -> None:
    loop = Loop()
    loop.pulse.changed(Quotas(events_per_second=300), {})
    loop.run([100, 200] * 10)
    assert loop.pulse.capacity == 300
    loop.pulse.changed(Quotas(cpu=0.25), {})
    loop.run([1_000, 10_000] * 10, share=0.5)
    assert loop.pulse.capacity == pytest.approx(loop.true / 2, rel=0.01)
    loop.pulse.changed(Quotas(cpu=4.0), {})
    loop.run([1_000, 10_000] * 10, share=0.5)
    assert loop.pulse.capacity == pytest.approx(loop.true, rel=0.01)


def test_what_an_idle_slot_uses_is_no_batchs() -> None:
    loop = Loop()
    loop.pulse.changed(Quotas(cpu=1.0), {})
    loop.run([1_000, 10_000] * 10)
    loop.used += 1_000.0
    loop.pulse.idle()
    loop.run([1_000, 10_000])
    assert loop.pulse.capacity == pytest.approx(loop.true, rel=0.01)


def test_another_revision_is_judged_by_its_own_batches() -> None:
    loop = Loop()
    loop.run([10_000] * 8)
    assert loop.pulse.capacity is not None
    loop.pulse.changed(Quotas(), {})
    assert loop.pulse.capacity is None
    loop.now += 3
    assert (loop.pulse.since_change(), loop.pulse.row_seconds("active")) == (3.0, None)
    loop.pulse.turned()
    assert loop.pulse.since_turn() == 0.0
