"""How many slots are wanted: up quickly, down slowly, never flapping, and never on evidence that means nothing.

The policy is run against simulated deployments: slots that start late, rebalance, break and score what they can.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.autoscaling import Watch
from schemas.vitals import Vitals
from streams.scaling import (
    SETTLING_SECONDS,
    STARTING_SECONDS,
    UP_SECONDS,
    Decision,
    History,
    Load,
    Sight,
    Targets,
    decide,
    load_of,
    needed,
)

CAPACITY = 1_000.0
STEADY = Load(1, 0, 8, 8, 0, 500.0, 500.0, CAPACITY, 1.0, (), 60.0)


@dataclass
class World:
    """A deployment whose slots score CAPACITY each; a new one starts for a while, and each change is a rebalance."""

    arriving: Callable[[float], float]
    targets: Targets
    partitions: int = 8
    starting: float = 4.0
    noise: float = 0.05
    held: tuple[str, ...] = ()
    now: float = 0.0
    lag: float = 0.0
    changed: float = -100.0
    slots: int = 1
    born: list[float] = field(default_factory=lambda: [-100.0])  # of each slot
    dead: set[int] = field(default_factory=set)
    counts: list[int] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    said: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch, self.chance = Watch(self.targets), random.Random(7)

    def run(self, seconds: float) -> World:
        until = self.now + seconds
        while self.now < until:
            self._second()
        return self

    def _second(self) -> None:
        self.now += 1
        reading = [i for i in range(self.slots) if i not in self.dead and self.now - self.born[i] >= self.starting]
        rate = self.arriving(self.now)
        working = min(len(reading), self.partitions)
        scored = 0.0 if set(self.held) - {"quota"} else min(CAPACITY * working, rate + self.lag)
        self.lag = max(0.0, self.lag + rate - scored)
        decision = self.watch.look(self._load(reading, working, rate, scored), self.slots, self.now)
        self.said.append(decision)
        self._become(decision.wanted)
        self.counts.append(self.slots)
        self.lags.append(self.lag)

    def _load(self, reading: list[int], working: int, rate: float, scored: float) -> Load | None:
        if not reading:
            return None
        last = max([self.changed, *(self.born[i] + self.starting for i in reading)])

        def seen(value: float) -> float:
            return value * (1 + self.chance.uniform(-self.noise, self.noise))

        return Load(
            slots=len(reading),
            idle=len(reading) - working,
            read=self.partitions,
            partitions=self.partitions,
            lag=int(self.lag),
            arriving=seen(rate),
            scored=seen(scored),
            capacity=seen(CAPACITY),
            slowdown=1.0,
            held=self.held,
            settled=self.now - last,
        )

    def _become(self, wanted: int) -> None:
        if wanted < self.slots:
            self.changed = self.now
        self.born = [*self.born[:wanted], *[self.now] * (wanted - self.slots)]
        self.slots = wanted

    @property
    def changes(self) -> int:
        return sum(before != after for before, after in pairwise(self.counts))


def targets(**more: float) -> Targets:
    return Targets(**{"least": 1, "most": 8, "down_seconds": 60.0, **more})  # type: ignore[arg-type]


# ---- simulated deployments


@pytest.mark.parametrize("rate", [10, 650, 1_200, 3_400, 5_500])
def test_a_steady_load_gets_the_slots_that_it_needs_and_keeps_them(rate: float) -> None:
    world = World(lambda now: rate, targets()).run(400)
    wants = rate / CAPACITY / 0.7
    assert wants / 1.1 <= world.slots <= max(1, math.ceil(wants / 0.9) + 1)
    assert world.lag <= rate
    assert len(set(world.counts[-200:])) == 1


def test_a_load_that_jumps_is_met_within_a_minute() -> None:
    world = World(lambda now: 500 if now < 100 else 5_000, targets()).run(100)
    assert world.counts[-1] == 1
    world.run(45)
    assert world.slots >= 7  # 5,000 at 0.7 of 1,000 each
    world.run(60)
    assert world.lag < 5_000


def test_a_backlog_is_drained_within_the_target_and_slots_go_again() -> None:
    world = World(lambda now: 300, targets(lag_seconds=10), lag=60_000.0).run(60)
    assert max(world.counts) >= 4
    assert world.lag < 1_000
    world.run(600)
    assert world.slots == 1
    slow = World(lambda now: 300, targets(lag_seconds=3_600), lag=60_000.0).run(60)
    assert (slow.slots, slow.lag > 10_000) == (1, True)  # the control: without the target nothing hurries


def test_slots_go_slowly_and_by_half_at_most() -> None:
    world = World(lambda now: 5_000 if now < 100 else 10, targets(down_seconds=60)).run(100)
    before = world.slots
    assert before >= 7
    world.run(59)
    assert world.slots == before
    world.run(700)
    assert world.slots == 1
    falls = [(a, b) for a, b in pairwise(world.counts) if b < a]
    assert all(after >= math.ceil(before / 2) for before, after in falls)
    assert len(falls) == 3


@pytest.mark.parametrize("period", [4, 20, 60, 100])
def test_a_load_that_flaps_does_not_make_the_slots_flap(period: int) -> None:
    world = World(lambda now: 3_000 if now % period < period / 2 else 100, targets(down_seconds=120)).run(900)
    assert world.changes <= 4
    hasty = World(lambda now: 3_000 if now % period < period / 2 else 100, targets(down_seconds=1.0), starting=0.0).run(
        900
    )
    assert period < 60 or hasty.changes > 10  # the control: what it would be without the window


def test_a_load_at_an_edge_changes_nothing() -> None:
    for rate in (690, 710, 1_390, 1_410):
        world = World(lambda now, rate=rate: rate, targets()).run(120)
        world.counts.clear()
        world.run(900)
        assert world.changes == 0


def test_never_more_slots_than_partitions_nor_than_declared() -> None:
    assert max(World(lambda now: 50_000, targets(), partitions=3).run(200).counts) == 3
    assert max(World(lambda now: 50_000, targets(most=5)).run(200).counts) == 5
    assert min(World(lambda now: 0, targets(least=2), slots=2, born=[-100.0] * 2).run(300).counts) == 2


def test_a_slot_that_does_not_come_up_is_waited_for_and_then_done_without() -> None:
    world = World(lambda now: 1_500, targets(), slots=2, born=[-100.0] * 2, dead={1}).run(STARTING_SECONDS - 2)
    assert set(world.counts) == {2}
    assert "are starting" in world.said[-1].why
    world.run(30)
    assert world.slots >= 3  # one that works and one that does not carry no 1,500/s
    world.run(200)
    assert world.lag < 1_500


def test_a_slot_that_is_lost_is_not_taken_for_one_too_many() -> None:
    """The healthy ones must not go because a broken one counts as idle."""
    world = World(lambda now: 1_200, targets(), slots=3, born=[-100.0] * 3, dead={2}).run(600)
    assert world.slots >= 3


@pytest.mark.parametrize("cause", ["dead_letters", "schemas", "paused", "crash"])
def test_more_slots_do_not_help_where_events_are_held_back(cause: str) -> None:
    world = World(lambda now: 3_000, targets(), held=(cause,)).run(200)
    assert set(world.counts) == {1}
    assert cause in world.said[-1].why
    assert World(lambda now: 3_000, targets(), held=("quota",)).run(200).slots > 3


@given(
    rates=st.lists(st.floats(0, 20_000), min_size=1, max_size=6),
    most=st.integers(1, 10),
    least=st.integers(1, 4),
    partitions=st.integers(1, 12),
    starting=st.floats(0, 90),
)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_bounds_hold_and_each_change_has_its_window(
    rates: list[float], most: int, least: int, partitions: int, starting: float
) -> None:
    bounds = targets(least=min(least, most), most=most)
    world = World(lambda now: rates[int(now // 100) % len(rates)], bounds, partitions, starting, slots=bounds.least)
    world.born = [-100.0] * bounds.least
    world.run(600)
    assert all(bounds.least <= count <= bounds.most for count in world.counts)
    lost = starting > STARTING_SECONDS  # those that take longer are done without meanwhile
    assert lost or all(count <= max(partitions, bounds.least) for count in world.counts)
    changes = [(at, before, after) for at, (before, after) in enumerate(pairwise(world.counts)) if before != after]
    for (first, *_), (second, before, after) in pairwise(changes):
        assert second - first >= (UP_SECONDS if after > before else bounds.down_seconds)
        assert after <= 2 * before


# ---- one decision


def after(load: Load, slots: int, seconds: float, goals: Targets, step: float = 1.0) -> Decision:
    """The decision when the same was seen all the while."""
    history, decision = History(), None
    for at in range(int(seconds / step) + 1):
        decision = decide(goals, Sight(at * step, slots, load), history)
        history = decision.history
    assert decision is not None
    return decision


def test_needed_is_what_arrives_at_the_utilization_or_what_drains_in_time() -> None:
    assert needed(STEADY, targets(utilization=0.5)) == pytest.approx(1.0)
    assert needed(replace(STEADY, lag=500), targets(utilization=0.5)) == pytest.approx(1.0)  # at hand
    assert needed(replace(STEADY, lag=60_500), targets(lag_seconds=30)) == pytest.approx(2.5)
    assert needed(replace(STEADY, arriving=None), targets()) is None
    assert needed(replace(STEADY, capacity=None), targets()) == 0.0
    assert needed(replace(STEADY, capacity=None, lag=5), targets()) is None


def test_a_decision_needs_evidence_of_some_seconds() -> None:
    busy = replace(STEADY, arriving=1_600.0, scored=1_000.0, lag=5_000)
    assert after(busy, 1, UP_SECONDS - 1, targets()).wanted == 1
    decision = after(busy, 1, UP_SECONDS, targets())
    assert decision.wanted == 2  # by half as many again at most: three are needed
    for word in ("5,000 events wait", "never drained", "1,600/s arrive", "2.29 slots are needed", "utilization 100%"):
        assert word in decision.why


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (None, "no slot reads yet"),
        (replace(STEADY, settled=SETTLING_SECONDS - 1), "changed a moment ago"),
        (replace(STEADY, held=("paused",)), "held back (paused)"),
        (replace(STEADY, arriving=None), "rates are not known yet"),
    ],
)
def test_evidence_that_means_nothing_changes_nothing(load: Load | None, why: str) -> None:
    overload = load and replace(load, lag=10_000_000)
    decision = decide(targets(), Sight(1_000.0, 1, overload), History(((0.0, 5), (999.0, 5))))
    assert decision.wanted == 1
    assert why in decision.why
    assert decision.history.asked  # and does not undo what was seen before


def test_a_machine_that_is_full_gets_no_more_slots_where_that_is_asked_for() -> None:
    busy = replace(STEADY, arriving=1_600.0, scored=1_000.0, lag=50_000, slowdown=5.0)
    assert after(busy, 1, 10, targets(slowdown=4.0)).wanted == 1
    assert "above a slow-down of 4" in after(busy, 1, 10, targets(slowdown=4.0)).why
    assert after(busy, 1, 10, targets(slowdown=6.0)).wanted == 2
    assert after(busy, 1, 10, targets()).wanted == 2


def test_slots_without_a_partition_go() -> None:
    load = replace(STEADY, slots=4, idle=1, arriving=3_500.0, scored=3_000.0)
    assert after(load, 4, 100, targets()).wanted == 3


# ---- what slots say together

VITALS = Vitals(10_000, 1, 4, 8, 100, 50.0, 40.0, 400.0, 1.5, 1e-6, 0.5, 1 << 20, (), 30.0, 0.1)


def test_the_load_of_a_deployment_is_that_of_its_slots() -> None:
    other = replace(VITALS, lag=20, arriving=10.0, scored=20.0, capacity=200.0, slowdown=None, settled=9.0)
    load = load_of([VITALS, other], 10_500)
    assert load == Load(2, 0, 8, 8, 120, 60.0, 60.0, 300.0, 1.5, (), 9.0)
    assert load.drain_seconds == math.inf
    assert load.utilization == pytest.approx(0.1)
    assert load.told()["drain_seconds"] == "inf"


def test_slots_that_are_gone_or_stuck_or_not_yet_members_do_not_count() -> None:
    assert load_of([replace(VITALS, at_ms=1_000), replace(VITALS, turned=100.0)], 10_500) is None
    assert load_of([replace(VITALS, joined=False)], 10_500) is None
    assert load_of([VITALS, replace(VITALS, at_ms=1_000)], 10_500) == load_of([VITALS], 10_500)


def test_what_nobody_reads_is_known_from_the_brokers() -> None:
    alone, all_of_it = load_of([VITALS], 10_000, lag=5_000), load_of([VITALS, VITALS], 10_000, lag=5_000)
    assert alone is not None
    assert all_of_it is not None
    assert (alone.lag, all_of_it.lag) == (5_000, 200)


def test_a_slot_whose_rates_are_unknown_makes_those_of_all_unknown_unless_it_reads_nothing() -> None:
    unknown = replace(VITALS, arriving=None, scored=None, capacity=None)
    load = load_of([VITALS, unknown], 10_000)
    assert load is not None
    assert (load.arriving, load.drain_seconds, load.utilization, load.capacity) == (None, None, None, 400.0)
    load = load_of([VITALS, replace(unknown, partitions=0, lag=0)], 10_000)
    assert load is not None
    assert (load.arriving, load.idle) == (50.0, 1)


@pytest.mark.parametrize(
    ("lag", "scored", "arriving", "seconds"),
    [(0, 0.0, 0.0, 0.0), (50, 100.0, 100.0, 0.5), (1_000, 100.0, 50.0, 20.0), (1_000, 100.0, 100.0, math.inf)],
)
def test_drain_time_follows_from_lag_and_rates(lag: int, scored: float, arriving: float, seconds: float) -> None:
    assert replace(STEADY, lag=lag, scored=scored, arriving=arriving).drain_seconds == pytest.approx(seconds)
