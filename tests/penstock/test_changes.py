"""Changes of control in words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from penstock import changes
from schemas.control import ArmState, Entry, State, canonical
from tests.schemas.test_control import state

ENTRY = Entry("i", 1, "", 0, "Ada", "here", "apply", "", "deployment", "flights", 1, 2)


def entry(before: State | None, after: State) -> Entry:
    return replace(ENTRY, before=before.told() if before else None, after=after.told())


def edited(base: State, **declared: Any) -> State:
    return replace(base, declaration=canonical({**json.loads(base.declaration), **declared}))


def shared(percent: float) -> State:
    declared = [*json.loads(state().declaration)["arms"], {"role": "canary", "model": "m@next", "percent": percent}]
    canary = ArmState("canary", "canary", "m@next", "m", "v2", "digest of v2", percent)
    return replace(edited(state(), arms=declared), arms=(*state().arms, canary))


def test_each_fact_that_differs_is_a_line() -> None:
    old = edited(state(), missing={"a": 1}, delivery="at_least_once")
    new = replace(edited(state(version="v2"), missing={"a": 2}, latency_ms=5), paused=True)
    assert [line.split(maxsplit=2) for line in changes.lines(old.told(), new.told())] == [
        ["~", "arms.active.version", "v1 -> v2"],
        ["~", "arms.active.digest", "digest of v1 -> digest of v2"],
        ["+", "latency_ms", "5"],
        ["~", "missing.a", "1 -> 2"],
        ["~", "paused", "false -> true"],
        ["-", "delivery", "at_least_once"],
    ]
    assert changes.lines(old.told(), old.told()) == []


def test_what_is_new_is_told_whole() -> None:
    told = "\n".join(changes.lines(None, state().told()))
    for name in ("arms.active.ref", "input.topic", "output.topic", "event_schema.a", "paused"):
        assert f"+ {name} " in told


def test_a_change_of_the_event_schema_names_the_field() -> None:
    schema = {"type": "record", "name": "Event", "fields": [{"name": "b", "type": "long", "doc": "x"}]}
    told = changes.lines(state().told(), replace(state(), event_schema=canonical(schema)).told())
    assert [line.split(maxsplit=2) for line in told] == [
        ["+", "event_schema.b", '{"type": "long"}'],
        ["-", "event_schema.a", '{"type": "double"}'],
    ]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, state(), "active none -> v1"),
        (state(), state(version="0123456789"), "active v1 -> 01234567"),
        (state(), replace(state(), paused=True), "paused"),
        (replace(state(), paused=True), state(), "goes on"),
        (state(), edited(state(), latency_ms=5, missing={"a": 1}), "latency_ms; missing"),
        (state(), replace(state(), event_schema="{}"), "event schema"),
        (state(), replace(state(), arms=(replace(state().arms[0], ref="flights@other"),)), "active otherwise: ref"),
        (shared(10), shared(30), "canary 10 % -> 30 %"),
        (state(), shared(10), "canary none -> v2 at 10 %"),
        (state(), state(), "nothing"),
    ],
)
def test_a_change_of_a_deployment_in_a_few_words(before: State | None, after: State, told: str) -> None:
    assert changes.summary(entry(before, after)) == told


def test_a_deployment_that_is_gone_in_a_few_words() -> None:
    gone = replace(entry(state(), state()), action="remove", after=None)
    assert changes.summary(gone) == "removed; active v1 -> none"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"tag": "t", "version": None}, {"tag": "t", "version": "0123456789"}, "t none -> 01234567"),
        (None, {"note": "bad", "version": "0123456789"}, "01234567: bad"),
        ({"stage": 1}, {"stage": 2}, "stage  1 -> 2"),
    ],
)
def test_a_change_of_a_model_in_a_few_words(before: Any, after: Any, told: str) -> None:
    texts = {"before": canonical(before) if before else None, "after": canonical(after)}
    assert changes.summary(replace(ENTRY, subject_kind="model", **texts)) == told


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"declaration": 1}', '{"declaration": {}, "arms": 3}'])
def test_what_others_wrote_into_the_audit_is_shown_and_breaks_nothing(text: str) -> None:
    assert isinstance(changes.summary(replace(ENTRY, after=text)), str)
    assert isinstance(changes.summary(replace(ENTRY, after=text, subject_kind="model")), str)
    assert isinstance(changes.lines(None, text), list)


def test_a_time_is_utc_and_one_of_another_age_is_shown_as_it_is() -> None:
    assert changes.when(1_777_636_800_999) == "2026-05-01 12:00:00Z"
    assert changes.when(1 << 62) == f"{1 << 62} ms"


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert changes.printable("a\x1b[2Jb\nc") == "a [2Jb c"
