"""What slots refuse, as entries of the audit: decided purely, from what a slot says and what control asked for.

A slot writes no entry itself: all slots of an arm refuse at once, and each would keep the people who change control out
for a moment. One process reads what they say, `penstock.scribe`, and writes it once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from schemas.control import ArmState, Entry, State, Status, canonical
from schemas.deployment import ACTIVE, group_of
from schemas.errors import RecordInvalid
from streams.control_writer import Author
from streams.rollout import Change, Step, World

REFUSED = "refused"


def refused(world: World, status: Status) -> Change | None:
    """Tell of the revision that a slot refuses, once for all slots of its arm.

    world.entries: the whole audit. None where the slot refuses nothing, where it is told already, and where the audit
    knows no such revision from before the slot said so: then the slot spoke of another audit.
    """
    asked = _asked(world.entries, status)
    if asked is None or is_told(world, status):
        return None
    told = {
        "deployment": status.deployment,
        "revision": status.refused,
        "running": status.revision,
        "group": status.group,
        "slot": status.slot,
        "arms": [asdict(arm) for arm in _missing(asked, status)],
    }
    return Change((Step(REFUSED, "deployment", status.deployment, None, canonical(told)),))


def is_told(world: World, status: Status) -> bool:
    """Say whether the audit tells already that slots of this arm refuse the revision."""
    asked = _asked(world.entries, status)
    return asked is not None and any(_tells_of(entry, asked, status) for entry in world.entries)


def author_of(status: Status) -> Author:
    """Return who refuses, where and why, as the audit tells it."""
    return Author(f"slot {arm_of(status)}/{status.slot}", status.host, status.detail)


def arm_of(status: Status) -> str:
    """Return the arm whose workers the slot is one of."""
    return status.group.removeprefix(group_of(status.deployment, ACTIVE)).removeprefix(".") or ACTIVE


def _asked(entries: Sequence[Entry], status: Status) -> Entry | None:
    """Return the entry that made the refused revision the desired one."""
    for entry in reversed(entries):
        if entry.changes_state and entry.subject == status.deployment and entry.revision_after == status.refused:
            return entry if entry.after and entry.at_ms <= status.at_ms else None
    return None


def _tells_of(entry: Entry, asked: Entry, status: Status) -> bool:
    if entry.action != REFUSED or entry.subject != status.deployment or entry.sequence < asked.sequence:
        return False
    try:
        told = json.loads(entry.after or "")
        return bool((told["revision"], told["group"]) == (status.refused, status.group))
    except (ValueError, KeyError, TypeError):  # nothing that a writer of ours tells
        return False


def _missing(asked: Entry, status: Status) -> Iterator[ArmState]:
    """Yield the arms that the slot should score with and does not."""
    try:
        state = State.of_told(asked.after or "")
    except RecordInvalid:  # of a newer release: it is refused all the same
        return
    arm, running = arm_of(status), {(each.name, each.version) for each in status.arms}
    for each in state.arms:
        mine = each.name == arm if each.role == "shadow" else arm == ACTIVE
        if mine and (each.name, each.version) not in running:
            yield each
