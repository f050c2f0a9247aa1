"""What is known of an arm's records where retention removed some, and which dead letters are ours."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.deployment import Deployment
from streams.arms import Made
from streams.batch import batch_of
from streams.crew import Crew, Maker, standing_beside
from streams.declarations import Declaration
from streams.findings import Findings
from streams.memory import StoredMessage
from streams.recorded import Recorded

LAST = 100


def declared(*everywhere: str, number: int = 1, pinned: bool = True) -> Declaration:
    """A state with an active arm, and arms that score every event."""
    arms = [{"role": "active", "model": "m@t"}, *({"role": "all", "name": name, "model": "m@t"} for name in everywhere)]
    told = {"name": "d", "input": {"topic": "e", "schema": "e.avsc"}, "output": {"topic": "i"}, "arms": arms}
    return Declaration(Deployment.model_validate(told), {}, number if pinned else None)


def findings() -> Findings:
    """Three source partitions of 100 events each, of which the range holds all but the first ten."""
    return Findings("e", "i", "l", dict.fromkeys(range(3), (10, LAST)))


def recorded(**found: Any) -> Recorded:
    """What was read of the output topic, in the names of Recorded's attributes."""
    made = Recorded("d", findings(), Crew([declared()], "active"))
    for name, value in found.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("sources", "found", "floor"),
    [
        # nothing was removed: every event is judged, whatever is there
        (3, {"outputs": 3, "lowest": {(1, 1): 50}}, 10),
        (3, {"outputs": 2, "lowest": {(0, 1): 50}}, 10),
        # as many partitions: an event's inference is in its own one
        (3, {"outputs": 3, "truncated": {1}, "lowest": {(1, 1): 50}}, 50),
        (3, {"outputs": 3, "truncated": {1}}, LAST),
        (3, {"outputs": 3, "truncated": {0, 2}, "lowest": {(1, 1): 50}}, 10),
        (3, {"outputs": 3, "truncated": {0}, "lowest": {(0, 1): 40, (1, 1): 10}}, 40),  # there were fewer once
        # keys decide: each may hold it, and the one that begins latest counts
        (3, {"outputs": 2, "truncated": {0, 1}, "lowest": {(0, 1): 20, (1, 1): 70}}, 70),
        (3, {"outputs": 2, "truncated": {0}, "lowest": {(0, 1): 20, (1, 1): 70}}, 20),
        (3, {"outputs": 2, "truncated": {1}, "lowest": {(0, 1): 10, (1, 1): 70, (1, 0): 90}}, 70),
        (3, {"outputs": 2, "truncated": {0, 1}, "lowest": {(0, 1): 20, (1, 0): 30}}, LAST),
        (3, {"outputs": 2, "truncated": {0, 1}, "lowest": {(0, 1): 5, (1, 1): 7}}, 10),  # both before the range
    ],
)
def test_events_are_judged_from_where_retention_cannot_have_removed_their_inference(
    sources: int, found: dict[str, Any], floor: int
) -> None:
    assert recorded(**found).kept_from(1, sources) == floor


def test_the_first_event_with_an_inference_is_that_of_any_output_partition() -> None:
    found = recorded(lowest={(0, 1): 40, (1, 1): 30, (0, 0): 20})
    assert [found.first_inferred(partition) for partition in range(3)] == [20, 30, LAST]


class Letter:
    """A record of the dead-letter topic."""

    def __init__(self, headers: list[tuple[str, bytes]]) -> None:
        self._headers = headers

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers

    def value(self) -> bytes:
        return b"an event"

    def key(self) -> None:
        return None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7


