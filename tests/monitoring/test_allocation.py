"""Shares follow the evidence: within a floor, not too often, and the same wherever the fold is cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from monitoring.allocation import Allocation
from monitoring.decision import Decision
from monitoring.evidence import Answer, Fact, Seen, Standing
from schemas.control import State
from schemas.policy import Policy
from tests.monitoring.steered import ACTIVE, CANARY, MINUTE, alarm, reward

MEANS = {"active": 0.5, "one": 0.6, "two": 0.4}


def policy(**bandit: Any) -> Policy:
    asked = {"floor": 5, "every": 300, "labels": 100, "change": 2, **bandit}
    return Policy.model_validate(
        {"deployment": "flights", "bandit": asked, "cool_down": 0, "rollback": {"level": 1e-9}}
    )


def state(revision: int = 1, one: float = 30.0, two: float = 30.0) -> State:
    arms = [
        replace(CANARY, name=name, role="challenger", weight=percent) for name, percent in (("one", one), ("two", two))
    ]
    return State("flights", revision, "{}", "{}", (ACTIVE, *arms))


def allocation(**bandit: Any) -> Allocation:
    rule = policy(**bandit)
    assert rule.bandit is not None
    found = Allocation(rule, rule.bandit)
    found.take(Standing(0, state()))
    return found


def seen(at: int, rng: np.random.Generator, shares: dict[str, float], revision: int = 1, count: int = 300) -> Seen:
    rewards = []
    for name, share in shares.items():
        events = int(count * share / 100)
        rewards.append(reward(revision, name, events, float(rng.binomial(events, MEANS[name]))))
    return Seen(at, rewards)


def lived(found: Allocation, minutes: int, seed: int = 1) -> tuple[list[Decision], State]:
    """Let minutes pass in which what is decided is done at once."""
    rng, here, decisions = np.random.default_rng(seed), state(), []
    for minute in range(1, minutes + 1):
        shares = {arm.name: arm.weight or 0.0 for arm in here.arms}
        shares["active"] = 100 - sum(shares.values())
        decision = found.take(seen(minute * MINUTE, rng, shares, here.revision))
        if decision is not None:
            decisions.append(decision)
            asked = decision.evidence["shares"]
            here = state(here.revision + 1, asked["one"], asked["two"])
            found.take(Standing(minute * MINUTE, here, decision.id))
    return decisions, here


def test_the_best_arm_comes_to_have_all_but_the_floors() -> None:
    decisions, here = lived(allocation(), 120)
    assert [(arm.name, arm.weight) for arm in here.arms] == [("active", None), ("one", 90.0), ("two", 5.0)]
    assert decisions[0].kind == "reweigh"
    assert decisions[-1].to == 5.0
    assert "one is the best" in decisions[-1].why
    assert all(b.at - a.at >= 300_000 for a, b in pairwise(decisions))


def test_nothing_is_decided_before_enough_is_known() -> None:
    assert lived(allocation(labels=100_000), 60)[0] == []
    assert lived(allocation(every=86_400), 60)[0] == []
    assert len(lived(allocation(change=50), 60)[0]) == 1


def test_an_alert_takes_an_arm_away() -> None:
    found = allocation()
    decision = found.take(alarm(lineage=("one", "late", "2")))
    assert decision is not None
    assert (decision.kind, decision.arm) == ("withdraw", "one")


def test_other_versions_begin_anew() -> None:
    found = allocation()
    lived(found, 3)
    assert found.table
    arms = [replace(arm, version="9") if arm.name == "two" else arm for arm in state(9).arms]
    found.take(Standing(200 * MINUTE, replace(state(9), arms=tuple(arms))))
    assert not found.table
    assert found.candidates["one"].trial.candidate.count > 0


def test_a_veto_keeps_the_shares() -> None:
    found, rng = allocation(act="propose"), np.random.default_rng(1)
    facts: list[Fact] = [seen(at * MINUTE, rng, {"active": 40, "one": 30, "two": 30}) for at in range(1, 60)]
    decisions = [decision for fact in facts[:30] if (decision := found.take(fact)) is not None]
    assert [decision.due for decision in decisions] == [False]
    found.take(Answer(31 * MINUTE, decisions[0].id, "vetoed", "ada"))
    assert all(found.take(fact) is None for fact in facts[30:])


def test_who_starts_again_from_what_was_kept_decides_the_same() -> None:
    rng = np.random.default_rng(2)
    facts: list[Fact] = [seen(at * MINUTE, rng, {"active": 40, "one": 30, "two": 30}) for at in range(1, 30)]
    whole = allocation(change=1)
    decided = [decision.id for fact in facts if (decision := whole.take(fact)) is not None]
    assert decided
    for cut in range(0, len(facts), 5):
        first = allocation(change=1)
        before = [decision.id for fact in facts[:cut] if (decision := first.take(fact)) is not None]
        second = Allocation.load(first.policy, first.bandit, first.dump())
        after = [decision.id for fact in facts[cut:] if (decision := second.take(fact)) is not None]
        assert before + after == decided
        assert second.dump() == whole.dump()
