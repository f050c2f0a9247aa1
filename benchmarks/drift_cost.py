"""What watching costs: a tick of a deployment with 30 columns, from profile records to verdicts, and a snapshot.

The fold is the monitor's own. Times are medians of the processor's: of a tick, over blocks of ticks long enough to hold
what is done only now and then, each block's mean.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from models.profiler import Profiler, Profilers, Watermarks
from models.reference import Reference
from monitoring.folds import Folding, Record
from monitoring.profiles import ProfileFold

FEATURES, OUTPUTS = 28, 2
PARTITIONS = 12
ROWS = 1_200  # events of a tick
BOUND_MS = 1.0  # of a tick and deployment
BLOCK, BLOCKS = 64, 9  # ticks; blocks that are measured
WARM = 320  # ticks before: it has learned by then how much events tell
SNAPSHOTS = 9
DEPLOYMENT, START = "bench", 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """tick_ms: of a tick. snapshot_ms, snapshot_bytes: of the state, once a second. profile_bytes: the largest."""

    tick_ms: float
    snapshot_ms: float
    snapshot_bytes: int
    profile_bytes: int

    @property
    def ratio(self) -> float:
        """Of the time of a tick to what it may take."""
        return self.tick_ms / BOUND_MS

    @property
    def good(self) -> bool:
        return self.ratio <= 1

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**asdict(self), "ratio": self.ratio, "columns": FEATURES + OUTPUTS, "partitions": PARTITIONS}

    def __str__(self) -> str:
        return (
            f"a tick of {FEATURES + OUTPUTS} columns from {PARTITIONS} partitions takes {self.tick_ms:.2f} ms, "
            f"{self.ratio:.2f} of the bound; a snapshot, once a second, {self.snapshot_ms:.1f} ms and "
            f"{self.snapshot_bytes / 1000:,.0f} kB; a profile {self.profile_bytes / 1000:.1f} kB at most"
        )


def frames(rng: np.random.Generator, rows: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return features and outputs."""
    features = {f"f{at}": rng.normal(size=rows) for at in range(FEATURES)}
    return pl.DataFrame(features), pl.DataFrame({f"o{at}": rng.random(rows) for at in range(OUTPUTS)})


def ticks(reference: Reference, count: int) -> Iterator[list[bytes]]:
    """Yield the profiles that a worker publishes of each tick."""
    one = Profiler(reference, deployment=DEPLOYMENT, arm="active", model="m", version="v")
    profilers, rng = Profilers({"active": one}, Watermarks(clock=lambda: 2 * START)), np.random.default_rng(2)
    partitions = (np.arange(ROWS) % PARTITIONS).astype(np.int32)
    for tick in range(count):
        times = np.full(ROWS, START + 1000 * tick)
        yield profilers.profiles(*frames(rng, ROWS), partitions, times, ["active"])


def measured(blocks: int = BLOCKS, warm: int = WARM) -> Cost:
    """Fold so many ticks and return what they cost."""
    reference = Reference.from_frame(*frames(np.random.default_rng(1), 50_000))
    fold = ProfileFold(DEPLOYMENT, {reference.digest: reference}, PARTITIONS)
    folding, offset, largest = Folding(fold, 0, 0), 0, 0
    seconds = []
    for values in ticks(reference, warm + blocks * BLOCK):
        records = [Record(0, offset + at, None, value) for at, value in enumerate(values)]
        offset, largest = offset + len(values), max(largest, *map(len, values))
        began = time.thread_time()
        for record in records:
            folding.apply(record)
        seconds.append(time.thread_time() - began)
    means = [float(np.mean(seconds[at : at + BLOCK])) for at in range(warm, len(seconds), BLOCK)]
    took, size = _snapshots(folding)
    return Cost(1000 * median(means), 1000 * took, size, largest)


def _snapshots(folding: Folding[Any]) -> tuple[float, int]:
    """Return seconds and bytes of a snapshot."""
    taken, size = [], 0
    for _ in range(SNAPSHOTS):
        began = time.thread_time()
        size = len(folding.dump())
        taken.append(time.thread_time() - began)
    return median(taken), size
