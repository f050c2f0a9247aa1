"""`scripts/bench budget`: latency budgets beside fixed settings, on the same load, in one run.

For each job and rate: the p95 until a read_committed reader sees inferences, and the CPU of worker and broker an event,
without a budget, with fixed largest batches, and with budgets. The last line is the verdict: every budget that the
machine carries is met, and a wide one costs less CPU than none. Exit status 1 when that is not so.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.contestants import Penstock
from benchmarks.jobs import JOBS
from benchmarks.records import check, put
from benchmarks.rig import Broker, Rig, broker
from penstock.bench.latency import Latency

SOON = Penstock("as soon as possible")
FIXED = [Penstock(f"largest batch {size}", options=("--batch-events", str(size))) for size in (100, 500)]
BUDGETS = [Penstock(f"latency_ms: {ms}", latency_ms=ms) for ms in (20, 50, 100, 250)]
RATES = {"matrix": [1_000, 10_000, 50_000], "large": [100, 1_000]}
CARRIED = 0.8  # of a budget that the p95 takes without one: what is above is not the budget's to keep
SAVES = 0.9  # of the CPU of worker and broker, at the lowest rate of job A with the widest budget


Found = dict[int, dict[str, list[Latency]]]  # the runs of each side at each rate


def measured(where: Broker, job: str, rates: list[int], runs: int, seconds: float) -> Found:
    """Return the runs of each side at each rate, interleaved."""
    sides = [SOON, *FIXED, *BUDGETS]
    found: Found = {rate: {side.name: [] for side in sides} for rate in rates}
    with tempfile.TemporaryDirectory(prefix="penstock-budget-") as folder:
        rig = Rig(where, Path(folder), JOBS[job])
        for turn in range(runs + 1):
            for side in sides:
                for rate, result in zip(rates, rig.at_rates(side, rates, seconds), strict=True):
                    if turn:  # the first turn warms the broker up
                        found[rate][side.name].append(result)
        for rate in rates:
            for side in sides:
                print(f"  {job} at {rate:,}/s, {side.name:20} {_line(found[rate][side.name])}", flush=True)
        rig.close()
    return found


def _line(runs: list[Latency]) -> str:
    return f"p95 {p95(runs):7.1f} ms, CPU {cpu(runs) * 1e6:7.1f} us/event"


def p95(runs: list[Latency]) -> float:
    """Return the median p95 in ms."""
    return statistics.median(run.p95 for run in runs)


def cpu(runs: list[Latency]) -> float:
    """Return the median CPU seconds an event, of worker and broker."""
    return statistics.median(run.cpu + run.broker_cpu for run in runs)


def told(found: Found) -> dict[str, Any]:
    """Return the figures of each side at each rate as they lie in the JSON file: p95 in ms, cpu in us an event."""
    return {
        str(rate): {name: {"p95": p95(runs), "cpu": cpu(runs) * 1e6} for name, runs in sides.items()}
        for rate, sides in found.items()
    }


def misses(found: Found) -> list[str]:
    """Return the budgets that were not met at rates where they could be."""
    missed = []
    for rate, sides in found.items():
        soonest = p95(sides[SOON.name])
        for side in BUDGETS:
            budget = float(side.latency_ms or 0)
            if soonest <= CARRIED * budget and p95(sides[side.name]) > budget:
                missed.append(f"{side.name} at {rate:,}/s is {p95(sides[side.name]):.0f} ms")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench budget", description=__doc__)
    parser.add_argument("--jobs", nargs="+", default=list(RATES), choices=list(RATES))
    parser.add_argument("--rates", type=int, nargs="+")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--json", type=Path, help="put what was found into this file; `report` reads it")
    options = parser.parse_args()
    check(options.json)
    gc.disable()  # as in `hotpath`
    missed, savings = [], []
    results: dict[str, Any] = {}
    with broker(options.bootstrap_servers) as where:
        for job in options.jobs:
            rates = options.rates or RATES[job]
            found = measured(where, job, rates, options.runs, options.seconds)
            results[job] = told(found)
            missed += [f"{job}: {text}" for text in misses(found)]
            saved = cpu(found[rates[0]][BUDGETS[-1].name]) / cpu(found[rates[0]][SOON.name])
            savings.append(f"{job} at {rates[0]:,}/s with {BUDGETS[-1].name} takes {saved:.2f}x the CPU")
            if job == "matrix" and saved > SAVES:
                missed.append(f"{job}: a wide budget saves too little")
    asked = {name: getattr(options, name) for name in ("jobs", "rates", "runs", "seconds")}
    put(options.json, "budget", {"options": asked, "jobs": results})
    print(f"{'FAIL ' + '; '.join(missed) if missed else 'PASS every budget is met'}; {', '.join(savings)}")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
