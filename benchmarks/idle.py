"""`scripts/bench idle`: what a deployment without events costs worker and broker; the last line is the verdict.

The broker's cost is the difference between its CPU with the idle worker and without it, in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.contestants import OURS, Penstock
from benchmarks.jobs import MATRIX
from benchmarks.rig import Broker, Rig
from penstock.bench.system import cpu_seconds
from penstock.embedded import EmbeddedKafka

WORKER_SHARE, BROKER_SHARE = 0.01, 0.02


def share(pid: int, seconds: float) -> float:
    """Return the share of a core that a process uses over some seconds."""
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / seconds


def measure(kafka: EmbeddedKafka, rig: Rig, seconds: float) -> tuple[float, float]:
    """Return the shares of a core of an idle worker, and of the broker on top of what it uses without one."""
    source, target = rig.source(1_000), rig.topics.make("inferences")
    alone = share(kafka.pid, seconds)
    with Penstock(OURS).start(rig, source, target) as process:
        time.sleep(8)  # it has scored them, and its caches and threads are at rest
        process.check()
        before, began = cpu_seconds(kafka.pid), time.monotonic()
        worker = share(process.pid, seconds)
        beside = (cpu_seconds(kafka.pid) - before) / (time.monotonic() - began)
    rig.topics.forget(target)
    return worker, beside - alone


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench idle", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    workers, brokers = [], []
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory(prefix="penstock-idle-") as folder:
        rig = Rig(Broker(kafka.bootstrap_servers, kafka.pid), Path(folder), MATRIX)
        time.sleep(10)  # the broker's start is over
        for _ in range(options.runs):
            worker, broker = measure(kafka, rig, options.seconds)
            print(f"  worker {worker:.2%} of a core, broker {broker:.2%}", flush=True)
            workers.append(worker)
            brokers.append(broker)
    worker, broker = statistics.median(workers), statistics.median(brokers)
    good = worker <= WORKER_SHARE and broker <= BROKER_SHARE
    print(f"{'PASS' if good else 'FAIL'} idle deployment: worker {worker:.2%} of a core, broker {broker:.2%}")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
