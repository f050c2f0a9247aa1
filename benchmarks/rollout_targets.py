"""What swaps and shadows must keep to, judged from what `scripts/bench rollout` puts into its JSON file. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.findings import WRONG

Told = Mapping[str, Any]

P99_RATIO = 1.5  # of the p99 without swaps, at most
EFFECTIVE_MS = 500.0  # from the start of `penstock rollback`, at most
LATE_BATCHES = 1  # a log tells milliseconds: one that began in the same one as the command came looks late
P95_CHANGE = 1.05  # of the active path's p95 without a shadow: less


@dataclass(frozen=True, slots=True)
class Judged:
    """One target: of what, its bound, what was reached, and whether that is good."""

    name: str
    bound: str
    reached: str
    good: bool

    def __str__(self) -> str:
        return f"{'' if self.good else 'MISSED: '}{self.name} {self.reached} ({self.bound})"


def wrong(swaps: Told) -> dict[str, int]:
    """Return what of a run's events was lost, duplicated or scored by another version than was told, with how often."""
    checked, turns = swaps["checked"], [*swaps["steady"], *swaps["swapping"]]
    found = {name: checked[name] for name in WRONG if checked[name]}
    seen = {f"{name} for a reader": sum(turn[name] for turn in turns) for name in ("lost", "repeated")}
    found |= {name: count for name, count in seen.items() if count}
    return found if checked["ok"] or found else {"not ok": 1}


def p99(turns: Sequence[Told]) -> float:
    """Return the median of the turns' p99 in ms."""
    return float(statistics.median(turn["latency"]["p99"] for turn in turns))


def of_swaps(swaps: Told) -> Iterator[Judged]:
    """Yield what became of each target of the swaps."""
    found, ratio = wrong(swaps), p99(swaps["swapping"]) / p99(swaps["steady"])
    events = f"{swaps['checked']['events']:,} events, {swaps['swaps']} swaps and {swaps['kills']} kills"
    told = ", ".join(f"{name} {count:,}" for name, count in found.items()) or "none"
    yield Judged(f"lost, duplicated or wrong of {events}", "none", told, not found)
    yield Judged("p99 during swaps to that without", f"at most {P99_RATIO:g}x", f"{ratio:.2f}x", ratio <= P99_RATIO)
    if rolled := swaps["rolled"]:
        times, late = [each["command"] for each in rolled], max(each["batches"] for each in rolled)
        bound = f"at most {EFFECTIVE_MS:.0f} ms"
        yield Judged("rollback effective after the command", bound, f"{spread(times)} ms", max(times) <= EFFECTIVE_MS)
        yield Judged("batches begun after it came", f"at most {LATE_BATCHES}", str(late), late <= LATE_BATCHES)


def of_shadow(shadow: Told) -> Iterator[Judged]:
    """Yield what became of the target of each state of a shadow."""
    for name, ratio in shadow["ratios"].items():
        text = f"p95 beside a shadow that {name} to that without one"
        yield Judged(text, f"below {P95_CHANGE:g}x", f"{ratio:.3f}x", ratio < P95_CHANGE)


def line(judged: Sequence[Judged]) -> tuple[bool, str]:
    """Return whether all targets were reached, and the last line."""
    missed = sum(not each.good for each in judged)
    head = f"FAIL ({missed} of {len(judged)})" if missed else "PASS"
    return not missed, f"{head} {'; '.join(map(str, judged))}"


def spread(values: Sequence[float]) -> str:
    """Return the median and the most of some figures."""
    return f"{statistics.median(values):.0f}, at most {max(values):.0f}"
