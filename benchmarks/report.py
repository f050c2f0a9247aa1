"""`scripts/bench report RESULTS.json`: what was measured on a machine, as a page of the documentation, with plots.

Everything comes from the JSON file that `scripts/bench compare --json` and others filled, so the same file gives the
same bytes. A figure that was not measured is an empty cell, and a command that was not run has no section.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks import plots, rollout_page, sections
from benchmarks.compare import KEEPS_UP, UNMEASURED
from benchmarks.contestants import (
    BARE,
    BUSY,
    EVERYTHING,
    FAUST,
    FLOOR,
    JAVA,
    JAVA_EQUAL,
    MLSERVER,
    NAIVE,
    OURS,
    OURS_EQUAL,
    PENSTOCK,
    PROTOTYPE,
    QUIX,
    RELAXED,
    ROUTED,
    SHADOWED,
    STREAMS,
)
from benchmarks.jobs import JOBS
from benchmarks.method import how, rates_of
from benchmarks.results import Results, checked, contestant, median
from benchmarks.tables import LATE, Cells, number, plain, table
from benchmarks.targets import CRAYFISH_BEST, TARGETS, Target

Drawing = Callable[[], bytes]

RELAXED_STREAMS = "Kafka Streams, at least once"
PROMISES = {
    OURS: "exactly once",
    RELAXED: "at least once",
    EVERYTHING: "exactly once",
    ROUTED: "exactly once",
    SHADOWED: "exactly once",
    BUSY: "exactly once",
    OURS_EQUAL: "exactly once",
    FLOOR: "exactly once, scores nothing",
    BARE: "exactly once, handles no error",
    PROTOTYPE: "exactly once, handles no error",
    JAVA: "exactly once",
    JAVA_EQUAL: "exactly once",
    STREAMS: "exactly once",
    RELAXED_STREAMS: "at least once",
    "micro-batched loop, exactly once": "exactly once",
    NAIVE: "at least once",
    "Bytewax": "at least once, always from the beginning",
    "Pathway": "none without its persistence",
    QUIX: "exactly once",
    "Quix, at least once": "at least once",
    FAUST: "at least once",
    "Faust, 500 at a time": "at least once",
    MLSERVER: "none: it commits nothing",
}
# Engine, events/s as published (least and most), and who is the same engine here.
CRAYFISH: Sequence[tuple[str, float, float, Cells]] = [
    ("Kafka Streams with ONNX", 1_619, CRAYFISH_BEST, (STREAMS, RELAXED_STREAMS)),
    ("Flink with ONNX", 1_029, 1_087, ()),
    ("Spark with ONNX", 259, 259, ()),
    ("Ray with ONNX", 119, 119, ()),
]

INTRODUCTION = """\
# Benchmarks

