"""What a controller's fold decides, and what it waits for meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from monitoring.evidence import Answer
from monitoring.folds import identity
from schemas.control import ArmState, State
from schemas.policy import Freeze

Kind = Literal["step", "promote", "reweigh", "withdraw", "rollback", "retrain", "shadow", "enter"]
GIVES = ("step", "promote", "reweigh")  # an arm gets more
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and on which evidence. due: now; else somebody has to approve it.

    at: ms, of the fact that decided. revision: of the state that it was decided on; it is void where there is a newer
    one. before, to: percent; 0: none any more.
    """

    id: str
    deployment: str
    at: int
    kind: Kind
    revision: int
    arm: str
    candidate: str
    incumbent: str
    before: float
    to: float
    due: bool
    why: str
    evidence: Mapping[str, Any]

    @property
    def again(self) -> tuple[str, str, float]:
        """What a veto forbids for good."""
        return self.candidate, self.incumbent, self.to

    @property
    def gives(self) -> bool:
        """Whether an arm gets more."""
        return self.kind in GIVES


def decided(
    state: State,
    kind: Kind,
    at: int,
    arm: ArmState,
    incumbent: str,
    to: float,
    *,
    due: bool,
    why: str,
    evidence: Mapping[str, Any],
) -> Decision:
    """Return a decision about a state. The same one about the same state has the same id, whenever it is made."""
    return Decision(
        id=identity(f"{state.deployment}\n{state.revision}\n{kind}\n{arm.name}\n{to:g}"),
        deployment=state.deployment,
        at=at,
        kind=kind,
        revision=state.revision,
        arm=arm.name,
        candidate=arm.pinned,
        incumbent=incumbent,
        before=arm.weight if arm.weight is not None else 100.0,
        to=to,
        due=due,
        why=why,
        evidence=evidence,
    )


def approved(asked: Decision, answer: Answer) -> Decision:
    """Return what was proposed as something that is due."""
    why = f"{asked.why}; approved by {answer.who}" + (f": {answer.why}" if answer.why else "")
    return replace(asked, due=True, why=why)


def frozen(rule: Freeze, now: int) -> bool:
    """Say whether a time (ms) lies in a freeze window; one that goes past midnight belongs to the day it begins on."""
    moment = datetime.fromtimestamp(now / 1000, UTC)
    clock, today = moment.strftime("%H:%M"), moment.weekday()
    if rule.begin < rule.end:
        return rule.begin <= clock < rule.end and _on(rule, today)
    return (clock >= rule.begin and _on(rule, today)) or (clock < rule.end and _on(rule, today - 1))


def _on(rule: Freeze, day: int) -> bool:
    return not rule.days or DAYS[day % 7] in rule.days
