"""`scripts/bench hotpath`: the worker beside the bare loop, on the same topics, model and events, in one run.

Prints throughput over a backlog, CPU per event, memory, the share of each stage, and the time from log-append to what a
read_committed reader sees; the last line is the verdict with the ratios of medians. Exit status 1 when one misses.

The ratio of latencies is that of the median second: the p95 of every second of every run, and the median of those. A
machine that stands still for a third of a second once in a run decides a whole run's p95, whichever side it hits. A
rate that the bare loop itself answers only after a queue is more than the machine carries with broker, producer and
reader beside it: what such a queue does says nothing about the worker, so that rate is printed and not judged.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import yaml
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.jobs import JOBS, Job, perceptron, schema_text
from benchmarks.latency import PARTITIONS, Place, Reader, append_times, bare_place, by_second, worker_place
from benchmarks.load import produce
from benchmarks.system import Process, cpu_seconds, rss_mib, wait_until
from models.bundle import Bundle
from models.repository import Repository

TOLERANCE = 1.25  # "within 25 %"
CARRIED_MS = 250.0  # p95 of the bare loop at a rate that is judged
SPOILT_SHARE = 0.3  # of the clean throughput, with one message in a hundred bad


@dataclass(frozen=True, slots=True)
class Backlog:
    """One run over a backlog: events a second, CPU microseconds an event, resident MiB, seconds by stage."""

    rate: float
    cpu: float
    rss: float
    stages: dict[str, float]


@dataclass(frozen=True, slots=True)
class Latency:
    """One run at an offered rate, in ms; seconds: the p95 of each second of it."""

    p50: float
    p95: float
    p99: float
    seconds: list[float]

    def __str__(self) -> str:
        whole = f"p50 {self.p50:.1f} p95 {self.p95:.1f} p99 {self.p99:.1f} ms"
        return f"{whole}; p95 of the median second {_middle(self.seconds):.1f} ms"


class Rig:
    """A broker, a folder and the topics of one job."""

    def __init__(self, servers: str, folder: Path, job: Job) -> None:
        self.servers, self.folder, self.job = servers, folder, job
        self.run = f"{job.name}-{time.time_ns() % 10**9}"
        self._admin = AdminClient({"bootstrap.servers": servers})
        self._made: list[str] = []
        (folder / "model.onnx").write_bytes(perceptron(len(job.features)))
        (folder / "event.avsc").write_text(schema_text(job))
        bundle = Bundle.build(name=job.name, model=perceptron(len(job.features)), features=job.features)
        Repository(str(folder / "models")).add(bundle, tags=["production"])

    def topic(self, name: str, settings: Mapping[str, str] = MappingProxyType({})) -> str:
        full = f"bench.{self.run}.{name}"
        config = {"message.timestamp.type": "LogAppendTime", **settings}
        self._admin.create_topics([NewTopic(full, num_partitions=PARTITIONS, replication_factor=1, config=config)])[
            full
        ].result()
        self._made.append(full)
        return full

    def forget(self, *topics: str) -> None:
        for future in self._admin.delete_topics(list(topics)).values():
            future.result()
        self._made = [topic for topic in self._made if topic not in topics]

    def close(self) -> None:
        if self._made:
            self.forget(*self._made)

    def worker(self, source: str, target: str) -> Process:
        file = self.folder / f"{target}.yaml"
        file.write_text(yaml.safe_dump(self.job.deployment(source, target)))
        arguments = ["-m", "penstock.cli", "worker", str(file), "--metrics-port", "0"]
        arguments += ["--bootstrap-servers", self.servers, "--repository", str(self.folder / "models")]
        arguments += ["--schemas", str(self.folder)]
        return Process(arguments, self.folder / f"{target}.log", cwd=self.folder)

    def bare(self, source: str, target: str) -> Process:
        model = str(self.folder / "model.onnx")
        arguments = ["-m", "benchmarks.bare_loop", self.servers, self.job.name, source, target, target, model]
        return Process(arguments, self.folder / f"{target}.log", cwd=self.folder)


def group_position(servers: str, group: str, topic: str) -> Callable[[], int]:
    """Return a function that says how many events of a topic a group has committed."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group, "isolation.level": "read_uncommitted"})
    partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    return lambda: sum(max(0, tp.offset) for tp in consumer.committed(partitions, timeout=10))


