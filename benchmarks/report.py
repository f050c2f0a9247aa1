"""`scripts/bench report RESULTS.json`: what a comparison found, as a page of the documentation with its plots.

Everything comes from the JSON file that `scripts/bench compare --json` wrote, so the same file gives the same bytes. A
figure that was not measured is an empty cell.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.compare import KEEPS_UP, LARGE_RATES, RATES, UNMEASURED
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
    PROTOTYPE,
    QUIX,
    RELAXED,
    STREAMS,
)
from benchmarks.jobs import JOBS
from benchmarks.results import Results, checked, contestant, median
from benchmarks.targets import CRAYFISH_BEST, TARGETS, Target
from penstock.bench.measure import SAMPLE

Cells = Sequence[str]
Drawing = Callable[[], bytes]

PENSTOCK = (OURS, RELAXED, EVERYTHING, BUSY)
LATE = "does not keep up"
RELAXED_STREAMS = "Kafka Streams, at least once"
PROMISES = {
    OURS: "exactly once",
    RELAXED: "at least once",
    EVERYTHING: "exactly once",
    BUSY: "exactly once",
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
LABELS = {"memory_gib": "memory, GiB"}
REASON = 200  # characters of a failure

INTRODUCTION = """\
# Benchmarks

Penstock beside its alternatives, in one run on one machine. Written by `scripts/bench report` from what
`scripts/bench compare` found; not to be edited by hand.

