"""`scripts/bench soak`: the worker's memory over millions of events; the last line is the verdict.

Events are produced as fast as they are scored, on topics whose retention keeps the disk small. Resident memory after
the first tenth (caches filled) is compared with its largest value afterwards.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.hotpath import Rig, broker, group_position
from benchmarks.jobs import JOBS
from benchmarks.latency import PARTITIONS
from benchmarks.load import produce
from benchmarks.system import rss_mib, wait_until

CHUNK = 250_000
TOLERANCE = 1.05


def bounded_topic(servers: str, name: str) -> str:
    """Make a topic that keeps a hundred megabytes a partition."""
    config = {
        "retention.bytes": str(100 << 20),
        "segment.bytes": str(25 << 20),
        "message.timestamp.type": "LogAppendTime",
    }
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(name, num_partitions=PARTITIONS, replication_factor=1, config=config)])[name].result()
    return name


def reached(position: Callable[[], int], due: int) -> bool:
    return position() >= due


def soak(rig: Rig, events: int) -> list[float]:
    """Return the resident MiB after each chunk of events."""
    source, target = (bounded_topic(rig.servers, f"bench.{rig.run}.{what}") for what in ("events", "inferences"))
    position = group_position(rig.servers, f"penstock.{target.replace('.inferences', '')}", source)
    measured = []
    with rig.worker(source, target) as process:
        for done in range(0, events, CHUNK):
            produce(rig.servers, rig.job.name, source, CHUNK, 0)
            due = done + CHUNK
            wait_until(partial(reached, position, due), 120, "a chunk of events", process)
            measured.append(rss_mib(process.pid))
            if len(measured) % 4 == 0:
                print(f"  {done + CHUNK:10,} events: {measured[-1]:.1f} MiB", flush=True)
    AdminClient({"bootstrap.servers": rig.servers}).delete_topics([source, target])
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench soak", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--job", default="mixed", choices=list(JOBS))
    parser.add_argument("--bootstrap-servers")
    options = parser.parse_args()
    began = time.monotonic()
    with broker(options) as servers, tempfile.TemporaryDirectory(prefix="penstock-soak-") as folder:
        measured = soak(Rig(servers, Path(folder), JOBS[options.job]), options.events)
    first = measured[max(0, len(measured) // 10 - 1)]
    ratio = max(measured[len(measured) // 10 :]) / first
    good = ratio <= TOLERANCE
    print(
        f"{'PASS' if good else 'FAIL'} memory over {options.events:,} events in {time.monotonic() - began:.0f} s: "
        f"{first:.0f} MiB after the first tenth, largest later {ratio:.3f}x"
    )
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
