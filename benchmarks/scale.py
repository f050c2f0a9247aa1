"""`scripts/bench scale`: whether throughput grows with cores as docs/scaling.md says; the last line is the verdict.

An event costs c_w CPU-seconds of a worker and c_b of the broker, so N cores that do both carry N / (c_w + c_b)
events/s. One slot on free cores tells c_w and c_b; then broker and slot share one core, and broker and two slots of one
group share two. Placements are interleaved, and the medians of their rates are compared with what was predicted.

The load has ended when rates are measured, so that c_b is there what reading events and taking inferences costs; the
plan takes what the broker used from the first event produced on.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from benchmarks.jobs import JOBS
from benchmarks.records import check, put
from benchmarks.rig import Rig, broker
from benchmarks.slots import Run, measure
from penstock.bench.capacity import ROOM

TOLERANCE = 0.75  # of the predicted rate
FREE, ONE, TWO = "one slot, free cores", "one slot, one core", "two slots, two cores"
PLACEMENTS = {FREE: (1, 0), ONE: (1, 1), TWO: (2, 2)}  # slots, and the cores that they share with the broker; 0: any
AIM, COPIES = 10_000_000, 3  # events/s, and copies of each record, of the plan that is printed


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load needs: cores that are busy, slots with room on a core each, bytes/s that brokers receive and send."""

    worker_cores: float
    broker_cores: float
    slots: int
    received: float
    sent: float

    def __str__(self) -> str:
        return (
            f"{self.worker_cores:,.0f} cores busy with workers, up to {self.broker_cores:,.0f} with brokers; "
            f"{self.slots:,} slots on as many partitions or more; "
            f"brokers receive {self.received / 1e9:.1f} GB/s and send {self.sent / 1e9:.1f}"
        )


def capacity(cores: float, cpu: float, broker_cpu: float) -> float:
    """Return the events/s of cores that do the work of both. cpu, broker_cpu: microseconds an event."""
    return cores / (cpu + broker_cpu) * 1e6


def plan(rate: float, run: Run, copies: int, readers: int = 1) -> Plan:
    """Return what `rate` events/s need. readers: how many read all inferences.

    copies: of each record; each costs the brokers as much CPU as the first at most, and a way over the network.
    """
    both, more = run.taken + run.made, copies - 1
    return Plan(
        worker_cores=rate * run.cpu / 1e6,
        broker_cores=rate * run.intake / 1e6 * copies,
        slots=math.ceil(rate * run.cpu / 1e6 / ROOM),
        received=rate * both * copies,
        sent=rate * (run.taken + run.made * readers + both * more),
    )


def middle(runs: Sequence[Run]) -> Run:
    """Return the medians of the figures of runs."""
    return Run(*(statistics.median(getattr(run, each.name) for run in runs) for each in fields(Run)))


def against(found: Mapping[str, Run]) -> dict[str, float]:
    """Return the measured to the predicted rate of each placement that shares cores."""
    known = found[FREE]
    return {
        name: found[name].rate / capacity(cores, known.cpu, known.broker_cpu)
        for name, (_, cores) in PLACEMENTS.items()
        if cores
    }


def verdict(found: Mapping[str, Run]) -> tuple[bool, str]:
    """Return whether each placement reached its share of what was predicted, and the sentence that says so."""
    ratios = against(found)
    text = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in ratios.items())
    good = all(ratio >= TOLERANCE for ratio in ratios.values())
    return good, (
        f"{'PASS' if good else 'FAIL'} measured to predicted rate, at least {TOLERANCE:.2f}x: {text}; "
        f"two cores carry {found[TWO].rate / found[ONE].rate:.2f}x of one"
    )


def table(found: Mapping[str, Run]) -> list[str]:
    """Return a line for each placement, with what was predicted from the first."""
    known, lines = found[FREE], []
    for name, (_, cores) in PLACEMENTS.items():
        due = f"; predicted {capacity(cores, known.cpu, known.broker_cpu):,.0f}/s" if cores else ""
        lines.append(f"{name:21} {found[name]}{due}")
    return lines


def measured(rig: Rig, events: int, runs: int) -> dict[str, list[Run]]:
    """Return the runs of each placement; a first turn, which warms the broker up, is left out."""
    cores = sorted(os.sched_getaffinity(0))
    found: dict[str, list[Run]] = {name: [] for name in PLACEMENTS}
    for turn in range(runs + 1):
        for name, (slots, shared) in PLACEMENTS.items():
            run = measure(rig, slots, cores[:shared] or None, events)
            if turn:
                found[name].append(run)
                print(f"  {name:21} {run}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench scale", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3, help="counted runs of each placement, interleaved")
    parser.add_argument("--job", default="matrix", choices=list(JOBS))
    parser.add_argument("--bootstrap-servers", help="refused: only an embedded broker can be held")
    parser.add_argument("--json", type=Path, help="put what was found into this file")
    options = parser.parse_args()
    check(options.json)
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        parser.error("this needs Linux and two cores: it holds processes to cores")
    with broker(options.bootstrap_servers) as where, tempfile.TemporaryDirectory(prefix="penstock-scale-") as folder:
        if where.pid is None:
            parser.error(
                f"the broker at {where.servers} is not ours to hold to some cores: leave out --bootstrap-servers and "
                "PENSTOCK_BOOTSTRAP_SERVERS, and an embedded one is started"
            )
        runs = measured(Rig(where, Path(folder), JOBS[options.job]), options.events, options.runs)
    found = {name: middle(each) for name, each in runs.items()}
    planned = plan(AIM, found[FREE], COPIES)
    good, text = verdict(found)
    told = {name: [asdict(run) for run in each] for name, each in runs.items()}
    put(options.json, "scale", {"runs": told, "measured_to_predicted": against(found), "plan": asdict(planned)})
    print(
        "\n".join(["medians:", *table(found), f"{AIM:,} events/s with {COPIES} copies by the model: {planned}", text])
    )
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
