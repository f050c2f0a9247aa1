"""`scripts/bench join`: what the join of samples and labels costs, beside the same join event by event with dicts.

Both fold the same records in processes of their own, in interleaved rounds: events of keys of their own, each with a
label, in the order of their times, so that all of them wait for their labels at once. CPU is told for an event with its
label, memory for an event with its label that waits. Then both fold records of SMALL rows, as small batches at low
latency make them: CPU is told for a record. The ratios compare what one machine did in one run. The last line is the
verdict.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

from benchmarks.records import check, put
from models.samples import ASSIGNED, LabelCopies, Maker, Samples
from monitoring.folds import Folding, Record
from monitoring.join_state import Joining
from monitoring.joining import JoinFold

MOST_US, MOST_BYTES = 5.0, 200.0  # an event with its label
MOST_RECORD_US = 200.0  # a record of SMALL rows
SMALL = 2
STEP = 10  # ms between two records: 100 are of one moment of monitoring.holding, where they are small
WAYS = ("columns", "dicts")
START = 1_700_000_000_000


def records_of(events: int, rows: int) -> Iterator[bytes]:
    """Yield records of predictions, then those of their labels; an hour of record time each."""
    draw, step = random.Random(1), 3_600_000 / events
    times = [START + int(at * step) for at in range(events)]
    for first in range(0, events, rows):
        chosen = range(first, min(first + rows, events))
        yield Samples(
            Maker("d", 1, "events", "active", "active", 1.0, ASSIGNED, "late", "v1"),
            np.zeros(len(chosen), np.int64),
            np.array(chosen, np.int64),
            np.array(times[chosen.start : chosen.stop], np.int64),
            [b"flight-%d" % at for at in chosen],
            {"score": pl.Series("score", [draw.random() for _ in chosen])},
            {"origin": pl.Series("origin", [draw.choice(("EWR", "JFK", "LGA")) for _ in chosen])},
        ).encode()
    for first in range(0, events, rows):
        chosen = range(first, min(first + rows, events))
        yield LabelCopies(
            "d",
            "labels",
            0,
            first or -1,
            chosen.stop,
            times[chosen.stop - 1] + 3_600_000,
            np.array(chosen, np.int64),
            np.array(times[chosen.start : chosen.stop], np.int64) + 3_600_000,
            [b"flight-%d" % at for at in chosen],
            pl.Series("late", [draw.random() < 0.3 for _ in chosen]),
            {"revenue": pl.Series("revenue", [draw.random() for _ in chosen])},
        ).encode()


def measured(way: str, events: int, rows: int) -> dict[str, float]:
    """Return CPU us and bytes an event with its label, CPU us a record and ms of the longest, of one way of joining."""
    joining = Joining("d", "quality", 3 * 86_400, None, "auto", "boolean", ("revenue",), labels=1)
    log = list(records_of(events, rows))
    _fold_all(Folding(_fold(way, joining), 0, 0), list(records_of(4 * rows, rows)))  # loads what is loaded once
    folding: Folding[Any] = Folding(_fold(way, joining), 0, 0)
    gc.collect()
    before, begin = psutil.Process().memory_info().rss, time.process_time()
    longest = _fold_all(folding, log)
    cpu = time.process_time() - begin
    gc.collect()
    counts = folding.fold.facts(folding.state)
    if counts.get("pairs") != events:
        raise RuntimeError(f"{events:,} events were joined as {counts}")
    size = psutil.Process().memory_info().rss - before
    record = cpu / len(log) * 1e6
    return {"cpu": cpu / events * 1e6, "bytes": size / events, "record": record, "longest_ms": longest * 1000}


def _fold_all(folding: Folding[Any], log: Sequence[bytes]) -> float:
    """Fold a log; return the seconds of the longest record."""
    longest = 0.0
    for offset, value in enumerate(log):
        started = time.perf_counter()
        folding.apply(Record(0, offset, None, value, START + 10**9 + STEP * offset))
        longest = max(longest, time.perf_counter() - started)
    folding.apply(Record(0, len(log), None, b""))  # ends what is held
    return longest


def _fold(way: str, joining: Joining) -> Any:
    if way == "columns":
        return JoinFold(joining)
    from tests.monitoring.dict_joining import DictFold

    return DictFold(joining)


def _alone(way: str, events: int, rows: int) -> dict[str, float]:
    """Measure in a process of its own, whose memory nobody has used before."""
    command = [sys.executable, "-m", "benchmarks.joining", "--way", way, "--events", str(events), "--rows", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def verdict(found: dict[str, dict[str, float]], small: dict[str, dict[str, float]]) -> str:
    """Return the last line."""
    (ours, dicts), (few, few_dicts) = ([each[way] for way in WAYS] for each in (found, small))
    good = ours["cpu"] <= MOST_US and ours["bytes"] <= MOST_BYTES and few["record"] <= MOST_RECORD_US
    return (
        f"join: {ours['cpu']:.1f} us and {ours['bytes']:.0f} bytes an event with its label, of {MOST_US:g} us and "
        f"{MOST_BYTES:g} bytes; {dicts['cpu'] / ours['cpu']:.1f} times less CPU and "
        f"{dicts['bytes'] / ours['bytes']:.1f} times less memory than with dicts; {few['record']:.0f} us a record of "
        f"{SMALL} rows, of {MOST_RECORD_US:g} us, with dicts {few_dicts['record']:.0f}: {'good' if good else 'MISSED'}"
    )


def _medians(events: int, rows: int, rounds: int) -> dict[str, dict[str, float]]:
    """Measure both ways in turns; return the median of each figure, by way."""
    told = [{way: _alone(way, events, rows) for way in WAYS} for _ in range(rounds)]
    return {way: {what: statistics.median(each[way][what] for each in told) for what in told[0][way]} for way in WAYS}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench join", description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--rows", type=int, default=2500, help="in a record: a batch of 10,000 over 4 partitions")
    parser.add_argument("--small", type=int, default=20_000, help=f"events in records of {SMALL} rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="measure one way once, in this process")
    parser.add_argument("--json", type=Path, help="put what was found into this file")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measured(options.way, options.events, options.rows)))
        return
    check(options.json)
    found = _medians(options.events, options.rows, options.rounds)
    small = _medians(options.small, SMALL, options.rounds)
    for rows, ways in ((options.rows, found), (SMALL, small)):
        for way, told in ways.items():
            print(
                f"  {rows:5} rows {way:8} {told['cpu']:6.2f} us, {told['bytes']:6.0f} bytes an event, "
                f"{told['record']:6.0f} us a record, longest {told['longest_ms']:.0f} ms"
            )
    asked = {"events": options.events, "rows": options.rows, "small": options.small}
    put(options.json, "join", {"options": asked, "ways": found, "small": small})
    print(verdict(found, small))


if __name__ == "__main__":
    main()
