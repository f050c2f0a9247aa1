"""A request starts one training; what comes back shadows, then enters as a canary; people may say no at each step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from monitoring.decision import Decision
from monitoring.evidence import Answer, Asked, Fact, Load, Standing, Started, Tagged
from monitoring.renewal import Renewal
from schemas.control import ArmState, State
from schemas.policy import Policy
from tests.monitoring.steered import HOUR, MINUTE, state

REQUEST = {"id": "r" * 32, "deployment": "flights", "reasons": [{"summary": "delay moved"}], "since": 1, "until": 2}
TAGGED = Tagged(2 * MINUTE, "late", "candidate", "7")


def policy(**retraining: Any) -> Policy:
    asked = {"command": ["train"], "act": "act", "shadow": "1h", "events": 100, **retraining}
    return Policy.model_validate({"deployment": "flights", "steps": [2, 100], "retraining": asked})


def renewal(**retraining: Any) -> Renewal:
    rule = policy(**retraining)
    assert rule.retraining is not None
    found = Renewal(rule, rule.retraining)
    found.take(Standing(0, state(1, None)))
    return found


def shadowing(revision: int = 2, version: str = "7") -> State:
    arm = ArmState("trained", "shadow", f"late@{version}", "late", version, "d" * 64)
    return replace(state(revision, None), arms=(*state(revision, None).arms, arm))


def fed(found: Renewal, *facts: Fact) -> list[Decision]:
    return [decision for fact in facts if (decision := found.take(fact)) is not None]


def load(at: int, events: int, failed: int = 0) -> Load:
    return Load(at, 2, "trained", events, failed)


def test_a_request_starts_one_training() -> None:
    found = renewal(cool_down="1d")
    (decision,) = fed(found, Asked(MINUTE, REQUEST), Asked(MINUTE, REQUEST))
    assert (decision.kind, decision.due, decision.why) == ("retrain", True, "delay moved")
    assert decision.evidence["request"] == REQUEST
    fed(found, Started(2 * MINUTE, decision.id))
    assert fed(found, Asked(3 * MINUTE, {**REQUEST, "id": "s" * 32})) == []
    (again,) = fed(found, Load(25 * HOUR, 1, "active", 1, 0))
    assert again.id != decision.id


def test_the_version_that_comes_back_is_a_shadow_and_then_a_canary() -> None:
    found = renewal()
    (shadow,) = fed(found, TAGGED)
    assert (shadow.kind, shadow.candidate, shadow.revision) == ("shadow", "late@7", 1)
    assert fed(found, Standing(3 * MINUTE, shadowing(), shadow.id), load(4 * MINUTE, 200), load(30 * MINUTE, 200)) == []
    (enter,) = fed(found, load(64 * MINUTE, 1))
    assert (enter.kind, enter.to, enter.evidence["events"], enter.revision) == ("enter", 2.0, 401, 2)
    canary = state(3, 2.0, canary="7")
    assert fed(found, Standing(65 * MINUTE, canary, enter.id), load(66 * MINUTE, 1), TAGGED) == []


def test_a_shadow_that_fails_goes() -> None:
    found = renewal()
    fed(found, TAGGED, Standing(3 * MINUTE, shadowing()))
    (back,) = fed(found, load(4 * MINUTE, 100, 50))
    assert (back.kind, back.arm) == ("withdraw", "trained")


def test_a_shadow_waits_while_another_candidate_is_on_trial() -> None:
    found = renewal()
    both = replace(shadowing(), arms=(*shadowing().arms, *state(2).arms[1:]))
    assert fed(found, Standing(MINUTE, both), load(3 * HOUR, 1000)) == []
    (enter,) = fed(found, Standing(4 * HOUR, shadowing(3)), load(5 * HOUR, 1))
    assert enter.kind == "enter"


@pytest.mark.parametrize("changes", [{"model": "other"}, {"tag": "production"}, {"version": "1"}])
def test_other_tags_models_and_versions_that_score_are_nothing_new(changes: dict[str, str]) -> None:
    assert fed(renewal(), replace(TAGGED, **changes)) == []  # type: ignore[arg-type]


def test_a_veto_is_for_good() -> None:
    found = renewal(act="propose")
    (asked,) = fed(found, Asked(MINUTE, REQUEST))
    assert fed(found, Answer(2 * MINUTE, asked.id, "vetoed", "ada"), Asked(3 * MINUTE, REQUEST)) == []
    (asked,) = fed(found, replace(TAGGED, at=4 * MINUTE))
    assert fed(found, Answer(5 * MINUTE, asked.id, "vetoed", "ada"), replace(TAGGED, at=6 * MINUTE)) == []
    (asked,) = fed(found, replace(TAGGED, at=7 * MINUTE, version="8"))
    (due,) = fed(found, Answer(8 * MINUTE, asked.id, "approved", "ada"))
    assert due.due


def test_in_a_freeze_window_nothing_is_begun() -> None:
    rule = policy().model_copy(update={"freeze": Policy.model_validate({"deployment": "d", "freeze": [{}]}).freeze})
    assert rule.retraining is not None
    found = Renewal(rule, rule.retraining)
    assert fed(found, Standing(0, state(1, None)), Asked(MINUTE, REQUEST), TAGGED) == []


def test_who_starts_again_from_what_was_kept_decides_the_same() -> None:
    asked = renewal().take(Asked(MINUTE, REQUEST))
    assert asked is not None
    facts: list[Fact] = [
        Asked(MINUTE, REQUEST),
        Started(MINUTE + 1, asked.id),
        TAGGED,
        Standing(3 * MINUTE, shadowing()),
        load(4 * MINUTE, 500),
        load(70 * MINUTE, 5),
    ]
    whole = renewal()
    decided = [each.id for each in fed(whole, *facts)]
    assert len(decided) == 3
    for cut in range(len(facts) + 1):
        first = renewal()
        before = fed(first, *facts[:cut])
        second = Renewal.load(first.policy, first.rule, first.dump())
        assert [each.id for each in before + fed(second, *facts[cut:])] == decided
        assert second.dump() == whole.dump()


def test_a_policy_says_what_to_start() -> None:
    with pytest.raises(ValueError, match="either a command or a webhook"):
        policy(webhook="https://train.example")
