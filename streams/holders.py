"""Which deployments would miss a version of a model: those that have it, or would go back to it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from schemas.control import ArmState
from streams.errors import ChangeRefused
from streams.rollout import World, rolled_back


def holders_of(world: World, pinned: str, digest: str) -> list[str]:
    """Return who holds a version, each as `deployment (arm)`: every arm of the desired states, the steps of fallback
    chains included, and those of the state that `penstock rollback` would take where the present one has it not.

    pinned: NAME@UUID. world: with the whole audit.
    """
    found = []
    for name, state in sorted(world.states.items()):
        arms = [*_having(state.arms, pinned, digest)]
        found += [f"{name} ({arm})" for arm in arms]
        if not arms:
            found += [f"{name} ({arm} of the state before)" for arm in _having(_before(world, name), pinned, digest)]
    return found


def _having(arms: Iterable[ArmState], pinned: str, digest: str) -> Iterator[str]:
    return (arm.name for arm in arms if (arm.pinned, arm.digest) == (pinned, digest))


def _before(world: World, name: str) -> tuple[ArmState, ...]:
    """Return the arms of the state that a rollback would take; none where there is nothing to go back to."""
    try:
        change = rolled_back(world, name, force=True)
    except ChangeRefused:
        return ()
    return change.states[0].arms if change is not None else ()