Of the [targets](#targets): {summary}
"""
HOW = """\
## How it was measured

One system at a time, on the same broker, model and events. Everybody has a turn before anybody has the next; the first
turn, which warms the broker up, does not count. Each figure is the median of {runs}. The settings of all are in
`benchmarks/contestants.py`, the versions of the others' packages in `benchmarks/peers/` and
`benchmarks/java/jars.toml`. Nothing is asked of the system that is measured:

- **Events/s**: over a backlog, from the log-append times that Kafka stamps on the outputs, between the first and the
  last tenth of them.
- **CPU us/event**: user and system time in that part, of the process with its children; beside it the broker's.
  **RSS MiB**: resident memory of the process with its children at the end of that part.
- **Outputs**: all are counted. An event's number is its key, so what was lost, repeated or reordered within a partition
  is known; the scores of {sample:,} are compared with the model's. The worst run is told; `exact`: nothing was wrong in
  any.
- **Latency**: at an offered rate, for {seconds} without the first one: from the log-append of an event to the moment
  when a reader with `isolation.level=read_committed` has its inference. `{late}`: in half of the runs or
  more, some were not there after twice the time and 10 s. `not tried`: less than {keeps_up:.0f} % of
  the rate over the backlog.
- An empty cell is a figure that was not measured. MLServer reads only what comes after its start, so it has none of a
  backlog.
"""
CRAYFISH_SAID = """\
### Beside what Crayfish published

Crayfish (EDBT 2024; its notebook `aggregates-final.ipynb` at ba37ad1) measured this path from Kafka to Kafka: JSON of
28 x 28, a perceptron of 28,000 parameters, one event at a time, parallelism 1. At parallelism 16 and 32 its Kafka
Streams reached 22,349/s and 23,008/s. Its machine was another one: the last column says what the same kind of engine,
written anew, does on this one.
"""


def table(head: Cells, rows: Sequence[Cells], right: int = 0) -> list[str]:
    """Return the lines of a Markdown table. right: how many columns after the first hold numbers."""
    rules = ["---:" if 0 < at <= right else "---" for at in range(len(head))]
    return [f"| {' | '.join(head)} |", f"|{'|'.join(rules)}|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def number(value: float | None, unit: str = "") -> str:
    """Return three digits that count; nothing for what was not measured."""
    if value is None or math.isnan(value):
        return ""
    if math.isinf(value):
        return LATE
    return (f"{value:,.0f}" if value >= 100 else f"{value:.3g}") + unit


def plain(text: str) -> str:
    """Return the first line of a text from elsewhere as Markdown, without paths and addresses of one machine."""
    line = text.strip().partition("\n")[0].strip().rstrip(":").replace("`", "'")
    line = re.sub(r"https?://\S+", "an address", line)
    line = re.sub(r"(?<![\w.])/(?:[\w.@+-]+/)*([\w.@+-]+)/?", r"\1", line)
    short = line if len(line) <= REASON else f"{line[:REASON].rstrip()} ..."
    return re.sub(r"([\\|*_\[\]<>])", r"\\\1", short)


def names_of(results: Results, job: str) -> list[str]:
    """Return who took part, in descending order of throughput; who has none comes last."""
    names = list(results["jobs"][job]["contestants"])
    return sorted(names, key=lambda name: -(median(results, job, name, "rate") or 0.0))


def rates_of(results: Results, job: str) -> list[str]:
    """Return the rates that were offered, in ascending order."""
    found = {rate for known in results["jobs"][job]["contestants"].values() for rate in known.get("latency", {})}
    return sorted(found, key=int)


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
    return found


def section(results: Results, job: str) -> Iterator[str]:
    """Yield what is to be said of a job."""
    drawn, rates = drawings(results), rates_of(results, job)
    yield f"## Job {JOBS[job].letter}: {JOBS[job].about}"
    yield ""
    yield f"A backlog of {results['jobs'][job]['events']:,} events, of which slower systems take a share."
    yield ""
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
    return rows


def summary(rows: Sequence[Cells]) -> str:
    met, missed = (sum(row[-1] == word for row in rows) for word in ("met", "**MISSED**"))
    return f"{met} met, {missed} missed, {len(rows) - met - missed} not measured or not judged."


def machine_rows(results: Results) -> Iterator[Cells]:
    for key, value in results.get("machine", {}).items():
        if isinstance(value, Mapping):
            yield from ([plain(name), plain(str(version))] for name, version in value.items())
        else:
            yield [LABELS.get(key, plain(key)), plain(str(value))]


def command(results: Results) -> str:
    """Return the command that measures the same again."""
    options: Mapping[str, Any] = results.get("options", {})
    words = ["scripts/bench compare"]
    if set(results["jobs"]) != set(JOBS):
        words.append(f"--jobs {' '.join(results['jobs'])}")
    words += [f"--{key} {options[key]:g}" for key in ("runs", "scale", "seconds") if key in options]
    rates = {job: [int(rate) for rate in rates_of(results, job)] for job in results["jobs"]}
    if odd := next((found for job, found in rates.items() if found not in ([], usual(job))), None):
        words.append(f"--rates {' '.join(map(str, odd))}")
    if options.get("only"):
        words.append("--only " + " ".join(f"'{word}'" for word in options["only"]))
    if any(contestant(results, job, PROTOTYPE) for job in results["jobs"]):
        words.append("--prototype prototype.py")
    return " ".join([*words, "--json results.json"])


def usual(job: str) -> list[int]:
    return LARGE_RATES if job == "large" else RATES


def how(results: Results) -> Iterator[str]:
    """Yield how the figures came about."""
    options: Mapping[str, Any] = results.get("options", {})
    runs = f"{options['runs']} runs" if "runs" in options else "the runs"
    seconds = f"{options['seconds']:g} s" if "seconds" in options else "some seconds"
    yield HOW.format(runs=runs, seconds=seconds, sample=SAMPLE, late=LATE, keeps_up=KEEPS_UP * 100)
    yield from table(["measured on", "with"], list(machine_rows(results)))
    yield "To measure again, and write this page again:"
    yield from ("", "```bash", command(results), "scripts/bench report results.json", "```", "")


def page(results: Results) -> str:
    """Return the whole page."""
    rows = target_rows(results)
    told = [INTRODUCTION.format(summary=summary(rows)), *how(results)]
    for job in results["jobs"]:
        told += section(results, job)
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
    parser.add_argument("results", type=Path, help="what `compare --json` wrote")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="the folder to write benchmarks.md into")
    options = parser.parse_args()
    for path in write(json.loads(options.results.read_text(encoding="utf-8")), options.docs):
        print(path)


if __name__ == "__main__":
    main()
