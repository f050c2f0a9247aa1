"""What people say of decisions, as changes of control."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.controller.decisions import Known, decisions_of
from penstock.controller.facts import DECISION
from penstock.errors import DecisionUnknown
from schemas.control import canonical
from streams.errors import ChangeRefused
from streams.rollout import Change, Step, World


def answered(world: World, action: str, number: int) -> Change | None:
    """Return the entry that approves or vetoes; None where that was said already. world: with the whole audit.

    Raises DecisionUnknown, and ChangeRefused for a decision that does not wait for an answer.
    """
    known = numbered(decisions_of(world.entries), number)
    became = "approved" if action == "approve" else "vetoed"
    if known.became == became:
        return None
    if known.became != "waits":
        raise ChangeRefused(
            f"decision {number} about {known.deployment} does not wait for an answer: it is {known.became}; see "
            f"`penstock decisions explain {number}`"
        )
    told = canonical({"deployment": known.deployment, "number": number})
    return Change((Step(action, DECISION, known.id, None, told),))


def numbered(found: Sequence[Known], number: int) -> Known:
    """Return the decision of a number. Raises DecisionUnknown."""
    for known in found:
        if known.number == number:
            return known
    last = ", ".join(str(known.number) for known in found[-10:]) or "none yet"
    raise DecisionUnknown(f"there is no decision {number}; there is {last}: see `penstock decisions list`")
