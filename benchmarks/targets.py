"""What the comparison must reach, as ratios within one run, and the verdict. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.contestants import (
    BARE,
    BUSY,
    EVERYTHING,
    FAUST,
    FLOOR,
    JAVA,
    JAVA_EQUAL,
    NAIVE,
    OURS,
    OURS_EQUAL,
    PENSTOCK,
    PROTOTYPE,
    QUIX,
    RELAXED,
    ROUTED,
    STREAMS,
)
from benchmarks.results import Results, checked, contestant, median

CRAYFISH_BEST = 1_911.0  # events/s of its best engine on one core: Kafka Streams with ONNX, EDBT 2024


@dataclass(frozen=True, slots=True)
class Target:
    """ours to theirs. theirs: a contestant, or a figure of somebody else's machine."""

    job: str
    figure: str
    ours: str
    theirs: str | float
    bound: float
    sense: Literal["at least", "at most"] = "at least"

    @property
    def name(self) -> str:
        against = self.theirs if isinstance(self.theirs, str) else f"{self.theirs:,.0f}"
        return f"{self.job}: {self.figure} of {self.ours} to {against}"

    def ratio(self, results: Results) -> float | None:
        """Return the ratio of medians; None where one was not measured, or neither keeps up."""
        ours = median(results, self.job, self.ours, self.figure)
        theirs = median(results, self.job, self.theirs, self.figure) if isinstance(self.theirs, str) else self.theirs
        if ours is None or theirs is None or (math.isinf(ours) and math.isinf(theirs)):
            return None
        return math.inf if math.isinf(ours) else ours / theirs

    def met(self, ratio: float) -> bool:
        return ratio >= self.bound if self.sense == "at least" else ratio <= self.bound


def _prototype(name: str) -> list[Target]:
    late = [
        Target("matrix", f"{quantile}@{rate}", OURS, name, 1.0, "at most")
        for rate in (1_000, 10_000, 100_000, 150_000)
        for quantile in ("p95", "p99")
    ]
    return [
        Target("matrix", "rate", OURS, name, 1.05),
        Target("matrix", "cpu", OURS, name, 1.0, "at most"),
        Target("matrix", "cpu", EVERYTHING, name, 1.25, "at most"),
        Target("matrix", "cpu", ROUTED, name, 1.25, "at most"),
        *late,
    ]


TARGETS: Sequence[Target] = [
    *_prototype(PROTOTYPE),
    *_prototype(BARE),
    Target("matrix", "rate", OURS, JAVA, 1.3),
    Target("matrix", "rate", OURS_EQUAL, JAVA_EQUAL, 2.2),
    Target("matrix", "rate", OURS, STREAMS, 3.5),
    Target("matrix", "rate", OURS, QUIX, 8),
    Target("matrix", "rate", OURS, FAUST, 60),
    Target("matrix", "rate", OURS, FLOOR, 0.8),
    Target("matrix", "rate", RELAXED, OURS, 1.0),
    Target("matrix", "rate", EVERYTHING, OURS, 0.8),
    Target("matrix", "rate", ROUTED, OURS, 0.8),
    Target("matrix", "rate", BUSY, OURS, 0.4),
    Target("matrix", "p95@100000", OURS, JAVA, 1 / 8, "at most"),
    Target("matrix", "p95@100000", OURS, STREAMS, 1 / 8, "at most"),
    Target("matrix", "p95@10000", RELAXED, NAIVE, 1.0, "at most"),
    Target("matrix", "p95@100000", RELAXED, OURS, 1.0, "at most"),
    Target("matrix", "rss", OURS, 230.0, 1.0, "at most"),
    Target("image", "rate", OURS, JAVA, 2.3),
    Target("image", "rate", OURS, CRAYFISH_BEST, 20),
]


def verdict(results: Results) -> tuple[bool, list[str]]:
    """Return whether everything that was measured reached its target and ours was exact, and a line for each."""
    lines, good = [], True
    for target in TARGETS:
        ratio = target.ratio(results)
        if ratio is None:
            continue
        met = target.met(ratio)
        good = good and met
        lines.append(f"{'ok  ' if met else 'MISS'} {target.name}: {ratio:.3g}x, {target.sense} {target.bound:.3g}x")
    for job in results["jobs"]:
        for name in PENSTOCK:
            found, failed = checked(results, job, name), contestant(results, job, name).get("failed")
            if failed or found not in ("", "exact"):
                good = False
                lines.append(f"MISS {job}: {'failure' if failed else 'outputs'} of {name}: {failed or found}")
    return good and bool(lines), lines


def last_line(results: Results) -> str:
    """Return the verdict with the ratios in one line."""
    good, lines = verdict(results)
    found = [(target, target.ratio(results)) for target in TARGETS]
    ratios = ", ".join(f"{target.name} {ratio:.3g}x" for target, ratio in found if ratio is not None)
    missed = sum(line.startswith("MISS") for line in lines)
    return f"{'PASS' if good else f'FAIL ({missed} of {len(lines)})'} {ratios}"
