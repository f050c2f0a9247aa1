"""What a refusal tells, and that it is told once: decided from values, without Kafka."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from penstock import changes
from schemas.chain import verify_chain
from schemas.control import Running, Status, arms_of
from streams.refusals import author_of, is_told, refused
from streams.rollout import applied, tagged
from tests.streams.test_rollout import ACTIVE, CANARY, READER, SHADOW, Plane, declared, versions

OLD = (Running("active", "flights", "v1", "digest of v1"),)
NO = Status("flights", "0", "penstock.flights", "here", 7, 5, 1, 2, OLD, "running", "cannot be loaded", 2)


def asked(*arms: dict[str, Any]) -> Plane:
    """A deployment whose second revision has another active version, and perhaps other arms."""
    plane = Plane()
    first = declared(ACTIVE)
    plane.take(applied(plane.world, first, READER, arms_of(first, versions())))
    second = declared(ACTIVE, *arms)
    plane.take(applied(plane.world, second, READER, arms_of(second, versions(flights_production="v9"))))
    return plane


def told(plane: Plane, status: Status = NO) -> dict[str, Any]:
    change = refused(plane.world, status)
    assert change is not None
    (step,) = change.steps
    assert (step.action, step.subject_kind, step.subject, step.new) == ("refused", "deployment", "flights", None)
    return dict(json.loads(step.after or ""))


def test_it_names_the_revision_the_slot_and_the_versions_that_are_not_taken() -> None:
    found = told(asked(CANARY))
    (active, canary) = found.pop("arms")
    assert found == {
        "deployment": "flights",
        "revision": 2,
        "running": 1,
        "group": "penstock.flights",
        "slot": "0",
    }
    assert (active["name"], active["version"]) == ("active", "v9")
    assert canary["name"] == "canary"
    assert (author_of(NO).who, author_of(NO).host, author_of(NO).why) == ("slot active/0", "here", "cannot be loaded")


def test_a_version_that_the_slot_scores_with_is_not_refused() -> None:
    status = replace(NO, arms=(*OLD, Running("canary", "flights", "v2", "digest of v2")))
    assert [arm["name"] for arm in told(asked(CANARY), status)["arms"]] == ["active"]


@pytest.mark.parametrize(
    ("group", "names"), [("penstock.flights", ["active"]), ("penstock.flights.shadow", ["shadow"])]
)
def test_each_group_of_workers_refuses_its_own_arms(group: str, names: list[str]) -> None:
    assert [arm["name"] for arm in told(asked(SHADOW), replace(NO, group=group))["arms"]] == names
    assert author_of(replace(NO, group=group)).who == f"slot {names[0]}/0"


def test_all_slots_of_an_arm_are_told_of_once_and_each_arm_is() -> None:
    plane = asked(SHADOW)
    assert not is_told(plane.world, NO)
    plane.take(refused(plane.world, NO))
    assert is_told(plane.world, replace(NO, slot="1"))
    assert refused(plane.world, replace(NO, slot="1")) is None
    shadow = replace(NO, group="penstock.flights.shadow")
    plane.take(refused(plane.world, shadow))
    assert refused(plane.world, shadow) is None


def test_a_later_revision_is_told_of_again() -> None:
    plane = asked()
    plane.take(refused(plane.world, NO))
    plane.take(tagged(plane.world, "flights", "production", versions()["flights@production"]))
    assert refused(plane.world, replace(NO, refused=3)) is not None


@pytest.mark.parametrize(
    "status",
    [
        replace(NO, refused=None),
        replace(NO, refused=3),  # the audit has none
        replace(NO, deployment="delays"),
        replace(NO, at_ms=-1),  # before the revision was asked for: it spoke of another audit
    ],
)
def test_what_the_audit_did_not_ask_for_is_not_told(status: Status) -> None:
    assert refused(asked().world, status) is None


def test_a_refusal_leaves_the_chain_whole_and_is_said_in_words() -> None:
    plane = asked()
    plane.take(refused(plane.world, NO))
    world = plane.world
    assert verify_chain(list(world.entries), world.head, world.states.values()) == []
    entry = world.entries[-1]
    assert not entry.changes_state
    assert changes.summary(entry) == "revision 2 not taken; active v9"
    facts = {tuple(line.split()[1:]) for line in changes.lines(entry.before, entry.after)}
    assert {("revision", "2"), ("arms.active.version", "v9")} <= facts


def test_a_state_that_this_release_cannot_read_is_refused_all_the_same() -> None:
    plane = asked()
    entries = [replace(entry, after='{"newer":1}') for entry in plane.world.entries]
    plane.world = replace(plane.world, entries=entries)
    assert told(plane)["arms"] == []
