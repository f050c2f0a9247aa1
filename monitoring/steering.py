"""The controller's fold: from facts in one order to decisions. Pure: who takes the same facts decides the same.

A candidate is one version beside one other in the arm that the policy names. What is known of both goes on counting
while only its share changes, and begins anew with another version of either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from monitoring.cells import Lineage
from monitoring.decision import GIVES, Decision, Kind, approved, decided, frozen
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
from monitoring.safety import against, harm
from schemas.control import State
from schemas.policy import DAY, Policy


@dataclass(slots=True)
class Steering:
    """One deployment under a policy. Times in ms.

    promoted: until when an alert about the active version leads back. cool: until when nothing is given more. given:
    when something was, in the last day. pending: what was decided and is neither done nor void. vetoed: what is not
    proposed again. alarms: those that are open.
    """

    policy: Policy
    state: State | None = None
    candidate: Candidate | None = None
    pending: Decision | None = None
    promoted: int = 0
    cool: int = 0
    given: list[int] = field(default_factory=list)
    vetoed: set[tuple[str, str, float]] = field(default_factory=set)
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
                if self.candidate is not None:
                    self.candidate.see(self.policy.outcome, fact.rewards)
            case Load():
                if self.candidate is not None:
                    self.candidate.bear(fact)
            case Asked() | Tagged() | Started():
                return None
            case Alarm():
                self._alarmed(fact)
        return self._decided(fact.at)

    # what is

    def _stand(self, fact: Standing) -> None:
        """Take a new desired state, whoever wrote it."""
        if fact.state is None:
            self.state = self.candidate = self.pending = None
            return
        if self.state is not None and fact.state.revision <= self.state.revision:
            return
        if self.pending is not None and fact.decision == self.pending.id:
            self._done(self.pending, fact.at)
        before, self.state, self.pending = self.candidate, fact.state, None
        arm, active = fact.state.arm(self.policy.arm), active_of(fact.state)
        if arm is None or active is None:
            self.candidate = None
            return
        self.candidate = standing(before, arm, active, fact, self.policy.outcome)

    def _done(self, decision: Decision, at: int) -> None:
        if decision.gives:
            self.given.append(at)
            self.promoted = at + self.policy.rollback.watch * 1000 if decision.kind == "promote" else 0
        else:
            self.cool, self.promoted = at + self.policy.cool_down * 1000, 0

    def _alarmed(self, fact: Alarm) -> None:
        if fact.open:
            self.alarms[fact.id] = fact
        else:
            self.alarms.pop(fact.id, None)

    # what to do

    def _decided(self, now: int) -> Decision | None:
        """Return what is due now. What takes something back stands above what was proposed, and is decided once."""
        if self.state is None or self.state.paused:
            return None
        waits = self.pending
        if waits is None or waits.gives:
            if (back := self._back(now)) is not None:
                return back
            if waits is None and self.candidate is not None:
                return self._more(self.candidate, now)
        return None

    def _back(self, now: int) -> Decision | None:
        """Return the way back: of a candidate that does harm, or of a version that was promoted lately."""
        found = self.candidate
        if found is not None and (found.arm.pinned, found.incumbent.pinned, 0.0) in self.vetoed:
            return None
        if found is None:
            watched = now < self.promoted
            alarm = against(self.alarms.values(), self._incumbent, None, self.policy) if watched else None
            if alarm is None:
                return None
            return self._decide("rollback", now, 0.0, f"after its promotion: {alarm.summary}", alert=alarm.id)
        if (reason := harm(found, self.policy, self.alarms.values(), now)) is None:
            return None
        why, evidence = reason
        return self._decide("withdraw", now, 0.0, why, **evidence)

    def _more(self, found: Candidate, now: int) -> Decision | None:
        """Return the next step, where the candidate has been seen enough with its share and nothing forbids it."""
        rule, exposure, share = self.policy.promotion, found.exposure, found.arm.weight or 0.0
        if exposure.labels < rule.labels or now - exposure.since < rule.seconds * 1000 or self._held(now):
            return None
        to = next((step for step in self.policy.steps if step > share), 100.0)
        if (found.arm.pinned, found.incumbent.pinned, to) in self.vetoed:
            return None
        if to < 100:
            words = f"nothing speaks against it after {exposure.labels:,} labels and {_span(now - exposure.since)}"
            return self._decide("step", now, to, words)
        better = found.trial.better(-rule.margin / self.policy.outcome.width)
        if better < math.log(1 / rule.level):
            return None
        words = "it is better" if rule.when == "better" else f"it is not worse by {rule.margin:g}"
        return self._decide("promote", now, to, words, log_e_value=better)

    def _held(self, now: int) -> bool:
        """Say whether nothing may be given more now."""
        self.given = [at for at in self.given if at > now - DAY * 1000]
        if now < self.cool or len(self.given) >= self.policy.changes_per_day:
            return True
        return any(frozen(each, now) for each in self.policy.freeze)

    # what people say

    def _answered(self, fact: Answer) -> Decision | None:
        """Take what a person said of what was proposed: approved, it is due now; vetoed, it is not proposed again."""
        asked = self.pending
        if asked is None or asked.id != fact.decision or asked.due:
            return None
        if fact.verdict == "vetoed":
            self.pending = None
            self.vetoed.add(asked.again)
            return None
        self.pending = approved(asked, fact)
        return self.pending

    # how it is told

    def dump(self) -> dict[str, Any]:
        """Return everything but the policy as plain values."""
        return {
            "state": None if self.state is None else self.state.told(),
            "candidate": None if self.candidate is None else self.candidate.dump(),
            "pending": None if self.pending is None else asdict(self.pending),
            "promoted": self.promoted,
            "cool": self.cool,
            "given": self.given,
            "vetoed": sorted(map(list, self.vetoed)),
            "alarms": [asdict(alarm) for _, alarm in sorted(self.alarms.items())],
        }

    @classmethod
    def load(cls, policy: Policy, document: Mapping[str, Any]) -> Self:
        """Return what was dumped. Raises RecordInvalid, KeyError and TypeError for what was not."""
        state = None if document["state"] is None else State.of_told(document["state"])
        candidate = None
        if state is not None and document["candidate"] is not None:
            arm, active = state.arm(policy.arm), active_of(state)
            if arm is not None and active is not None:
                candidate = Candidate.load(arm, active, document["candidate"])
        alarms = [Alarm.load(each) for each in document["alarms"]]
        return cls(
            policy,
            state,
            candidate,
            None if document["pending"] is None else Decision(**document["pending"]),
            document["promoted"],
            document["cool"],
            list(document["given"]),
            {(one, other, float(to)) for one, other, to in document["vetoed"]},
            {alarm.id: alarm for alarm in alarms},
        )

    @property
    def _incumbent(self) -> Lineage:
        assert self.state is not None
        arm = active_of(self.state)
        return (arm.name, arm.model, arm.version) if arm is not None else ("", "", "")

    def _decide(self, kind: Kind, now: int, to: float, why: str, **evidence: Any) -> Decision:
        """Return a decision, which waits until it is done, void, or answered."""
        assert self.state is not None
        state, found, policy = self.state, self.candidate, self.policy
        rule = policy.promotion if kind in GIVES else policy.rollback
        arm, beside = (found.arm, found.incumbent.pinned) if found is not None else (active_of(state), "")
        assert arm is not None
        told = {**evidence, **(found.told(policy.outcome, rule.level) if found is not None else {})}
        due = rule.act == "act"
        self.pending = decided(state, kind, now, arm, beside, to, due=due, why=why, evidence=told)
        return self.pending


def _span(ms: int) -> str:
    return f"{ms / 3_600_000:.1f} h" if ms >= 3_600_000 else f"{ms / 1000:.0f} s"
