"""`scripts/bench partitions`: a hierarchy of 5,000 models beside one model, on the same events, in one run.

Both score job A's doubles; keys are Zipf-distributed over the leaves, and each leaf has events. Prints events/s, CPU an
event and resident memory of both, by turns; every output is checked, and scores against those of each leaf's model run
by itself. The last line is the verdict: the ratio of the medians, and the most memory. Exit status 1 when one misses.

A leaf's sixteen rows cost what one row costs, so it is the rows of a leaf in a batch that count: in larger batches an
event costs less. --batch-events holds for both sides.
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks import networks
from benchmarks.contestants import Penstock, metrics_of
from benchmarks.jobs import MATRIX, Job
from benchmarks.load import distinct
from benchmarks.records import check, put
from benchmarks.rig import Backlog, Broker, Rig, broker
from models.bundle import Bundle
from models.repository import Repository
from penstock.bench.system import Process
from streams.budget import BATCH_EVENTS

LEAVES, COUNTRIES = 5_000, 100  # all leaves, and those of them that are a country
HALF = 0.5  # of the single model's throughput, at least
MEMORY = 2_000_000_000  # bytes, at most
ELSEWHERE = "elsewhere"  # a city that has no model
ONE, MANY = "one model", "a hierarchy of models"


def paths(leaves: int) -> list[tuple[str, ...]]:
    """Return the paths of leaves, the most frequent first; countries are among them at random."""
    countries = [(f"C{number}",) for number in range(min(COUNTRIES, leaves))]
    cities = [(f"C{number % COUNTRIES}", f"city{number}") for number in range(leaves - len(countries))]
    order = np.random.default_rng(5).permutation(leaves)
    every: list[tuple[str, ...]] = [*countries, *cities]
    return [every[place] for place in order]


@cache
def ranks(events: int, leaves: int) -> Any:
    """Return the leaf of each of so many events: each leaf once, the others as Zipf's law has it."""
    rng = np.random.default_rng(6)
    weights = 1 / np.arange(1, leaves + 1)
    drawn = rng.choice(leaves, events, p=weights / weights.sum())
    drawn[rng.choice(events, min(leaves, events), replace=False)] = np.arange(min(leaves, events))
    return drawn


@dataclass(frozen=True, slots=True)
class Visits(Job):
    """Job A's events, with a country and a city. leaves: of the hierarchy."""

    leaves: int = LEAVES

    def rows(self, count: int, seed: int = 0) -> list[dict[str, Any]]:
        numbers = np.random.default_rng(seed).standard_normal((count, len(self.features))).tolist()
        places = [(*path, ELSEWHERE)[:2] for path in paths(self.leaves)]
        return [
            dict(zip(self.features, row, strict=True)) | dict(zip(("country", "city"), places[rank], strict=True))
            for row, rank in zip(numbers, ranks(count, self.leaves).tolist(), strict=True)
        ]