Penstock beside its alternatives, and what it costs, on one machine. Written by `scripts/bench report` from what the
[commands below](#how-it-was-measured) found; not to be edited by hand.

Of the [targets](#targets): {summary}
"""
CRAYFISH_SAID = """\
### Beside what Crayfish published

Crayfish (EDBT 2024; its notebook `aggregates-final.ipynb` at ba37ad1) measured this path from Kafka to Kafka: JSON of
28 x 28, a perceptron of 28,000 parameters, one event at a time, parallelism 1. At parallelism 16 and 32 its Kafka
Streams reached 22,349/s and 23,008/s. Its machine was another one: the last column says what the same kind of engine,
written anew, does on this one.
"""


def names_of(results: Results, job: str) -> list[str]:
    """Return who took part, in descending order of throughput; who has none comes last."""
    names = list(results["jobs"][job]["contestants"])
    return sorted(names, key=lambda name: -(median(results, job, name, "rate") or 0.0))


def throughput_rows(results: Results, job: str) -> list[Cells]:
    """Return a row for everybody but for who failed before it was measured."""
    ours = median(results, job, OURS, "rate")
    rows: list[Cells] = []
    for name in names_of(results, job):
        known = contestant(results, job, name)
        if "failed" in known and not known.get("backlog") and not known.get("latency"):
            continue
        rate = median(results, job, name, "rate")
        ratio = rate / ours if rate is not None and ours else None
        costs = [number(median(results, job, name, figure)) for figure in ("cpu", "broker_cpu", "rss")]
        shown = f"**{name}**" if name in PENSTOCK else name
        rows.append(
            [shown, number(rate), number(ratio, "x"), *costs, checked(results, job, name), PROMISES.get(name, "")]
        )
    return rows


def latency_cell(results: Results, job: str, name: str, rate: str) -> str:
    """Return p50 / p95 / p99 at a rate, or why there are none."""
    runs = contestant(results, job, name).get("latency", {}).get(rate, [])
    if not runs:
        return ""
    capacity = median(results, job, name, "rate") or 0.0
    tried = capacity >= KEEPS_UP * int(rate) or int(rate) in UNMEASURED.get(name, ())
    late = sum(math.isinf(run["p95"]) for run in runs)
    if not tried and all(run.get("arrived", 1.0) == 0 for run in runs):
        return "not tried"
    figures = [median(results, job, name, f"{quantile}@{rate}") for quantile in ("p50", "p95", "p99")]
    if any(figure is not None and math.isinf(figure) for figure in figures):
        return LATE
    return " / ".join(map(number, figures)) + (f" ({late} of {len(runs)} runs fell behind)" if late else "")


def latency_rows(results: Results, job: str) -> list[Cells]:
    rates = rates_of(results, job)
    names = [name for name in names_of(results, job) if contestant(results, job, name).get("latency")]
    return [
        [f"**{name}**" if name in PENSTOCK else name, *(latency_cell(results, job, name, rate) for rate in rates)]
        for name in names
    ]


def failures(results: Results, job: str) -> list[str]:
    """Return a line for everybody who failed."""
    known = results["jobs"][job]["contestants"]
    found = [f"- {name}: {plain(told['failed'])}" for name, told in known.items() if "failed" in told]
    return ["Failed, and was out from then on:", "", *found, ""] if found else []


def crayfish(results: Results) -> Iterator[str]:
    """Yield what others published for the same job, beside what was found here."""
    yield CRAYFISH_SAID
    ours, rows = median(results, "image", OURS, "rate"), []
    for engine, least, most, same in CRAYFISH:
        published = f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
        here = [(name, median(results, "image", name, "rate")) for name in same]
        told = "; ".join(f"{number(rate)} ({name})" for name, rate in here if rate is not None)
        rows.append([engine, published, number(ours / most if ours else None, "x"), told])
    yield from table(["engine", "published, events/s", "Penstock here, to it", "here, events/s"], rows, right=2)


def bars(results: Results, job: str) -> list[tuple[str, float]]:
    found = [(name, median(results, job, name, "rate")) for name in names_of(results, job)]
    return [(name, rate) for name, rate in found if rate is not None]


def lines(results: Results, job: str) -> dict[str, plots.Line]:
    """Return (rate, p95) of everybody for the rates at which they keep up."""
    found: dict[str, plots.Line] = {}
    for name in names_of(results, job):
        late = [(float(rate), median(results, job, name, f"p95@{rate}")) for rate in rates_of(results, job)]
        points = [(rate, ms) for rate, ms in late if ms is not None and math.isfinite(ms)]
        if points:
            found[name] = points
    return found


def drawings(results: Results) -> dict[str, Drawing]:
    """Return what is to be drawn, by file name."""
    found: dict[str, Drawing] = {}
    for job in results["jobs"]:
        if rates := bars(results, job):
            found[f"throughput-{job}.svg"] = partial(plots.throughput, rates, PENSTOCK)
    if "matrix" in results["jobs"] and (late := lines(results, "matrix")):
        dashed = [name for name in late if not PROMISES.get(name, "").startswith("exactly once")]
        found["latency-matrix.svg"] = partial(plots.latency, late, dashed)
    if panels := sections.panels(results.get("growth", {})):
        found[sections.GROWTH_PLOT] = partial(plots.growth, panels)
    return found


def section(results: Results, job: str) -> Iterator[str]:
    """Yield what is to be said of a job."""
    drawn, rates = drawings(results), rates_of(results, job)
    yield f"## Job {JOBS[job].letter}: {JOBS[job].about}"
    yield ""
    known = results["jobs"][job]
    runs = f"; {known['options']['runs']} runs" if "runs" in known.get("options", {}) else ""
    yield from (f"A backlog of {known['events']:,} events, of which slower systems take a share{runs}.", "")
    if (file := f"throughput-{job}.svg") in drawn:
        yield from (f"![Events/s over a backlog, job {JOBS[job].letter}](benchmarks/{file})", "")
    head = ["system", "events/s", "to ours", "CPU us/event", "broker's", "RSS MiB", "outputs", "promise"]
    yield from table(head, throughput_rows(results, job), right=5)
    if rates:
        yield from ("p50 / p95 / p99 in ms at an offered rate:", "")
        if (file := f"latency-{job}.svg") in drawn:
            yield f"![p95 over the offered rate, job {JOBS[job].letter}](benchmarks/{file})"
            yield from (
                "",
                "A line ends where its system does not keep up; dashed lines promise less than exactly once.",
                "",
            )
        yield from table(["system", *(f"{int(rate):,}/s" for rate in rates)], latency_rows(results, job), len(rates))
    yield from failures(results, job)
    if job == "image":
        yield from crayfish(results)


def target_name(target: Target) -> Cells:
    """Return which figure of whom is set against whose."""
    figure, _, rate = target.figure.partition("@")
    words = {"rate": "events/s", "cpu": "CPU us/event", "rss": "RSS"}.get(figure, f"{figure} at {int(rate or 0):,}/s")
    against = target.theirs
    if not isinstance(against, str):
        against = f"{against:,.0f} MiB" if figure == "rss" else f"{against:,.0f}/s, Crayfish's best"
    return [f"{JOBS[target.job].letter}: {words}", target.ours, against]


def target_row(results: Results, target: Target) -> Cells:
    ratio = target.ratio(results)
    bound = f"{target.sense} {number(target.bound, 'x')}"
    if ratio is None:
        both = [median(results, target.job, name, target.figure) for name in (target.ours, str(target.theirs))]
        found = ["neither keeps up", "not judged"] if None not in both else ["", "not measured"]
    else:
        reached = "the other does not keep up" if ratio == 0 else number(ratio, "x")
        found = [reached, "met" if target.met(ratio) else "**MISSED**"]
    return [*target_name(target), bound, *found]


def target_rows(results: Results) -> list[Cells]:
    """Return a row for each target, and one for the outputs of each Penstock in each job."""
    rows = [
        target_row(results, target)
        for target in TARGETS
        if target.theirs != PROTOTYPE or contestant(results, target.job, PROTOTYPE)
    ]
    for job in results["jobs"]:
        for name in PENSTOCK:
            if found := checked(results, job, name):
                verdict = "met" if found == "exact" else "**MISSED**"
                rows.append([f"{JOBS[job].letter}: outputs", name, "", "exact", found, verdict])
    return rows + rollout_page.target_rows(results.get("rollout", {}))


def summary(rows: Sequence[Cells]) -> str:
    met, missed = (sum(row[-1] == word for row in rows) for word in ("met", "**MISSED**"))
    return f"{met} met, {missed} missed, {len(rows) - met - missed} not measured or not judged."


def page(results: Results) -> str:
    """Return the whole page."""
    rows = target_rows(results)
    told = [INTRODUCTION.format(summary=summary(rows)), *how(results)]
    for job in results["jobs"]:
        told += section(results, job)
    for name, tell in sections.SECTIONS.items():
        if name in results:
            told += tell(results[name])
    told += ["## Targets", "", f"Ratios of medians within this run. {summary(rows)}", ""]
    if not any(contestant(results, job, PROTOTYPE) for job in results["jobs"]):
        told += ["The prototype took no part; its targets are left out.", ""]
    told += table(["target", "of", "to", "bound", "reached", ""], rows)
    return "\n".join(told)


def write(results: Results, docs: Path) -> list[Path]:
    """Write the page and its plots, and return their paths."""
    folder = docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    written = [docs / "benchmarks.md"]
    written[0].write_text(page(results), encoding="utf-8")
    for name, draw in drawings(results).items():
        (folder / name).write_bytes(draw())
        written.append(folder / name)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench report", description=__doc__)
    parser.add_argument("results", type=Path, help="what `compare --json` and others wrote")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="the folder to write benchmarks.md into")
    options = parser.parse_args()
    for path in write(json.loads(options.results.read_text(encoding="utf-8")), options.docs):
        print(path)


if __name__ == "__main__":
    main()
