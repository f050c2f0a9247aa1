"""The fold of a deployment whose arms share the events by the chance to be the best: from facts to decisions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from monitoring.decision import Decision, approved, decided, frozen
from monitoring.evidence import (
    Alarm,
    Answer,
    Asked,
    Candidate,
    Fact,
    Load,
    Seen,
    Standing,
    Started,
    Tagged,
    active_of,
    standing,
)
from monitoring.safety import harm
from monitoring.shares import chances, shares
from monitoring.trials import Outcomes
from schemas.control import ArmState, State
from schemas.policy import Bandit, Policy

SHARING = ("active", "canary", "challenger")  # roles of arms that share the events
Standings = list[tuple[str, str]]  # arms, and what is pinned there


@dataclass(slots=True)
class Allocation:
    """One deployment under a policy with a bandit. Times in ms.

    candidates: the arms beside the active one. table: outcomes by revision and arm, since the arms have their versions.
    fresh: outcomes that came since shares were last changed, which was at `changed`. pending, alarms: as in
    `monitoring.steering`. vetoed: revisions whose shares somebody wants to stay.
    """

    policy: Policy
    bandit: Bandit
    state: State | None = None
    candidates: dict[str, Candidate] = field(default_factory=dict)
    table: dict[int, dict[str, Outcomes]] = field(default_factory=dict)
    fresh: int = 0
    changed: int = 0
    pending: Decision | None = None
    vetoed: set[int] = field(default_factory=set)
    alarms: dict[str, Alarm] = field(default_factory=dict)

    def take(self, fact: Fact) -> Decision | None:
        """Take the next fact; return what is decided on it."""
        match fact:
            case Standing():
                self._stand(fact)
                return None
            case Answer():
                return self._answered(fact)
            case Seen():
                self._see(fact)
            case Load():
                for each in self.candidates.values():
                    each.bear(fact)
            case Asked() | Tagged() | Started():
                return None
            case Alarm():
                if fact.open:
                    self.alarms[fact.id] = fact
                else:
                    self.alarms.pop(fact.id, None)
        return self._decided(fact.at)

    def _stand(self, fact: Standing) -> None:
        """Take a new desired state, whoever wrote it. Other versions begin anew."""
        if fact.state is not None and self.state is not None and fact.state.revision <= self.state.revision:
            return
        before, self.pending = self.state, None
        self.state, self.fresh, self.changed = fact.state, 0, fact.at
        active = active_of(fact.state) if fact.state is not None else None
        if fact.state is None or active is None:
            self.candidates, self.table = {}, {}
            return
        if before is None or _standings(before) != _standings(fact.state):
            self.table = {}
        self.candidates = {
            arm.name: standing(self.candidates.get(arm.name), arm, active, fact, self.policy.outcome)
            for arm in _sharing(fact.state)
            if arm is not active
        }

    def _see(self, fact: Seen) -> None:
        for each in self.candidates.values():
            each.see(self.policy.outcome, fact.rewards)
        names = {"active", *self.candidates}
        begun = max((each.revision for each in self.candidates.values()), default=0)
        for reward in fact.rewards:
            ours = reward.metric == self.policy.outcome.metric and not reward.segment and reward.revision >= begun
            if ours and reward.arm in names:
                told = Outcomes(reward.count, reward.total, reward.squares)
                told = told if self.policy.outcome.better == "higher" else told.mirrored()
                arms = self.table.setdefault(reward.revision, {})
                arms[reward.arm] = arms.get(reward.arm, Outcomes()) + told
                self.fresh += reward.count

    def _decided(self, now: int) -> Decision | None:
        state = self.state
        if state is None or state.paused:
            return None
        if self.pending is None or self.pending.gives:
            for found in self.candidates.values():
                if (reason := harm(found, self.policy, self.alarms.values(), now)) is not None:
                    why, evidence = reason
                    told = {**evidence, **found.told(self.policy.outcome, self.policy.rollback.level)}
                    due, beside = self.policy.rollback.act == "act", found.incumbent.pinned
                    self.pending = decided(
                        state, "withdraw", now, found.arm, beside, 0.0, due=due, why=why, evidence=told
                    )
                    return self.pending
            if self.pending is None and self.candidates:
                return self._reweighed(state, now)
        return None

    def _reweighed(self, state: State, now: int) -> Decision | None:
        """Return other shares, where they are due and differ."""
        rule = self.bandit
        held = any(frozen(each, now) for each in self.policy.freeze) or state.revision in self.vetoed
        if held or self.fresh < rule.labels or now - self.changed < rule.every * 1000:
            return None
        self.fresh, self.changed = 0, now  # looked at again after as many
        names = ["active", *self.candidates]
        chance = chances(self.table, names)
        wanted = dict(zip(names, shares(chance, rule.floor), strict=True))
        present = self._present(state)
        if max(abs(wanted[name] - present[name]) for name in names) < rule.change:
            return None
        active = active_of(state)
        assert active is not None
        known = dict(zip(names, map(float, chance), strict=True))
        evidence = {
            "shares": {name: float(wanted[name]) for name in self.candidates},
            "before": present,
            "chances": known,
            "means": {name: _mean(self.table, name) for name in names},
        }
        likely = max(names, key=lambda name: known[name])
        why = f"{likely} is the best with a chance of {known[likely]:.0%}"
        due = rule.act == "act"
        self.pending = decided(
            state, "reweigh", now, active, "", float(wanted["active"]), due=due, why=why, evidence=evidence
        )
        return self.pending

    def _present(self, state: State) -> dict[str, float]:
        """Return the shares of now, in percent."""
        found = {arm.name: arm.weight or 0.0 for arm in _sharing(state) if arm.role != "active"}
        return {"active": 100.0 - sum(found.values()), **found}

    def _answered(self, fact: Answer) -> Decision | None:
        asked = self.pending
        if asked is None or asked.id != fact.decision or asked.due:
            return None
        if fact.verdict == "vetoed":
            self.pending = None
            self.vetoed.add(asked.revision)
            return None
        self.pending = approved(asked, fact)
        return self.pending

    def dump(self) -> dict[str, Any]:
        """Return everything but the policy as plain values."""
        return {
            "state": None if self.state is None else self.state.told(),
            "candidates": {name: each.dump() for name, each in self.candidates.items()},
            "table": [
                [at, {arm: list(o.dump()) for arm, o in arms.items()}] for at, arms in sorted(self.table.items())
            ],
            "fresh": self.fresh,
            "changed": self.changed,
            "pending": None if self.pending is None else asdict(self.pending),
            "vetoed": sorted(self.vetoed),
            "alarms": [asdict(alarm) for _, alarm in sorted(self.alarms.items())],
        }

    @classmethod
    def load(cls, policy: Policy, bandit: Bandit, document: Mapping[str, Any]) -> Self:
        """Return what was dumped. Raises RecordInvalid, KeyError and TypeError for what was not."""
        state = None if document["state"] is None else State.of_told(document["state"])
        active = active_of(state) if state is not None else None
        candidates = {}
        if state is not None and active is not None:
            arms = {arm.name: arm for arm in state.arms}
            candidates = {n: Candidate.load(arms[n], active, each) for n, each in document["candidates"].items()}
        alarms = [Alarm.load(each) for each in document["alarms"]]
        return cls(
            policy,
            bandit,
            state,
            candidates,
            {at: {arm: Outcomes(*each) for arm, each in arms.items()} for at, arms in document["table"]},
            document["fresh"],
            document["changed"],
            None if document["pending"] is None else Decision(**document["pending"]),
            set(document["vetoed"]),
            {alarm.id: alarm for alarm in alarms},
        )


def _sharing(state: State) -> list[ArmState]:
    return [arm for arm in state.arms if arm.role in SHARING]


def _standings(state: State) -> Standings:
    return [(arm.name, arm.pinned) for arm in _sharing(state)]


def _mean(table: Mapping[int, Mapping[str, Outcomes]], arm: str) -> float | None:
    found = sum((arms.get(arm, Outcomes()) for arms in table.values()), Outcomes())
    return found.total / found.count if found.count else None
