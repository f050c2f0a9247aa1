"""`scripts/bench start`: from a worker's command to its first inference, and how long `penstock --help` takes.

An event waits when the command is given; the inference counts when a read_committed reader has it. On a broker with
group.initial.rebalance.delay.ms=0, as the embedded one. The last line is the verdict; exit status 1 when it misses.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.contestants import OURS, Penstock
from benchmarks.jobs import JOBS
from benchmarks.records import check, put
from benchmarks.rig import PARTITIONS, Rig, broker
from penstock.bench.latency import Reader
from penstock.bench.system import wait_until

FIRST_SECONDS, HELP_SECONDS = 2.0, 0.3


def first_inference(rig: Rig) -> float:
    """Return the seconds from the command of a worker to its first inference."""
    source, target = rig.source(1_000), rig.topics.make("inferences")
    with Reader(rig.kafka, target, PARTITIONS) as reader:
        began = time.perf_counter()
        with Penstock(OURS).start(rig, source, target) as process:
            wait_until(lambda: len(reader), 60, "a first inference", process)
            took = time.perf_counter() - began
    rig.topics.forget(target)
    return took


def help_seconds() -> float:
    """Return the seconds of `penstock --help`."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "penstock.cli", "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench start", description=__doc__)
    parser.add_argument("--job", default="matrix", choices=list(JOBS))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bootstrap-servers")
    parser.add_argument("--json", type=Path, help="put what was found into this file; `report` reads it")
    options = parser.parse_args()
    check(options.json)
    with broker(options.bootstrap_servers) as where, tempfile.TemporaryDirectory(prefix="penstock-start-") as folder:
        rig = Rig(where, Path(folder), JOBS[options.job])
        found = [first_inference(rig) for _ in range(options.runs + 1)][1:]  # the first one fills the page cache
        rig.close()
    helps = [help_seconds() for _ in range(options.runs + 1)][1:]
    print(f"  first inference: {', '.join(f'{took:.2f}' for took in found)} s")
    print(f"  penstock --help: {', '.join(f'{took:.2f}' for took in helps)} s")
    asked = {"job": options.job, "runs": options.runs}
    put(options.json, "start", {"options": asked, "first_inference": found, "help": helps})
    first, shown = statistics.median(found), statistics.median(helps)
    good = first <= FIRST_SECONDS and shown <= HELP_SECONDS
    print(f"{'PASS' if good else 'FAIL'} first inference after {first:.2f} s, --help in {shown:.2f} s")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
