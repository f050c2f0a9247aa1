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
import re
import statistics
import tempfile
from pathlib import Path

from benchmarks.contestants import Penstock, Program, bare, metrics_of
from benchmarks.jobs import JOBS, Job
from benchmarks.rig import Backlog, Broker, Rig, broker
from penstock.bench.system import Process

TOLERANCE = 1.25  # "within 25 %"
CARRIED_MS = 250.0  # p95 of the bare loop at a rate that is judged
SPOILT_SHARE = 0.3  # of the clean throughput, with one message in a hundred bad
BARE, WORKER = "bare loop", "worker"
SIDES = (Program(BARE, bare, 1.0, at=11), Penstock(WORKER))


class Stages:
    """The worker's seconds by stage, from its own metrics, as they were last."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, process: Process) -> None:
        text = metrics_of(process)
        if text is None:
            return
        self.seconds = {m[1]: float(m[2]) for m in re.finditer(r'stage_seconds_total\{.*stage="(\w+)".*\} (\S+)', text)}

    def __str__(self) -> str:
        total = sum(self.seconds.values()) or 1.0
        return ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in self.seconds.items())


def measure(where: Broker, job: Job, options: argparse.Namespace) -> dict[str, float]:
    """Run one job and return its ratios, worker to bare loop."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        rig = Rig(where, Path(folder), job)
        try:
            return _measure(rig, options)
        finally:
            rig.close()


def _measure(rig: Rig, options: argparse.Namespace) -> dict[str, float]:
    job = rig.job
    print(f"job {job.name}: {len(job.fields)} fields, {options.events} events", flush=True)
    results: dict[str, list[Backlog]] = {side.name: [] for side in SIDES}
    stages = Stages()
    for turn in range(options.runs + 1):
        for side in SIDES:
            result = rig.backlog(side, options.events, at_end=stages)
            if not result.checked.exact:
                raise RuntimeError(f"the outputs of the {side.name} are not exact: {result.checked}")
            if turn:  # the first turn warms the broker up
                results[side.name].append(result)
                print(f"  {side.name:9} {result}", flush=True)
    print(f"  stages of the worker: {stages}")
    clean = statistics.median(result.rate for result in results[WORKER])
    spoilt = _spoilt(rig, options)
    seconds: dict[str, dict[int, list[float]]] = {side.name: {rate: [] for rate in options.rates} for side in SIDES}
    rates = sorted(options.rates)
    for turn in range(options.runs + 1):
        for side in SIDES:
            for rate, found in zip(rates, rig.at_rates(side, rates, options.seconds), strict=True):
                if found.arrived < 1:
                    raise RuntimeError(f"{side.name} does not keep up with {rate:,}/s; give lower --rates")
                if turn:  # the first turn warms the broker up, whose code path for small batches is another one
                    seconds[side.name][rate] += found.seconds
                    print(f"  {side.name:9} at {rate:7,}/s: {found}", flush=True)
    return _ratios(job, results, seconds) | {f"{job.name} throughput with 1 % bad messages": spoilt / clean}


def _spoilt(rig: Rig, options: argparse.Namespace) -> float:
    """Return the worker's throughput over a backlog of which one message in a hundred is bad."""
    rates = []
    for _ in range(options.runs):
        result = rig.backlog(SIDES[1], options.events, bad=0.01)
        rates.append(result.rate)
        print(f"  worker    {result.rate:9,.0f}/s with 1 % bad messages", flush=True)
    return statistics.median(rates)


def _middle(values: list[float]) -> float:
    return float(statistics.median(values))


def _ratios(
    job: Job, results: dict[str, list[Backlog]], seconds: dict[str, dict[int, list[float]]]
) -> dict[str, float]:
    def median(name: str, what: str) -> float:
        return _middle([getattr(result, what) for result in results[name]])

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


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench hotpath", description=__doc__)
    parser.add_argument("--jobs", nargs="+", default=["matrix", "mixed"], choices=["matrix", "mixed"])
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
    with broker(options.bootstrap_servers) as where:
        for name in options.jobs:
            ratios |= measure(where, JOBS[name], options)
    if options.json:
        options.json.write_text(json.dumps(ratios, indent=1))
    raise SystemExit(0 if verdict(ratios) else 1)


if __name__ == "__main__":
    main()
