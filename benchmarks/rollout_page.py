"""What swaps and shadows cost, as a section of the report and rows of its targets. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping

from benchmarks.rollout_targets import Judged, Told, of_shadow, of_swaps, p99, spread
from benchmarks.tables import Cells, number, table

SAID = """\
## What a swap costs

Job A at {rate:,.0f} events/s into one slot, in {turns} turns without swaps and as many with a swap each {every:g} s,
interleaved; then rollbacks, then kills of the slot's process at, in and after swaps; then `penstock verify` of all of
it. Latency is from the log-append of an event to the moment when a read_committed reader has its inference; a rollback
is effective when each partition has an inference by the version before.
"""
SHADOW_SAID = """\
p95 of the active path at {rate:,} events/s, beside a shadow that has one core for itself: the active worker, the
broker and the load have the others.
"""
JUDGES: Mapping[str, Callable[[Told], Iterator[Judged]]] = {"swaps": of_swaps, "shadow": of_shadow}


def tell_rollout(part: Told) -> Iterator[str]:
    """Yield what was found of swaps and of shadows, as far as they were measured."""
    yield from _tell_swaps(part["swaps"]) if "swaps" in part else ("## Beside a shadow", "")
    if "shadow" in part:
        yield from _tell_shadow(part["shadow"])


def _tell_swaps(swaps: Told) -> Iterator[str]:
    options, rolled = swaps["options"], swaps["rolled"]
    yield SAID.format(rate=swaps["rate"], turns=options["turns"], every=options["every"])
    steady, swapping = p99(swaps["steady"]), p99(swaps["swapping"])
    rows: list[Cells] = [
        ["p99 without swaps, with swaps", f"{number(steady)}, {number(swapping)}"],
        ["a change, from its begin to its commit", spread([seconds * 1000 for seconds in swaps["taken"]])],
    ]
    since = {
        "command": "its command",
        "record": "its record in the control topic",
        "arrival": "its arrival at the slot",
    }
    rows += [
        [f"a rollback, from {words} on", spread([each[name] for each in rolled])]
        for name, words in since.items()
        if rolled
    ]
    yield from table(["ms", "median"], rows, right=1)


def _tell_shadow(shadow: Told) -> Iterator[str]:
    yield SHADOW_SAID.format(rate=shadow["options"]["shadow-rate"])
    rows: list[Cells] = [
        [f"that {name}", number(statistics.median(values)), number(shadow["ratios"].get(name), "x")]
        for name, values in shadow["p95"].items()
    ]
    yield from table(["a shadow", "p95, ms", "to none"], rows, right=2)


def target_rows(part: Told) -> list[Cells]:
    """Return a row for each target."""
    judged = [each for name, judge in JUDGES.items() if name in part for each in judge(part[name])]
    return [
        [f"A: {each.name}", "", "", each.bound, each.reached, "met" if each.good else "**MISSED**"] for each in judged
    ]
