"""Quotas of a slot, kept by the worker's loop on the in-memory twin: nothing is lost, nothing in hand meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from schemas.deployment import Quotas
from streams.governor import HOLD_SECONDS, Governor
from streams.pulse import Pulse
from streams.residence import Residence
from streams.throttle import Throttle
from streams.work import Plan
from tests.streams.bench import Bench
from tests.streams.fakes import NumberDecoder


class Clock:
    """Time that passes only where the loop rests, or a batch says that it took some."""

    def __init__(self) -> None:
        self.now = self.used = 0.0
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds
        time.sleep(0.0005)

    def governor(self, has: Callable[[], int | None] = lambda: 1) -> Governor:
        throttle = Throttle(None, lambda: self.now, lambda: self.used)
        return Governor(
            Pulse(10_000, lambda: self.now, lambda: self.used), throttle, Residence(has, lambda: None), self.sleep
        )


class Sizes(NumberDecoder):
    """Notes how many events each batch has, and when it was decoded."""

    def __init__(self, clock: Clock, cpu: float = 0.0) -> None:
        super().__init__()
        self.clock, self.cpu, self.seen = clock, cpu, list[tuple[float, int]]()

    def decode(self, values: Sequence[bytes | None]) -> Any:
        self.seen.append((self.clock.now, len(values)))
        self.clock.used += self.cpu * len(values)
        return super().decode(values)


def fill(bench: Bench, count: int) -> None:
    for i in range(count):
        bench.kafka.append("in", b"%d" % (i * 100), None, i % 2)


def test_events_a_second_are_kept_to_and_each_is_scored_once(make: Callable[..., Bench]) -> None:
    clock = Clock()
    sizes = Sizes(clock)
    bench = make(decoder=sizes, governor=clock.governor(), quotas=Quotas(events_per_second=100))
    fill(bench, 1_000)
    bench.start()
    bench.wait(lambda: bench.decided() == 1_000)
    bench.stop()
    assert 8 <= sizes.seen[-1][0] <= 11  # simulated seconds: ten for 1,000 events
    for began, _ in sizes.seen:
        assert sum(count for at, count in sizes.seen if began <= at < began + 1) <= 2 * 100
    assert sorted(bench.doubles()) == [i * 200 for i in range(1_000)]


def test_without_the_quota_the_same_is_scored_at_once(make: Callable[..., Bench]) -> None:
    clock = Clock()
    bench = make(decoder=Sizes(clock), governor=clock.governor())
    fill(bench, 1_000)
    bench.start()
    bench.wait(lambda: bench.decided() == 1_000)
    bench.stop()
    assert clock.naps == []


def test_it_says_that_it_holds_back_and_that_it_does_no_longer(make: Callable[..., Bench], quick: None) -> None:
    clock = Clock()
    bench = make(governor=clock.governor(), quotas=Quotas(events_per_second=200))
    fill(bench, 2_000)
    bench.start()
    bench.wait(lambda: bench.value("penstock_held", cause="quota") == 1)
    assert bench.metrics.holding == {"quota"}
    assert bench.worker.ready
    bench.wait(lambda: bench.decided() == 2_000)
    bench.wait(lambda: bench.value("penstock_held", cause="quota") == 0)


def test_nothing_is_in_hand_while_it_waits(make: Callable[..., Bench]) -> None:
    clock = Clock()
    bench = make(governor=clock.governor(), quotas=Quotas(events_per_second=100))
    in_hand: list[int] = []
    sleep = clock.sleep

    def looking(seconds: float) -> None:
        positions = sum(bench.sources[-1].positions().values())
        in_hand.append(positions - bench.decided())
        sleep(seconds)

    bench.worker._governor._sleep = looking
    fill(bench, 500)
    bench.start()
    bench.wait(lambda: bench.decided() == 500)
    bench.stop()
    assert len(in_hand) > 20
    assert set(in_hand) == {0}


def test_a_share_of_a_core_is_kept_to_also_where_a_batch_overdraws_it(make: Callable[..., Bench]) -> None:
    clock = Clock()
    sizes = Sizes(clock, cpu=0.01)
    bench = make(decoder=sizes, governor=clock.governor(), quotas=Quotas(cpu=0.5), batch_events=20)
    holds: list[float] = []
    fill(bench, 400)

    def waiting(seconds: float) -> bool:
        holds.append(seconds)
        clock.sleep(seconds)
        return True

    bench.start()
    bench.wait(lambda: bool(bench.sources))
    bench.sources[0].hold = waiting  # type: ignore[method-assign]
    bench.wait(lambda: bench.decided() == 400)
    bench.stop()
    assert clock.now >= 400 * 0.01 / 0.5 - 1.5  # simulated seconds for four of CPU time
    assert all(each <= HOLD_SECONDS for each in holds)
    assert len(bench.doubles()) == 400


def test_another_quota_counts_from_the_plan_that_has_it(make: Callable[..., Bench]) -> None:
    clock = Clock()
    bench = make(governor=clock.governor())
    plan: Plan = bench.worker.plan
    fill(bench, 500)
    bench.start()
    bench.wait(lambda: bench.decided() == 500)
    assert clock.naps == []
    bench.worker.offer(replace(plan, quotas=Quotas(events_per_second=50)))
    bench.wait(lambda: bench.worker.plan.quotas.events_per_second == 50)
    fill(bench, 200)
    bench.wait(lambda: bench.decided() == 700)
    assert sum(clock.naps) >= 2.5
    naps = len(clock.naps)
    bench.worker.offer(plan)
    bench.wait(lambda: bench.worker.plan is plan)
    fill(bench, 500)
    bench.wait(lambda: bench.decided() == 1_200)
    assert len(clock.naps) <= naps + 25  # those of the wait for the next plan


def test_what_waits_for_a_quota_is_not_told_as_read_to_its_end(make: Callable[..., Bench], quick: None) -> None:
    told: list[dict[int, int]] = []  # where each partition was that was told as read to its end

    class Profiler:
        def profiles(self, *_: Any) -> list[bytes]:
            return []

        def progress(self, partitions: Sequence[int], now_ms: int) -> list[bytes]:
            told.append({p: bench.sources[-1].positions()[p] for p in partitions})
            return [b"p"]

        def forget(self) -> None: ...

    bench = make(profiler=Profiler(), quotas=Quotas(events_per_second=300))
    fill(bench, 300)
    bench.start()
    bench.wait(lambda: {p for each in told for p in each} == {0, 1})
    bench.stop()
    assert {at for each in told for at in each.values()} == {150}


def test_a_process_over_its_quota_of_memory_ends_after_its_batch_and_keeps_its_partitions(
    make: Callable[..., Bench], quick: None
) -> None:
    has, clock, left = [100], Clock(), list[bool]()
    bench = make(governor=clock.governor(lambda: has[0]), quotas=Quotas(memory=200), batch_events=10)
    fill(bench, 300)
    bench.start()
    bench.wait(lambda: bench.decided() == 300)
    assert bench.worker.outgrown is None  # the control: it goes on as long as it has less
    bench.sources[-1].close = lambda leave: left.append(leave)  # type: ignore[method-assign]
    has[0] = 201
    fill(bench, 5)
    bench.thread.join(20)
    assert not bench.thread.is_alive()
    assert bench.error is None
    assert bench.worker.outgrown == 201
    assert bench.worker.whole
    assert left == [False]  # who starts again at once needs no rebalance
    assert len(bench.doubles()) == bench.decided()


def test_memory_that_can_be_given_back_ends_nobody(make: Callable[..., Bench], quick: None) -> None:
    clock, looks = Clock(), list[int]()

    def has() -> int:
        looks.append(201 if len(looks) % 2 == 0 else 100)
        return looks[-1]

    bench = make(governor=clock.governor(has), quotas=Quotas(memory=200))
    fill(bench, 10)
    bench.start()
    bench.wait(lambda: len(looks) >= 6)
    assert bench.worker.outgrown is None
    bench.stop()


@pytest.mark.parametrize("quotas", [Quotas(events_per_second=1), Quotas(cpu=0.05)])
def test_a_worker_that_waits_for_a_quota_stops_at_once(make: Callable[..., Bench], quotas: Quotas) -> None:
    bench = make(quotas=quotas, governor=Governor())
    fill(bench, 1_000)
    bench.start()
    bench.wait(lambda: bench.decided() > 0)
    bench.stop()
    assert len(bench.doubles()) == bench.decided()
