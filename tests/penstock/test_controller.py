"""What the controller makes of records, in which order, and what its decisions change."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from monitoring.decision import Decision
from monitoring.evidence import Answer, Load, Standing
from penstock.controller.acting import change_of, ruled
from penstock.controller.answering import answered
from penstock.controller.decisions import decisions_of, explained
from penstock.controller.facts import Loads, Standings, alarm_of
from penstock.controller.keeping import Kept, kept_of
from penstock.controller.order import SLACK_MS, Order, Place
from penstock.errors import DecisionUnknown
from schemas import records
from schemas.control import Entry, State, Status, Version, arms_of, canonical
from schemas.deployment import Deployment
from schemas.policy import Policy
from schemas.vitals import Vitals
from streams.errors import ChangeRefused, RevisionMoved
from streams.rollout import Change, Step, World, applied
from tests.monitoring.steered import MINUTE, policy, seen, steering

READER = {"type": "record", "name": "Event", "fields": [{"name": "a", "type": "double"}]}


def deployment(percent: float = 5.0) -> Deployment:
    arms = [
        {"role": "active", "model": "late@production"},
        {"role": "canary", "model": "late@candidate", "percent": percent},
        {"role": "challenger", "model": "late@other", "percent": 10.0},
    ]
    declared = {"name": "flights", "input": {"topic": "in", "schema": "e.avsc"}, "output": {"topic": "out"}}
    return Deployment.model_validate({**declared, "arms": arms})


class Audit:
    """A world that changes are written into as a writer does."""

    def __init__(self) -> None:
        self.world = World()

    def write(self, change: Change | None, who: str = "ada", why: str = "") -> list[Entry]:
        assert change is not None
        entries, states = list(self.world.entries), dict(self.world.states)
        for step in change.steps:
            number = len(entries) + 1
            revisions = (each.revision if each else None for each in (step.old, step.new))
            entry = Entry(
                *(f"id{number}", number, "", number * 1000, who, "here", step.action, why or step.why),
                *(step.subject_kind, step.subject, *revisions, step.before, step.after),
            )
            entries.append(entry)
            if step.new is not None:
                states[step.new.deployment] = step.new
        self.world = World(states, self.world.head, tuple(entries))
        return entries[-len(change.steps) :]

    def apply(self, percent: float = 5.0) -> State:
        declared = deployment(percent)
        versions = {f"late@{tag}": Version("late", tag[0], "d" * 64) for tag in ("production", "candidate", "other")}
        self.write(applied(self.world, declared, READER, arms_of(declared, versions)))
        return self.world.states["flights"]


@pytest.fixture
def audit() -> Audit:
    made = Audit()
    made.apply()
    return made


def decision(**changes: Any) -> Decision:
    base = {
        "id": "a" * 32,
        "deployment": "flights",
        "at": 1000,
        "kind": "step",
        "revision": 1,
        "arm": "canary",
        "candidate": "late@c",
        "incumbent": "late@p",
        "before": 5.0,
        "to": 25.0,
        "due": True,
        "why": "it was seen",
        "evidence": {},
    }
    return Decision(**{**base, **changes})  # type: ignore[arg-type]


def arms(state: State) -> dict[str, tuple[str, float | None]]:
    return {arm.name: (arm.version, arm.weight) for arm in state.arms}


# what decisions change


def test_a_step_changes_one_share_and_is_told_in_the_audit(audit: Audit) -> None:
    told, changed = audit.write(change_of(audit.world, decision()))
    assert (told.action, told.subject_kind, told.subject) == ("step", "decision", "a" * 32)
    assert json.loads(told.after or "")["evidence"] == {}
    assert (changed.action, changed.revision_after, changed.why) == ("step", 2, "it was seen")
    state = audit.world.states["flights"]
    assert arms(state) == {"active": ("p", None), "canary": ("c", 25.0), "challenger": ("o", 10.0)}
    assert state.content()[0].named["canary"].percent == 25.0


def test_a_promotion_makes_the_candidate_active(audit: Audit) -> None:
    audit.write(change_of(audit.world, decision(kind="promote", to=100.0)))
    assert arms(audit.world.states["flights"]) == {"active": ("c", None), "challenger": ("o", 10.0)}


def test_who_is_taken_back_leaves_its_events_to_the_others(audit: Audit) -> None:
    audit.write(change_of(audit.world, decision(kind="withdraw", to=0.0)))
    assert arms(audit.world.states["flights"]) == {"active": ("p", None), "challenger": ("o", 10.0)}


def test_a_bandit_changes_all_shares_at_once(audit: Audit) -> None:
    shares = {"canary": 60.0, "challenger": 5.0}
    audit.write(change_of(audit.world, decision(kind="reweigh", arm="active", to=35.0, evidence={"shares": shares})))
    assert arms(audit.world.states["flights"]) == {
        "active": ("p", None),
        "canary": ("c", 60.0),
        "challenger": ("o", 5.0),
    }


def test_the_way_back_after_a_promotion_is_the_version_before(audit: Audit) -> None:
    audit.write(change_of(audit.world, decision(kind="promote", to=100.0)))
    audit.write(change_of(audit.world, decision(id="b" * 32, kind="rollback", revision=2, arm="active")))
    assert arms(audit.world.states["flights"])["active"] == ("p", None)


def test_what_was_written_is_not_written_again(audit: Audit) -> None:
    audit.write(change_of(audit.world, decision()))
    assert change_of(audit.world, decision()) is None


def test_what_somebody_changed_meanwhile_is_void(audit: Audit) -> None:
    audit.apply(percent=7.0)
    with pytest.raises(RevisionMoved, match="decided on revision 1, but it is at revision 2"):
        change_of(audit.world, decision())
    with pytest.raises(RevisionMoved, match="not under control any more"):
        change_of(World(), decision())


def test_an_arm_that_is_not_there_is_refused(audit: Audit) -> None:
    with pytest.raises(
        ChangeRefused, match="has no arm 'nobody' that is canary or challenger; it has canary, challenger"
    ):
        change_of(audit.world, decision(arm="nobody"))


def test_shares_beyond_all_events_are_refused(audit: Audit) -> None:
    with pytest.raises(ChangeRefused, match="no valid deployment"):
        change_of(audit.world, decision(to=95.0))


def test_a_proposal_is_told_and_changes_nothing(audit: Audit) -> None:
    before = audit.world.states
    (told,) = audit.write(change_of(audit.world, decision(due=False)))
    assert told.action == "propose"
    assert audit.world.states == before
    assert change_of(audit.world, decision(due=False)) is None
    assert change_of(audit.world, decision()) is not None


def test_a_policy_is_told_when_it_is_another_one(audit: Audit) -> None:
    (told,) = audit.write(ruled(audit.world, policy()))
    assert (told.subject_kind, told.subject) == ("policy", "flights")
    assert ruled(audit.world, policy()) is None
    (other,) = audit.write(ruled(audit.world, policy(cool_down="2h")))
    assert other.before == told.after


# what people say


def test_an_answer_is_told_under_the_decisions_number(audit: Audit) -> None:
    (asked,) = audit.write(change_of(audit.world, decision(due=False)))
    with pytest.raises(DecisionUnknown, match=f"there is {asked.sequence}"):
        answered(audit.world, "approve", 99)
    audit.write(answered(audit.world, "approve", asked.sequence), why="good")
    assert answered(audit.world, "approve", asked.sequence) is None
    with pytest.raises(ChangeRefused, match="it is approved"):
        answered(audit.world, "veto", asked.sequence)
    (known,) = decisions_of(audit.world.entries)
    assert (known.number, known.became, known.by) == (asked.sequence, "approved", "ada: good")
    audit.write(change_of(audit.world, decision()))
    (known,) = decisions_of(audit.world.entries)
    assert (known.number, known.became) == (asked.sequence, "done")


def test_a_change_of_somebody_else_voids_what_waits(audit: Audit) -> None:
    audit.write(change_of(audit.world, decision(due=False)))
    audit.apply(percent=7.0)
    assert [known.became for known in decisions_of(audit.world.entries)] == ["void"]


def test_the_evidence_is_told_in_words(audit: Audit) -> None:
    fold = steering(promotion={"act": "act"})
    found = [made for at in range(1, 20) if (made := fold.take(seen(at * MINUTE, (50, 45)))) is not None]
    audit.write(change_of(audit.world, found[0]))
    page = "\n".join(explained(decisions_of(audit.world.entries)[0]))
    assert "canary 5 % -> 25 %" in page
    assert "candidate  mean 0.9000 of 500 outcomes" in page
    assert "incumbent  mean 0.8000 of 9,500 outcomes" in page
    assert "95% sure, whenever one looks" in page


# records as facts


def test_the_audit_tells_states_decisions_and_answers(audit: Audit) -> None:
    audit.write(change_of(audit.world, decision(due=False)))
    audit.write(answered(audit.world, "approve", 2), why="good")
    audit.write(change_of(audit.world, decision()))
    audit.apply(percent=7.0)
    follows = Standings()
    facts = [fact for entry in audit.world.entries for _, fact in follows.take(entry)]
    assert [type(fact) for fact in facts] == [Standing, Answer, Standing, Standing]
    assert facts[1] == Answer(3000, "a" * 32, "approved", "ada", "good")
    standings = [fact for fact in facts if isinstance(fact, Standing)]
    assert [(fact.decision, fact.state and fact.state.revision) for fact in standings] == [
        ("", 1),
        ("a" * 32, 2),
        ("", 3),
    ]


def test_a_removal_tells_that_there_is_no_state(audit: Audit) -> None:
    state = audit.world.states["flights"]
    audit.write(Change((Step("remove", "deployment", "flights", state.told(), None, state),)))
    ((name, fact),) = Standings().take(audit.world.entries[-1])
    assert (name, isinstance(fact, Standing) and fact.state) == ("flights", None)


def status(pid: int = 1, revision: int = 3, **counts: int) -> Status:
    told = {name.replace("_", "."): count for name, count in counts.items()}
    vitals = Vitals(0, pid, 1, 1, 0, counts=told)
    return Status("flights", "0", "penstock.flights", "here", pid, 0, revision, revision, (), "running", vitals=vitals)


def test_slots_tell_of_what_came_since_their_last_word() -> None:
    loads = Loads()
    assert list(loads.take(1, status(events_canary=100, failed_canary=50))) == []  # it was running before
    (load,) = loads.take(2, status(events_canary=130, failed_canary=51, runs_canary=2, micros_canary=9000))
    assert load == Load(2, 3, "canary", 30, 1, 4.5)
    again = Loads.load(loads.dump())
    assert list(again.take(3, status(events_canary=130, failed_canary=51, runs_canary=2, micros_canary=9000))) == []
    (load,) = again.take(4, status(pid=2, events_canary=7))
    assert (load.events, load.failed, load.run_ms) == (7, 0, None)
    assert list(again.take(5, replace(status(), vitals=None))) == []


def test_an_alert_is_about_a_version_in_an_arm() -> None:
    alert = {
        "id": "c" * 32,
        "state": "opened",
        "severity": "critical",
        **{"deployment": "flights", "arm": "canary", "model": "late", "version": "c"},
        **{"detector": "e_detector", "kind": "output", "name": "late", "onset": 1, "at": 2, "value": 1.0},
        **{"threshold": 1.0, "rows": 1, "summary": "it moved", "evidence": [], "worst": "critical"},
    }
    name, alarm = alarm_of(5, records.encode("alert", alert))
    assert (name, alarm.lineage, alarm.about, alarm.open) == (
        "flights",
        ("canary", "late", "c"),
        ("e_detector", "output", "late"),
        True,
    )


# the order


def test_records_come_in_the_order_of_their_times_however_they_were_read() -> None:
    draw = random.Random(1)
    logs = {topic: sorted(draw.randrange(1000) for _ in range(50)) for topic in "abc"}
    expected = sorted((at, topic, offset) for topic, times in logs.items() for offset, at in enumerate(times))
    for seed in range(20):
        draw, order, found = random.Random(seed), Order[int].of("abc"), []
        left = {topic: list(enumerate(times)) for topic, times in logs.items()}
        while any(left.values()):
            topic = draw.choice([name for name, records in left.items() if records])
            for _ in range(draw.randint(1, 5)):
                if left[topic]:
                    offset, at = left[topic].pop(0)
                    order.add(Place(at, topic, offset), 0)
            if not left[topic]:
                order.ended(topic, 1001 + SLACK_MS)
            found += [tuple(place) for place, _ in order.due()]
        for topic in "abc":
            order.ended(topic, 1001 + SLACK_MS)
        found += [tuple(place) for place, _ in order.due()]
        assert found == expected


def test_nothing_is_taken_before_all_topics_are_as_far() -> None:
    order = Order[int].of("ab")
    order.add(Place(5, "a", 0), 0)
    assert list(order.due()) == []
    order.ended("b", 5 + SLACK_MS)
    order.ended("a", 5 + SLACK_MS)
    assert list(order.due()) == []  # of the same millisecond more may come
    for topic in "ab":
        order.ended(topic, 6 + SLACK_MS)
    assert [place.offset for place, _ in order.due()] == [0]


# what is kept


def test_what_is_known_comes_back(audit: Audit) -> None:
    kept = Kept.new(policy())
    for entry in audit.world.entries:
        for _, fact in kept.standings.take(entry):
            kept.folds["candidate"].take(fact)
    kept.folds["candidate"].take(seen(MINUTE, (50, 40)))
    kept.positions["penstock.audit"] = 7
    again = Kept.load(policy(), kept.dump())
    assert again.dump() == kept.dump()
    assert Kept.load(policy(cool_down="2h"), kept.dump()).positions == {"penstock.audit": 7}


@pytest.mark.parametrize("changes", [{"arm": "challenger"}, {"outcome": {"metric": "gain"}}, {"bandit": {}}])
def test_evidence_about_something_else_is_read_anew(changes: dict[str, Any]) -> None:
    kept = Kept.new(policy())
    kept.positions["penstock.audit"] = 7
    assert kept_of(policy(**changes), kept.dump()).positions == {}
    assert kept_of(policy(), b"damaged").positions == {}
    assert kept_of(policy(), None).positions == {}


def test_a_policy_is_the_same_after_it_was_told() -> None:
    said = policy(freeze=[{"days": ["fri"], "begin": "16:00", "end": "08:00"}])
    assert Policy.model_validate(json.loads(canonical(said.model_dump(mode="json")))) == said
