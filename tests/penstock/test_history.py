"""What the audit tells of a version: where it is and was deployed, by whom and why."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.history import Deployed, History, history_of
from tests.audit_entries import NEW, OLD, arm, deployed, entry


def told(*entries: Any) -> History:
    return history_of(entries)


def spells(history: History, version: str) -> list[tuple[str, str, int | None, int | None]]:
    """Deployment, arm, and the sequence numbers of the entries that began and ended each time."""
    found = history.of("flights", version).deployed
    return [
        (e.deployment, e.arm, e.since.sequence if e.since else None, e.until.sequence if e.until else None)
        for e in found
    ]


FIRST, SECOND = deployed(1, arm(OLD)), deployed(2, arm(NEW))
APPLY = entry(1, "apply", after=FIRST, why="first")
REPLACE = entry(2, "apply", before=FIRST, after=SECOND, who="grace", why="better auc")


def test_a_version_is_deployed_from_the_entry_that_names_it_to_the_one_that_replaces_it() -> None:
    history = told(APPLY, REPLACE)
    assert spells(history, OLD) == [("flights", "active", 1, 2)]
    assert spells(history, NEW) == [("flights", "active", 2, None)]
    (before,) = history.of("flights", OLD).deployed
    assert before.since is not None
    assert before.until is not None
    assert (before.since.who, before.since.why, before.since.revision) == ("ada", "first", 1)
    assert (before.until.who, before.until.why, before.until.action) == ("grace", "better auc", "apply")


def test_another_revision_of_the_same_version_is_the_same_time() -> None:
    history = told(APPLY, entry(2, "apply", before=FIRST, after=deployed(2, arm(OLD, weight=95.0))))
    (only,) = history.of("flights", OLD).deployed
    assert spells(history, OLD) == [("flights", "active", 1, None)]
    assert (only.weight, only.since and only.since.revision) == (95.0, 1)


def test_a_promoted_canary_leaves_its_arm_and_becomes_the_active_one() -> None:
    both = deployed(2, arm(OLD), arm(NEW, "canary", weight=5.0))
    history = told(APPLY, entry(2, "apply", before=FIRST, after=both), entry(3, "promote", before=both, after=SECOND))
    assert spells(history, NEW) == [("flights", "canary", 2, 3), ("flights", "active", 3, None)]
    assert spells(history, OLD) == [("flights", "active", 1, 3)]


def test_a_rollback_brings_a_version_back_for_a_second_time() -> None:
    history = told(APPLY, REPLACE, entry(3, "rollback", before=SECOND, after=deployed(3, arm(OLD)), why="alerts"))
    assert spells(history, OLD) == [("flights", "active", 1, 2), ("flights", "active", 3, None)]
    assert spells(history, NEW) == [("flights", "active", 2, 3)]


@pytest.mark.parametrize("after", [deployed(2, arm(OLD), paused=True), {"paused": True}])
def test_a_paused_deployment_keeps_its_versions_and_is_paused(after: dict[str, Any]) -> None:
    paused = told(APPLY, entry(2, "pause", before=FIRST, after=after))
    assert spells(paused, OLD) == [("flights", "active", 1, None)]
    assert [each.paused for each in paused.deployed] == [True]
    resumed = told(APPLY, entry(2, "pause", after=after), entry(3, "resume", after=deployed(3, arm(OLD))))
    assert [each.paused for each in resumed.deployed] == [False]


def test_a_removed_deployment_ends_every_arm() -> None:
    both = deployed(1, arm(OLD), arm(NEW, "shadow"))
    history = told(entry(1, "apply", after=both), entry(2, "remove", before=both))
    assert all(each.until is not None and each.until.sequence == 2 for each in history.deployed)
    assert len(history.deployed) == 2


def test_a_refused_version_is_told_and_stays_what_was_asked_for() -> None:
    """Workers refuse what was made the desired state before, and only the arms that they do not score with."""
    asked = entry(2, "apply", before=FIRST, after=deployed(2, arm(NEW), arm(OLD, "canary")))
    refused = {"revision": 2, "group": "penstock.flights", "arms": [arm(NEW)]}
    history = told(APPLY, asked, entry(3, "refused", after=refused, who="slot active/0", why="the model crashed"))
    assert spells(history, NEW) == [("flights", "active", 2, None)]
    (refusal,) = history.of("flights", NEW).refused
    assert (refusal.deployment, refusal.act.who, refusal.act.why) == ("flights", "slot active/0", "the model crashed")
    assert history.of("flights", OLD).refused == ()


def test_a_refusal_that_names_no_version_is_one_of_the_state_alone() -> None:
    history = told(APPLY, entry(2, "refused", after={"revision": 1, "group": "penstock.flights", "arms": []}))
    assert (history.refused, history.unread) == ((), ())


def test_a_version_can_be_refused_without_a_deployment() -> None:
    (refusal,) = told(entry(1, "refused", kind="model", after={"version": NEW}, why="no signature")).refused
    assert (refusal.deployment, refusal.version, refusal.act.why) == ("", NEW, "no signature")


def test_an_audit_that_begins_later_than_a_deployment_says_so() -> None:
    history = told(entry(7, "apply", before=FIRST, after=SECOND))
    assert spells(history, OLD) == [("flights", "active", None, 7)]


def test_deployments_do_not_mix() -> None:
    other = entry(2, "apply", "delays", after=deployed(1, arm(OLD), deployment="delays"))
    removed = entry(3, "remove", "delays", before=deployed(1, arm(OLD), deployment="delays"))
    assert spells(told(APPLY, other, removed), OLD) == [("flights", "active", 1, None), ("delays", "active", 2, 3)]


def tag(sequence: int, version: str | None, before: str | None = None, action: str = "tag") -> Any:
    def said(held: str | None) -> dict[str, Any]:
        return {"model": "flights", "tag": "production", "version": held}

    return entry(sequence, action, kind="model", before=said(before) if before else None, after=said(version))


def test_a_tag_has_a_history() -> None:
    history = told(tag(1, OLD), tag(2, NEW, OLD), tag(3, OLD, NEW, "untag"))
    found = [
        (each.version, each.since and each.since.sequence, each.until and each.until.sequence) for each in history.tags
    ]
    assert found == [(OLD, 1, 2), (NEW, 2, 3), (OLD, 3, None)]


def test_a_tag_that_was_taken_off_is_on_nothing() -> None:
    (only,) = told(tag(1, OLD), tag(2, None, OLD, "untag")).tags
    assert only.until is not None


def test_a_tag_that_was_put_on_before_the_audit_begins_is_ended_by_the_first_move() -> None:
    before, now = told(tag(5, NEW, OLD)).tags
    assert (before.version, before.since, before.until and before.until.sequence) == (OLD, None, 5)
    assert (now.version, now.until) == (NEW, None)


@pytest.mark.parametrize("own_entry", [False, True])
def test_arms_that_follow_a_tag_move_with_it_once(own_entry: bool) -> None:
    more = [entry(3, "tag", before=FIRST, after=SECOND)] if own_entry else []
    history = told(APPLY, tag(2, NEW, OLD), *more)
    assert spells(history, OLD) == [("flights", "active", 1, 2)]
    assert spells(history, NEW) == [("flights", "active", 2, None)]
    (now,) = history.of("flights", NEW).deployed
    assert now.since is not None
    assert now.since.revision == (2 if own_entry else None)


def test_an_arm_of_another_tag_or_of_a_version_does_not_move() -> None:
    pinned = deployed(1, arm(OLD, ref=f"flights@{OLD}"), arm(OLD, "shadow", ref="flights@candidate"))
    assert spells(told(entry(1, "apply", after=pinned), tag(2, NEW, OLD)), NEW) == []


def test_notes_are_of_one_version_or_of_all() -> None:
    mine = entry(1, "note", kind="model", after={"note": "drifts in spring", "version": OLD})
    all_of_them = entry(2, "note", kind="model", after={"note": "owned by delays"})
    another = entry(3, "note", "other", kind="model", after={"note": "no", "version": OLD})
    history = told(mine, all_of_them, another)
    assert [note.text for note in history.of("flights", OLD).notes] == ["drifts in spring", "owned by delays"]
    assert [note.text for note in history.of("flights", NEW).notes] == ["owned by delays"]


def test_who_registered_a_version_is_told() -> None:
    history = told(entry(1, "register", kind="model", after={"version": OLD}, who="trainer"))
    assert [act.who for *_, act in history.of("flights", OLD).registered] == ["trainer"]


@pytest.mark.parametrize(
    "after",
    ["{", "[]", '"text"', '{"arms": 3}', '{"arms": ["active"]}', '{"arms": [{"name": "active"}]}', "[" * 100_000],
)
def test_an_entry_that_is_not_understood_is_named_and_counts_for_nothing(after: str) -> None:
    history = told(APPLY, entry(2, "apply", after=after), entry(3, "note", kind="model", after={"note": "n"}))
    assert history.unread == (2,)
    assert spells(history, OLD) == [("flights", "active", 1, None)]
    assert len(history.notes) == 1


def test_subjects_and_actions_of_later_versions_are_passed_over() -> None:
    assert told(entry(1, "sign", kind="policy", after={"x": 1}), entry(2, "archive", kind="model")) == History()


def test_a_version_that_nobody_deployed_has_no_history() -> None:
    assert told(APPLY).of("flights", NEW) == History()
    assert told(APPLY).of("other", OLD) == History()
    assert isinstance(told(APPLY).deployed[0], Deployed)
