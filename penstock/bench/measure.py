"""Measures one system at a time: over a backlog, and at an offered rate. The same for everybody.

Throughput and latency are read from what Kafka itself stamps on records, and from a read_committed reader; nothing is
asked of the system that is measured.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from penstock.bench.latency import Latency, Reader, latencies, overrun
from penstock.bench.load import Events, Kafka, Task, produce, told
from penstock.bench.outputs import Numbers, Outputs, Times, throughput
from penstock.bench.system import Process, cpu_seconds_of, family, rss_mib, wait_until
from penstock.bench.topics import Topics, append_times, ends, read

START_SECONDS = 120.0  # that the first tenth of a backlog may take: interpreters, JVMs and groups start meanwhile
STALL_SECONDS = 15.0  # without any output: nothing more will come
SAMPLE = 2_000  # outputs whose values are kept
SAMPLE_MS = 100.0  # between two looks at what a system uses
WARM_UP, WARM_UP_RATE = 2_000, 1_000  # events before a latency run: the first batches load code, not represent it

Start = Callable[[str, str], Process]  # starts the system: it reads a topic from its beginning, and writes to another
AtEnd = Callable[[Process], object]


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is measured. broker: the process of the broker, None for one that is not ours. folder: for files."""

    kafka: Kafka
    topics: Topics
    folder: Path
    broker: int | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """One run over a backlog: outputs/s; CPU seconds an output of the system and of the broker; bytes on the network an
    output, both ways; resident MiB; all outputs, and the values of the first of them.
    """

    rate: float
    cpu: float
    broker_cpu: float
    network: float
    rss: float
    outputs: Outputs
    values: list[bytes]


class _Usage:
    """CPU seconds of a system and of the broker over time."""

    def __init__(self, place: Place, process: Process) -> None:
        self._system, self._broker = family(process.pid), family(place.broker) if place.broker else None
        self._seen: list[tuple[float, float, float]] = []  # ms since 1970, CPU seconds of the system, of the broker
        self._look(time.time() * 1000)

    def sample(self) -> None:
        """Look, unless it was a moment ago."""
        now = time.time() * 1000
        if now - self._seen[-1][0] >= SAMPLE_MS:
            self._look(now)

    def _look(self, now: float) -> None:
        broker = float("nan") if self._broker is None else cpu_seconds_of(self._broker)
        self._seen.append((now, cpu_seconds_of(self._system), broker))

    def until_now(self) -> Times:
        """Return the CPU seconds of the system and of the broker since the first look."""
        self._look(time.time() * 1000)
        return np.array(self._seen[-1][1:], np.float64) - np.array(self._seen[0][1:], np.float64)

    def between(self, began: float, ended: float) -> Times:
        """Return the CPU seconds of the system and of the broker between two moments, in ms since 1970."""
        at, *used = np.array(self._seen).T
        return np.array([np.interp(ended, at, each) - np.interp(began, at, each) for each in used])


def backlog(place: Place, start: Start, source: str, count: int, due: int, at_end: AtEnd | None = None) -> Backlog:
    """Measure the middle (see `throughput`) of a topic of `count` events, of which `due` have an output.

    at_end: called before the system is ended. Raises RuntimeError when it ends by itself, or is not through with a
    tenth in START_SECONDS.
    """
    target, sent = place.topics.make("inferences"), psutil.net_io_counters().bytes_sent
    with ends(place.kafka, target, place.topics.partitions) as end, start(source, target) as process:
        wait_until(lambda: end() >= count // 10, START_SECONDS, "the first tenth of the backlog", process)
        used = _Usage(place, process)
        _until_still(end, due * 9 // 10, process, used)
        rss = rss_mib(process.pid)
        _until_still(end, due, process, used)
        sent = psutil.net_io_counters().bytes_sent - sent  # all of it: much is fetched before a tenth is scored
        wait_until(lambda: _settled(end), STALL_SECONDS, "an end of the outputs", process)
        if at_end is not None:
            at_end(process)
    outputs, values = read(place.kafka, target, place.topics.partitions, SAMPLE)
    place.topics.forget(target)
    rate, began, ended = throughput(outputs)
    cpu, broker_cpu = used.between(began, ended) / (rate * (ended - began) / 1000)
    return Backlog(
        rate,
        cpu,
        broker_cpu,
        sent / max(1, len(outputs.event)),
        rss,
        outputs,
        values,
    )


def _until_still(end: Callable[[], int], due: int, process: Process, used: _Usage) -> None:
    """Wait until a topic has as many records, or no more come; look now and then what is used."""
    seen, since = end(), time.monotonic()
    while seen < due and time.monotonic() - since < STALL_SECONDS:
        process.check()
        time.sleep(0.03)
        used.sample()
        now = end()
        if now > seen:
            seen, since = now, time.monotonic()


def _settled(end: Callable[[], int]) -> bool:
    """Say whether nothing was written for a second: markers count as records, so the end may come early."""
    before = end()
    time.sleep(1.0)
    return end() == before


@dataclass(frozen=True, slots=True)
class _Offered:
    """Events `first` to `last`, offered at a rate. cpu, broker_cpu: seconds an event, of the system and the broker."""

    rate: float
    first: int
    last: int
    cpu: float
    broker_cpu: float


def at_rates(
    place: Place, start: Start, events: Events, rates: Sequence[float], seconds: float, due: float = 1.0
) -> list[Latency]:
    """Measure one life of a system at one offered rate after the other, each without its first second.

    rates: ascending; who does not keep up with one is not offered the next. due: the share of events that has an
    inference. Raises RuntimeError when the system ends by itself.
    """
    source, target = place.topics.make("events"), place.topics.make("inferences")
    partitions, first, offered = place.topics.partitions, WARM_UP, list[_Offered]()
    file = place.folder / "events"
    events.write(file)
    with start(source, target) as process, Reader(place.kafka, target, partitions) as reader:
        produce(place.kafka, events, Task(source, partitions, 0, WARM_UP, WARM_UP_RATE))
        wait_until(lambda: len(reader) >= WARM_UP * due * 0.9, START_SECONDS, "the warm-up", process)
        for rate in rates:
            count, used = int(rate * seconds), _Usage(place, process)
            task = told(place.kafka, file, Task(source, partitions, first, count, rate))
            with Process([sys.executable, "-m", "penstock.bench.load"], place.folder / "load.log", told=task):
                whole = _arrive(reader, int((first + count) * due), seconds * 4 + 30, process)
            cpu, broker_cpu = used.until_now() / count
            offered.append(_Offered(rate, first, first + count, cpu, broker_cpu))
            if not whole and due == 1:
                break
            first += count
    numbers, arrived = reader.arrivals()
    appended = append_times(place.kafka, source, partitions)
    place.topics.forget(source, target)
    found = [_judged(each, numbers, arrived, appended, due) for each in offered]
    return found + [overrun(0.0)] * (len(rates) - len(found))


def _judged(offered: _Offered, numbers: Numbers, arrived: Times, appended: Times, due: float) -> Latency:
    found = latencies(numbers, arrived, appended[: offered.last], offered.first + int(offered.rate), due)
    return dataclasses.replace(found, cpu=offered.cpu, broker_cpu=offered.broker_cpu)


def _arrive(reader: Reader, due: int, seconds: float, process: Process) -> bool:
    """Wait for the inferences, but not for ever; say whether they came."""
    deadline = time.monotonic() + seconds
    while len(reader) < due:
        if time.monotonic() > deadline:
            return False
        process.check()
        time.sleep(0.05)
    return True
