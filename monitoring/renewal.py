"""The fold that gets a new version: a request starts one training, what comes back shadows, then is a canary. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from monitoring.decision import Decision, Kind, approved, frozen
from monitoring.evidence import Answer, Asked, Fact, Load, Standing, Started, Tagged, active_of, too_many
from monitoring.folds import identity
from schemas.control import ArmState, State
from schemas.policy import Policy, Retraining


@dataclass(slots=True)
class Renewal:
    """One deployment's. Times in ms.

    asked: the request that waits to be started. trained: until when no other training is started. came: the version
    that was trained and is in no arm yet. since, events, failed: of the shadow arm, since it is there. pending: what
    was decided and is neither done nor void. vetoed: requests, and versions, that somebody does not want.
    """

    policy: Policy
    rule: Retraining
    state: State | None = None
    asked: Mapping[str, Any] | None = None
    trained: int = 0
    came: str = ""
    since: int = 0
    events: int = 0
    failed: int = 0
    pending: Decision | None = None
    vetoed: set[str] = field(default_factory=set)

    def take(self, fact: Fact) -> Decision | None:
        """Take the next fact; return what is decided on it."""
        match fact:
            case Standing():
                self._stand(fact)
            case Answer():
                return self._answered(fact)
            case Asked():
                self.asked = fact.request
            case Tagged():
                self._tagged(fact)
            case Started():
                self._started(fact)
            case Load() if self.shadow is not None and fact.arm == self.rule.arm:
                self.events, self.failed = self.events + fact.events, self.failed + fact.failed
        return self._decided(fact.at)

    @property
    def shadow(self) -> ArmState | None:
        """The arm in which what came back is shadowing."""
        arm = self.state.arm(self.rule.arm) if self.state is not None else None
        return arm if arm is not None and arm.role == "shadow" else None

    def _stand(self, fact: Standing) -> None:
        if fact.state is not None and self.state is not None and fact.state.revision <= self.state.revision:
            return
        before, self.state = self.shadow, fact.state
        if self.pending is not None and (self.pending.kind != "retrain" or fact.state is None):
            self.pending = None  # it was about the state before
        now = self.shadow
        if now is None or before is None or now.pinned != before.pinned:
            self.since, self.events, self.failed = fact.at, 0, 0
        if fact.state is not None and self.came in {arm.version for arm in fact.state.arms}:
            self.came = ""

    def _tagged(self, fact: Tagged) -> None:
        active = active_of(self.state) if self.state is not None else None
        if active is not None and (fact.model, fact.tag) == (active.model, self.rule.tag):
            known = {arm.version for arm in self.state.arms} if self.state is not None else set()
            self.came = fact.version if fact.version not in known else ""

    def _started(self, fact: Started) -> None:
        """Note that a training was started."""
        if self.pending is not None and self.pending.id == fact.decision:
            self.pending = None
        self.asked, self.trained = None, fact.at + self.rule.cool_down * 1000

    def _decided(self, now: int) -> Decision | None:
        state = self.state
        active = active_of(state) if state is not None else None
        if state is None or active is None or state.paused or self.pending is not None:
            return None
        if any(frozen(each, now) for each in self.policy.freeze):
            return None
        if (shadow := self.shadow) is not None:
            return self._entered(state, shadow, now)
        if self.came and self.came not in self.vetoed and state.arm(self.rule.arm) is None:
            words = f"it came back from training, tagged {self.rule.tag}"
            return self._decide("shadow", now, f"{active.model}@{self.came}", 0.0, words, {"version": self.came})
        if self.asked is not None and now >= self.trained and self.asked["id"] not in self.vetoed:
            found = dict(self.asked)
            words = "; ".join(reason["summary"] for reason in found["reasons"]) or "drift has stayed"
            return self._decide("retrain", now, active.pinned, 0.0, words, {"request": found})
        return None

    def _entered(self, state: State, shadow: ArmState, now: int) -> Decision | None:
        """Return what becomes of the shadow once it was seen enough."""
        budget = self.policy.rollback.budgets.failed
        told = {"events": self.events, "failed": self.failed, "since": self.since, "version": shadow.version}
        if budget is not None and too_many(self.failed, self.events, budget):
            words = f"it failed {self.failed:,} of {self.events:,} events"
            return self._decide("withdraw", now, shadow.pinned, 0.0, words, told)
        free = state.arm(self.policy.arm) is None and shadow.version not in self.vetoed
        if not free or self.events < self.rule.events or now - self.since < self.rule.shadow * 1000:
            return None
        words, told = f"it shadowed {self.events:,} events and failed {self.failed:,}", {**told, "as": self.policy.arm}
        return self._decide("enter", now, shadow.pinned, self.policy.steps[0], words, told)

    def _decide(
        self, kind: Kind, now: int, candidate: str, to: float, why: str, evidence: Mapping[str, Any]
    ) -> Decision:
        assert self.state is not None
        state = self.state
        about = evidence["request"]["id"] if kind == "retrain" else f"{state.revision}\n{candidate}"
        active = active_of(state)
        assert active is not None
        self.pending = Decision(
            identity(f"{state.deployment}\n{kind}\n{about}"),
            *(state.deployment, now, kind, state.revision, self.rule.arm, candidate, active.pinned, 0.0, to),
            due=self.rule.act == "act",
            why=why,
            evidence=evidence,
        )
        return self.pending

    def _answered(self, fact: Answer) -> Decision | None:
        asked = self.pending
        if asked is None or asked.id != fact.decision or asked.due:
            return None
        if fact.verdict == "vetoed":
            found = asked.evidence
            self.vetoed.add(str(found["request"]["id"]) if asked.kind == "retrain" else str(found["version"]))
            self.pending = None
            return None
        self.pending = approved(asked, fact)
        return self.pending

    def dump(self) -> dict[str, Any]:
        """Return everything but the policy as plain values."""
        return {
            "state": None if self.state is None else self.state.told(),
            "asked": None if self.asked is None else dict(self.asked),
            "pending": None if self.pending is None else asdict(self.pending),
            "vetoed": sorted(self.vetoed),
            **{name: getattr(self, name) for name in PLAIN},
        }

    @classmethod
    def load(cls, policy: Policy, rule: Retraining, document: Mapping[str, Any]) -> Self:
        """Return what was dumped. Raises RecordInvalid, KeyError and TypeError for what was not."""
        return cls(
            policy,
            rule,
            None if document["state"] is None else State.of_told(document["state"]),
            document["asked"],
            pending=None if document["pending"] is None else Decision(**document["pending"]),
            vetoed=set(document["vetoed"]),
            **{name: document[name] for name in PLAIN},
        )


PLAIN = ("trained", "came", "since", "events", "failed")
