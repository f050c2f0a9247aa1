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
    loop.run([10_000] * 5)
    loop.pulse.changed(Quotas(), {})
    assert loop.pulse.capacity is None
    loop.now += 3
    assert (loop.pulse.since_change(), loop.pulse.row_seconds("active")) == (3.0, None)
    loop.pulse.turned()
    assert loop.pulse.since_turn() == 0.0
