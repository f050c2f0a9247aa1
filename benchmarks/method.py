"""How the figures of a report came about: what was done, on which machine, and the commands that do it again. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.compare import KEEPS_UP, LARGE_RATES, RATES
from benchmarks.contestants import PROTOTYPE
from benchmarks.jobs import JOBS
from benchmarks.results import Results, contestant
from benchmarks.tables import LATE, Cells, plain, table
from penstock.bench.measure import SAMPLE

LABELS = {"memory_gib": "memory, GiB"}
OTHERS = ("growth", "costs", "budget", "start")  # the commands beside `compare`, by the name of their parts
HOW = """\
One system at a time, on the same broker, model and events. Everybody has a turn before anybody has the next. A fresh
broker takes three times the CPU for a transaction, so the fastest systems warm it up, and the first turn does not
count. Each figure is the median of {runs}. The settings of all are in `benchmarks/contestants.py`, the versions of the
others' packages in `benchmarks/peers/` and `benchmarks/java/jars.toml`. The profile of what misses its target is in
[What bounds a slot](architecture.md#what-bounds-a-slot). Nothing is asked of the system that is measured:

- **Everything on**: with profiles of every feature; metrics and lineage are always on. **With a canary**: also with
  samples of a tenth of the keys, and a second version that scores a tenth of the events. **Beside a shadow**: besides,
  a third one scores all of them in a process of its own on the same cores, whose CPU and memory are counted, too.
- **Events/s**: over a backlog, from the log-append times that Kafka stamps on the outputs, in the middle of them:
  after the longest wait between 10 % and 30 % until after that between 70 % and 90 %, so that batches of any size are
  counted whole.
- **CPU us/event**: user and system time in that part, of the process with its children; beside it the broker's.
  **RSS MiB**: resident memory of the process with its children at the end of that part.
- **Outputs**: all are counted. An event's number is its key, so what was lost, repeated or reordered within a partition
  is known; the scores of {sample:,} are compared with the model's. The worst run is told; `exact`: nothing was wrong in
  any.
- **Latency**: at an offered rate, for {seconds} without the first one: from the log-append of an event to the moment
  when a reader with `isolation.level=read_committed` has its inference. `{late}`: in half of the runs or
  more, some were not there after four times the time and 30 s. `not tried`: less than {keeps_up:.0f} % of
  the rate over the backlog.
- An empty cell is a figure that was not measured. MLServer reads only what comes after its start, so it has none of a
  backlog.
"""


def rates_of(results: Results, job: str) -> list[str]:
    """Return the rates that were offered, in ascending order."""
    found = {rate for known in results["jobs"][job]["contestants"].values() for rate in known.get("latency", {})}
    return sorted(found, key=int)


def machine_rows(results: Results) -> Iterator[Cells]:
    for key, value in results.get("machine", {}).items():
        if isinstance(value, Mapping):
            yield from ([plain(name), plain(str(version))] for name, version in value.items())
        else:
            yield [LABELS.get(key, plain(key)), plain(str(value))]


def words_of(options: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command line; one that was not given is left out."""
    words = []
    for key, value in options.items():
        if value is not None:
            each = value if isinstance(value, list) else [value]
            words.append(" ".join([f"--{key}", *(f"{one:g}" if isinstance(one, float) else str(one) for one in each)]))
    return words


def usual(job: str) -> list[int]:
    return LARGE_RATES if job == "large" else RATES


def _compared(results: Results, job: str, rates: list[int]) -> tuple[str, ...]:
    """Return the words of the command that compares a job so, without its name."""
    options: Mapping[str, Any] = results["jobs"][job].get("options", {})
    words = words_of({key: options.get(key) for key in ("runs", "scale", "seconds")})
    words += words_of({"rates": rates if rates not in ([], usual(job)) else None})
    if options.get("only"):
        words.append("--only " + " ".join(f"'{word}'" for word in options["only"]))
    if contestant(results, job, PROTOTYPE):
        words.append("--prototype prototype.py")
    return tuple(words)


def commands(results: Results) -> list[str]:
    """Return the commands that measure the same again: one for all jobs that were compared alike."""
    offered = {job: [int(rate) for rate in rates_of(results, job)] for job in results["jobs"]}
    asked: dict[tuple[str, ...], list[str]] = {}
    for job, rates in offered.items():
        asked.setdefault(_compared(results, job, rates), []).append(job)
    found = []
    for words, jobs in asked.items():
        named = [] if set(jobs) == set(JOBS) else words_of({"jobs": jobs})
        found.append(["scripts/bench compare", *named, *words])
    found += [
        [f"scripts/bench {name}", *words_of(results[name].get("options", {}))] for name in OTHERS if name in results
    ]
    found += [
        ["scripts/bench rollout", f"--parts {part}", *words_of(told.get("options", {}))]
        for part, told in results.get("rollout", {}).items()
    ]
    return [" ".join([*words, "--json results.json"]) for words in found]


def span(results: Results, option: str) -> str:
    """Return an option's value, or the least and the most where jobs were compared with several."""
    options = [known.get("options", {}) for known in results["jobs"].values()]
    values = sorted({float(each[option]) for each in options if option in each})
    return " to ".join(dict.fromkeys(f"{value:g}" for value in (values[:1] + values[-1:])))


def how(results: Results) -> Iterator[str]:
    """Yield how the figures came about."""
    yield from ("## How it was measured", "")
    if results["jobs"]:
        runs, seconds = span(results, "runs"), span(results, "seconds")
        yield HOW.format(
            runs=f"{runs} runs" if runs else "the runs",
            seconds=f"{seconds} s" if seconds else "some seconds",
            sample=SAMPLE,
            late=LATE,
            keeps_up=KEEPS_UP * 100,
        )
    yield from table(["measured on", "with"], list(machine_rows(results)))
    yield "To measure again, and write this page again:"
    yield from ("", "```bash", *commands(results), "scripts/bench report results.json", "```", "")
