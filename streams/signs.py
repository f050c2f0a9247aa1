"""Puts a slot's vitals together: from its backlog, its loop, its process, and what is being made ready."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.vitals import Vitals
from streams.metrics import WorkerMetrics
from streams.pulse import Pulse
from streams.residence import resident_bytes
from streams.resources import RATE_SECONDS, Rates, Resources


@dataclass(slots=True)
class Signs:
    """One slot's. arm: whose workers it belongs to. topic_partitions: of the input. swapping: another revision is made.

    clock: seconds since 1970; monotonic: of any origin; cpu: seconds that the process used.
    """

    metrics: WorkerMetrics
    pulse: Pulse
    arm: str
    topic_partitions: Callable[[], int]
    swapping: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    cpu: Callable[[], float] = time.process_time
    resources: Resources = field(default_factory=Resources)
    _used: Rates = field(init=False)

    def __post_init__(self) -> None:
        self._used = Rates(self.monotonic)

    def __call__(self) -> Vitals:
        """Return the vitals of now; from any thread."""
        backlog, pulse = self.metrics.backlog, self.pulse
        scored, arriving = backlog.rates(RATE_SECONDS) or (None, None)
        cpu, memory = self._used({"cpu": self.cpu()}).get("cpu"), resident_bytes()
        settled = 0.0 if self.swapping() else min(backlog.settled_seconds(), pulse.since_change())
        return Vitals(
            at_ms=int(self.clock() * 1000),
            process=os.getpid(),
            partitions=backlog.partitions(),
            topic_partitions=self.topic_partitions(),
            lag=backlog.waiting(),
            arriving=arriving,
            scored=scored,
            capacity=pulse.capacity,
            slowdown=pulse.slowdown,
            row_seconds=pulse.row_seconds(self.arm),
            cpu=cpu,
            memory=memory,
            held=tuple(sorted(self.metrics.holding)),
            settled=settled,
            turned=pulse.since_turn(),
            joined=backlog.joined,
            counts=self.metrics.counts(),
            resources=self.resources(cpu, memory, pulse.quotas),
            circuits=tuple(sorted(self.metrics.broken)),
            waits=backlog.waits(),
        )
