"""Counts live traffic in the bins of a reference, batch by batch, as the records that a worker publishes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from models import varint
from models.frames import distinct, taken
from models.reference import TICK_MS, Counts, Reference
from schemas import records

HOUR_MS = 3_600_000
_SPAN = 1 << 16  # numbers of partitions and ticks that are looked up in a table
Partitions = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]


def wall_ms() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Moved:
    """The record times of a batch's events within reason (ms), which of them were changed, and how far each partition
    was profiled before and is after it (ms).
    """

    partitions: Partitions
    times: Counts
    clamped: Flags
    before: Mapping[int, int]
    after: Mapping[int, int]

    def of(self, rows: Counts) -> Moved:
        """Return the same for some rows."""
        return Moved(self.partitions[rows], self.times[rows], self.clamped[rows], self.before, self.after)


class Watermarks:
    """How far source partitions were profiled: the highest record time seen in each, in ms."""

    def __init__(self, tick_ms: int = TICK_MS, clock: Callable[[], int] = wall_ms) -> None:
        self.tick_ms, self._clock = tick_ms, clock
        self.high: dict[int, int] = {}

    def take(self, partitions: Partitions, timestamps: Counts) -> Moved:
        """Note the events of a batch.

        Times in the future, absent (-1) or more than an hour behind their partition are clamped and counted.
        """
        before = dict(self.high)
        now = self._clock() + self.tick_ms
        times = np.minimum(timestamps, now)
        for partition in distinct(partitions):
            own = partitions == partition
            high = max(int(times[own].max()), self.high.get(partition, -1))
            if high < 0:
                high = now
            self.high[partition] = high
            times[own] = np.maximum(times[own], high - HOUR_MS)
        return Moved(partitions, times, times != timestamps, before, self.high)

    def idle(self, partitions: Sequence[int], now_ms: int) -> None:
        """Note that partitions were read to their end at a time."""
        for partition in partitions:
            self.high[partition] = max(now_ms, self.high.get(partition, now_ms))


class Profiler:
    """Counts the batches of one arm and version of a worker as profile records.

    A record is the delta of one (source partition, tick) in one batch: it is published in the batch's own transaction,
    and the monitor adds the deltas up. Each carries the highest record time seen in its partition, which closes ticks.
    """

    def __init__(
        self, reference: Reference, *, deployment: str, arm: str, model: str, version: str, tick_ms: int = TICK_MS
    ) -> None:
        self._counter = reference.counter
        self._tick_ms = tick_ms
        self._told: dict[int, int] = {}  # source partition -> tick up to which this arm's records told of it
        self._constant = {
            "deployment": deployment,
            "arm": arm,
            "model": model,
            "version": version,
            "reference": reference.digest,
            "tick_ms": tick_ms,
        }

    def count(self, frame: pl.DataFrame, outputs: pl.DataFrame, moved: Moved) -> list[bytes]:
        """Return encoded profile records of scored rows, one per (source partition, tick), partitions in order.

        frame, outputs: features and outputs, one row per scored event.
        """
        if not frame.height:
            return []
        codes, groups = _group(moved.partitions, moved.times // self._tick_ms)
        counts = self._counter.count(frame, outputs, codes, len(groups))
        rows = np.bincount(codes, minlength=len(groups)).tolist()
        bad = np.bincount(codes, weights=moved.clamped, minlength=len(groups)).tolist()
        last = {
            partition: at for at, (partition, _) in enumerate(groups)
        }  # only this record may tell of the batch's end
        return [
            self._record(
                *(partition, tick, moved.after[partition] if last[partition] == at else moved.before.get(partition, 0)),
                *(counts[at], rows[at], int(bad[at])),
            )
            for at, (partition, tick) in enumerate(groups)
        ]

    def passed(self, partitions: Sequence[int], high: Mapping[int, int]) -> list[bytes]:
        """Return records that say that this arm has no more rows up to these times (ms); none that say nothing new."""
        nothing = np.zeros(0, np.int64)
        return [
            self._record(partition, high[partition] // self._tick_ms, high[partition], nothing, 0, 0)
            for partition in partitions
            if high[partition] // self._tick_ms != self._told.get(partition)
        ]

    def forget(self) -> None:
        """What was told may not have been committed."""
        self._told.clear()

    def _record(self, partition: int, tick: int, watermark: int, counts: Counts, rows: int, clamped: int) -> bytes:
        self._told[partition] = watermark // self._tick_ms
        cells = np.flatnonzero(counts)
        record = {
            **self._constant,
            "partition": partition,
            "tick": tick,
            "watermark": watermark,
            "rows": rows,
            "clamped": clamped,
            "cells": _packed(cells, counts[cells]),
        }
        return records.encode("profile", record)


class Profilers:
    """The profilers of a worker's arms, by name. Their ticks close together, however few events one of them has."""

    def __init__(self, profilers: Mapping[str, Profiler], marks: Watermarks | None = None) -> None:
        self._profilers, self._marks = profilers, marks or Watermarks()
        self.arms = list(profilers)  # their names

    def profiles(
        self,
        frame: pl.DataFrame,
        outputs: pl.DataFrame,
        partitions: Partitions,
        timestamps: Counts,
        arms: Sequence[str],
        arm_of: Counts | None = None,
    ) -> list[bytes]:
        """Return encoded profile records of one scored batch.

        frame, outputs: features and outputs, one row per scored event; partitions, timestamps: the event's source
        partition and record time in ms. arms: names of those that scored; arm_of: index into them for each row, None
        where the first scored all.
        """
        if not frame.height:
            return []
        moved, touched = self._marks.take(partitions, timestamps), distinct(partitions)
        found: list[bytes] = []
        for name, profiler in self._profilers.items():
            rows = _rows_of(name, arms, arm_of)
            if rows is None:
                found += profiler.count(frame, outputs, moved)
                continue
            if len(rows):
                found += profiler.count(taken(frame, rows), taken(outputs, rows), moved.of(rows))
            others = set(touched) - set(distinct(partitions[rows]))
            found += profiler.passed(sorted(others), moved.after)
        return found

    def progress(self, partitions: Sequence[int], now_ms: int) -> list[bytes]:
        """Return records that say: every event of these partitions up to `now_ms` was profiled; for an idle worker."""
        self._marks.idle(partitions, now_ms)
        for profiler in self._profilers.values():
            profiler.forget()  # an idle partition is told of each time, also within a tick
        return [
            record for profiler in self._profilers.values() for record in profiler.passed(partitions, self._marks.high)
        ]

    def forget(self) -> None:
        """Forget how far the partitions were profiled: after an aborted transaction or a rebalance."""
        self._marks.high.clear()
        for profiler in self._profilers.values():
            profiler.forget()


