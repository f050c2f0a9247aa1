"""What changes of control do: decided from values, without Kafka."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from schemas.chain import chained, head_of, verify_chain
from schemas.control import Entry, State, Version, arms_of
from schemas.deployment import Deployment
from streams.errors import ChangeRefused, RevisionMoved
from streams.rollout import (
    Change,
    World,
    applied,
    noted,
    paused,
    promoted,
    removed,
    resumed,
    rolled_back,
    tagged,
    ways_back,
)

READER = {"type": "record", "name": "Event", "fields": [{"name": "a", "type": "double"}]}
ACTIVE = {"role": "active", "model": "flights@production"}
CANARY = {"role": "canary", "model": "flights@candidate", "percent": 5}
SHADOW = {"role": "shadow", "model": "other@candidate", "topic": "flights.shadow"}


def versions(**moved: str) -> dict[str, Version]:
    """What references mean: the version named like the tag, unless it moved."""
    refs = {"flights@production": "v1", "flights@candidate": "v2", "other@candidate": "o1"}
    named = {ref: moved.get(ref.replace("@", "_"), version) for ref, version in refs.items()}
    return {ref: Version(ref.partition("@")[0], version, f"digest of {version}") for ref, version in named.items()}


def declared(*arms: dict[str, Any], name: str = "flights", **more: Any) -> Deployment:
    content = {
        "name": name,
        "input": {"topic": "flights.events", "schema": "event.avsc"},
        "output": {"topic": "flights.inferences"},
        "arms": list(arms) or [ACTIVE],
        **more,
    }
    return Deployment.model_validate(content)


class Plane:
    """A control plane in memory: takes changes as a writer does."""

    def __init__(self) -> None:
        self.world = World()

    def take(self, change: Change | None) -> Change:
        assert change is not None
        states, entries = dict(self.world.states), list(self.world.entries)
        for step in change.steps:
            assert step.before != step.after
            entry = chained(
                head_of(entries[-1]) if entries else self.world.head,
                id=str(len(entries)),
                at_ms=0,
                who="Ada",
                host="here",
                action=step.action,
                why=step.why,
                subject_kind=step.subject_kind,
                subject=step.subject,
                revision_before=step.old.revision if step.old else None,
                revision_after=step.new.revision if step.new else None,
                before=step.before,
                after=step.after,
            )
            entries.append(entry)
            if step.new:
                states[step.subject] = replace(step.new, audit_sequence=entry.sequence, audit_hash=entry.hash)
            elif step.old:
                del states[step.subject]
        self.world = World(states, head_of(entries[-1]), tuple(entries))
        return change

    def apply(self, deployment: Deployment, expect: int | None = None, **moved: str) -> Change | None:
        return applied(self.world, deployment, READER, arms_of(deployment, versions(**moved)), expect)

    def state(self, name: str = "flights") -> State:
        return self.world.states[name]

    def active(self, name: str = "flights") -> str:
        return self.state(name).arms[0].version

    def last(self) -> Entry:
        return self.world.entries[-1]


@pytest.fixture
def plane() -> Plane:
    made = Plane()
    made.take(made.apply(declared(ACTIVE, CANARY, SHADOW)))
    return made


# apply


def test_the_first_declaration_is_revision_1_with_versions_resolved(plane: Plane) -> None:
    state = plane.state()
    assert state.revision == 1
    assert [(arm.name, arm.version, arm.digest, arm.weight) for arm in state.arms] == [
        ("active", "v1", "digest of v1", None),
        ("canary", "v2", "digest of v2", 5.0),
        ("shadow", "o1", "digest of o1", None),
    ]
    assert json.loads(state.event_schema) == READER
    assert (plane.last().action, plane.last().before) == ("apply", None)


def test_the_same_declaration_changes_nothing(plane: Plane) -> None:
    assert plane.apply(declared(ACTIVE, CANARY, SHADOW)) is None


def test_another_declaration_and_a_tag_that_moved_make_the_next_revision(plane: Plane) -> None:
    plane.take(plane.apply(declared(ACTIVE, CANARY, SHADOW, latency_ms=20)))
    assert plane.state().revision == 2
    plane.take(plane.apply(declared(ACTIVE, CANARY, SHADOW, latency_ms=20), flights_production="v9"))
    assert (plane.state().revision, plane.active()) == (3, "v9")
    assert State.of_told(plane.last().before or "").arms[0].version == "v1"


@pytest.mark.parametrize(("expected", "words"), [(4, "revision 4 was expected, but it is at revision 1"), (0, "none")])
def test_a_revision_that_moved_is_refused(plane: Plane, expected: int, words: str) -> None:
    with pytest.raises(RevisionMoved, match=words):
        plane.apply(declared(ACTIVE), expected)
    plane.take(plane.apply(declared(ACTIVE), 1))


def test_a_revision_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(RevisionMoved, match="revision 4 was expected, but it is not there"):
        Plane().apply(declared(ACTIVE), 4)
    assert Plane().apply(declared(ACTIVE), 0) is not None


def test_a_deployment_that_is_paused_stays_so(plane: Plane) -> None:
    plane.take(paused(plane.world, "flights"))
    plane.take(plane.apply(declared(ACTIVE)))
    assert plane.state().paused


# tags


def test_every_arm_that_follows_a_tag_follows_it(plane: Plane) -> None:
    plane.take(plane.apply(declared({**ACTIVE, "model": "flights@candidate"}, name="two")))
    plane.take(plane.apply(declared(ACTIVE, name="three")))
    change = plane.take(tagged(plane.world, "flights", "candidate", Version("flights", "v3", "d3"), before="v2"))
    assert [(step.subject_kind, step.subject) for step in change.steps] == [
        ("model", "flights"),
        ("deployment", "flights"),
        ("deployment", "two"),
    ]
    assert [arm.version for arm in plane.state().arms] == ["v1", "v3", "o1"]
    assert (plane.active("two"), plane.state("two").revision) == ("v3", 2)
    assert (plane.active("three"), plane.state("three").revision) == ("v1", 1)
    told = [json.loads(text or "") for text in (change.steps[0].before, change.steps[0].after)]
    assert told == [{"model": "flights", "tag": "candidate", "version": version} for version in ("v2", "v3")]
    assert change.steps[1].why == "follows flights@candidate"


def test_a_tag_that_nobody_follows_is_told_once(plane: Plane) -> None:
    move = Version("flights", "v1", "digest of v1")
    change = plane.take(tagged(plane.world, "flights", "stable", move))
    assert [step.subject for step in change.steps] == ["flights"]
    assert tagged(plane.world, "flights", "stable", move, before="v1") is None


def test_a_tag_that_only_the_repository_knows_of_is_told_by_the_next_try(plane: Plane) -> None:
    move = Version("flights", "v9", "d9")
    change = tagged(plane.world, "flights", "stable", move, before="v9")  # an earlier try stopped half-way
    assert change is not None
    assert json.loads(change.steps[0].before or "")["version"] is None
    plane.take(tagged(plane.world, "flights", "production", Version("flights", "v1", "digest of v1")))
    change = plane.take(tagged(plane.world, "flights", "production", move, before="v9"))
    assert json.loads(change.steps[0].before or "")["version"] == "v1"
    assert plane.active() == "v9"


def test_a_tag_that_no_version_has_any_more_changes_no_deployment(plane: Plane) -> None:
    change = plane.take(tagged(plane.world, "flights", "production", None, action="untag", before="v1"))
    assert [(step.action, step.subject_kind) for step in change.steps] == [("untag", "model")]
    assert plane.active() == "v1"


def test_a_tag_that_falls_back_takes_its_followers_with_it(plane: Plane) -> None:
    back = Version("flights", "v0", "d0")
    plane.take(tagged(plane.world, "flights", "production", back, action="untag", before="v1"))
    assert (plane.active(), plane.last().action) == ("v0", "untag")


def test_a_note_stands_in_the_audit_and_changes_no_state(plane: Plane) -> None:
    before = plane.world.states
    plane.take(noted("flights", "v1", "trained on a bad day"))
    assert plane.world.states == before
    assert json.loads(plane.last().after or "") == {"note": "trained on a bad day", "version": "v1"}


# promote


def test_the_version_of_the_canary_becomes_the_active_one_and_is_pinned(plane: Plane) -> None:
    plane.take(promoted(plane.world, "flights"))
    state = plane.state()
    assert [(arm.name, arm.ref, arm.version, arm.digest) for arm in state.arms] == [
        ("active", "flights@v2", "v2", "digest of v2"),
        ("shadow", "other@candidate", "o1", "digest of o1"),
    ]
    again = Deployment.model_validate(json.loads(state.declaration))
    assert [arm.model for arm in again.arms] == ["flights@v2", "other@candidate"]
    assert plane.last().why == "canary flights@v2"
    assert tagged(plane.world, "flights", "production", Version("flights", "v9", "d9"), before="v9") is not None
    plane.take(tagged(plane.world, "flights", "production", Version("flights", "v9", "d9"), before="v9"))
    assert plane.active() == "v2"  # pinned: it follows no tag


def test_an_arm_is_kept_where_that_is_asked_for(plane: Plane) -> None:
    plane.take(promoted(plane.world, "flights", "shadow", keep=True))
    assert [(arm.name, arm.pinned) for arm in plane.state().arms] == [
        ("active", "other@o1"),
        ("canary", "flights@v2"),
        ("shadow", "other@o1"),
    ]
    assert promoted(plane.world, "flights", "shadow", keep=True) is None


def test_arms_behind_one_that_went_keep_their_names_and_so_their_keys() -> None:
    plane = Plane()
    other = {**CANARY, "role": "challenger"}
    plane.take(plane.apply(declared(ACTIVE, other, {**other, "model": "other@candidate"})))
    plane.take(promoted(plane.world, "flights", "challenger"))
    assert [(arm.name, arm.model) for arm in plane.state().arms] == [("active", "flights"), ("challenger-2", "other")]
    assert json.loads(plane.state().declaration)["arms"][1]["name"] == "challenger-2"


def test_a_step_of_the_fallback_chain_is_not_promoted_and_follows_its_tag() -> None:
    plane = Plane()
    plane.take(plane.apply(declared(ACTIVE, CANARY, fallback=["flights@candidate"])))
    with pytest.raises(ChangeRefused, match=r"it has canary$"):
        promoted(plane.world, "flights", "fallback")
    plane.take(tagged(plane.world, "flights", "candidate", Version("flights", "new", "digest")))
    assert [(arm.name, arm.version) for arm in plane.state().arms[1:]] == [("canary", "new"), ("fallback", "new")]


@pytest.mark.parametrize("arm", ["active", "challenger", ""])
def test_an_arm_that_cannot_be_promoted_is_refused_with_those_that_can(plane: Plane, arm: str) -> None:
    with pytest.raises(ChangeRefused, match=f"no arm '{arm}' that could be promoted; it has canary, shadow"):
        promoted(plane.world, "flights", arm)


# roll back


def test_a_rollback_goes_to_the_last_state_with_another_active_version(plane: Plane) -> None:
    plane.take(plane.apply(declared(ACTIVE, latency_ms=5), flights_production="v9"))
    plane.take(plane.apply(declared(ACTIVE, latency_ms=6), flights_production="v9"))
    plane.take(rolled_back(plane.world, "flights"))
    state = plane.state()
    assert (state.revision, plane.active(), len(state.arms)) == (4, "v1", 3)
    assert state.same_as(State.of_told(plane.world.entries[0].after or ""))
    assert plane.last().why == "back to revision 1"
    plane.take(rolled_back(plane.world, "flights"))
    assert (plane.state().revision, plane.active()) == (5, "v9")
    assert json.loads(plane.state().declaration)["latency_ms"] == 6


def test_a_rollback_to_a_revision_takes_that_one_and_keeps_a_pause(plane: Plane) -> None:
    plane.take(plane.apply(declared(ACTIVE, latency_ms=5)))
    plane.take(plane.apply(declared(ACTIVE, latency_ms=6)))
    plane.take(paused(plane.world, "flights"))
    plane.take(rolled_back(plane.world, "flights", 2))
    assert (plane.state().revision, plane.state().paused) == (5, True)
    assert json.loads(plane.state().declaration)["latency_ms"] == 5
    assert rolled_back(plane.world, "flights", 5) is None
    assert rolled_back(plane.world, "flights", 2) is None  # it is as that one already


def test_there_must_be_something_to_go_back_to(plane: Plane) -> None:
    plane.take(plane.apply(declared(ACTIVE)))
    with pytest.raises(ChangeRefused, match="no earlier revision had another active version; name one with --to"):
        rolled_back(plane.world, "flights")
    with pytest.raises(ChangeRefused, match="no revision 7 to go back to; the audit has 1"):
        rolled_back(plane.world, "flights", 7)


def spoilt(plane: Plane, sequence: int) -> World:
    """The world with an entry whose state no release can read."""
    entries = [replace(e, after='{"deployment": 1}') if e.sequence == sequence else e for e in plane.world.entries]
    return replace(plane.world, entries=tuple(entries))


def test_an_entry_that_cannot_be_read_is_named_and_passed_over_where_somebody_says_so(plane: Plane) -> None:
    for version in ("v8", "v9"):
        plane.take(plane.apply(declared(ACTIVE), flights_production=version))
    world = spoilt(plane, 2)
    with pytest.raises(ChangeRefused, match=r"entry 2 of the audit, revision 2 of flights, cannot be read.*--force"):
        rolled_back(world, "flights")
    change = rolled_back(world, "flights", force=True)
    assert change is not None
    assert (change.states[0].revision, change.states[0].arms[0].version) == (4, "v1")
    entries = plane.world.entries  # as they stand in Kafka: what is written behind them follows the chain
    plane.take(change)
    assert verify_chain(plane.world.entries, plane.world.head, plane.world.states.values()) == []
    assert plane.world.entries[:-1] == entries


def test_a_revision_that_is_named_needs_no_other_entry(plane: Plane) -> None:
    for version in ("v8", "v9"):
        plane.take(plane.apply(declared(ACTIVE), flights_production=version))
    world = spoilt(plane, 2)
    change = rolled_back(world, "flights", 1)
    assert change is not None
    assert change.states[0].arms[0].version == "v1"
    for force in (False, True):
        with pytest.raises(ChangeRefused, match=r"entry 2 of the audit"):
            rolled_back(world, "flights", 2, force=force)


def test_entries_further_back_than_the_way_back_need_not_be_read(plane: Plane) -> None:
    for version in ("v8", "v9"):
        plane.take(plane.apply(declared(ACTIVE), flights_production=version))
    change = rolled_back(spoilt(plane, 1), "flights")
    assert change is not None
    assert change.states[0].arms[0].version == "v8"


# pause and resume


def test_pause_and_resume_are_revisions_and_change_nothing_twice(plane: Plane) -> None:
    assert resumed(plane.world, "flights") is None
    plane.take(paused(plane.world, "flights"))
    assert (plane.state().revision, plane.state().paused) == (2, True)
    assert paused(plane.world, "flights") is None
    plane.take(resumed(plane.world, "flights"))
    assert (plane.state().revision, plane.state().paused) == (3, False)


@pytest.mark.parametrize("decide", [promoted, rolled_back, paused, resumed, removed])
def test_a_deployment_that_nobody_applied_is_refused_with_those_there_are(
    plane: Plane, decide: Callable[[World, str], Change | None]
) -> None:
    with pytest.raises(ChangeRefused, match="no deployment 'fligths' was applied; there is flights"):
        decide(plane.world, "fligths")
    with pytest.raises(ChangeRefused, match="there is none yet"):
        decide(World(), "fligths")


def test_a_state_that_tells_no_declaration_is_refused(plane: Plane) -> None:
    broken = json.dumps({**json.loads(plane.state().declaration), "delivery": "maybe"})
    world = replace(plane.world, states={"flights": replace(plane.state(), declaration=broken)})
    with pytest.raises(ChangeRefused, match=r"no valid deployment then: delivery: must be .*found 'maybe'"):
        promoted(world, "flights")


# remove


def test_a_deployment_that_is_removed_begins_again_with_the_next_revision_not_paused(plane: Plane) -> None:
    plane.take(paused(plane.world, "flights"))
    change = plane.take(removed(plane.world, "flights"))
    assert (change.removed, change.states) == (["flights"], [])
    assert (plane.last().action, plane.last().revision_before, plane.last().revision_after) == ("remove", 2, None)
    assert verify_chain(plane.world.entries, plane.world.head, plane.world.states.values()) == []
    with pytest.raises(RevisionMoved, match="revision 2 was expected, but it is not there"):
        plane.apply(declared(ACTIVE), expect=2)
    plane.take(plane.apply(declared(ACTIVE), expect=0))
    assert (plane.state().revision, plane.state().paused, plane.last().before) == (3, False, None)
    plane.take(removed(plane.world, "flights"))
    plane.take(plane.apply(declared(ACTIVE)))
    assert plane.state().revision == 4
    assert verify_chain(plane.world.entries, plane.world.head, plane.world.states.values()) == []


def test_a_rollback_may_go_to_before_a_removal(plane: Plane) -> None:
    plane.take(removed(plane.world, "flights"))
    plane.take(plane.apply(declared(ACTIVE), flights_production="v9"))
    plane.take(rolled_back(plane.world, "flights"))
    assert (plane.state().revision, plane.active()) == (3, "v1")


def test_tags_move_past_a_deployment_that_is_removed(plane: Plane) -> None:
    plane.take(removed(plane.world, "flights"))
    change = plane.take(tagged(plane.world, "flights", "production", Version("flights", "v9", "d")))
    assert [step.subject_kind for step in change.steps] == ["model"]


def test_workers_of_two_deployments_are_never_in_one_group(plane: Plane) -> None:
    plane.take(plane.apply(declared(name="flights.other")))
    with pytest.raises(
        ChangeRefused, match=r"flights\.shadow \(active\) and those of flights .* penstock\.flights\.shadow"
    ):
        plane.apply(declared(name="flights.shadow"))
    with pytest.raises(ChangeRefused, match="would be one consumer group"):
        plane.apply(declared(ACTIVE, {**SHADOW, "name": "other"}))
    assert plane.apply(declared(ACTIVE, {**SHADOW, "name": "third"})) is not None


def meaning(*versions: str) -> list[State]:
    """States from revision 1 on, whose active arms have these versions; a `!` behind one: it is paused."""
    found = []
    for revision, version in enumerate(versions, 1):
        arms = arms_of(declared(), {"flights@production": Version("flights", version.strip("!"), "digest")})
        found.append(State.of(declared(), revision, READER, arms, paused=version.endswith("!")))
    return found


@pytest.mark.parametrize(
    ("versions", "back"),
    [
        ("a b c d", [3, 2, 1]),
        ("a b a", []),  # b was rolled back from: there is nothing else that was wanted
        ("a b a c", [3]),
        ("x a b a", [1]),  # not b, though its number is nearer
        ("x a b a a! a", [1]),  # pauses change nothing of it
        ("a b a b", [1]),  # the second rollback undid the first
        ("a b c b d", [4, 1]),
        ("a a! b b! b", [2]),
        ("a b c d e f g h", [7, 6, 5, 4, 3]),
    ],
)
def test_the_way_back_passes_over_what_was_rolled_back_from(versions: str, back: list[int]) -> None:
    *before, newest = meaning(*versions.split())
    for order in (before, before[::-1], [newest, *before]):
        assert [state.revision for state in ways_back(newest, order, 5)] == back


def test_the_way_back_ends_where_states_before_are_not_known() -> None:
    """Revision 1, to which 3 went back, cannot be read: 2 may be what was rolled back from."""
    _, second, third = meaning("a", "b", "a")
    assert ways_back(third, [second], 5) == []
    *before, newest = meaning("x", "a", "b", "a")
    assert [state.revision for state in ways_back(newest, before[1:], 5)] == []  # 2 asks for the same, 1 is not known
    assert [state.revision for state in ways_back(newest, before, 5)] == [1]
