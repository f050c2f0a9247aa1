"""What the controller decides on which facts, and that it decides the same wherever it is cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from monitoring.decision import Decision, frozen
from monitoring.evidence import Answer, Fact, Standing
from monitoring.steering import Steering
from schemas.policy import Freeze
from tests.monitoring.steered import HOUR, MINUTE, alarm, load, policy, reward, seen, state, steering


def fed(found: Steering, facts: list[Fact]) -> list[Decision]:
    return [decision for fact in facts if (decision := found.take(fact)) is not None]


def minutes(count: int, right: int = 40, begin: int = 1, revision: int = 1) -> list[Fact]:
    """So many minutes in which the canary is right `right` times in 50, the active version 40 times in 50."""
    return [seen(at * MINUTE, (50, right), revision=revision) for at in range(begin, begin + count)]


# more


def test_a_candidate_gets_more_when_it_was_seen_enough() -> None:
    found = steering()
    (decision,) = fed(found, minutes(30))
    assert (decision.kind, decision.before, decision.to, decision.due) == ("step", 5.0, 25.0, True)
    assert decision.at == 10 * MINUTE
    assert decision.evidence["with_this_share"]["labels"] == 500
    assert decision.evidence["candidate"] == {"outcomes": 500, "mean": 0.8}
    assert "500 labels" in decision.why


@pytest.mark.parametrize(
    "changes", [{"promotion": {"labels": 2000}}, {"promotion": {"seconds": "1h"}}, {"changes_per_day": 1}]
)
def test_it_does_not_while_something_is_lacking(changes: dict[str, Any]) -> None:
    found = steering(**changes)
    found.given = [1] if "changes_per_day" in changes else []
    assert fed(found, minutes(30)) == []


def test_what_waits_is_decided_once() -> None:
    assert len(fed(steering(), minutes(100))) == 1


def test_with_more_events_the_exposure_begins_anew_and_the_evidence_does_not() -> None:
    found = steering()
    (decision,) = fed(found, minutes(10))
    found.take(Standing(11 * MINUTE, state(2, 25.0), decision.id))
    assert found.candidate is not None
    assert found.candidate.exposure.labels == 0
    assert found.candidate.trial.candidate.count == 500
    assert found.given == [11 * MINUTE]
    fed(found, minutes(1, begin=12, revision=1))  # labels of events before the step
    assert found.candidate.exposure.labels == 0
    assert found.candidate.trial.candidate.count == 550
    fed(found, minutes(1, begin=13, revision=2))
    assert found.candidate.exposure.labels == 50


def test_at_the_last_step_evidence_decides() -> None:
    found = steering(steps=[5, 100])
    assert fed(found, minutes(60)) == []
    (decision,) = fed(found, minutes(200, right=45, begin=61))
    assert (decision.kind, decision.to) == ("promote", 100.0)
    assert decision.evidence["log_e_value"] >= np.log(20)
    assert decision.evidence["difference"]["low"] > -0.01


def test_not_worse_by_a_margin_is_enough_where_that_is_asked_for() -> None:
    found = steering(steps=[5, 100], promotion={"when": "not_worse", "margin": 0.05})
    (decision,) = fed(found, minutes(300))
    assert decision.kind == "promote"
    assert decision.why == "it is not worse by 0.05"


def test_another_version_begins_anew() -> None:
    found = steering()
    fed(found, minutes(9))
    found.take(Standing(9 * MINUTE + 1, state(2, 5.0, canary="3")))
    assert found.candidate is not None
    assert found.candidate.trial.candidate.count == 0
    assert fed(found, minutes(9, begin=10, revision=2)) == []
    fed(found, minutes(5, begin=20, revision=1))  # outcomes of the version before
    assert found.candidate.trial.candidate.count == 450


def test_segments_and_other_metrics_are_left_out() -> None:
    found = steering()
    other = [reward(1, "canary", 50, 40, metric="gain"), reward(1, "canary", 50, 40, segment="origin")]
    found.take(replace(seen(MINUTE, (50, 40)), rewards=other))
    assert found.candidate is not None
    assert found.candidate.exposure.labels == 0


def test_where_less_is_better_a_lower_mean_wins() -> None:
    found = steering(steps=[5, 100], outcome={"metric": "accuracy", "better": "lower", "range": [0, 10]})
    (decision,) = fed(found, minutes(300, right=35))
    assert decision.kind == "promote"
    assert decision.evidence["candidate"]["mean"] == pytest.approx(7.0)
    assert decision.evidence["difference"]["high"] < 0


# back


def test_harm_takes_the_candidate_back_before_it_was_seen_enough() -> None:
    (decision,) = fed(steering(promotion={"seconds": "1d"}), minutes(60, right=30))
    assert (decision.kind, decision.to, decision.why) == ("withdraw", 0.0, "it is worse")
    assert decision.due


def test_harm_that_is_borne_does_not() -> None:
    assert fed(steering(promotion={"seconds": "1d"}, rollback={"worse_by": 0.2}), minutes(200, right=35)) == []


@pytest.mark.parametrize(
    ("events", "failed", "back"), [(1000, 10, False), (1000, 100, True), (5, 5, True), (5, 1, False)]
)
def test_failures_beyond_the_budget_take_it_back(events: int, failed: int, back: bool) -> None:
    decisions = fed(steering(), [load(MINUTE, events, failed)])
    assert [each.kind for each in decisions] == (["withdraw"] if back else [])


def test_runs_that_take_too_long_take_it_back() -> None:
    found = steering(rollback={"budgets": {"run_ms": 50}})
    assert fed(found, [load(MINUTE, 100, 0, run_ms=20.0), load(2 * MINUTE, 100, 0, arm="active", run_ms=90.0)]) == []
    (decision,) = fed(found, [load(3 * MINUTE, 100, 0, run_ms=90.0)])
    assert "90 ms" in decision.why


def test_an_alert_about_the_candidate_takes_it_back() -> None:
    (decision,) = fed(steering(), [alarm()])
    assert decision.kind == "withdraw"
    assert decision.evidence["alert"] == "c" * 32


@pytest.mark.parametrize(
    "changes",
    [
        {"severity": "warning"},
        {"open": False},
        {"lineage": ("canary", "late", "9")},
        {"about": ("e_detector", "feature", "delay")},
    ],
)
def test_alerts_about_something_else_do_not(changes: dict[str, Any]) -> None:
    assert fed(steering(), [alarm(**changes)]) == []


def test_an_alert_that_the_active_version_has_as_well_does_not() -> None:
    both = alarm(id="d" * 32, lineage=("active", "late", "1"))
    assert fed(steering(), [both, alarm(2 * MINUTE)]) == []


def test_after_it_was_taken_back_nothing_is_given_more_for_a_while() -> None:
    found = steering(cool_down="1h")
    (decision,) = fed(found, [alarm()])
    found.take(Standing(2 * MINUTE, state(2, None), decision.id))
    found.take(Standing(3 * MINUTE, state(3, 5.0, canary="3")))
    assert fed(found, minutes(50, begin=4, revision=3)) == []
    assert [each.kind for each in fed(found, minutes(20, begin=60, revision=3))] == ["step"]


def test_after_a_promotion_an_alert_leads_back_while_it_is_watched() -> None:
    found = steering(steps=[5, 100], rollback={"watch": "1h"})
    (decision,) = fed(found, minutes(200, right=45))
    at = decision.at + 1
    found.take(Standing(at, state(2, None, active="2"), decision.id))
    about = alarm(at + MINUTE, lineage=("active", "late", "2"))
    (back,) = fed(found, [about])
    assert (back.kind, back.revision) == ("rollback", 2)
    found.take(Standing(at + 2 * MINUTE, state(3, None), back.id))
    assert fed(found, [replace(about, at=at + 3 * MINUTE, id="e" * 32)]) == []


def test_a_promotion_by_hand_is_not_gone_back_from() -> None:
    found = steering()
    found.take(Standing(MINUTE, state(2, None, active="2")))
    assert fed(found, [alarm(2 * MINUTE, lineage=("active", "late", "2"))]) == []


def test_a_candidate_without_evidence_is_given_up() -> None:
    (decision,) = fed(steering(promotion={"seconds": "30d", "give_up": "1h"}), minutes(70))
    assert decision.why == "no evidence for it within 3,600 s"


def test_a_way_back_stands_above_what_was_proposed() -> None:
    found = steering(promotion={"act": "propose"})
    step, back = fed(found, [*minutes(10), alarm(11 * MINUTE)])
    assert (step.due, back.due) == (False, True)
    assert found.pending == back


def test_while_it_is_paused_nothing_is_decided() -> None:
    found = steering()
    found.take(Standing(1, replace(state(2), paused=True)))
    assert fed(found, [alarm(), *minutes(30, begin=2, revision=2)]) == []


def test_a_deployment_that_was_removed_has_no_candidate() -> None:
    found = steering()
    found.take(Standing(1, None))
    assert fed(found, [alarm(), *minutes(30, begin=2)]) == []


# people


def test_what_is_proposed_waits_for_an_answer() -> None:
    found = steering(promotion={"act": "propose"})
    (asked,) = fed(found, minutes(30))
    assert not asked.due
    (due,) = fed(found, [Answer(40 * MINUTE, asked.id, "approved", "ada", "looks good")])
    assert due.due
    assert due.id == asked.id
    assert due.why.endswith("approved by ada: looks good")


def test_what_was_vetoed_is_not_proposed_again() -> None:
    found = steering(promotion={"act": "propose"})
    (asked,) = fed(found, minutes(10))
    assert fed(found, [Answer(11 * MINUTE, asked.id, "vetoed", "ada"), *minutes(100, begin=12)]) == []
    found.take(Standing(200 * MINUTE, state(2, 5.0, canary="3")))
    assert len(fed(found, minutes(20, begin=201, revision=2))) == 1


def test_answers_to_other_decisions_change_nothing() -> None:
    found = steering(promotion={"act": "propose"})
    (asked,) = fed(found, minutes(10))
    assert fed(found, [Answer(11 * MINUTE, "another", "vetoed", "ada")]) == []
    assert found.pending == asked


# time


@pytest.mark.parametrize(
    ("hours", "is_frozen"), [(0, True), (6, False), (21, False), (22, True), (26, True), (30, False), (46, False)]
)
def test_a_freeze_window_goes_past_midnight(hours: int, is_frozen: bool) -> None:
    rule = Freeze(days=["wed", "thu"], begin="22:00", end="06:00")  # 1970-01-01 was a Thursday
    assert frozen(rule, hours * HOUR) == is_frozen


def test_in_a_freeze_window_nothing_is_given_more_and_harm_is_still_taken_back() -> None:
    found = steering(freeze=[{"days": ["thu"]}])
    assert fed(found, minutes(30)) == []
    assert [each.kind for each in fed(found, [alarm(31 * MINUTE)])] == ["withdraw"]


# the same wherever it is cut


def test_who_starts_again_from_what_was_kept_decides_the_same() -> None:
    rng = np.random.default_rng(4)
    facts: list[Fact] = [
        seen(at * MINUTE, (50, float(rng.binomial(50, 0.9))), (950, float(rng.binomial(950, 0.8))))
        for at in range(1, 40)
    ]
    facts += [load(40 * MINUTE, 100, 1), alarm(41 * MINUTE, severity="warning"), *minutes(3, begin=42)]
    whole = steering(promotion={"act": "propose"})
    decided = fed(whole, facts)
    assert decided
    for cut in range(0, len(facts), 7):
        first = steering(promotion={"act": "propose"})
        before = fed(first, facts[:cut])
        second = Steering.load(first.policy, first.dump())
        assert [each.id for each in before + fed(second, facts[cut:])] == [each.id for each in decided]
        assert second.dump() == whole.dump()


def test_the_policy_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="must rise"):
        policy(steps=[25, 5, 100])
    with pytest.raises(ValueError, match="needs a margin"):
        policy(promotion={"when": "not_worse"})
    with pytest.raises(ValueError, match="is empty"):
        policy(outcome={"range": [1, 1]})
