"""What is known of an arm's records where retention removed some, and which dead letters are ours."""

from __future__ import annotations

from typing import Any

import pytest

from streams.findings import Findings
from streams.recorded import Recorded

LAST = 100


def findings() -> Findings:
    """Three source partitions of 100 events each, of which the range holds all but the first ten."""
    return Findings("e", "i", "l", dict.fromkeys(range(3), (10, LAST)))


def recorded(**found: Any) -> Recorded:
    """What was read of the output topic, in the names of Recorded's attributes."""
    made = Recorded("d", findings())
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
    Recorded("d", counted).take_letter(Letter(list(headers.items())))  # type: ignore[arg-type]
    assert dict(counted.counts) == found
