"""How far the two sides of the join have come in record time: a function of the log, whoever was late or idle.

Labels tell their own watermarks, also while they are idle (`penstock monitor` copies progress beside them). Samples do
not: a source partition without events must not hold the others back for ever, so it is waited for only so long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

PATIENCE = 600_000  # ms that a tick stays open for a source partition, or for all events, behind the others
LAG = 86_400_000  # ms, or the window where that is longer, that labels are kept while no event comes at all


@dataclass(slots=True)
class Clocks:
    """Watermarks in ms by source partition. labels: number of partitions of the topic of labels, 0 without labels."""

    labels: int
    events: dict[int, int] = field(default_factory=dict)
    copied: dict[int, int] = field(default_factory=dict)
    latest: dict[int, int] = field(default_factory=dict)  # time of a label

    def saw(self, partition: int, time: int) -> None:
        """Note the time of an event of a source partition."""
        self.events[partition] = max(self.events.get(partition, 0), time)

    def told(self, partition: int, watermark: int) -> None:
        """Note how far a partition of labels has been copied."""
        self.labels = max(self.labels, partition + 1)
        self.copied[partition] = max(self.copied.get(partition, 0), watermark)

    def before(self, partition: int, times: npt.NDArray[np.int64]) -> int:
        """Note the times of labels in their order; return of how many their partition had a later one already."""
        latest = np.maximum.accumulate(np.concatenate(([self.latest.get(partition, 0)], times)))
        if len(times):
            self.latest[partition] = int(latest[-1])
        return int((times < latest[:-1]).sum())

    def keep(self, within: int) -> int:
        """Return the time up to which both sides have come; what nobody can still ask for may be forgotten."""
        return self._both(max(within, PATIENCE), max(within, LAG))

    def ticks(self) -> int:
        """Return the time up to which ticks may be closed."""
        return self._both(PATIENCE, PATIENCE)

    def _both(self, behind: int, idle: int) -> int:
        events = max(min(self.events.values()), max(self.events.values()) - behind) if self.events else 0
        if not self.labels:
            return events
        if len(self.copied) < self.labels:
            return 0
        labels = min(self.copied.values())
        return max(min(labels, events), labels - idle)

    def dump(self) -> list[list[list[int]]]:
        """Return everything as plain values."""
        return [[list(each) for each in sorted(by.items())] for by in (self.events, self.copied, self.latest)]

    @classmethod
    def load(cls, labels: int, document: Sequence[Sequence[tuple[int, int]]]) -> Clocks:
        """Return what was dumped."""
        events, copied, latest = (dict(by) for by in document)
        return cls(max([labels, *(partition + 1 for partition in copied)]), events, copied, latest)