def backlog(rig: Rig, start: Callable[[str, str], Process], group: str, source: str, count: int) -> Backlog:
    """Measure from a tenth to nine tenths of a backlog of `count` events."""
    target = rig.topic(f"{time.time_ns()}.inferences")
    position = group_position(rig.servers, group.format(target.replace(".inferences", ""), target=target), source)
    with start(source, target) as process:
        wait_until(lambda: position() >= count // 10, 60, "the first tenth of the backlog", process)
        first, began, cpu = position(), time.perf_counter(), cpu_seconds(process.pid)
        wait_until(lambda: position() >= count * 9 // 10, 120, "nine tenths of the backlog", process)
        last, ended, cpu_after = position(), time.perf_counter(), cpu_seconds(process.pid)
        rss = rss_mib(process.pid)
        wait_until(lambda: position() >= count, 60, "the whole backlog", process)
        stages = _stages(process)
    rig.forget(target)
    events = last - first
    return Backlog(events / (ended - began), (cpu_after - cpu) / events * 1e6, rss, stages)


def _stages(process: Process) -> dict[str, float]:
    """Return seconds by stage from the worker's own metrics; nothing for a process that serves none."""
    import re
    import urllib.request

    found = re.search(r"metrics at (http\S+)", process.log.read_text())
    if found is None:
        return {}
    text = urllib.request.urlopen(found[1], timeout=5).read().decode()
    return {m[1]: float(m[2]) for m in re.finditer(r'stage_seconds_total\{.*stage="(\w+)".*\} (\S+)', text)}


def latency(
    rig: Rig, start: Callable[[str, str], Process], rate: int, seconds: float, place: Callable[[bytes], Place]
) -> Latency:
    """Measure at an offered rate, without the first second."""
    source, target = rig.topic(f"{time.time_ns()}.events"), rig.topic(f"{time.time_ns()}.inferences")
    with start(source, target) as process:
        reader = Reader(rig.servers, target)
        reader.start()
        produce(rig.servers, rig.job.name, source, 2_000, 1_000)  # the first batches load code, not represent it
        wait_until(lambda: len(reader.values) >= 2_000, 60, "the warm-up", process)
        count = int(rate * seconds)
        arguments = ["-m", "benchmarks.load", rig.servers, rig.job.name, source, str(count), str(rate)]
        with Process(arguments, rig.folder / "load.log"):
            wait_until(lambda: len(reader.values) >= count + 2_000, seconds * 4 + 30, f"{count} inferences", process)
        reader.stop()
    starts, times = (a[2_000 + rate :] for a in reader.latencies(append_times(rig.servers, source), place))
    rig.forget(source, target)
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    return Latency(p50, p95, p99, by_second(starts, times))


def measure(servers: str, job: Job, options: argparse.Namespace) -> dict[str, float]:
    """Run one job and return its ratios, worker to bare loop."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        rig = Rig(servers, Path(folder), job)
        try:
            return _measure(rig, options)
        finally:
            rig.close()


def _measure(rig: Rig, options: argparse.Namespace) -> dict[str, float]:
    source = rig.topic("events")
    print(
        f"job {rig.job.name}: {len(rig.job.fields)} fields, {options.events} events, {PARTITIONS} partitions",
        flush=True,
    )
    produce(rig.servers, rig.job.name, source, options.events, 0)
    sides = {"bare loop": (rig.bare, "{target}"), "worker": (rig.worker, "penstock.{}")}
    results: dict[str, list[Backlog]] = {name: [] for name in sides}
    for turn in range(options.runs + 1):
        for name, (start, group) in sides.items():
            result = backlog(rig, start, group, source, options.events)
            if turn:  # the first turn warms the broker up
                results[name].append(result)
                print(f"  {name:9} {result.rate:9,.0f}/s {result.cpu:6.2f} us/event {result.rss:5.0f} MiB", flush=True)
    rig.forget(source)
    spoilt = _spoilt(rig, options)
    places = {"bare loop": bare_place, "worker": worker_place}
    seconds: dict[str, dict[int, list[float]]] = {name: {rate: [] for rate in options.rates} for name in sides}
    for rate in options.rates:
        for turn in range(options.runs + 1):
            for name, (start, _) in sides.items():
                found = latency(rig, start, rate, options.seconds, places[name])
                if turn:  # the first turn warms the broker up, whose code path for small batches is another one
                    seconds[name][rate] += found.seconds
                    print(f"  {name:9} at {rate:7,}/s: {found}", flush=True)
    ratios = _ratios(rig.job, results, seconds)
    clean = statistics.median(result.rate for result in results["worker"])
    return ratios | {f"{rig.job.name} throughput with 1 % bad messages": spoilt / clean}


def _spoilt(rig: Rig, options: argparse.Namespace) -> float:
    """Return the worker's throughput over a backlog of which one message in a hundred is bad."""
    source, rates = rig.topic("spoilt"), []
    produce(rig.servers, rig.job.name, source, options.events, 0, bad=0.01)
    for _ in range(options.runs):
        result = backlog(rig, rig.worker, "penstock.{}", source, options.events)
        rates.append(result.rate)
        print(f"  worker    {result.rate:9,.0f}/s with 1 % bad messages", flush=True)
    rig.forget(source)
    return statistics.median(rates)


def _middle(values: list[float]) -> float:
    return float(statistics.median(values))


def _ratios(
    job: Job, results: dict[str, list[Backlog]], seconds: dict[str, dict[int, list[float]]]
) -> dict[str, float]:
    def median(name: str, what: str) -> float:
        return _middle([getattr(result, what) for result in results[name]])

    stages = results["worker"][-1].stages
    total = sum(stages.values()) or 1.0
    print("  stages of the worker: " + ", ".join(f"{name} {s / total:.0%}" for name, s in stages.items()))
    print(f"  medians: worker {median('worker', 'rate'):,.0f}/s, bare loop {median('bare loop', 'rate'):,.0f}/s")
    ratios = {
        f"{job.name} throughput": median("worker", "rate") / median("bare loop", "rate"),
        f"{job.name} cpu": median("worker", "cpu") / median("bare loop", "cpu"),
    }
    return ratios | p95_ratios(job.name, seconds["worker"], seconds["bare loop"])


def p95_ratios(name: str, worker: dict[int, list[float]], bare: dict[int, list[float]]) -> dict[str, float]:
    """Return worker to bare loop at each rate that the machine carries, from the p95 in ms of each second at a rate.

    Raises RuntimeError when it carries none, because then nothing was measured.
    """
    ratios = {}
    for rate, seconds in bare.items():
        if _middle(seconds) <= CARRIED_MS:
            ratios[f"{name} p95 at {rate}/s"] = _middle(worker[rate]) / _middle(seconds)
        else:
            print(f"  p95 at {rate:,}/s is not judged: the bare loop itself takes {_middle(seconds):,.0f} ms")
    if bare and not ratios:
        raise RuntimeError(f"job {name}: this machine carries none of the rates {list(bare)}; give lower --rates")
    return ratios


def verdict(ratios: dict[str, float]) -> bool:
    """Print the verdict as the last line; True when every ratio is within its bound."""
    good = all(_good(name, ratio) for name, ratio in ratios.items())
    text = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in ratios.items())
    print(f"{'PASS' if good else 'FAIL'} worker to bare loop: {text}")
    return good


def _good(name: str, ratio: float) -> bool:
    if "bad messages" in name:
        return ratio >= SPOILT_SHARE
    return ratio >= 1 / TOLERANCE if "throughput" in name else ratio <= TOLERANCE


def broker(options: argparse.Namespace) -> AbstractContextManager[str]:
    """Return the broker that is measured on: the one given, else an embedded one."""
    from benchmarks.broker import embedded

    given = options.bootstrap_servers or os.environ.get("PENSTOCK_BOOTSTRAP_SERVERS")
    return nullcontext(given) if given else embedded()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench hotpath", description=__doc__)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--events", type=int, default=1_000_000, help="events of the backlog")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each side, interleaved")
    parser.add_argument(
        "--rates", type=int, nargs="*", default=[10_000, 50_000, 100_000], help="events/s for the latency"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of each latency run")
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--json", type=Path, help="also write the ratios here")
    options = parser.parse_args()
    gc.disable()  # a full collection visits every inference that the reader holds: up to 0.1 s that nobody else causes
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    ratios: dict[str, float] = {}
    with broker(options) as servers:
        for name in options.jobs:
            ratios |= measure(servers, JOBS[name], options)
    if options.json:
        options.json.write_text(json.dumps(ratios, indent=1))
    raise SystemExit(0 if verdict(ratios) else 1)


if __name__ == "__main__":
    main()
