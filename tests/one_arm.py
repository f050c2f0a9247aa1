"""The profilers of a worker that scores with one model, as most do, and what they publish."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import polars as pl

from models.profiler import Profiler, Profilers, Watermarks
from models.reference import Reference, Tally, tally_of
from schemas import records

NOW = 1_760_000_000_000


class OneArm(Profilers):
    """Profilers that are not told who scored."""

    def profiles(self, frame: Any, outputs: Any, partitions: Any, timestamps: Any) -> list[bytes]:  # type: ignore[override]
        return super().profiles(frame, outputs, partitions, timestamps, self.arms)


def profiler_of(reference: Reference) -> OneArm:
    """Return the profilers of a worker at NOW."""
    one = Profiler(reference, deployment="flights", arm="active", model="flights", version="v1")
    return OneArm({"active": one}, Watermarks(clock=lambda: NOW))


def added_up(reference: Reference, encoded: Iterable[bytes]) -> Tally:
    """Return what published records add up to."""
    size = len(reference.tally.cells)
    return sum((tally_of(records.decode("profile", value), size) for value in encoded), Tally.empty(size))


def spread(reference: Reference, rows: pl.DataFrame, said: pl.DataFrame) -> Tally:
    """Return what a worker's records of events add up to that are spread over batches, partitions and ticks."""
    profiler, rng, encoded = profiler_of(reference), np.random.default_rng(1), list[bytes]()
    for start in range(0, len(rows), 700):
        part = slice(start, min(start + 700, len(rows)))
        count = part.stop - start
        partitions = rng.integers(0, 40, count).astype(np.int32)
        times = np.sort(NOW - 3000 + rng.integers(0, 3000, count))
        encoded += profiler.profiles(rows[part], said[part], partitions, times)
    return added_up(reference, encoded)
