"""Whose records of a deployment are verified together: the arms that share its events, or one that has them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.deployment import ACTIVE
from streams.arms import Made
from streams.declarations import Declaration

# Reasons that a model has for an event. For any other nobody scores it, and one dead letter tells so for all arms.
BY_MODEL = {
    "missing_value",
    "missing_partition",
    "wrong_shape",
    "not_finite",
    "model_failed",
    "model_timed_out",
    "oversize_inference",
}


@dataclass(frozen=True, slots=True)
class Maker:
    """What made an inference, besides the event's schema."""

    deployment: str
    revision: int
    source: str
    made: Made


def standing_beside(declarations: Sequence[Declaration]) -> list[str]:
    """Return the arms that score every event beside the others, in the newest state; where control tells which state
    scored what, also those of older states that are gone.
    """
    newest = declarations[0]
    older = declarations[1:] if newest.number is not None else ()
    gone = [arm for each in older for arm in each.deployment.everywhere if arm not in newest.deployment.named]
    return list(dict.fromkeys([*newest.deployment.everywhere, *gone]))


class Crew:
    """The arms whose records count: with `arm` active all that share the events; else that one alone.

    alone: it is an arm that scores every event beside the others, and publishes to their topic.
    """

    def __init__(self, declarations: Sequence[Declaration], arm: str) -> None:
        newest = declarations[0]
        self._arm, self._common = arm, newest.deployment.dead_letter_topic(ACTIVE)
        self._everywhere = {each.revision: frozenset(each.deployment.everywhere) for each in reversed(declarations)}
        self.alone = arm in standing_beside(declarations)

    @property
    def common_letters(self) -> str | None:
        """The topic with the dead letters of events that nobody could score, where that is another than the arm's."""
        return self._common if self.alone else None

    def has(self, maker: Maker) -> bool:
        """Say whether a record counts."""
        beside = self._everywhere.get(maker.revision, self._everywhere[next(reversed(self._everywhere))])
        return maker.made.assigned == self._arm if self.alone else maker.made.assigned not in beside

    def without(self, revision: int) -> bool:
        """Say whether a state is known to have scored without this arm, which has every event of its own."""
        return self.alone and revision in self._everywhere and self._arm not in self._everywhere[revision]

    def due(self, revision: int, otherwise: bool) -> bool:
        """Say whether an event must have a record. revision: that scored it; where that is not known, `otherwise`."""
        if not self.alone or revision not in self._everywhere:
            return otherwise
        return self._arm in self._everywhere[revision]
