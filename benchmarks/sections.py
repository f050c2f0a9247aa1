"""The sections of a report beside the comparison: what each part costs, how cost grows, budgets and the start. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks import costs
from benchmarks.jobs import JOBS
from benchmarks.parts import PARTS
from benchmarks.plots import Panel
from benchmarks.rollout_page import tell_rollout
from benchmarks.start import FIRST_SECONDS, HELP_SECONDS
from benchmarks.tables import Cells, number, plain, table

Part = Mapping[str, Any]
Points = Sequence[Sequence[float]]  # [number, CPU us an event, events/s, resident MiB]

GROWTH_PLOT = "growth.svg"
GROWS = {
    "events": "events",
    "partitions": "partitions",
    "features": "features",
    "model": "bytes of the model",
    "deployments": "deployments",
}
RATE_TOO = ("features", "model")  # curves that change what an event is: their rate is drawn as well
COSTS_SAID = """\
## What each part costs

CPU time of the worker's own loop, on events from memory. A part costs what the loop saves without it: the difference
of medians over interleaved rounds. What Kafka's client does on its own threads, which is to fetch, compress and send,
is not in it: there a part costs its bytes, told before compression. `by chance`: how far the
medians of the same thing lie apart, 19 times in 20; a smaller cost is none that was seen.
"""
GROWTH_SAID = f"""\
## How cost grows

One thing grows, and the rest stays as in job A. Of several deployments, a process each, the rate is that of all
together and the memory that of one, where what they share counts in parts.

![CPU an event, and events/s, as one thing grows](benchmarks/{GROWTH_PLOT})
"""
BUDGET_SAID = """\
## A latency budget

`latency_ms` beside fixed settings, at the same offered rates: p95 from the log-append of an event to the moment when a
reader with `isolation.level=read_committed` has its inference, and the CPU time of worker and broker together.
"""


def tell_costs(part: Part) -> Iterator[str]:
    """Yield what each part costs, a column of figures for each job."""
    yield COSTS_SAID
    found: Mapping[str, costs.Told] = part["jobs"]
    head, rows = ["part"], {"everything": ["everything"]}
    about = {each.name: each.about for each in PARTS}
    for job, told in found.items():
        head += [f"{JOBS[job].letter}: {word}" for word in ("us/event", "of everything", "bytes/event")]
        everything = {"cpu": told["everything"], "bytes": told["bytes"]}
        for name, cost in {"everything": everything, **told["parts"]}.items():
            rows.setdefault(name, [name]).extend(_cost(cost["cpu"], told, f"{cost['bytes']:.0f}"))
    chance = ["by chance, +-", *(cell for told in found.values() for cell in _cost(told["noise"], told, ""))]
    cells: list[Cells] = [[*row, about.get(name, "")] for name, row in rows.items()]
    yield from table([*head, "what it is for"], [*cells, [*chance, ""]], right=len(head) - 1)
    shares = {JOBS[job].letter: costs.share(told) for job, told in found.items()}
    sums = ", ".join(f"{share:.0%} in job {letter}" for letter, share in shares.items())
    yield from (f"All of them together, of everything: {sums}.", "")


def _cost(cpu: float, told: costs.Told, size: str) -> Cells:
    return [f"{cpu:z.2f}", f"{cpu / told['everything']:z.0%}", size]


def _curves(part: Part) -> dict[str, Points]:
    return {name: points for name, points in part.items() if name in GROWS and points}


def panels(part: Part) -> list[Panel]:
    """Return what is to be drawn of the growth."""
    found: list[Panel] = []
    for name, points in _curves(part).items():
        figures = [(1, "CPU us/event"), *([(2, "events/s")] if name in RATE_TOO else [])]
        for at, measured in figures:
            line = [(float(point[0]), float(point[at])) for point in points if math.isfinite(point[at])]
            if line:
                found.append((GROWS[name], measured, line))
    return found


def tell_growth(part: Part) -> Iterator[str]:
    """Yield a table of each curve."""
    if not panels(part):
        return
    yield GROWTH_SAID
    for name, points in _curves(part).items():
        rows = [[f"{int(point[0]):,}", *map(number, point[1:4])] for point in points]
        yield from table([GROWS[name], "CPU us/event", "events/s", "MiB"], rows, right=3)


def tell_budget(part: Part) -> Iterator[str]:
    """Yield a row for each setting at each rate."""
    yield BUDGET_SAID
    rows: list[Cells] = [
        [JOBS[job].letter, f"{int(rate):,}/s", plain(setting), number(told["p95"]), number(told["cpu"])]
        for job, rates in part["jobs"].items()
        for rate, settings in rates.items()
        for setting, told in settings.items()
    ]
    yield from table(["job", "offered", "setting", "p95, ms", "CPU us/event"], rows, right=4)


def tell_start(part: Part) -> Iterator[str]:
    """Yield how long a worker takes to its first inference, and the command's help."""
    yield from ("## Start", "")
    told = (
        ("a worker's first inference", "first_inference", FIRST_SECONDS),
        ("`penstock --help`", "help", HELP_SECONDS),
    )
    rows = [
        [name, *(f"{figure:.2f}" for figure in (statistics.median(part[key]), max(part[key]), bound))]
        for name, key, bound in told
        if part.get(key)
    ]
    yield from table(["seconds from the command to", "median", "longest", "at most, of the median"], rows, right=3)


SECTIONS: Mapping[str, Callable[[Part], Iterator[str]]] = {
    "costs": tell_costs,
    "growth": tell_growth,
    "budget": tell_budget,
    "start": tell_start,
    "rollout": tell_rollout,
}
