"""Facts about a deployment with a canary, for tests of the controller's fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from monitoring.evidence import Alarm, Load, Seen, Standing
from monitoring.rewards import Reward
from monitoring.steering import Steering
from schemas.control import ArmState, State
from schemas.policy import Policy

MINUTE, HOUR = 60_000, 3_600_000
ACTIVE = ArmState("active", "active", "late@1", "late", "1", "a" * 64)
CANARY = ArmState("canary", "canary", "late@2", "late", "2", "b" * 64, 5.0)
BASE: dict[str, Any] = {
    "deployment": "flights",
    "steps": [5, 25, 100],
    "promotion": {"labels": 100, "seconds": 600, "act": "act"},
}


def policy(**changes: Any) -> Policy:
    """A policy that acts; `changes` go one level deep."""
    said = {name: {**BASE.get(name, {}), **v} if isinstance(v, Mapping) else v for name, v in changes.items()}
    return Policy.model_validate({**BASE, **said})


def state(revision: int = 1, percent: float | None = 5.0, active: str = "1", canary: str = "2") -> State:
    """A desired state; percent: None for no canary."""
    arms = [replace(ACTIVE, version=active, ref=f"late@{active}")]
    if percent is not None:
        arms.append(replace(CANARY, weight=percent, version=canary, ref=f"late@{canary}"))
    return State("flights", revision, "{}", "{}", tuple(arms))


def steering(rule: Policy | None = None, **changes: Any) -> Steering:
    """The fold, with the first state."""
    found = Steering(rule or policy(**changes))
    found.take(Standing(0, state()))
    return found


def reward(revision: int, arm: str, count: int, good: float, metric: str = "accuracy", segment: str = "") -> Reward:
    return Reward(revision, arm, metric, segment, "", count, good, good)


def seen(at: int, canary: tuple[int, float], active: tuple[int, float] = (950, 760), revision: int = 1) -> Seen:
    """Outcomes of both arms: how many, and how many of them good."""
    return Seen(at, [reward(revision, "active", *active), reward(revision, "canary", *canary)])


def alarm(at: int = MINUTE, **changes: Any) -> Alarm:
    """An open, critical alert about what the canary says."""
    found = Alarm(at, "c" * 32, ("canary", "late", "2"), ("e_detector", "output", "late"), "critical", "it moved", True)
    return replace(found, **changes)


def load(at: int, events: int, failed: int, **changes: Any) -> Load:
    return replace(Load(at, 1, "canary", events, failed), **changes)
