"""A worker beside which events are produced as fast as it scores them, on topics whose retention bounds the disk.

A load of any length is measured in the same way: the worker is warm when its cost begins to count, and always has
events waiting, so that its batches are as full as over a backlog. No more wait than a small part of what retention
keeps.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.contestants import OURS, Penstock, metrics_of
from benchmarks.disk import held, logs
from benchmarks.jobs import group_of
from benchmarks.load import events_of
from benchmarks.rig import Rig
from penstock.bench.latency import Reader
from penstock.bench.load import Task, produce
from penstock.bench.outputs import Numbers
from penstock.bench.system import Process, cpu_seconds, rss_mib, wait_until
from penstock.bench.topics import group_position

BOUNDED = {
    "retention.bytes": str(256 << 20),  # of a partition: a million events of job A
    "segment.bytes": str(64 << 20),
    "file.delete.delay.ms": "1000",
}
SWEPT = {"log.retention.check.interval.ms": 5_000}  # of the broker: by default it looks only every five minutes
CHUNK = 100_000  # events that are produced at a time
AHEAD = 100_000  # events that still wait when the next chunk is produced
WARM = 200_000  # events before those that count
CHECKED = 50_000  # events after them whose inferences are read
SLOWEST = 5_000  # events/s that a worker is given time for


@dataclass(frozen=True, slots=True)
class Streamed:
    """cpu: microseconds an event of the worker; rate: events/s; rss: resident MiB; disk: MiB of both topics at most."""

    cpu: float
    rate: float
    rss: float
    disk: float


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    position: int
    cpu: float


def stream(rig: Rig, events: int) -> Streamed:
    """Measure a worker over `events` events, between others that are not counted.

    Raises RuntimeError unless the group's offsets and the worker's own counters say that every event has one inference
    and retention removed none, and a read_committed reader got those of the last CHECKED events once and in order. (To
    read all inferences would cost more than to score the events, on the cores that are measured.)
    """
    source, target = rig.topics.make("events", BOUNDED), rig.topics.make("inferences", BOUNDED)
    total = WARM + events + AHEAD
    with (
        group_position(rig.kafka, group_of(target), source, rig.topics.partitions) as position,
        Penstock(OURS).start(rig, source, target) as process,
        ThreadPoolExecutor(1) as pool,
    ):
        load = pool.submit(_feed, rig, process, position, (source, target), total)
        before = _sample(WARM, position, load, process)
        after = _sample(WARM + events, position, load, process)
        rss, disk = rss_mib(process.pid), load.result()
        _sample(total, position, load, process)
        _check(rig, process, position, (source, target), total)
    rig.topics.forget(source, target)
    count = after.position - before.position
    return Streamed((after.cpu - before.cpu) / count * 1e6, count / (after.at - before.at), rss, disk)


def _feed(rig: Rig, process: Process, position: Callable[[], int], topics: tuple[str, str], total: int) -> float:
    """Produce events, never more than AHEAD and a chunk before the worker; return the MiB of the topics at most."""
    values, disk = events_of(rig.job), 0
    folder = logs(rig.place.broker) if rig.place.broker else None

    def through(due: int) -> bool:
        return position() >= due

    for first in range(0, total, CHUNK):
        wait_until(partial(through, first - AHEAD), 120, "a chunk of events", process)
        count = min(CHUNK, total - first)
        produce(rig.kafka, values, Task(topics[0], rig.topics.partitions, first, count))
        disk = max(disk, held(folder, *topics)) if folder else disk
    return disk / (1 << 20) if folder else float("nan")


def _sample(due: int, position: Callable[[], int], load: Future[float], process: Process) -> _Sample:
    """Wait until so many events are committed, and say what the worker had used by then."""
    now = 0

    def through() -> bool:
        nonlocal now
        if load.done():
            load.result()  # raises what ended the load
        now = position()
        return now >= due

    wait_until(through, 120 + due / SLOWEST, f"{due:,} events", process)
    return _Sample(time.perf_counter(), now, cpu_seconds(process.pid))


def _check(rig: Rig, process: Process, position: Callable[[], int], topics: tuple[str, str], first: int) -> None:
    """Score CHECKED events more, read their inferences, and raise RuntimeError for what is wrong with any event."""
    partitions, last = rig.topics.partitions, first + CHECKED
    with Reader(rig.kafka, topics[1], partitions) as reader:
        produce(rig.kafka, events_of(rig.job), Task(topics[0], partitions, first, CHECKED))
        wait_until(lambda: position() >= last, 60, "the last events", process)
        time.sleep(1)  # counters follow the commit
        if found := faults(_counters(process), last):
            raise RuntimeError("; ".join(found))
        wait_until(lambda: len(reader) >= CHECKED, 60, "the last inferences", process)
    if not whole(reader.arrivals()[0], first, last, partitions):
        raise RuntimeError(f"the inferences of the last {CHECKED:,} events are not there once and in order")


def _counters(process: Process) -> dict[str, int]:
    text = metrics_of(process)
    if text is None:
        raise RuntimeError(f"the worker does not say where its metrics are:\n{process.log.read_text()[-2000:]}")
    return counters(text)


def counters(text: str) -> dict[str, int]:
    """Return the counters of a worker's metrics, each summed over its labels: {"inferences": 3, ...}."""
    totals: dict[str, int] = {}
    for name, value in re.findall(r"^penstock_(\w+)_total\{.*\} (\S+)$", text, re.M):
        totals[name] = totals.get(name, 0) + int(float(value))
    return totals


def faults(totals: Mapping[str, int], events: int) -> list[str]:
    """Return what a worker's counters tell that should not be after so many good events."""
    due = {"inferences": events, "dead_letters": 0, "events_lost": 0, "events_skipped": 0, "rescored_events": 0}
    found = {name: totals.get(name, 0) for name in due}
    return [f"{name} is {count:,}, not {due[name]:,}" for name, count in found.items() if count != due[name]]


def whole(events: Numbers, first: int, last: int, partitions: int) -> bool:
    """Say whether the events `first` to `last` - 1 are there once, those of each partition in order.

    events: numbers in the order in which they were read; earlier ones may be among them.
    """
    due = np.arange(first, last)
    known = events[events >= first]
    return all(np.array_equal(known[known % partitions == p], due[due % partitions == p]) for p in range(partitions))
