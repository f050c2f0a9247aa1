"""`scripts/bench growth`: what an event costs as events, partitions, features, model and deployments grow in number.

Each curve changes one thing and leaves the rest as in job A. CPU per event must stay flat over events and partitions;
the other curves say what they say, and docs/scaling.md quotes them. Runs of a curve are interleaved.
"""

from __future__ import annotations

import argparse
import json
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
from benchmarks.rig import Broker, Rig, broker
from penstock.bench.system import cpu_seconds, wait_until
from penstock.bench.topics import ends

FLAT = 1.25  # CPU of an event at the largest number of a flat curve to that of the middle one
BACKLOG = 300_000
BOUNDED = {"retention.bytes": str(256 << 20), "segment.bytes": str(64 << 20)}  # of a partition


@dataclass(frozen=True, slots=True)
class Point:
    """One number of a curve. seconds: of CPU an event, in us; rate: events/s; mib: resident."""

    number: int
    cpu: float
    rate: float
    mib: float

    def __str__(self) -> str:
        return f"{self.number:>12,}: {self.cpu:7.2f} us/event, {self.rate:9,.0f}/s, {self.mib:6.0f} MiB"


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
    return _backlog(where, number, MATRIX, events=number)


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
    """Several deployments on one topic, a process each; the rate is that of all, the memory that of one."""
    events = max(20_000, BACKLOG // number)
    with rig(where) as stand, ExitStack() as stack:
        source, began = stand.source(events), time.time()
        targets = [stand.topics.make("inferences") for _ in range(number)]
        running = [stack.enter_context(Penstock(OURS).start(stand, source, target)) for target in targets]
        left = [stack.enter_context(ends(stand.kafka, target, 4)) for target in targets]
        wait_until(lambda: all(end() >= events // 10 for end in left), 60 + 10 * number, "a tenth by everybody")
        before, began = sum(cpu_seconds(each.pid) for each in running), time.perf_counter()
        at = sum(min(events, end()) for end in left)
        wait_until(lambda: all(end() >= events for end in left), 60 + 20 * number, "all by everybody")
        took, done = time.perf_counter() - began, number * events - at
        used = sum(cpu_seconds(each.pid) for each in running) - before
        shared = sum(psutil.Process(each.pid).memory_full_info().pss for each in running) / number
    return Point(number, used / max(1, done) * 1e6, done / took, shared / (1 << 20))


CURVES: dict[str, tuple[Callable[[Broker, int], Point], Sequence[int]]] = {
    "events": (by_events, [10_000, 100_000, 1_000_000, 10_000_000]),
    "partitions": (by_partitions, [1, 10, 100, 1_000]),
    "features": (by_features, [1, 10, 100, 1_000]),
    "model": (by_model, [1_000, 1_000_000, 100_000_000, 500_000_000]),
    "deployments": (by_deployments, [1, 4, 16, 64]),
}
JUDGED = ("events", "partitions")


def curve(where: Broker, name: str, runs: int, most: int | None) -> list[Point]:
    """Return the median of the runs at each number."""
    measured, numbers = CURVES[name]
    numbers = [number for number in numbers if most is None or number <= most]
    found: dict[int, list[Point]] = {number: [] for number in numbers}
    for turn in range(runs):
        for number in numbers:
            found[number].append(measured(where, number))
            print(f"  {name} {found[number][-1]}{'' if runs == 1 else f'  (run {turn + 1})'}", flush=True)
    middle = statistics.median
    return [
        Point(number, *(middle(getattr(p, figure) for p in points) for figure in ("cpu", "rate", "mib")))
        for number, points in found.items()
    ]


def flatness(points: Sequence[Point]) -> float:
    """Return the CPU of an event at the largest number to that of a middle one: the smallest pays for the start."""
    return points[-1].cpu / points[len(points) // 2].cpu if len(points) > 1 else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=__doc__)
    parser.add_argument("--curves", nargs="+", default=list(CURVES), choices=list(CURVES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--most", type=int, help="leave out larger numbers")
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--json", type=Path, help="also write the curves here")
    options = parser.parse_args()
    with broker(options.bootstrap_servers) as where:
        by_events(where, 300_000)  # warms the broker up
        found = {name: curve(where, name, options.runs, options.most) for name in options.curves}
    for name, points in found.items():
        print(f"{name}:\n" + "\n".join(map(str, points)))
    if options.json:
        told = {name: [[p.number, p.cpu, p.rate, p.mib] for p in points] for name, points in found.items()}
        options.json.write_text(json.dumps(told, indent=1))
    ratios = {name: flatness(points) for name, points in found.items() if name in JUDGED}
    good = all(ratio <= FLAT for ratio in ratios.values())
    text = ", ".join(f"CPU of an event over {name} {ratio:.2f}x" for name, ratio in ratios.items())
    print(f"{'PASS' if good else 'FAIL'} {text}")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
