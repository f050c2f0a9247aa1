"""The records of control: read back as they were written, told in one form, named by role."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from schemas.control import (
    Entry,
    First,
    Head,
    Running,
    State,
    Status,
    Swap,
    Version,
    arms_of,
    canonical,
)
from schemas.deployment import Deployment
from schemas.errors import RecordInvalid
from schemas.vitals import Vitals, Wait

READER = {"type": "record", "name": "Event", "fields": [{"name": "a", "type": "double"}]}


def deployment(*arms: dict[str, Any], **more: Any) -> Deployment:
    declared = {
        "name": "flights",
        "input": {"topic": "flights.events", "schema": "event.avsc"},
        "output": {"topic": "flights.inferences"},
        "arms": arms or ({"role": "active", "model": "flights@production"},),
        **more,
    }
    return Deployment.model_validate(declared)


def state(revision: int = 1, version: str = "v1", **more: Any) -> State:
    declared = deployment()
    arms = arms_of(declared, {"flights@production": Version("flights", version, f"digest of {version}")})
    return replace(State.of(declared, revision, READER, arms), **more)


RECORDS: list[Any] = [
    state(),
    state(7, paused=True, changed_ms=5, audit_sequence=9, audit_hash="ab", signature=b"\0s", signer="Ada"),
    Head(),
    Head(12, "ab"),
    Entry("i", 1, "", 5, "Ada", "here", "note", "because", "model", "flights", after='{"note":"é\\n"}', hash="ab"),
    Entry("i", 2, "ab", 5, "Ada", "here", "apply", "", "deployment", "flights", 1, 2, "{}", "{}", "cd", b"s", "Ada"),
    Swap("flights", 2, "active", "flights", "v", "d", "0", (First(0, 12), First(3, 1 << 40)), 5),
    Status("flights", "0", "active", "here", 1, 5, None, 3, (Running("active", "flights", "v", "d"),), "starting"),
    Status("flights", "0", "g", "here", 1, 5, 2, 2, (Running("active", "f", "v", "d", 7, 1 << 41),), "running"),
    Status("flights", "0", "active", "here", 1, 5, 2, 3, (), "refused", "does not fit", 3),
    Status("flights", "0", "active", "here", 1, 5, 2, 2, (), "running", vitals=Vitals(5, 1, 0, 8, 0)),
    Status(
        *("flights", "0", "active", "here", 1, 5, 2, 2, (), "running"),
        vitals=Vitals(5, 1, 4, 8, 9, 1.0, 2.0, 3.0, 1.5, 1e-6, 0.5, 1 << 30, ("paused", "quota"), 4.0, 0.1),
    ),
    Status(
        *("flights", "0", "active", "here", 1, 5, 2, 2, (), "running"),
        vitals=Vitals(
            5,
            1,
            1,
            8,
            9,
            resources={"cpu": 0.5},
            counts={"events": 7},
            circuits=("canary",),
            waits=(Wait(3, 1 << 40, 9, 1.5),),
        ),
    ),
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_read_back_as_it_was_written(record: Any) -> None:
    assert type(record).decode(record.encode()) == record


@pytest.mark.parametrize("kind", [State, Head, Entry, Swap, Status])
def test_bytes_of_another_record_are_refused(kind: Any) -> None:
    other = next(record for record in RECORDS if not isinstance(record, kind))
    with pytest.raises(RecordInvalid, match="not the record"):
        kind.decode(other.encode())


def test_keys_name_what_a_compacted_topic_keeps_one_record_of() -> None:
    swap, status = RECORDS[6], RECORDS[7]
    assert (swap.key, status.key) == (b"flights/active", b"flights/active/0")


def test_canonical_json_is_one_form_that_rfc_8785_names() -> None:
    assert canonical({"b": 1, "a": 'é\u2028\x01\n"\\'}) == '{"a":"é\u2028\\u0001\\n\\"\\\\","b":1}'


def test_what_the_audit_tells_of_a_state_makes_the_state_again() -> None:
    declared = deployment(
        {"role": "active", "model": "flights@production"}, {"role": "canary", "model": "f@c", "percent": 5}
    )
    versions = {"flights@production": Version("flights", "v1", "d1"), "f@c": Version("f", "v2", "d2")}
    whole = State.of(declared, 3, READER, arms_of(declared, versions), paused=True)
    told = json.loads(whole.told())
    assert State.of_told(whole.told()) == whole
    assert told.keys() == {"deployment", "revision", "declaration", "event_schema", "arms", "paused"}
    assert told["declaration"] == declared.to_dict()
    assert told["arms"][1] == {
        "name": "canary",
        "role": "canary",
        "ref": "f@c",
        "model": "f",
        "version": "v2",
        "digest": "d2",
        "weight": 5.0,
    }


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"deployment": "d", "revision": "x"}'])
def test_what_tells_of_no_state_is_refused(text: str) -> None:
    with pytest.raises(RecordInvalid, match="tells no state"):
        State.of_told(text)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda s: replace(s, revision=9, changed_ms=1, audit_hash="x", signer="Ada"), True),
        (lambda s: replace(s, paused=True), False),
        (lambda s: replace(s, event_schema="{}"), False),
        (lambda s: replace(s, arms=(replace(s.arms[0], version="v2"),)), False),
        (lambda s: replace(s, declaration=canonical(deployment(latency_ms=5).to_dict())), False),
    ],
)
def test_states_are_the_same_when_they_ask_for_the_same(change: Callable[[State], State], same: bool) -> None:
    assert change(state()).same_as(state()) is same


def test_the_fallback_chain_is_resolved_behind_the_arms() -> None:
    arms = [
        {"role": "active", "model": "m@t"},
        {"role": "challenger", "model": "n@t", "percent": 5},
        {"role": "shadow", "model": "m@t", "topic": "x"},
    ]
    declared = deployment(*arms, fallback=["m@stable", {"constant": {"score": 0.5}}])
    versions = {ref: Version(ref[0], f"v of {ref}", "d") for ref in ("m@t", "n@t", "m@stable")}
    found = [(arm.name, arm.role, arm.pinned, arm.weight) for arm in arms_of(declared, versions)]
    assert found == [
        ("active", "active", "m@v of m@t", None),
        ("challenger", "challenger", "n@v of n@t", 5.0),
        ("shadow", "shadow", "m@v of m@t", None),
        ("fallback", "fallback", "m@v of m@stable", None),
    ]
