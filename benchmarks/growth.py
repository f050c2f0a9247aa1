"""`scripts/bench growth`: what an event costs as events, partitions, features, model and deployments grow in number.

Each curve changes one thing and leaves the rest as in job A. CPU per event must stay flat over events and partitions;
the other curves say what they say, and docs/scaling.md quotes them. Runs of a curve are interleaved.

Few events wait as a backlog, whose outputs are all checked. More would fill the disk and take hours to read, so from
100,000 on they stream through topics with bounded retention; see benchmarks/stream.py for what is checked then. Only
numbers that streamed are compared with each other, because the load runs beside the worker then.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import networks
from benchmarks.contestants import OURS, Penstock
from benchmarks.jobs import MATRIX, Job, doubles
from benchmarks.load import events_of
from benchmarks.records import check, put
from benchmarks.rig import Broker, Rig, broker
from benchmarks.stream import SWEPT, stream
from penstock.bench.load import Task, produce
from penstock.bench.system import cpu_seconds, wait_until
from penstock.bench.topics import ends
from penstock.embedded import EmbeddedKafka

FLAT = 1.25  # CPU of an event at the largest number of a flat curve to that of the smallest that compares with it
BACKLOG = 300_000
STREAMED = 100_000  # events from which on they stream
WARM = 4_000  # events before those that several deployments are measured with
ONCE = 100_000_000  # events from which on one run must do: it takes a quarter of an hour


@dataclass(frozen=True, slots=True)
class Point:
    """One number of a curve. cpu: microseconds an event; rate: events/s; mib: resident; disk: MiB of the topics at
    most, where events streamed.
    """

    number: int
    cpu: float
    rate: float
    mib: float
    disk: float = math.nan

    def __str__(self) -> str:
        disk = "" if math.isnan(self.disk) else f", at most {self.disk:,.0f} MiB on the disk"
        return f"{self.number:>12,}: {self.cpu:7.2f} us/event, {self.rate:9,.0f}/s, {self.mib:6.0f} MiB{disk}"


@contextmanager
def swept(servers: str | None) -> Iterator[Broker]:
    """Yield the broker given, else an embedded one that soon removes what retention does not keep."""
    if servers or os.environ.get("PENSTOCK_BOOTSTRAP_SERVERS"):
        with broker(servers) as given:
            yield given
        return
    with EmbeddedKafka(heap_mb=1024, settings=SWEPT) as kafka:
        yield Broker(kafka.bootstrap_servers, kafka.pid)


@contextmanager
def rig(where: Broker, job: Job = MATRIX, partitions: int = 4) -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="penstock-growth-") as folder:
        made = Rig(where, Path(folder), job, partitions)
        try:
            yield made
        finally:
            made.close()


def _backlog(where: Broker, number: int, job: Job, partitions: int = 4, events: int = BACKLOG) -> Point:
    with rig(where, job, partitions) as stand:
        found = stand.backlog(Penstock(OURS), events)
    if not found.checked.exact:
        raise RuntimeError(f"{number:,}: the outputs are not exact: {found.checked}")
    return Point(number, found.cpu, found.rate, found.rss)


def by_events(where: Broker, number: int) -> Point:
    if number < STREAMED:
        return _backlog(where, number, MATRIX, events=number)
    with rig(where) as stand:
        found = stream(stand, number)
    return Point(number, found.cpu, found.rate, found.rss, found.disk)


def by_partitions(where: Broker, number: int) -> Point:
    return _backlog(where, number, MATRIX, partitions=number)


def by_features(where: Broker, number: int) -> Point:
    job = doubles(f"features{number}", number, lambda: networks.perceptron([number, 64, 64, 1]))
    return _backlog(where, number, job, events=max(20_000, BACKLOG * 30 // max(30, number)))


def by_model(where: Broker, number: int) -> Point:
    """number: bytes of the model, of which an event reads one line of a table: size without arithmetic."""
    job = doubles(f"model{number}", 30, lambda: networks.padded(30, number))
    return _backlog(where, number, job)


def by_deployments(where: Broker, number: int) -> Point:
    """Several deployments on one topic, a process each; the rate is that of all, the memory that of one.

    They stand still while the events are produced, and then begin at the same moment.
    """
    events = max(20_000, BACKLOG // number)
    with rig(where) as stand, ExitStack() as stack:
        source, targets = stand.topics.make("events"), [stand.topics.make("inferences") for _ in range(number)]
        running = [stack.enter_context(Penstock(OURS).start(stand, source, target)) for target in targets]
        left = [stack.enter_context(ends(stand.kafka, target, 4)) for target in targets]
        _produce(stand, source, 0, WARM)
        wait_until(lambda: all(end() >= WARM for end in left), 60 + 10 * number, "the first events by everybody")
        processes = [psutil.Process(each.pid) for each in running]
        for each in processes:
            each.suspend()
        _produce(stand, source, WARM, events)
        before, began = sum(cpu_seconds(each.pid) for each in running), time.perf_counter()
        for each in processes:
            each.resume()
        wait_until(lambda: all(end() >= WARM + events for end in left), 60 + 20 * number, "all by everybody")
        took, done = time.perf_counter() - began, number * events
        used = sum(cpu_seconds(each.pid) for each in running) - before
        shared = sum(each.memory_full_info().pss for each in processes) / number
    return Point(number, used / done * 1e6, done / took, shared / (1 << 20))


def _produce(stand: Rig, topic: str, first: int, count: int) -> None:
    produce(stand.kafka, events_of(stand.job), Task(topic, stand.topics.partitions, first, count))


CURVES: dict[str, tuple[Callable[[Broker, int], Point], Sequence[int]]] = {
    "events": (by_events, [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000]),
    "partitions": (by_partitions, [1, 10, 100, 1_000]),
    "features": (by_features, [1, 10, 100, 1_000]),
    "model": (by_model, [1_000, 1_000_000, 100_000_000, 500_000_000]),
    "deployments": (by_deployments, [1, 4, 16, 64]),
}
JUDGED = ("events", "partitions")


def curve(where: Broker, name: str, runs: int, most: int | None) -> list[Point]:
    """Return the median of the runs at each number; ONCE events and more are run in the last turn only."""
    measured, numbers = CURVES[name]
    numbers = [number for number in numbers if most is None or number <= most]
    found: dict[int, list[Point]] = {number: [] for number in numbers}
    for turn in range(runs):
        for number in numbers:
            if name == "events" and number >= ONCE and turn < runs - 1:
                continue
            found[number].append(measured(where, number))
            print(f"  {name} {found[number][-1]}{'' if runs == 1 else f'  (run {turn + 1})'}", flush=True)
    figures = ("cpu", "rate", "mib", "disk")
    return [
        Point(number, *(middle([getattr(point, figure) for point in points]) for figure in figures))
        for number, points in found.items()
    ]


def middle(values: Sequence[float]) -> float:
    """Return the median of what is known: a run that was committed in one go has no cost of its middle."""
    return statistics.median([value for value in values if not math.isnan(value)] or [math.nan])


def alike(name: str, points: Sequence[Point]) -> Sequence[Point]:
    """Return the points that compare: events that streamed; elsewhere those from the middle on."""
    if name == "events":
        return [point for point in points if point.number >= STREAMED]
    return points[len(points) // 2 :]


def flatness(points: Sequence[Point]) -> float:
    """Return the CPU of an event at the largest number to that at the smallest."""
    return points[-1].cpu / points[0].cpu if len(points) > 1 else 1.0


def keep(file: Path | None, name: str, points: Sequence[Point]) -> None:
    """Put a curve into the file of all measurements, and what its topics took of the disk where that is known."""
    put(file, name, [[p.number, p.cpu, p.rate, p.mib] for p in points], within="growth")
    disk = [[p.number, p.disk] for p in points if not math.isnan(p.disk)]
    if disk:
        put(file, name, disk, within="disk")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=__doc__)
    parser.add_argument("--curves", nargs="+", default=list(CURVES), choices=list(CURVES))
    parser.add_argument("--runs", type=int, default=3, help=f"of each number; {ONCE:,} events run once")
    parser.add_argument("--most", type=int, help="leave out larger numbers")
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--json", type=Path, help="put the curves into this file, each when it is complete")
    options = parser.parse_args()
    check(options.json)
    found: dict[str, list[Point]] = {}
    with swept(options.bootstrap_servers) as where:
        _backlog(where, BACKLOG, MATRIX)  # warms the broker up
        for name in options.curves:
            found[name] = curve(where, name, options.runs, options.most)
            keep(options.json, name, found[name])
    for name, points in found.items():
        print(f"{name}:\n" + "\n".join(map(str, points)))
    ratios = {name: flatness(alike(name, points)) for name, points in found.items() if name in JUDGED}
    good = all(ratio <= FLAT for ratio in ratios.values())
    text = ", ".join(f"CPU of an event over {name} {ratio:.2f}x" for name, ratio in ratios.items())
    print(f"{'PASS' if good else 'FAIL'} {text}")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
