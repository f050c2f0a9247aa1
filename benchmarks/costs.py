"""`scripts/bench costs`: what each part of a worker costs that scoring does without.

One process runs the worker's own loop on real events from memory, with everything on and with one part left out, in
interleaved rounds. A part costs the difference of the medians of CPU time. What Kafka's client does is not in it:
fetching, compressing and sending, on threads of its own; lineage and profiles are bytes there. Nothing is judged here:
`scripts/bench compare` has the whole worker, and what everything may cost. The last line is what can be left out.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.jobs import JOBS
from benchmarks.records import check, put

NOTCH = 1.57  # of the quartiles' distance, over the root of the number of rounds: 95 % of a median's errors (McGill)
WATCHED = [name for name, job in JOBS.items() if job.framing != "json"]  # those whose features can be profiled

Told = dict[str, Any]  # {"everything": us, "bytes": n, "noise": us, "parts": {name: {"cpu": us, "bytes": n}}}, an event


def told(found: Mapping[str, Sequence[float]], sizes: Mapping[str, float]) -> Told:
    """Return what each part costs. found: CPU us an event of each round; sizes: bytes an event.

    Both with everything, and without each part.
    """
    middle = {name: statistics.median(rounds) for name, rounds in found.items()}
    whole, size = middle.pop("everything"), sizes["everything"]
    parts = {name: {"cpu": whole - without, "bytes": size - sizes[name]} for name, without in middle.items()}
    return {"everything": whole, "bytes": size, "noise": by_chance(found["everything"]), "parts": parts}


def by_chance(rounds: Sequence[float]) -> float:
    """Return what two medians of so many such rounds differ by at most, 19 times in 20."""
    low, _, high = statistics.quantiles(rounds, n=4)
    return math.sqrt(2) * NOTCH * (high - low) / math.sqrt(len(rounds))


def share(costs: Told) -> float:
    """Return the share of everything that can be left out; what seems to cost less than nothing costs nothing."""
    total: float = sum(max(0.0, part["cpu"]) for part in costs["parts"].values())
    return total / float(costs["everything"])


def lines(costs: Told) -> list[str]:
    """Return a line for everything, for each part and for what differs by chance."""
    whole = costs["everything"]
    rows = {"everything": {"cpu": whole, "bytes": costs["bytes"]}, **costs["parts"]}
    said = [
        f"{n:16} {r['cpu']:z7.3f} us/event {r['cpu'] / whole:z6.1%} {r['bytes']:6.1f} bytes" for n, r in rows.items()
    ]
    return [*said, f"{'by chance':13} +- {costs['noise']:7.3f} us/event {costs['noise'] / whole:6.1%}"]


def summary(found: Mapping[str, Told]) -> str:
    """Return the last line."""
    return "what can be left out, " + ", ".join(f"{job}: {share(costs):.1%} of all" for job, costs in found.items())


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench costs", description=__doc__)
    parser.add_argument("--jobs", nargs="+", default=["matrix", "mixed"], choices=WATCHED)
    parser.add_argument("--rounds", type=int, default=60, help="of everything and without each part, interleaved")
    parser.add_argument("--batches", type=int, default=5, help="of 10,000 events, in each round")
    parser.add_argument("--json", type=Path, help="put what was found into this file; `report` reads it")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2, or nobody knows what differs by chance")
    check(options.json)
    os.environ["POLARS_MAX_THREADS"] = "1"  # as a worker has it; polars reads it when it is imported
    from benchmarks.parts import measure

    found: dict[str, Told] = {}
    for name in options.jobs:
        found[name] = told(*measure(JOBS[name], options.rounds, options.batches))
        print("\n".join(f"  {name} {line}" for line in lines(found[name])), flush=True)
    asked = {"jobs": options.jobs, "rounds": options.rounds, "batches": options.batches}
    put(options.json, "costs", {"options": asked, "jobs": found})
    print(summary(found))


if __name__ == "__main__":
    main()