OURS = {
    "penstock.reason": b"truncated",
    "penstock.deployment": b"d",
    "penstock.source.topic": b"e",
    "penstock.source.partition": b"1",
    "penstock.source.offset": b"20",
}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (OURS, {"dead_letters": 1}),
        ({}, {"unreadable": 1}),
        ({"trace": b"1"}, {"unreadable": 1}),
        ({name: text for name, text in OURS.items() if name != "penstock.deployment"}, {"unreadable": 1}),
        ({name: text for name, text in OURS.items() if name != "penstock.source.offset"}, {"unreadable": 1}),
        ({**OURS, "penstock.deployment": b"another"}, {}),
        ({**OURS, "penstock.source.topic": b"another"}, {}),
    ],
    ids=["ours", "none", "the event's only", "no deployment", "no offset", "another deployment's", "another topic's"],
)
def test_what_is_no_dead_letter_is_counted_and_that_of_others_is_not(
    headers: dict[str, bytes], found: dict[str, int]
) -> None:
    counted = findings()
    Recorded("d", counted, Crew([declared()], "active")).take_letter(Letter(list(headers.items())))  # type: ignore[arg-type]
    assert dict(counted.counts) == found


def maker(arm: str, revision: int) -> Maker:
    return Maker("d", revision, "e", Made(arm, arm, 1.0, "", "m", "v"))


def test_inferences_of_an_arm_of_every_event_are_counted_by_themselves_as_their_revision_declares() -> None:
    """Revision 1 had trees as an ordinary arm, revision 2 has it for every event."""
    states = [declared("trees", number=2), declared(number=1)]
    together, alone = Crew(states, "active"), Crew(states, "trees")
    assert [together.has(maker("active", revision)) for revision in (1, 2)] == [True, True]
    assert [together.has(maker("trees", revision)) for revision in (1, 2)] == [True, False]
    assert [alone.has(maker(arm, 2)) for arm in ("active", "trees")] == [False, True]
    assert together.has(maker("trees", 99)) is False  # of no state given: as the newest has it
    assert standing_beside([declared(number=3), *states]) == standing_beside(states) == ["trees"]
    assert standing_beside([declared(number=3, pinned=False), *states]) == []  # files tell not which state scored what
    assert (together.common_letters, alone.common_letters) == (None, "d.dead-letters")


def test_an_arm_of_every_event_must_have_those_of_the_revisions_that_declare_it() -> None:
    states = [declared("trees", number=3), declared(number=2), declared("trees", number=1)]
    alone = Crew(states, "trees")
    assert [alone.due(revision, False) for revision in (1, 2, 3)] == [True, False, True]
    assert [alone.due(-1, otherwise) for otherwise in (True, False)] == [True, False]
    assert Crew(states, "active").due(2, True) is True
    assert [alone.without(revision) for revision in (1, 2, 3, -1)] == [False, True, False, False]
    assert Crew(states, "active").without(2) is False


@pytest.mark.parametrize(
    ("reason", "excused"),
    [(b"truncated", True), (b"quarantined", True), (b"missing_value", False), (b"model_failed", False)],
)
def test_an_event_that_nobody_can_score_is_told_once_for_all_arms(reason: bytes, excused: bool) -> None:
    made = Recorded("d", findings(), Crew([declared("trees")], "trees"))
    made.take_common_letter(Letter(list({**OURS, "penstock.reason": reason}.items())))  # type: ignore[arg-type]
    batch = batch_of([StoredMessage((b"", None, partition, 20, 0, None)) for partition in (0, 1, 2)])
    assert made.excused(batch).tolist() == [False, excused, False]
    assert dict(made._findings.counts) == {}


@pytest.mark.parametrize(
    "change", [{"penstock.deployment": b"x"}, {"penstock.source.topic": b"x"}, {"penstock.source.offset": b"-"}]
)
def test_letters_of_others_excuse_nothing(change: dict[str, bytes]) -> None:
    made = Recorded("d", findings(), Crew([declared("trees")], "trees"))
    made.take_common_letter(Letter(list({**OURS, **change}.items())))  # type: ignore[arg-type]
    assert not made.excused(batch_of([StoredMessage((b"", None, 1, 20, 0, None))])).any()
