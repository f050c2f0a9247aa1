"""From which offset on a state scores each partition: told in the transaction of the first batch, so that a kill cannot
falsify it, and read again by whoever asks which revision scored an event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas.control import First, Running, Swap
from schemas.errors import RecordInvalid
from streams.batch import Records
from streams.control import TOPICS, ControlTopics
from streams.reading import TopicReader, values_of

UNKNOWN = -1
Numbers = npt.NDArray[np.int64]


class Starts:
    """Tells of one state of a deployment where it began on each partition, once a partition and slot.

    arms: what it scores with. slot: asked when it is told. clock: seconds since 1970.
    """

    def __init__(
        self,
        topic: str,
        deployment: str,
        revision: int,
        arms: Sequence[Running],
        slot: Callable[[], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._topic, self._deployment, self._revision = topic, deployment, revision
        self._arms, self._slot, self._clock = arms, slot, clock
        self._told: set[int] = set()

    def records(self, firsts: Mapping[int, int]) -> Records | None:
        """Return what to publish with a batch; firsts: its first offset of each partition."""
        new = {partition: offset for partition, offset in firsts.items() if partition not in self._told}
        if not new:
            return None
        self._told |= new.keys()
        starts = tuple(First(partition, offset) for partition, offset in sorted(new.items()))
        swaps = [
            Swap(
                deployment=self._deployment,
                revision=self._revision,
                arm=arm.name,
                model=arm.model,
                version=arm.version,
                digest=arm.digest,
                slot=self._slot(),
                firsts=starts,
                at_ms=int(self._clock() * 1000),
            )
            for arm in self._arms
        ]
        return Records(self._topic, [swap.encode() for swap in swaps], [swap.key for swap in swaps])

    def forget(self) -> None:
        """What was told may not have been committed, or partitions are read by others meanwhile."""
        self._told.clear()


@dataclass(frozen=True, slots=True)
class Spans:
    """Per partition of the source topic: first offsets, ascending, and the revision that scores from each on."""

    firsts: Mapping[int, Numbers] = field(default_factory=dict)
    revisions: Mapping[int, Numbers] = field(default_factory=dict)

    def revision_of(self, partition: int, offsets: Numbers) -> Numbers:
        """Return the revision that scored each event; UNKNOWN before the first one that was told."""
        if partition not in self.firsts:
            return np.full(len(offsets), UNKNOWN, np.int64)
        at = np.searchsorted(self.firsts[partition], offsets, side="right") - 1
        found: Numbers = np.where(at >= 0, self.revisions[partition][np.maximum(at, 0)], UNKNOWN)
        return found


def spans_of(swaps: Iterable[Swap], deployment: str, arms: set[str]) -> Spans:
    """Return what the records of a deployment's arms tell, in the order in which they were written.

    Of two that name the same offset the later one counts: what the first one began was not carried through.
    """
    told: dict[int, dict[int, int]] = {}
    for swap in swaps:
        if swap.deployment == deployment and swap.arm in arms:
            for first in swap.firsts:
                told.setdefault(first.partition, {})[first.offset] = swap.revision
    ordered = {partition: sorted(each.items()) for partition, each in told.items()}
    return Spans(
        {partition: np.array([first for first, _ in each], np.int64) for partition, each in ordered.items()},
        {partition: np.array([revision for _, revision in each], np.int64) for partition, each in ordered.items()},
    )


def read(reader: TopicReader, topics: ControlTopics = TOPICS) -> list[Swap]:
    """Return every record of the swaps topic, in order; none where it does not exist. Raises Refused."""
    found: list[Swap] = []
    if not reader.partitions(topics.swaps):
        return found
    for value in values_of(reader.read(topics.swaps, reader.ends(topics.swaps))):
        try:
            found.append(Swap.decode(value))
        except RecordInvalid:  # of a newer release, which its own verification reads
            continue
    return found
