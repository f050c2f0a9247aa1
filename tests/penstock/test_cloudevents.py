"""Entries of the audit as CloudEvents 1.0."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cloudevents import EVENT_BYTES, TYPES, UNREADABLE, Event, event_of, time_of, type_of, unreadable_event
from scripts.project_checks import ROOT
from tests.audit_entries import NEW, OLD, arm, deployed, entry

SOURCE = "/penstock/Tn2eYkV9RfK0vLqTqQ5GJw"
BEFORE = deployed(6, arm(OLD), arm(NEW, "canary", f"flights@{NEW}", weight=5.0))
PROMOTED = entry(
    17, "promote", before=BEFORE, after=deployed(7, arm(NEW, ref=f"flights@{NEW}")), why="auc 0.74 instead of 0.71"
)


def parsed(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.value)
    return found


def test_an_event_has_what_the_specification_requires() -> None:
    event = event_of(PROMOTED, SOURCE)
    said = parsed(event)
    assert said["specversion"] == "1.0"
    assert (said["id"], said["source"]) == (PROMOTED.id, SOURCE)
    assert said["type"] == event.type == "io.penstock.deployment.promoted"
    assert said["subject"] == event.subject == "flights"
    assert said["datacontenttype"] == "application/json"
    assert said["time"] == "2026-01-01T00:17:00.000Z"
    assert datetime.fromisoformat(said["time"]).timestamp() * 1000 == PROMOTED.at_ms
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in said)
    assert (said["data"]["who"], said["data"]["why"], said["data"]["hash"]) == ("ada", PROMOTED.why, PROMOTED.hash)
    assert said["data"]["after"]["arms"][0]["version"] == NEW


def test_the_sample_of_the_governance_page_is_such_an_event() -> None:
    text = (ROOT / "docs" / "governance.md").read_text()
    (sample,) = re.findall(r"```json\n(.*?)```", text, re.S)
    assert json.loads(sample) == parsed(event_of(PROMOTED, SOURCE))


def test_every_type_is_on_the_governance_page() -> None:
    text = (ROOT / "docs" / "governance.md").read_text()
    assert {name for name in (*TYPES.values(), UNREADABLE) if f"`{name}`" not in text} == set()


@pytest.mark.parametrize(
    ("kind", "action", "expected"),
    [
        ("deployment", "apply", "deployment.applied"),
        ("deployment", "promote", "deployment.promoted"),
        ("deployment", "rollback", "deployment.rolled_back"),
        ("deployment", "pause", "deployment.paused"),
        ("deployment", "resume", "deployment.resumed"),
        ("deployment", "refused", "deployment.refused"),
        ("model", "register", "model.registered"),
        ("model", "tag", "model.tagged"),
        ("model", "note", "model.noted"),
        ("experiment", "finish", "experiment.finished"),
        ("deployment", "freeze", "deployment.freeze"),
        ("Policy", "sign off!", "policy.sign_off_"),
        ("", "", "unknown.unknown"),
    ],
)
def test_actions_have_types_also_those_that_come_later(kind: str, action: str, expected: str) -> None:
    assert type_of(kind, action) == f"io.penstock.{expected}"


def test_the_same_entry_gives_the_same_bytes_and_others_give_other_ids() -> None:
    assert event_of(PROMOTED, SOURCE) == event_of(PROMOTED, SOURCE)
    ids = {event_of(entry(n, "apply", after=BEFORE), SOURCE).id for n in range(1, 100)}
    assert len(ids) == 99


def test_sequences_sort_as_text() -> None:
    texts = [parsed(event_of(entry(n, "pause"), SOURCE))["sequence"] for n in (2, 10, 999, 1_000_000)]
    assert texts == sorted(texts)


@pytest.mark.parametrize("bad", ["", "a b", "a\nX-Evil: 1", "a.b", "x" * 101])
def test_an_id_that_would_not_be_safe_in_a_header_is_replaced_always_by_the_same(bad: str) -> None:
    event = event_of(entry(3, "pause", id=bad), SOURCE)
    assert re.fullmatch(r"[0-9a-f-]{36}", event.id)
    assert event.id == event_of(entry(3, "pause", id=bad), "/another/source").id


def test_the_event_schema_of_a_state_is_left_to_the_audit() -> None:
    after = parsed(event_of(PROMOTED, SOURCE))["data"]["after"]
    assert "event_schema" not in after
    assert after["declaration"]


def test_an_event_that_is_too_large_says_what_it_leaves_out() -> None:
    huge = deployed(1, arm()) | {"declaration": "x" * EVENT_BYTES}
    event = event_of(entry(1, "apply", after=huge, why="y" * 5000), SOURCE)
    data = parsed(event)["data"]
    assert len(event.value) < EVENT_BYTES
    assert (data["left_out"], data["before"], data["after"]) == (["before", "after"], None, None)
    assert "left_out" not in parsed(event_of(PROMOTED, SOURCE))["data"]


@pytest.mark.parametrize("text", ["{", "[1]", "NaN", '{"a": NaN}', "[" * 100_000])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        event_of(entry(1, "apply", after=text), SOURCE)


def test_half_a_character_of_json_does_not_stop_the_stream() -> None:
    event = event_of(entry(1, "note", kind="model", after='{"note": "\\ud800"}'), SOURCE)
    assert parsed(event)["data"]["after"] == {"note": "?"}


def test_what_is_no_time_and_no_subject_is_left_out() -> None:
    said = parsed(event_of(entry(1, "pause", "", at_ms=10**18), SOURCE))
    assert not {"time", "subject"} & said.keys()


@given(st.integers(-(2**63), 2**63 - 1))
def test_times_are_rfc_3339_or_none(at_ms: int) -> None:
    told = time_of(at_ms)
    assert told is None or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told)


def test_a_record_that_is_no_entry_has_an_event_of_its_own() -> None:
    event = unreadable_event("penstock.audit", 0, 17, 0, "trailing bytes", SOURCE)
    said = parsed(event)
    assert (said["type"], said["subject"]) == (UNREADABLE, "penstock.audit/0@17")
    assert said["data"] == {"topic": "penstock.audit", "partition": 0, "offset": 17, "reason": "trailing bytes"}
    assert event == unreadable_event("penstock.audit", 0, 17, 0, "trailing bytes", SOURCE)
    assert event.id != unreadable_event("penstock.audit", 0, 18, 0, "trailing bytes", SOURCE).id
