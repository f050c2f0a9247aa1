"""What is known of a candidate beside the version that it may replace: facts in one order, and what they add up to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from monitoring.cells import Lineage
from monitoring.rewards import Reward
from monitoring.trials import Outcomes, Trial
from schemas.control import ArmState, State
from schemas.policy import Outcome

Verdict = Literal["approved", "vetoed"]


@dataclass(frozen=True, slots=True)
class Standing:
    """The desired state from now on, None where the deployment was removed.

    decision: the id of the one that made it, empty where somebody else did.
    """

    at: int
    state: State | None
    decision: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """Outcomes that one record told."""

    at: int
    rewards: Sequence[Reward]


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alert as it stands. about: detector, kind and name."""

    at: int
    id: str
    lineage: Lineage
    about: tuple[str, str, str]
    severity: str
    summary: str
    open: bool

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Self:
        """Return it from plain values."""
        return cls(**{**document, **{name: tuple(document[name]) for name in ("lineage", "about")}})


@dataclass(frozen=True, slots=True)
class Load:
    """What a slot did with the events of an arm since its last word. failed: events that the arm's model did not score.

    run_ms: of its model's runs lately, 95th percentile; None where there were none.
    """

    at: int
    revision: int
    arm: str
    events: int
    failed: int
    run_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said of a decision."""

    at: int
    decision: str
    verdict: Verdict
    who: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A new version is asked for. request: as in schemas/avsc/retraining.avsc, as plain values."""

    at: int
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tag was moved to a version of a model."""

    at: int
    model: str
    tag: str
    version: str


@dataclass(frozen=True, slots=True)
class Started:
    """A training was started, as was decided."""

    at: int
    decision: str


Fact = Standing | Seen | Alarm | Load | Answer | Asked | Tagged | Started


@dataclass(slots=True)
class Exposure:
    """What a candidate did with its present share. revision: since which it has that; since: ms."""

    revision: int
    since: int
    labels: int = 0
    events: int = 0
    failed: int = 0


@dataclass(slots=True)
class Candidate:
    """A version on trial beside another one. revision, began: with which, and when (ms), both were there together.

    waiting: by revision the outcomes of both, until each side has one: a unit of the trial needs them.
    """

    arm: ArmState
    incumbent: ArmState
    revision: int
    began: int
    trial: Trial
    exposure: Exposure
    waiting: dict[int, tuple[Outcomes, Outcomes]] = field(default_factory=dict)
    slow: float | None = None

    @property
    def lineage(self) -> Lineage:
        return self.arm.name, self.arm.model, self.arm.version

    @property
    def beside(self) -> Lineage:
        return self.incumbent.name, self.incumbent.model, self.incumbent.version

    def see(self, outcome: Outcome, rewards: Sequence[Reward]) -> None:
        """Take outcomes; those of revisions in which others stood here are left out."""
        for each in rewards:
            if each.metric != outcome.metric or each.segment or each.revision < self.revision:
                continue
            incumbent, candidate = self.waiting.get(each.revision, (Outcomes(), Outcomes()))
            told = Outcomes(each.count, each.total, each.squares)
            told = told if outcome.better == "higher" else told.mirrored()
            if each.arm == self.incumbent.name:
                self.waiting[each.revision] = incumbent + told, candidate
            elif each.arm == self.arm.name:
                self.waiting[each.revision] = incumbent, candidate + told
                if each.revision >= self.exposure.revision:
                    self.exposure.labels += each.count
        for revision, (incumbent, candidate) in sorted(self.waiting.items()):
            if incumbent.whole and candidate.whole:
                self.trial.add(incumbent, candidate)
                del self.waiting[revision]

    def bear(self, load: Load) -> None:
        """Take what a slot did with its events."""
        if load.arm == self.arm.name and load.revision >= self.exposure.revision:
            self.exposure.events += load.events
            self.exposure.failed += load.failed
            self.slow = load.run_ms if load.run_ms is not None else self.slow

    def told(self, outcome: Outcome, level: float) -> dict[str, Any]:
        """Return the numbers, in the units of the outcome."""
        sign = 1.0 if outcome.better == "higher" else -1.0
        bounds = sorted(sign * each * outcome.width for each in self.trial.interval(level))
        return {
            "difference": {"low": bounds[0], "high": bounds[1], "level": level},
            "candidate": _told(self.trial.candidate, outcome),
            "incumbent": _told(self.trial.incumbent, outcome),
            "with_this_share": {
                "labels": self.exposure.labels,
                "events": self.exposure.events,
                "failed": self.exposure.failed,
                "since": self.exposure.since,
            },
            "run_ms": self.slow,
        }

    def dump(self) -> dict[str, Any]:
        """Return it as plain values, without the arms: they are in the state."""
        exposure = self.exposure
        return {
            "revision": self.revision,
            "began": self.began,
            "trial": self.trial.dump(),
            "exposure": [exposure.revision, exposure.since, exposure.labels, exposure.events, exposure.failed],
            "waiting": [[at, list(one.dump()), list(two.dump())] for at, (one, two) in sorted(self.waiting.items())],
            "slow": self.slow,
        }

    @classmethod
    def load(cls, arm: ArmState, incumbent: ArmState, document: Mapping[str, Any]) -> Self:
        """Return what was dumped."""
        waiting = {at: (Outcomes(*one), Outcomes(*two)) for at, one, two in document["waiting"]}
        trial, exposure = Trial.load(document["trial"]), Exposure(*document["exposure"])
        return cls(arm, incumbent, document["revision"], document["began"], trial, exposure, waiting, document["slow"])


def standing(before: Candidate | None, arm: ArmState, active: ArmState, fact: Standing, outcome: Outcome) -> Candidate:
    """Return the candidate after a new state. before: what was known of the arm."""
    assert fact.state is not None
    revision = fact.state.revision
    if before is None or (before.arm.pinned, before.incumbent.pinned) != (arm.pinned, active.pinned):
        return Candidate(arm, active, revision, fact.at, Trial(outcome.design_effect), Exposure(revision, fact.at))
    if before.arm.weight != arm.weight:
        before.exposure, before.slow = Exposure(revision, fact.at), None
    before.arm, before.incumbent = arm, active
    return before


def active_of(state: State) -> ArmState | None:
    """Return the active arm."""
    return next((arm for arm in state.arms if arm.role == "active"), None)


def too_many(failed: int, events: int, budget: float) -> bool:
    """Say whether so many failures among so many events are more than a budget brings by chance, 999 times in 1,000."""
    expected = budget * events
    return failed > expected + 3 * math.sqrt(expected) + 3


def _told(found: Outcomes, outcome: Outcome) -> dict[str, Any]:
    if not found.count:
        return {"outcomes": 0, "mean": None}
    share = found.total / found.count
    share = share if outcome.better == "higher" else 1 - share
    return {"outcomes": found.count, "mean": outcome.range[0] + outcome.width * share}
