"""Slots of one group and the broker on chosen cores, measured while all of the slots have events waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import psutil
from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from benchmarks.contestants import OURS, Penstock
from benchmarks.cores import pin, pinned
from benchmarks.disk import held, logs
from benchmarks.jobs import group_of
from benchmarks.load import events_of
from benchmarks.rig import Rig
from penstock.bench.load import Task, produce
from penstock.bench.outputs import Outputs, check
from penstock.bench.system import Process, cpu_seconds, wait_until
from penstock.bench.topics import consumer_of, end_of, read

PATIENCE = 120.0  # seconds for anything to happen
SLOWEST = 5_000  # events/s that slots are given time for
LEAST = 0.4  # of the events that must be left when the load ends
CHUNK, HEARTBEAT = 100_000, 0.05  # events that are produced while slots pause; seconds in which they tell the group
# that they live, long before their sessions end


@dataclass(frozen=True, slots=True)
class Run:
    """rate: events/s; cpu, broker_cpu: microseconds an event of all slots and of the broker while no load runs; intake:
    those of the broker from the first event produced to the last inference; busy: the cores that slots and broker used;
    taken, made: bytes of an event and of its inference as they lie in the log, and so cross the network.
    """

    rate: float
    cpu: float
    broker_cpu: float
    intake: float
    busy: float
    taken: float
    made: float

    def __str__(self) -> str:
        return (
            f"{self.rate:9,.0f}/s, worker {self.cpu:5.2f} us/event, broker {self.broker_cpu:5.2f} "
            f"(with the load {self.intake:.2f}), {self.busy:.2f} cores busy, "
            f"{self.taken:.0f} bytes in, {self.made:.0f} out"
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """A moment in ms since 1970, and the CPU seconds of all slots and of the broker until then."""

    at: float
    cpu: float
    broker_cpu: float


def measure(rig: Rig, slots: int, cores: Collection[int] | None, events: int) -> Run:
    """Measure slots over events that are produced once each slot has its partitions, with an embedded broker.

    cores: those that slots and broker share; None: any. The load would take a part of the cores, so slots pause while
    it runs. What counts begins after that, and ends when the first slot is through with nine tenths of its share.
    Raises RuntimeError when little was left by then, or when the outputs are not exact.
    """
    partitions, everything = rig.topics.partitions, range(rig.topics.partitions)
    source, target = rig.topics.make("events"), rig.topics.make("inferences")
    values, tenth = events_of(rig.job), events // 10
    due = partial(wait_until, seconds=PATIENCE + events / SLOWEST)
    with (
        closing(consumer_of(rig.kafka, "read_uncommitted")) as watch,
        running(rig, source, target, slots, cores) as processes,
    ):
        through = partial(_share, watch, target, events / partitions)
        shares = assigned(rig, group_of(target), slots)
        broker_cpu = cpu_seconds(_broker(rig))
        produce(rig.kafka, values, Task(source, partitions, 0, tenth))
        due(lambda: through(everything) >= 0.1, what="the first tenth of the events", process=processes[0])
        for first in range(tenth, events, CHUNK):
            with paused(processes):
                produce(rig.kafka, values, Task(source, partitions, first, min(CHUNK, events - first)))
            time.sleep(HEARTBEAT)
        before = _sample(rig, processes)
        due(lambda: max(map(through, shares)) >= 0.9, what="nine tenths of a slot's events", process=processes[0])
        after = _sample(rig, processes)
        due(lambda: through(everything) >= 1, what="the last events", process=processes[0])
        due(partial(_settled, through, everything), what="an end of the outputs", process=processes[0])
        intake = (cpu_seconds(_broker(rig)) - broker_cpu) / events * 1e6
    outputs, _ = read(rig.kafka, target, partitions)
    if not (found := check(outputs, events, partitions)).exact:
        raise RuntimeError(f"{slots} slots: the outputs are not exact: {found}")
    folder = logs(_broker(rig))
    taken, made = held(folder, source) / events, held(folder, target) / events
    rig.topics.forget(source, target)
    rate, cpu, served, busy = between(before, after, outputs)
    return Run(rate, cpu, served, intake, busy, taken, made)


def between(before: Sample, after: Sample, outputs: Outputs) -> tuple[float, float, float, float]:
    """Return rate, cpu, broker_cpu and busy of the outputs appended between two moments, as a Run has them.

    Raises RuntimeError where they are few.
    """
    count = int(np.sum((outputs.appended >= before.at) & (outputs.appended < after.at)))
    if count < LEAST * len(outputs.appended):
        raise RuntimeError(f"only {count:,} events were left when the load ended: give more --events")
    seconds, cpu = (after.at - before.at) / 1000, after.cpu - before.cpu
    broker_cpu = after.broker_cpu - before.broker_cpu
    return count / seconds, cpu / count * 1e6, broker_cpu / count * 1e6, (cpu + broker_cpu) / seconds


@contextmanager
def running(rig: Rig, source: str, target: str, slots: int, cores: Collection[int] | None) -> Iterator[list[Process]]:
    """Yield slots of one group, held with the broker to these cores."""
    with ExitStack() as stack:
        if cores is not None:
            stack.enter_context(pinned(_broker(rig), cores))
        processes: list[Process] = []
        for slot in range(slots):
            process = Penstock(OURS, options=("--slot", str(slot))).start(rig, source, target)
            processes.append(stack.enter_context(process))
            if cores is not None:
                pin(process.pid, cores)  # it has just begun: all that it starts stays there
            # The next one writes the same declaration again, so this one must have read it.
            wait_until(partial(_started, process, slot + 1), PATIENCE, "a slot", process)
        yield processes


@contextmanager
def paused(processes: Sequence[Process]) -> Iterator[None]:
    """Let processes stand still within a `with`."""
    for each in processes:
        psutil.Process(each.pid).suspend()
    try:
        yield
    finally:
        for each in processes:
            psutil.Process(each.pid).resume()


def _started(process: Process, count: int) -> bool:
    return process.log.read_text().count("metrics at http") >= count  # slots of a deployment write one log


def assigned(rig: Rig, group: str, slots: int) -> list[list[int]]:
    """Return the partitions of each member of a group once so many members have all of them between them."""
    admin, found = AdminClient({**rig.kafka, "log_level": 2}), list[list[int]]()

    def joined() -> bool:
        try:
            members = admin.describe_consumer_groups([group])[group].result().members
        except KafkaException:  # nobody has joined yet
            return False
        found[:] = [[place.partition for place in member.assignment.topic_partitions] for member in members]
        return len(found) == slots and all(found) and sum(map(len, found)) == rig.topics.partitions

    wait_until(joined, PATIENCE, f"{slots} slots with partitions")
    return found


def _share(watch: Consumer, target: str, each: float, partitions: Collection[int]) -> float:
    """Return the share of the events of some partitions, `each` a partition, that have an output."""
    return sum(end_of(watch, target, partition) for partition in partitions) / (each * len(partitions))


def _settled(through: Callable[[Sequence[int]], float], partitions: Sequence[int]) -> bool:
    """Say whether nothing was written for a second: transactions' markers count as outputs, so the end comes early."""
    before = through(partitions)
    time.sleep(1.0)
    return through(partitions) == before


def _sample(rig: Rig, processes: Sequence[Process]) -> Sample:
    return Sample(time.time() * 1000, sum(cpu_seconds(each.pid) for each in processes), cpu_seconds(_broker(rig)))


def _broker(rig: Rig) -> int:
    if rig.place.broker is None:
        raise RuntimeError("only an embedded broker can be measured and held to cores")
    return rig.place.broker