def visits(leaves: int, events: int) -> Visits:
    """Return the job with so many leaves and distinct events."""
    fields = [*MATRIX.fields, *({"name": name, "type": "string"} for name in ("country", "city"))]
    return Visits(
        "visits", "", "30 doubles, country and city", fields, MATRIX.features, MATRIX.network, distinct=events,
        leaves=leaves,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hierarchy(Penstock):
    """A worker with the hierarchy in place of the one model."""

    def declared(self, rig: Rig, source: str, target: str) -> dict[str, Any]:
        arms = [{"role": "active", "model": f"{rig.job.name}_leaves@production"}]
        return {**Penstock.declared(self, rig, source, target), "arms": arms}


class HierarchyRig(Rig):
    """A rig with a bundle of the hierarchy, and what its leaves say of each event."""

    def __init__(self, where: Broker, folder: Path, job: Visits) -> None:
        super().__init__(where, folder, job)
        self._paths = paths(job.leaves)
        self._leaves = [networks.perceptron([30, 64, 64, 1], seed=1 + rank) for rank in range(job.leaves)]
        bundle = Bundle.build(
            name=f"{job.name}_leaves",
            model=self.model.read_bytes(),
            features=job.features,
            partition_by=["country", "city"],
            leaves=zip(self._paths, self._leaves, strict=True),
        )
        Repository(str(folder / "models")).add(bundle, tags=["production"])

    @cached_property
    def expected(self) -> list[float]:
        """The score of each distinct event by its leaf's model, which sees no others."""
        count = distinct(self.job)
        matrix = self.job.matrix(self.job.rows(count))
        scores, leaf = np.zeros(count), ranks(count, len(self._leaves))
        for rank, model in enumerate(self._leaves):
            rows = np.flatnonzero(leaf == rank)
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            scores[rows] = session.run(None, {"x": matrix[rows]})[0][:, 0]
        return [float(score) for score in scores]


@dataclass(slots=True)
class Loaded:
    """How many models the worker had loaded in the end, by its metrics."""

    counts: list[int] = field(default_factory=list)

    def __call__(self, process: Process) -> None:
        found = re.search(r"^penstock_leaves_made_total\{.*\} (\S+)", metrics_of(process) or "", re.M)
        self.counts.append(int(float(found[1])) if found else 0)


def measured(where: Broker, options: argparse.Namespace) -> tuple[dict[str, list[Backlog]], list[int]]:
    """Return the runs of both sides, by turns, and how many models were loaded in each run of the hierarchy.

    Raises RuntimeError when outputs are not exact.
    """
    job, loaded = visits(options.leaves, options.distinct), Loaded()
    words = ("--batch-events", str(options.batch_events))
    found: dict[str, list[Backlog]] = {ONE: [], MANY: []}
    with tempfile.TemporaryDirectory(prefix="penstock-partitions-") as folder:
        rigs: dict[str, Rig] = {ONE: Rig(where, Path(folder) / "one", job)}
        rigs[MANY] = HierarchyRig(where, Path(folder) / "many", job)
        sides = {ONE: Penstock(ONE, options=words), MANY: Hierarchy(MANY, options=words)}
        for turn in range(options.runs + 1):
            for name, rig in rigs.items():
                result = rig.backlog(sides[name], options.events, at_end=loaded if name == MANY else None)
                if not result.checked.exact:
                    raise RuntimeError(f"the outputs of {name} are not exact: {result.checked}")
                if turn:  # the first turn warms the broker up
                    found[name].append(result)
                    print(f"  {name:22} {result}", flush=True)
        for rig in rigs.values():
            rig.close()
    return found, loaded.counts


def verdict(found: Mapping[str, Sequence[Backlog]], loaded: Sequence[int], leaves: int) -> tuple[bool, str]:
    """Return whether the hierarchy reaches its targets, and the last line."""
    rate = {name: statistics.median(run.rate for run in runs) for name, runs in found.items()}
    ratio, most = rate[MANY] / rate[ONE], max(run.rss for run in found[MANY]) * (1 << 20)
    good = ratio >= HALF and most <= MEMORY and min(loaded) >= leaves
    return good, (
        f"{'PASS' if good else 'FAIL'} {min(loaded):,} models of a hierarchy of {leaves:,} leaves loaded: "
        f"{ratio:.2f}x the throughput of one model (at least {HALF:g}x), {most / 1e9:.2f} GB resident (at most "
        f"{MEMORY / 1e9:g} GB)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench partitions", description=__doc__)
    parser.add_argument("--leaves", type=int, default=LEAVES)
    parser.add_argument("--events", type=int, default=1_500_000, help="of a run")
    parser.add_argument("--distinct", type=int, default=200_000, help="events, which then come again")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch-events", type=int, default=BATCH_EVENTS, help="largest batch of both sides")
    parser.add_argument("--quick", action="store_true", help="one run of 600,000 events")
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--json", type=Path, help="put what was found into this file")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.events = 1, 600_000
    if options.distinct < options.leaves:
        parser.error("--distinct: as many as --leaves at least, or some leaves have no events")
    check(options.json)
    gc.disable()  # as in `hotpath`
    with broker(options.bootstrap_servers) as where:
        found, loaded = measured(where, options)
    good, line = verdict(found, loaded, options.leaves)
    asked = {name: getattr(options, name) for name in ("leaves", "events", "distinct", "runs", "batch_events")}
    sides = {name: [{"rate": r.rate, "cpu": r.cpu, "rss": r.rss} for r in runs] for name, runs in found.items()}
    put(options.json, "partitions", {"options": asked, "sides": sides, "loaded": loaded})
    print(line)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
