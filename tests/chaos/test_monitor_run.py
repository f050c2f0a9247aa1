"""The run of the monitor: a seed gives the same faults again, and the comparison sees every kind of difference."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from monitoring.profiles import ProfileFold
from monitoring.settings import Settings
from schemas import records
from tests.chaos.monitor_run import TWELVE, _against, _lacking, _unlike, plan
from tests.chaos.monitored import kind_of
from tests.chaos.scenario import Hurts
from tests.chaos.world import Layout, World
from tests.monitoring.traffic import Alerts, Batches, by_state, fold_all, profiler, reference


def _alerts() -> Alerts:
    batches = Batches(profiler())
    values = [*batches.batches(20), *batches.batches(20, shift=2.0), *batches.batches(40)]
    fold = ProfileFold("flights", {reference().digest: reference()}, 4, Settings(design_effect=1.0))
    return by_state(fold_all(fold, values))


ALERTS = _alerts()


def test_a_plan_has_what_was_asked_for_and_a_seed_gives_it_again() -> None:
    found = plan(Hurts(seed=3), TWELVE.monitors)
    assert Counter(fault.kind for fault in found) == {"kill": 15, "term": 5, "freeze": 3, "kill_broker": 1}
    assert sum(bool(fault.arguments.get("twin")) for fault in found) == 1
    assert {fault.arguments["slot"] for fault in found if "slot" in fault.arguments} <= {"0", "1", "2"}
    assert [fault.at for fault in found] == [6.0 * (at + 1) for at in range(24)]
    assert plan(Hurts(seed=3), 3) == found != plan(Hurts(seed=4), 3)


def test_alerts_that_are_lost_added_or_altered_are_told() -> None:
    assert list(_unlike(ALERTS, ALERTS, "the fold's")) == []
    name, value = next(iter(ALERTS.items()))
    fewer = {each: kept for each, kept in ALERTS.items() if each != name}
    altered = {**ALERTS, name: records.encode("alert", records.decode("alert", value) | {"rows": 7})}
    for found, told in ((fewer, "1 are lost, 0 too many and 0 not"), (altered, "0 are lost, 0 too many and 1 not")):
        (text,) = _unlike(found, ALERTS, "the fold's")
        assert told in text
    assert "0 are lost, 1 too many" in next(_unlike(ALERTS, fewer, "the fold's"))


def test_a_comparison_of_nothing_is_told() -> None:
    assert {kind_of(value) for value in ALERTS.values()} <= {"feature", "output", "group"}
    assert "too few kinds" in _lacking(ALERTS)  # there are none on quality
    assert "too few kinds" in _lacking({})


def test_a_control_must_show_a_difference_and_nothing_else_may() -> None:
    assert _against(["x"], control=False) == ["x"]
    assert _against([], control=False) == []
    assert _against(["x"], control=True) == []
    assert "shows no difference" in _against([], control=True)[0]


@pytest.mark.parametrize("layout", [Layout("a", 1, 1), Layout("b", 12, 3)])
def test_the_input_is_the_same_in_every_layout_but_for_where_it_lies(layout: Layout) -> None:
    world, again = World(5, base=0), World(5, base=0)
    assert world.events == again.events
    assert world.truth == again.truth
    events = [event for step in world.events for event in step]
    placed = [world.placed(event, layout) for event in events]
    assert [replace(event, partition=0) for event in placed] == events
    assert {event.partition for event in placed} == set(range(layout.sources))
    assert len({label.time for step in world.labels for label in step}) == sum(map(len, world.labels))
