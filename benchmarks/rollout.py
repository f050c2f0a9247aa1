"""`scripts/bench rollout`: what swaps of a model's version under load cost, and what a shadow does to the active path.

swaps: job A at a steady rate, in turns with and without swaps between two versions (changes of control by the product's
own code, in a process of its own); then `penstock rollback` again and again; then `kill -9` of the slot between, at and
after swaps; then `penstock verify` of every inference. Latency is from the log-append of an event to the moment when a
read_committed reader has its inference. A rollback is effective when the first inference by the version before is
appended, of the last partition.

shadow: the p95 of the active path beside a shadow that is well, is killed again and again, hangs, leaks memory or is
100 times slower, and without any, by turns. The shadow has one core for itself, all others are the active path's, the
broker's and the load's: on two cores these three share one.

The last line is the verdict; exit status 1 when a target is missed. It changes control, so it starts its own broker.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import shadows, swaps
from benchmarks.jobs import MATRIX
from benchmarks.records import check, put
from benchmarks.rig import Broker, Rig
from benchmarks.rollout_targets import Judged, Told, line, of_shadow, of_swaps, spread
from benchmarks.stand import Stand
from penstock.embedded import EmbeddedKafka

PARTS = ("swaps", "shadow")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="scripts/bench rollout", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["swaps"])
    parser.add_argument("--rate", type=int, default=50_000, help="events/s of the swaps; less where that is too much")
    parser.add_argument("--turns", type=int, default=5, help="of each kind, interleaved")
    parser.add_argument("--swaps", type=int, default=100, help="in all turns with swaps together")
    parser.add_argument("--every", type=float, default=0.75, help="seconds between swaps")
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--rollbacks", type=int, default=10)
    parser.add_argument("--shadow-rate", type=int, default=10_000, help="events/s beside a shadow")
    parser.add_argument("--shadow-seconds", type=float, default=8.0, help="of a turn beside a shadow")
    parser.add_argument("--quick", action="store_true", help="two turns, 20 swaps, 2 kills, 3 rollbacks")
    parser.add_argument("--json", type=Path, help="put what was found into this file; `report` reads it")
    options = parser.parse_args()
    if options.quick:
        options.turns, options.swaps, options.kills, options.rollbacks, options.shadow_seconds = 2, 20, 2, 3, 4.0
    if options.swaps % options.turns:
        parser.error("--swaps: a multiple of --turns, so that all turns are alike")
    if "shadow" in options.parts and (not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2):
        parser.error("--parts shadow needs Linux and two cores: the shadow has one for itself")
    check(options.json)
    gc.disable()  # as in `hotpath`
    good, text = line([each for part in options.parts for each in _part(part, options)])
    print(text)
    raise SystemExit(0 if good else 1)


def _part(name: str, options: argparse.Namespace) -> list[Judged]:
    """Measure a part on a broker of its own, put what was found into the file, and judge it."""
    with (
        EmbeddedKafka(heap_mb=1024) as kafka,
        tempfile.TemporaryDirectory(prefix="penstock-rollout-") as folder,
    ):
        rig = Rig(Broker(kafka.bootstrap_servers, kafka.pid), Path(folder), MATRIX)
        found = _swaps(rig, options) if name == "swaps" else _shadow(rig, options)
    put(options.json, name, found, within="rollout")
    return list(of_swaps(found) if name == "swaps" else of_shadow(found))


def _swaps(rig: Rig, options: argparse.Namespace) -> Told:
    names = ("rate", "turns", "swaps", "every", "kills", "rollbacks")
    asked = {name: getattr(options, name) for name in names}
    found = swaps.measured(Stand(rig), swaps.Asked(**asked))
    print(f"  a change took {spread([seconds * 1000 for seconds in found.taken])} ms; {found.rate:,.0f} events/s")
    return {"options": asked, **found.told()}


def _shadow(rig: Rig, options: argparse.Namespace) -> Told:
    rate, seconds, turns = options.shadow_rate, options.shadow_seconds, options.turns
    found = shadows.measured(rig, rate, seconds, turns)
    asked: dict[str, Any] = {"shadow-rate": rate, "shadow-seconds": seconds, "turns": turns}
    return {"options": asked, "p95": found, "ratios": shadows.ratios(found)}


if __name__ == "__main__":
    main()
