"""Outcomes of events that several arms share, by where each event was assigned: what trials of arms are decided by.

They are told every few seconds, not by closed ticks as quality is: a sum of outcomes needs no order. Which arm got an
event was decided by the shares of a revision, so the sums are kept apart by it, and what follows from them holds
however shares changed, and however late labels come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np

from monitoring import judging
from monitoring.arrays import Longs
from monitoring.cells import Group
from monitoring.errors import PartInvalid
from monitoring.folds import Out
from monitoring.judging import FIXED
from schemas import records
from schemas.errors import RecordInvalid

EVERY_MS = 5_000  # of record time of the samples, between two records of a partition
WHAT = "reward"
ACCURACY, ERROR = "accuracy", "error"  # beside declared metrics with bounds
_CELLS = (judging.COUNT, judging.SUM, judging.SUM_2)


class Assigned(NamedTuple):
    """Under which revision an event was assigned to which of several arms."""

    revision: int
    arm: str


ALONE = Assigned(0, "")  # of events that one arm has alone, and of predictions that nobody was assigned


@dataclass(frozen=True, slots=True)
class Reward:
    """Outcomes of one arm under one revision; total and squares in shares of the metric's range."""

    revision: int
    arm: str
    metric: str
    segment: str
    value: str
    count: int
    total: float
    squares: float


class Told(NamedTuple):
    """One record of the topic; see schemas/avsc/reward.avsc."""

    deployment: str
    partition: int
    number: int
    at: int
    rewards: tuple[Reward, ...]

    @classmethod
    def of(cls, value: bytes) -> Self:
        """Return what a record holds. Raises PartInvalid."""
        try:
            record = records.decode("reward", value)
        except RecordInvalid as error:
            raise PartInvalid(f"no rewards: {error}") from error
        found = []
        for each in record.pop("rewards"):
            sums = (each.pop("total") / FIXED, each.pop("squares") / FIXED)
            found.append(Reward(**each, total=sums[0], squares=sums[1]))
        return cls(**record, rewards=tuple(found))


Place = tuple[int, str, str, str, str]  # revision, arm, metric, segment, value


@dataclass(slots=True)
class Rewards:
    """What was not told yet. number: of the next record. said: at which multiple of EVERY_MS the last was told."""

    number: int = 0
    said: int = 0
    sums: dict[Place, list[int]] = field(default_factory=dict)

    def of(self, times: Longs) -> Longs:
        """Return one tick for all times (ms)."""
        return np.zeros(len(times), np.int64)

    def put(self, tick: int, group: Group, found: Sequence[tuple[int, int]]) -> None:
        """Add cells of a group whose version is the revision, and whose name is the metric."""
        del tick
        place = int(group.version), group.arm, group.name, group.segment, group.value
        sums = self.sums.setdefault(place, [0, 0, 0])
        for cell, by in found:
            sums[_CELLS.index(cell)] += by

    def tell(self, topic: str, deployment: str, partition: int, at: int) -> Iterator[Out]:
        """Yield what is due at a record time (ms): nothing while there is nothing to say."""
        due = {place: sums for place, sums in sorted(self.sums.items()) if any(sums)}
        if at // EVERY_MS == self.said or not due:  # not "before": a clock that is ahead must not silence the others
            return
        names = ("revision", "arm", "metric", "segment", "value", "count", "total", "squares")
        record = {
            "deployment": deployment,
            "partition": partition,
            "number": self.number,
            "at": at,
            "rewards": [dict(zip(names, (*place, *sums), strict=True)) for place, sums in due.items()],
        }
        key = f"{deployment}/{partition}/{self.number}".encode()
        self.number, self.said, self.sums = self.number + 1, at // EVERY_MS, {}
        yield Out(topic, key, records.encode("reward", record))

    def dump(self) -> list[Any]:
        """Return it as plain values."""
        return [self.number, self.said, [[*place, *sums] for place, sums in sorted(self.sums.items())]]

    @classmethod
    def load(cls, document: Sequence[Any]) -> Self:
        """Return what was dumped."""
        number, said, sums = document
        return cls(number, said, {tuple(each[:5]): list(each[5:]) for each in sums})


def grouped(assigned: Assigned, segment: str, value: str, metric: str) -> Group:
    """Return the group under which outcomes are put."""
    return Group(assigned.arm, "", str(assigned.revision), segment, value, WHAT, metric)
