"""Decisions as changes of control, decided once more on what control holds under the writers' fence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

from monitoring.decision import Decision
from penstock.controller.facts import DECISION, POLICY
from schemas.control import Entry, Version, canonical
from schemas.policy import Policy
from streams.errors import ChangeRefused, RevisionMoved
from streams.rollout import Change, Step, World, joined, promoted, reweighted, rolled_back, withdrawn

PROPOSE = "propose"
SHADOWS = ("shadow",)
Resolve = Callable[[str], Version]


def nobody(ref: str) -> Version:
    """Refuse a reference: nothing that resolves it was given."""
    raise ChangeRefused(f"{ref} cannot be resolved here")


def change_of(world: World, decision: Decision, resolve: Resolve = nobody) -> Change | None:
    """Return what a decision changes; None where it was written already. world: with the whole audit.

    resolve: returns the version that a reference means.

    What is proposed is an entry of the audit alone. What is due is one, and the change behind it. Raises RevisionMoved
    where somebody changed the deployment since it was decided, and ChangeRefused where it cannot be done.
    """
    action = decision.kind if decision.due else PROPOSE
    if any(is_of(entry, decision.id) and entry.action == action for entry in world.entries):
        return None
    state = world.states.get(decision.deployment)
    if state is None or state.revision != decision.revision:
        found = f"at revision {state.revision}" if state else "not under control any more"
        raise RevisionMoved(
            f"{decision.deployment}: {decision.kind} was decided on revision {decision.revision}, but it is {found}"
        )
    told = Step(action, DECISION, decision.id, None, canonical(asdict(decision)), why=decision.why)
    if not decision.due or decision.kind == "retrain":
        return Change((told,))
    change = _acted(world, decision, resolve)
    if change is None:
        return None
    return Change((told, *(replace(step, why=decision.why) for step in change.steps)))


def _acted(world: World, decision: Decision, resolve: Resolve) -> Change | None:
    name, arm = decision.deployment, decision.arm
    if decision.kind == "step":
        return reweighted(world, name, {arm: decision.to})
    if decision.kind == "reweigh":
        return reweighted(world, name, decision.evidence["shares"])
    if decision.kind == "shadow":
        shadow = {"role": "shadow", "name": arm, "model": decision.candidate, "topic": f"{name}.{arm}"}
        return joined(world, name, shadow, resolve(decision.candidate))
    if decision.kind == "enter":
        called = decision.evidence["as"]
        canary = {"role": "canary", "name": called, "model": decision.candidate, "percent": decision.to}
        return joined(world, name, canary, resolve(decision.candidate), instead_of=arm)
    if decision.kind == "withdraw" and "version" in decision.evidence:
        return withdrawn(world, name, arm, SHADOWS)
    if decision.kind == "promote":
        return promoted(world, name, arm)
    if decision.kind == "withdraw":
        return withdrawn(world, name, arm)
    return rolled_back(world, name)


def ruled(world: World, policy: Policy) -> Change | None:
    """Say by which policy is decided from now on; None where it is the one that the audit tells last."""
    told = canonical(policy.model_dump(mode="json"))
    last = next(
        (e for e in reversed(world.entries) if (e.subject_kind, e.subject) == (POLICY, policy.deployment)), None
    )
    if last is not None and last.after == told:
        return None
    return Change((Step("apply", POLICY, policy.deployment, last.after if last else None, told),))


def is_of(entry: Entry, decision: str) -> bool:
    """Say whether an entry of the audit is about a decision."""
    return (entry.subject_kind, entry.subject) == (DECISION, decision)
