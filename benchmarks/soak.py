"""`scripts/bench soak`: the worker's memory over millions of events; the last line is the verdict.

Events are produced as fast as they are scored, on topics whose retention keeps the disk small; with --behind all of
them wait when the worker starts. Resident memory is sampled ten times a second; the median of the second tenth (caches
filled) is compared with that of every later tenth, with --behind those of the first half with those of the second.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.contestants import OURS, Penstock
from benchmarks.jobs import JOBS, group_of
from benchmarks.load import events_of
from benchmarks.rig import PARTITIONS, Rig, broker
from penstock.bench.load import Task, produce
from penstock.bench.system import rss_mib, wait_until
from penstock.bench.topics import group_position

CHUNK = 100_000
TOLERANCE = 1.05
BOUNDED = {"retention.bytes": str(100 << 20), "segment.bytes": str(25 << 20)}  # of each partition


def soak(rig: Rig, events: int, behind: bool) -> list[float]:
    """Return the median resident MiB of each tenth of the events."""
    source, target = rig.topics.make("events", {} if behind else BOUNDED), rig.topics.make("inferences", BOUNDED)
    values = events_of(rig.job)
    if behind:
        produce(rig.kafka, values, Task(source, PARTITIONS, 0, events))
    medians: list[float] = []
    samples: list[float] = []
    with (
        group_position(rig.kafka, group_of(target), source, PARTITIONS) as position,
        Penstock(OURS).start(rig, source, target) as process,
    ):

        def through(due: int) -> bool:
            samples.append(rss_mib(process.pid))
            return position() >= due

        for tenth in range(10):
            samples.clear()
            for done in range(tenth * events // 10, (tenth + 1) * events // 10, CHUNK):
                count = min(CHUNK, (tenth + 1) * events // 10 - done)
                if not behind:
                    produce(rig.kafka, values, Task(source, PARTITIONS, done, count))
                wait_until(partial(through, done + count), 120, "a chunk of events", process)
            medians.append(statistics.median(samples))
            print(f"  {(tenth + 1) * events // 10:10,} events: {medians[-1]:.1f} MiB", flush=True)
    rig.topics.forget(source, target)
    return medians


def growth(medians: Sequence[float], behind: bool) -> tuple[float, float]:
    """Return the base in MiB and the largest later median to it.

    The queues of a worker that is behind are full all the time, and how full they are decides what it holds: there it
    is the second half that must not exceed the first.
    """
    base, later = (max(medians[:5]), medians[5:]) if behind else (medians[1], medians[2:])
    return base, max(later) / base


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench soak", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--behind", action="store_true", help="let all events wait before the worker starts")
    parser.add_argument("--job", default="mixed", choices=list(JOBS))
    parser.add_argument("--bootstrap-servers")
    options = parser.parse_args()
    began = time.monotonic()
    with broker(options.bootstrap_servers) as where, tempfile.TemporaryDirectory(prefix="penstock-soak-") as folder:
        medians = soak(Rig(where, Path(folder), JOBS[options.job]), options.events, options.behind)
    base, ratio = growth(medians, options.behind)
    good = ratio <= TOLERANCE
    against = "the largest median of the first half" if options.behind else "the second tenth"
    print(
        f"{'PASS' if good else 'FAIL'} memory over {options.events:,} events in {time.monotonic() - began:.0f} s: "
        f"at most {max(medians):.0f} MiB; {base:.0f} MiB in {against}, largest median later {ratio:.3f}x"
    )
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
