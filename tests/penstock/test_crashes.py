"""What follows from deaths: smaller batches around the same events, holding them back, waiting, giving up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.crashes import DEATHS, INCIDENTS, LONG_LIFE, MEMORY, Incidents, Lives
from streams.inflight import Marker, Trace, read
from streams.memory import MemoryKafka, MemorySink, MemorySource
from streams.offsets import OffsetRange, Spans
from streams.quarantine import Quarantine
from streams.safeguard import Safeguard
from tests.streams.fakes import NumberDecoder, scorer


def died(incidents: Incidents, now: float = 0.0, told: Spans | None = None, **spans: tuple[int, int]) -> str:
    """Note a death while p0=(first, next) and so on were scored; returns the events it is put down to."""
    trace = Trace("events", True, {int(name[1:]): span for name, span in spans.items()})
    incident = incidents.died(trace, now, told or {})
    assert incident is not None
    return f"{incident.deaths}: {', '.join(map(str, incident.ranges))}"


def test_deaths_on_the_same_events_narrow_them_down_to_one_which_is_then_held() -> None:
    incidents = Incidents(2_000)
    assert died(incidents, p0=(0, 1_500), p1=(0, 500)) == "1: events/0@0-1499, events/1@0-499"
    assert not incidents.caution.suspects  # anybody may be killed once
    sizes = []
    for width in (1_500, 159, 13, 1):
        first = 700 - 700 % width
        assert died(incidents, p0=(first, first + width)).startswith(f"{len(sizes) + 2}: events/0@")
        sizes.append(incidents.caution.batch_events)
    assert sizes == [159, 13, 1, 2_000]
    assert incidents.held == incidents.caution.held == {0: (700, 701)}
    assert not incidents.caution.suspects


def test_deaths_elsewhere_are_other_incidents_and_two_of_them_are_narrowed_down_side_by_side() -> None:
    incidents = Incidents(1_000)
    for turn in range(1, DEATHS):
        assert died(incidents, p0=(10, 20)).startswith(f"{turn}:")
        assert died(incidents, p1=(30, 40)).startswith(f"{turn}:")
    assert incidents.caution.suspects == {0: (10, 20), 1: (30, 40)}
    assert died(incidents, p1=(30, 31)) == "5: events/1@30"
    assert incidents.caution.held == {1: (30, 31)}
    assert incidents.caution.suspects == {0: (10, 20)}
    # a slot that did not know of the held event
    assert died(incidents, p1=(25, 60)) == "6: events/1@30"
    assert incidents.caution.held == {1: (30, 31)}


def test_a_death_of_a_slot_that_reads_large_batches_still_decides_nothing() -> None:
    incidents = Incidents(1_000)
    for _ in range(DEATHS + 1):
        died(incidents, p0=(10, 20))
    assert not incidents.held
    assert incidents.caution.batch_events == 1
    died(incidents, p0=(13, 14))
    assert incidents.held == {0: (13, 14)}


def test_events_that_cannot_be_told_apart_are_held_together_in_the_end() -> None:
    incidents = Incidents(1_000)
    for turn in range(1, 2 * DEATHS + 1):
        assert not incidents.held
        assert died(incidents, p0=(10, 20)).startswith(f"{turn}:")
    assert incidents.held == {0: (10, 20)}


def test_of_two_held_events_of_a_partition_the_later_one_stops_it() -> None:
    incidents = Incidents(1)
    for first in (5, 9):
        for _ in range(DEATHS):
            died(incidents, p0=(first, first + 1))
    assert incidents.held == {0: (9, 10)}


def test_kills_that_hit_the_scoring_of_other_events_each_time_are_suspected_of_nothing() -> None:
    incidents = Incidents(2_000)
    for i in range(100):
        assert died(incidents, p0=(i * 10, i * 10 + 10)).startswith("1:")
    assert not incidents.caution.suspects
    assert not incidents.held
    assert len(incidents._all) == INCIDENTS


def test_a_death_long_ago_is_forgotten_and_so_is_everything_when_somebody_says_so() -> None:
    incidents = Incidents(2_000)
    died(incidents, p0=(0, 10))
    assert died(incidents, MEMORY + 1, p0=(0, 10)).startswith("1:")
    for _ in range(DEATHS):
        died(incidents, MEMORY + 2, p0=(0, 1))
    assert incidents.held
    incidents.forgive()
    assert not incidents.held
    assert died(incidents, MEMORY + 3, p0=(0, 1)).startswith("1:")


def test_a_death_while_nothing_was_scored_belongs_to_no_incident() -> None:
    assert Incidents(10).died(Trace("events", True), 0.0, {}) is None


def hold(incidents: Incidents, offset: int) -> None:
    for _ in range(DEATHS):
        died(incidents, p0=(offset, offset + 1))


def test_a_process_that_was_told_of_a_held_event_died_on_others() -> None:
    incidents = Incidents(1_000)
    hold(incidents, 100)
    told = incidents.caution.held
    assert died(incidents, told=told, p0=(90, 200)) == "1: events/0@90-199"  # the held event lies amid the batch
    assert died(incidents, told=told, p0=(101, 150)) == "2: events/0@101-149"
    assert incidents.caution.suspects == {0: (101, 150)}
    # the negative control: one that was not told, or of another partition alone, may have died on the held event
    assert died(incidents, p0=(90, 101)) == "6: events/0@100"
    assert died(incidents, told={1: (500, 501)}, p0=(90, 101)) == "7: events/0@100"


def test_what_was_held_before_the_event_that_is_told_was_decided() -> None:
    incidents = Incidents(1_000)
    hold(incidents, 100)
    early = incidents.caution.held
    hold(incidents, 150)
    assert incidents.caution.held == {0: (150, 151)}
    assert died(incidents, told=incidents.caution.held, p0=(90, 200)) == "1: events/0@90-199"
    assert died(incidents, told=early, p0=(110, 200)) == "6: events/0@150"


class Deadly(NumberDecoder):
    """An event `666` ends it, as it would end the process."""

    def decode(self, values: Sequence[bytes | None]) -> Any:
        if b"666" in values:
            raise SystemExit
        return super().decode(values)


class Deployment:
    """A partition with two deadly events, read by one process after the other; what is held is quarantined at once."""

    def __init__(self, marker: Path, *, tells: bool = True) -> None:
        self.marker, self.tells = marker, tells
        self.kafka = MemoryKafka({"in": 1})
        for i in range(300):
            self.kafka.append("in", b"666" if i in (100, 130) else b"%d" % (2 * i))
        self.incidents, self.deaths = Incidents(300), 0
        self.quarantined: list[OffsetRange] = []

    def live(self) -> bool:
        """Have one process read from the committed offset to the end or its death; True when it came to the end."""
        caution = self.incidents.caution
        marker = Marker(self.marker, "in")
        guard = Safeguard("in", marker=marker, quarantine=Quarantine(self.quarantined), caution=caution)
        source = MemorySource(self.kafka, "in")
        source.begin()
        try:
            while batch := source.poll(guard.limit(300, source), 0):
                guard.score(scorer(Deadly()), batch)
                MemorySink(self.kafka, source).publish([], batch.positions)
        except SystemExit:
            self.deaths += 1
            incident = self.incidents.died(read(self.marker), 0.0, caution.held if self.tells else {})
            if incident is not None and incident.held:
                self.quarantined += [each for each in incident.ranges if each not in self.quarantined]
            return False
        finally:
            marker.close()
        return True


@pytest.mark.parametrize("start_over", [False, True])
def test_two_deadly_events_of_one_batch_are_both_found(tmp_path: Path, start_over: bool) -> None:
    deployment = Deployment(tmp_path / "m")
    while not deployment.live():
        assert deployment.deaths <= 2 * DEATHS
        if start_over:  # the first event lies amid each batch that the second one ends
            deployment.kafka.offsets[("in", 0)] = min(90, deployment.kafka.offsets.get(("in", 0), 0))
    assert list(map(str, deployment.quarantined)) == ["in/0@100", "in/0@130"]


def test_an_event_that_is_held_already_would_hide_the_next_one(tmp_path: Path) -> None:
    """The negative control: what the processes were told is left out."""
    deployment = Deployment(tmp_path / "m", tells=False)
    for _ in range(5 * DEATHS):
        assert not deployment.live()
        deployment.kafka.offsets[("in", 0)] = min(90, deployment.kafka.offsets.get(("in", 0), 0))
    assert list(map(str, deployment.quarantined)) == ["in/0@100"]


def delays(*lived: float, scoring: bool = False) -> list[float]:
    lives, found = Lives(), []
    for seconds in lived:
        lives.ended(seconds, joined=True, crashed=True, scoring=scoring)
        found.append(lives.delay)
    return found


def test_a_slot_is_started_again_at_once_and_later_where_it_dies_young() -> None:
    assert delays(*[1.0] * 8) == [0, 0.5, 1, 2, 5, 10, 10, 10]
    assert delays(100, 20, 20) == [0, 0, 0]
    assert delays(1, 1, 20, 1) == [0, 0.5, 0, 0.5]
    assert delays(*[1.0] * 5, scoring=True) == [0, 0.5, 1, 1, 1]  # before the group gives its partitions away


def test_only_processes_that_never_join_make_a_slot_hopeless() -> None:
    lives = Lives()
    for _ in range(DEATHS):
        assert not lives.hopeless
        lives.ended(1, joined=False, crashed=True, scoring=False)
    assert lives.hopeless
    lives = Lives()
    for turn in range(3 * DEATHS):
        lives.ended(1, joined=turn % DEATHS == 0, crashed=True, scoring=False)
    assert not lives.hopeless


def test_a_process_that_lived_long_got_somewhere_also_when_it_could_not_note_so() -> None:
    lives = Lives()
    for turn in range(3 * DEATHS):
        lives.ended(LONG_LIFE if turn % DEATHS == 0 else 1, joined=False, crashed=True, scoring=False)
        assert not lives.hopeless
