"""Whether another revision waits for the batch in hand: a model that hangs must not hold the way back up.

A run that has gone on for HURRY_SECONDS ends then, and the batch is given up, not refused: nothing of it is committed,
and it is scored by the revision that waited. Batches that take less are finished as ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from models.runtimes.base import Model
from models.runtimes.watchdog import HURRY_SECONDS
from streams.errors import Abandoned


class Haste:
    """That of one plan. models: those that it scores with. One thread hastens, another one scores; both may calm."""

    def __init__(self, models: Iterable[Model] = ()) -> None:
        self._models, self._wanted = tuple(models), False

    def hasten(self) -> None:
        """Let the batch in hand end soon."""
        self._wanted = True  # first: a run that is ended is not to be taken for one that hung
        for model in self._models:
            model.hurry(True)

    def calm(self) -> None:
        """Give runs their time again."""
        for model in self._models:
            model.hurry(False)
        self._wanted = False

    @property
    def wanted(self) -> bool:
        return self._wanted

    def check(self, seconds: float) -> None:
        """Raise Abandoned where the batch is to end soon, and a model has been at it for so long."""
        if self._wanted and seconds >= HURRY_SECONDS:
            raise Abandoned(f"another revision is there, and a model was at the batch in hand for {seconds:.1f} s")
