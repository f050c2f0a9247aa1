"""`scripts/bench compare`: Penstock beside every alternative, on the same topics, model and events, in one run.

Who takes part, and with which settings, is in benchmarks/contestants.py. Turns are interleaved. The first one does not
count, and before it the fastest warm the broker up: a fresh one takes three times the CPU for a transaction. The last
line is the verdict with the ratios; exit status 1 when one misses.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contestants import BUSY, FLOOR, JAVA, JAVA_EQUAL, MLSERVER, OURS, OURS_EQUAL, everybody, prototype
from benchmarks.jobs import JOBS
from benchmarks.records import check, put
from benchmarks.results import median
from benchmarks.rig import Backlog, Broker, Contestant, Rig, broker
from benchmarks.targets import last_line, verdict
from penstock.bench.latency import overrun
from schemas.errors import Explained

EVENTS = {"matrix": 1_000_000, "mixed": 600_000, "image": 120_000, "trees": 300_000, "large": 40_000}
UNCOUNTED = {"large": 0.2}  # share of them for what is not counted: it tells how fast everybody is
BACKLOG_SECONDS = 8.0  # of work is enough of a backlog
RATES = [1_000, 10_000, 50_000, 100_000, 150_000]
LARGE_RATES = [100, 1_000]  # of the job whose batches take 20 ms
WARM_UPS = 3  # of each of these; the broker's compiler goes on to better its code for some millions of events
WARMING = (OURS, JAVA, JAVA_EQUAL)
KEEPS_UP = 0.9  # of a rate over the backlog, for a rate to be worth trying
BACKLOG_ONLY = (FLOOR, BUSY, OURS_EQUAL)
UNMEASURED = {MLSERVER: (1_000, 10_000)}  # it reads only what comes after its start: no backlog, but these rates

Results = dict[str, Any]


class Comparison:
    """One job: its rig, who takes part, and what was found so far."""

    def __init__(self, rig: Rig, contestants: list[Contestant], options: argparse.Namespace) -> None:
        self.rig, self.options = rig, options
        self._left = [each for each in contestants if rig.job.name in each.jobs]
        self.events = int(EVENTS[rig.job.name] * options.scale)
        self._rates: dict[str, float] = {}  # of each contestant, as last seen over a backlog
        self.found: Results = {
            "events": self.events,
            "contestants": {each.name: {"backlog": [], "latency": {}} for each in self._left},
        }

    def run(self) -> Iterator[int]:
        """Measure in turns; yields how many of them `found` holds."""
        for each in [each for each in self._left if each.name in WARMING] * WARM_UPS:
            with suppress(RuntimeError, OSError, Explained):  # said when it is measured
                self._run(each)
        rates = sorted(self.options.rates or (LARGE_RATES if self.rig.job.name == "large" else RATES))
        self._turn(partial(self._backlog, False))
        for turn in range(1, self.options.runs + 1):
            self._turn(partial(self._backlog, True))
            self._turn(partial(self._latency, rates))
            yield turn

    def _turn(self, measured: Callable[[Contestant], None]) -> None:
        """Give everybody a turn; who fails is out, and it is said why."""
        for each in list(self._left):
            try:
                measured(each)
            except (RuntimeError, OSError, Explained) as error:
                self._left.remove(each)
                self.found["contestants"][each.name]["failed"] = str(error)
                print(f"  {each.name:34} OUT: {error}", flush=True)

    def _backlog(self, counts: bool, each: Contestant) -> None:
        if each.name in UNMEASURED:
            return
        found = self._run(each)
        print(f"  {each.name:34} {found}{'' if counts else '  (not counted)'}", flush=True)
        if counts:
            self.found["contestants"][each.name]["backlog"].append(_entry(found))

    def _run(self, each: Contestant) -> Backlog:
        """Let it score its share of the backlog, and not for longer than tells something new."""
        most = self.events * each.share
        rate = self._rates.get(each.name)
        known = most * UNCOUNTED.get(self.rig.job.name, 1.0) if rate is None else rate * BACKLOG_SECONDS
        found = self.rig.backlog(each, max(2_000, int(min(most, known))))
        if not math.isnan(found.rate):
            self._rates[each.name] = found.rate
        return found

    def _latency(self, rates: list[int], each: Contestant) -> None:
        if each.name in BACKLOG_ONLY:
            return
        capacity = median({"jobs": {self.rig.job.name: self.found}}, self.rig.job.name, each.name, "rate") or 0.0
        tried = [rate for rate in rates if capacity >= KEEPS_UP * rate or rate in UNMEASURED.get(each.name, ())]
        found = dict(zip(tried, self.rig.at_rates(each, tried, self.options.seconds), strict=True)) if tried else {}
        for rate in rates:
            latency = found.get(rate, overrun(0.0))
            print(f"  {each.name:34} at {rate:7,}/s: {latency if rate in found else 'not tried'}", flush=True)
            entry = dataclasses.asdict(latency)
            self.found["contestants"][each.name]["latency"].setdefault(str(rate), []).append(entry)


def _entry(found: Backlog) -> dict[str, Any]:
    return dataclasses.asdict(found) | {"checked": str(found.checked)}


def compare(where: Broker, options: argparse.Namespace) -> Results:
    """Run every job and return what was found; what is known is put into the JSON file after each turn."""
    contestants = [*everybody(), *([prototype(options.prototype)] if options.prototype else [])]
    if options.only:
        contestants = [each for each in contestants if each.name == OURS or _named(each.name, options.only)]
    said = {key: value for key, value in vars(options).items() if key in ("seconds", "scale", "only")}
    results: Results = {"jobs": {}}
    for name in options.jobs:
        job = JOBS[name]
        print(f"job {job.letter}, {name}: {job.about}", flush=True)
        with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
            rig = Rig(where, Path(folder), job)
            try:
                comparison = Comparison(rig, contestants, options)
                for turn in comparison.run():
                    results["jobs"][name] = {"options": said | {"runs": turn}, **comparison.found}
                    put(options.json, name, results["jobs"][name], within="jobs")
            finally:
                rig.close()
    return results


def _named(name: str, only: list[str]) -> bool:
    return any(word.lower() in name.lower() for word in only)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench compare", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="job A, two runs of a quarter of the events, one rate")
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each, interleaved")
    parser.add_argument("--scale", type=float, default=1.0, help="of the events of each backlog")
    parser.add_argument("--rates", type=int, nargs="*", help="events/s for the latency")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each latency run")
    parser.add_argument("--only", nargs="+", help="contestants whose names contain one of these, beside Penstock")
    parser.add_argument("--prototype", type=Path, help="a program BOOTSTRAP IN OUT GROUP MODEL that takes part, too")
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--json", type=Path, help="put what was found into this file, job by job; `report` reads it")
    options = parser.parse_args()
    if options.quick:
        options.jobs, options.runs, options.scale, options.rates = ["matrix"], 2, 0.25, [10_000]
    check(options.json)
    gc.disable()  # a full collection visits every record that the reader holds: up to 0.1 s that nobody else causes
    with broker(options.bootstrap_servers) as where:
        results = compare(where, options)
    good, lines = verdict(results)
    print("\n".join(lines))
    print(last_line(results))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
