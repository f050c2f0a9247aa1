"""Schedules: a seed gives the same faults again, in the numbers that were asked for."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.catalogue import catalogue
from tests.chaos.faults import KINDS
from tests.chaos.scenario import Fault
from tests.chaos.schedule import schedule


def test_a_seed_gives_the_same_schedule_again_and_another_seed_another() -> None:
    def make(seed: int) -> tuple[Fault, ...]:
        return schedule(seed, 100, slots=3, kills=10, pauses=2, scales=4, broker_faults=3)

    assert make(7) == make(7)
    assert make(7) != make(8)


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_has_what_was_asked_for_in_time(seed: int) -> None:
    faults = schedule(seed, 1_000, slots=3, brokers=3, kills=100, scales=20, broker_faults=10)
    kinds = Counter(fault.kind for fault in faults)
    assert kinds["kill"] == 100
    assert kinds["scale"] == 20
    assert sum(kinds.values()) == 130
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    assert faults[0].at >= 3
    assert faults[-1].at < 1_000


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_hits_only_slots_that_run(seed: int) -> None:
    running = 3
    for fault in schedule(seed, 1_000, slots=3, kills=50, terms=10, scales=20):
        if fault.kind == "scale":
            running = fault.arguments["to"]
        else:
            assert int(fault.arguments["slot"]) < running
    assert running == 3


@pytest.mark.parametrize("seed", range(20))
def test_a_slot_that_is_spared_is_never_ended(seed: int) -> None:
    faults = schedule(seed, 1_000, slots=3, kills=50, terms=10, pauses=5, scales=20, spared=1)
    hit = {(fault.kind, fault.arguments["slot"]) for fault in faults if "slot" in fault.arguments}
    assert {("kill", "1"), ("kill", "2"), ("pause", "0")} <= hit
    assert not hit & {("kill", "0"), ("term", "0")}


@pytest.mark.parametrize("seed", range(3))
def test_every_fault_of_the_catalogue_exists_and_names_are_unique(seed: int) -> None:
    scenarios = catalogue(seed)
    assert len({scenario.name for scenario in scenarios}) == len(scenarios)
    assert {fault.kind for scenario in scenarios for fault in scenario.faults} <= KINDS.keys()
    used = {fault.kind for scenario in scenarios for fault in scenario.faults}
    random = {"kill_coordinator"}  # only in random schedules
    assert KINDS.keys() - used <= random
    for scenario in scenarios:
        assert all(fault.at + fault.lasts <= scenario.seconds for fault in scenario.faults), scenario.name


def test_scale_changes_come_in_pairs_that_do_not_overlap() -> None:
    for seed in range(50):
        scales = [f.arguments["to"] for f in schedule(seed, 100, slots=3, kills=5, scales=6) if f.kind == "scale"]
        assert scales[1::2] == [3, 3, 3]
        assert 3 not in scales[::2]
