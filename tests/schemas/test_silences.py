"""What people say about alerts: whom it concerns, and until when."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from schemas import records, silences
from schemas.errors import RecordInvalid
from schemas.silences import Silence

ALERT = {"id": "a1", "deployment": "flights", "kind": "feature", "name": "wind", "group": "g1"}
GROUP = {"id": "g1", "deployment": "flights", "kind": "group", "name": "columns", "members": ["wind", "rain"]}
SILENCE = Silence("s1", "silence", "ada", "desk", "known", 5, 10, 20, deployment="flights")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, True),
        ({"deployment": "fl*"}, True),
        ({"deployment": "Flights"}, False),
        ({"deployment": "other"}, False),
        ({"kind": "feature"}, True),
        ({"kind": "output"}, False),
        ({"name": "w?nd"}, True),
        ({"name": "win"}, False),
        ({"kind": "feature", "name": "rain"}, False),
        ({"alert": "a1", "deployment": "other"}, True),
        ({"alert": "g1"}, True),
        ({"alert": "a2"}, False),
    ],
)
def test_what_a_silence_is_about(said: dict[str, Any], expected: bool) -> None:
    assert replace(SILENCE, **said).matches(ALERT) is expected


@pytest.mark.parametrize(("name", "expected"), [("", True), ("*", True), ("wind", False), ("*n*", True)])
def test_a_group_is_silent_when_all_its_members_are(name: str, expected: bool) -> None:
    assert replace(SILENCE, name=name).matches(GROUP) is expected


@pytest.mark.parametrize(("now", "expected"), [(9, False), (10, True), (19, True), (20, False)])
def test_a_silence_begins_and_ends(now: int, expected: bool) -> None:
    assert SILENCE.silences(ALERT, now) is expected
    assert (silences.silenced(ALERT, [SILENCE], now) is SILENCE) is expected


def test_an_ack_silences_nothing_and_the_last_one_is_told() -> None:
    one, other = (replace(SILENCE, id=name, action="ack", alert="a1", at_ms=at) for name, at in (("x", 7), ("y", 6)))
    assert silences.silenced(ALERT, [one, other], 15) is None
    assert silences.acked(ALERT, [one, other]) is one
    assert silences.acked({**ALERT, "id": "a2"}, [one, other]) is None


def test_what_is_encoded_is_read_back_and_an_unknown_word_is_refused() -> None:
    assert Silence.decode(SILENCE.encode()) == SILENCE
    with pytest.raises(RecordInvalid, match="'snooze'"):
        Silence.decode(records.encode("silence", {**asdict(SILENCE), "action": "snooze"}))


@pytest.mark.parametrize(
    ("said", "told"),
    [({}, "deployment=flights"), ({"alert": "0123456789"}, "alert 01234567"), ({"deployment": ""}, "everything")],
)
def test_it_says_what_it_is_about(said: dict[str, Any], told: str) -> None:
    assert replace(SILENCE, **said).about == told
