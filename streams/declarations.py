"""States of a deployment as verification is given them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.control import State
from schemas.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Declaration:
    """One state of a deployment, with the event schema that it reads.

    number: its revision, where control counts them; None for that of a file. pins: `NAME@VERSION` of each arm's model,
    where control pins them.
    """

    deployment: Deployment
    reader: Mapping[str, Any]
    number: int | None = None
    pins: Mapping[str, str] = field(default_factory=dict)

    @property
    def revision(self) -> int:
        return self.deployment.revision(self.reader) if self.number is None else self.number

    @classmethod
    def of_state(cls, state: State) -> Declaration:
        """Return a state of control. Raises RecordInvalid."""
        return cls(*state.content(), state.revision, {arm.name: arm.pinned for arm in state.arms})