def _rows_of(name: str, arms: Sequence[str], arm_of: Counts | None) -> Counts | None:
    """Return the rows that an arm scored; None: all."""
    mine = [index for index, arm in enumerate(arms) if arm == name]
    if arm_of is None:
        return None if mine == [0] else np.zeros(0, np.int64)
    chosen = np.zeros(len(arms), np.bool_)
    chosen[mine] = True
    return np.flatnonzero(chosen[arm_of])


def _group(partitions: Partitions, ticks: Counts) -> tuple[Counts, list[tuple[int, int]]]:
    """Return each row's group number and the groups' (partition, tick), in order."""
    first, span = int(ticks.min()), int(ticks.max() - ticks.min()) + 1
    keys = partitions.astype(np.int64) * span + (ticks - first)
    if (most := int(keys.max())) < _SPAN:  # to look them up is much cheaper than to sort them
        there = np.zeros(most + 1, np.bool_)
        there[keys] = True
        found, codes = np.flatnonzero(there), (np.cumsum(there) - 1)[keys]
    else:
        found, codes = np.unique(keys, return_inverse=True)
    return codes, [(int(key // span), int(key % span) + first) for key in found.tolist()]


def _packed(cells: Counts, counts: Counts) -> bytes:
    pairs = np.empty(2 * len(cells), np.int64)
    pairs[::2], pairs[1::2] = cells, counts
    pairs[2::2] -= cells[:-1]
    return varint.pack(pairs)
