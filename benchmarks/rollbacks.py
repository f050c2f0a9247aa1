"""How long a rollback takes until it is effective, from what Kafka stamped on records and from the worker's log. Pure.

A batch holds only events that were appended before it began. So an event that was appended after the worker had the
command, and yet was scored by the version before, is of a batch that began too late: such batches are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from penstock.bench.outputs import Numbers, Times
from schemas.control import Swap

ASKED = re.compile(r"^(\S+ \S+) INFO .*slot=(?!standby)\S+: control asks for revision (\d+)$", re.M)
Firsts = Mapping[int, int]  # partition: the first offset that a revision scored


@dataclass(frozen=True, slots=True)
class Rolled:
    """One rollback. Times in ms until the first inference by the version before was appended, of the last partition.

    command: from the start of the command's process; record: from the append of its record to the control topic;
    arrival: from the moment when the worker had it. batches: that began after that, and are of the version that was
    to go.
    """

    command: float
    record: float
    arrival: float
    batches: int

    def __str__(self) -> str:
        return (
            f"{self.command:4.0f} ms after the command, {self.record:3.0f} after its record, {self.arrival:3.0f} after "
            f"its arrival, {self.batches} batches too late"
        )


@dataclass(frozen=True, slots=True)
class Log:
    """Inferences in the order of each partition's log. event: their numbers; offset, partition: of the inference;
    appended: in ms since 1970.
    """

    event: Numbers
    partition: Numbers
    offset: Numbers
    appended: Times


@dataclass(frozen=True, slots=True)
class Command:
    """A rollback that was typed. began: of its process; record: when its record was appended; arrival: when the worker
    had it; all in ms since 1970.
    """

    began: float
    record: float
    arrival: float


def firsts_of(swaps: Iterable[Swap], deployment: str, revision: int) -> dict[int, int]:
    """Return the first offset of each partition that a revision scored, as its slots told."""
    found: dict[int, int] = {}
    for swap in swaps:
        if (swap.deployment, swap.revision) == (deployment, revision):
            for first in swap.firsts:
                found[first.partition] = min(first.offset, found.get(first.partition, first.offset))
    return found


def arrivals(log: str) -> dict[int, float]:
    """Return when a worker's log says that each revision first came to a slot, in ms since 1970."""
    found: dict[int, float] = {}
    for when, number in ASKED.findall(log):
        found.setdefault(int(number), datetime.strptime(when, "%Y-%m-%d %H:%M:%S,%f").timestamp() * 1000)
    return found


def rolled(command: Command, firsts: Firsts, log: Log, appended: Times, first: int) -> Rolled:
    """Judge a rollback. appended: of events from number `first` on, in ms since 1970.

    Raises KeyError where an event that a revision began with has no inference.
    """
    partitions = len(firsts)
    begins = np.array([firsts[partition] * partitions + partition for partition in range(partitions)])
    found = np.flatnonzero(np.isin(log.event, begins))
    if len(found) < partitions:
        raise KeyError(f"only {len(found)} of {partitions} events that a revision began with have an inference")
    effective = float(log.appended[found].max())
    return Rolled(
        effective - command.began,
        effective - command.record,
        effective - command.arrival,
        late_batches(log, firsts, appended, first, command.arrival),
    )


def late_batches(log: Log, firsts: Firsts, appended: Times, first: int, arrival: float) -> int:
    """Return how many batches the version before scored whose events came after the command, of the worst partition.

    A transaction ends with a marker, which takes an offset: so a gap between the offsets of inferences parts batches.
    """
    most = 0
    for partition, begin in firsts.items():
        mine = (log.partition == partition) & (log.event >= first)
        events, offsets = log.event[mine], log.offset[mine]
        batch = np.cumsum(np.diff(offsets, prepend=offsets[:1]) > 1)
        late = (events // len(firsts) < begin) & (appended[events - first] > arrival)
        most = max(most, len(np.unique(batch[late])))
    return most
