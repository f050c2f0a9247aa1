"""From which offset on a state scores each partition: told in the transaction of the first batch, so a kill cannot
falsify it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from schemas.control import First, Running, Swap
from streams.batch import Records


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
