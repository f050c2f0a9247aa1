"""Which revision scored which event, as workers under control told in the transactions that scored them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas.control import Swap
from schemas.errors import RecordInvalid
from streams.control import TOPICS, ControlTopics
from streams.reading import TopicReader

UNKNOWN = -1
Numbers = npt.NDArray[np.int64]


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
    for messages in reader.read(topics.swaps, reader.ends(topics.swaps)):
        for message in messages:
            try:
                found.append(Swap.decode(message.value() or b""))
            except RecordInvalid:  # of a newer release, which its own verification reads
                continue
    return found
