"""`scripts/bench drift`: how soon the e-detector finds changes, and whether it keeps its budget of false alarms.

Columns are watched at a budget of one false alarm a week and column at 100,000 events/s, in ticks of 100 events, so
that delays can be told in events. Each seed has a reference of its own. Then the budget is made so small that alarms
without a change are many enough to be counted. Detectors that fire always, never or every so often, and river's ADWIN
on each value, take the same tests and must fail them. The last line is the verdict; exit status 1 when it misses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
from river.drift import ADWIN

from benchmarks.records import check, put
from models.binning import Numbers
from models.reference import Reference
from monitoring.edetector import EDetector
from monitoring.tilts import Tilts, tilts_of

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

TICK = 100  # events
WEEK = 7 * 24 * 3600 * 100_000 // TICK  # ticks
BEFORE, AFTER = 50, 300  # ticks before a change, and after it
SPREAD = 1.6  # times the target that nine of ten delays may take
MISSES = 0.01
MISSING = 0.01  # share of events without a value
BUMP = 0.9  # distance of two bumps from the mean of both, in standard deviations
BUDGETS = (1_000, 10_000)  # ticks


@dataclass(frozen=True, slots=True)
class Story:
    """A change of a standard normal column. target: events until half of the seeds have found it, at most."""

    change: Callable[[Floats, np.random.Generator], Floats]
    target: int
    missing: float = MISSING


def _bumps(x: Floats, rng: np.random.Generator) -> Floats:
    """Return two bumps with the mean and the variance of x."""
    return np.asarray(np.where(rng.random(x.shape) < 0.5, BUMP, -BUMP) + np.sqrt(1 - BUMP**2) * x)


STORIES = {
    "mean +0.1 sd": Story(lambda x, _: x + 0.1, 6_000),
    "mean +0.25 sd": Story(lambda x, _: x + 0.25, 1_000),
    "spread x1.2": Story(lambda x, _: x * 1.2, 1_000),
    "missing 1 to 2 %": Story(lambda x, _: x, 10_500, 0.02),
    "two bumps, same mean and variance": Story(_bumps, 1_300),
    "1 % of values x100": Story(lambda x, rng: np.where(rng.random(x.shape) < 0.01, x * 100, x), 1_400),
}


class Watcher(Protocol):
    """Some columns under watch."""

    def step(self, counts: Counts, values: Floats) -> Flags:
        """Take a tick, counts (columns, bins) and values (columns, events); return which columns alarm."""


Maker = Callable[[Sequence[Tilts], float], Watcher]  # of columns and a budget in ticks


class Evidence:
    """The e-detector. An alarm begins the column's evidence again."""

    def __init__(self, columns: Sequence[Tilts], budget: float) -> None:
        self._detector, self._budget = EDetector(columns), budget

    def step(self, counts: Counts, values: Floats) -> Flags:
        found = np.asarray(self._detector.update(counts) >= self._budget)
        for column in np.flatnonzero(found).tolist():
            self._detector.restart(column)
        return found


class Every:
    """Fires in every so many ticks, whatever happens; 0: never."""

    def __init__(self, ticks: int) -> None:
        self._ticks, self._tick = ticks, 0

    def step(self, counts: Counts, values: Floats) -> Flags:
        self._tick += 1
        return np.full(len(counts), bool(self._ticks) and self._tick % self._ticks == 0)


class Adwin:
    """river's ADWIN with its defaults, on each value."""

    def __init__(self, columns: int) -> None:
        make: Any = ADWIN  # it has no types
        self._detectors = [make() for _ in range(columns)]

    def step(self, counts: Counts, values: Floats) -> Flags:
        return np.array([self._fires(*each) for each in zip(self._detectors, values.tolist(), strict=True)])

    def _fires(self, detector: Any, values: Sequence[float]) -> bool:
        fired = False
        for value in values:
            if value == value:
                detector.update(value)
                fired |= detector.drift_detected
        return fired


MAKERS: dict[str, Maker] = {
    "e-detector": Evidence,
    "ADWIN": lambda columns, _: Adwin(len(columns)),
    "always": lambda *_: Every(1),
    "never": lambda *_: Every(0),
    "periodic": lambda *_: Every(40),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A reference of its own: its edges and its tilts."""

    edges: Floats
    tilts: Tilts

    @classmethod
    def drawn(cls, rows: int, seed: int) -> Column:
        rng = np.random.default_rng(seed)
        values = pl.Series("x", draw(rng, 1, rows)[0]).fill_nan(None)
        reference = Reference.from_frame(values.to_frame())
        bins = reference.features[0]
        assert isinstance(bins, Numbers)
        return cls(np.array(bins.edges), tilts_of(bins, reference.tally.cells))

    def count(self, values: Floats) -> Counts:
        """Return how many values lie in each bin; NaN is missing."""
        places = np.where(np.isnan(values), len(self.edges) + 1, np.searchsorted(self.edges, values, side="right"))
        return np.bincount(places, minlength=len(self.edges) + 2)


def draw(rng: np.random.Generator, columns: int, rows: int, story: Story | None = None) -> Floats:
    """Return values, shape (columns, rows), NaN where one is missing."""
    values = rng.normal(size=(columns, rows))
    if story is not None:
        values = story.change(values, rng)
    values[rng.random(values.shape) < (MISSING if story is None else story.missing)] = np.nan
    return values


@dataclass(frozen=True, slots=True)
class Delays:
    """In events, of the seeds that found the change; and the shares of seeds that missed it, or alarmed before it."""

    median: float
    high: float  # nine of ten took no longer
    missed: float
    early: float

    def good(self, target: int) -> bool:
        return self.median <= target and self.high <= SPREAD * target and self.missed <= MISSES and self.early <= MISSES

    def __str__(self) -> str:
        return f"{self.median:7,.0f} / {self.high:7,.0f} events, missed {self.missed:.0%}, too early {self.early:.0%}"


def delays(maker: Maker, columns: Sequence[Column], story: Story, seed: int) -> Delays:
    """Return how soon each column's watcher finds a story."""
    rng, watcher = np.random.default_rng(seed), maker([column.tilts for column in columns], WEEK)
    first = np.full(len(columns), AFTER + 1)
    for tick in range(-BEFORE, AFTER):
        values = draw(rng, len(columns), TICK, story if tick >= 0 else None)
        fired = watcher.step(_counted(columns, values), values)
        first = np.where(fired & (first > AFTER), tick + 1, first)
    found = first[(first > 0) & (first <= AFTER)] * TICK
    median, high = np.quantile(found, (0.5, 0.9)) if len(found) else (np.inf, np.inf)
    return Delays(float(median), float(high), float((first > AFTER).mean()), float((first <= 0).mean()))


def false_alarms(maker: Maker, columns: Sequence[Column], budget: int, ticks: int, seed: int) -> float:
    """Return alarms without a change as a share of what the budget allows in so many ticks."""
    rng, watcher = np.random.default_rng(seed), maker([column.tilts for column in columns], budget)
    alarms = 0
    for _ in range(ticks):
        values = draw(rng, len(columns), TICK)
        alarms += int(watcher.step(_counted(columns, values), values).sum())
    return alarms / (ticks * len(columns) / budget)


def _counted(columns: Sequence[Column], values: Floats) -> Counts:
    widest = max(len(column.tilts.shares) for column in columns)
    counts = np.zeros((len(columns), widest), np.int64)
    for at, column in enumerate(columns):
        own = column.count(values[at])
        counts[at, : len(own)] = own
    return counts


@dataclass(frozen=True, slots=True)
class Found:
    """What one detector did: its delays by story, and its false alarms by budget."""

    delays: dict[str, Delays]
    alarms: dict[int, float]

    def problems(self) -> list[str]:
        """Return what it misses."""
        late = [name for name, found in self.delays.items() if not found.good(STORIES[name].target)]
        loud = [f"budget of {budget:,} ticks" for budget, share in self.alarms.items() if share > 1]
        return late + loud


def verdict(found: dict[str, Found]) -> tuple[bool, str]:
    """Return whether the e-detector misses nothing and each of the others something, and the sentence that says so."""
    ours, weak = found["e-detector"].problems(), [name for name, each in found.items() if not each.problems()]
    weak = [name for name in weak if name != "e-detector"]
    text = f"the e-detector misses {', '.join(ours) or 'nothing'}"
    text += f"; the tests do not show that {', '.join(weak)} is worse" if weak else "; each of the others fails"
    return not ours and not weak, f"{'FAIL' if ours or weak else 'PASS'} {text}"


def measured(maker: Maker, columns: Sequence[Column], ticks: int) -> Found:
    """Return what a detector does in all tests; false alarms are counted in `ticks` of each column."""
    late = {name: delays(maker, columns, story, at) for at, (name, story) in enumerate(STORIES.items())}
    return Found(late, {budget: false_alarms(maker, columns, budget, ticks, budget) for budget in BUDGETS})


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench drift", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each seed's reference")
    parser.add_argument("--ticks", type=int, default=4_000, help="of each seed without a change")
    parser.add_argument("--quick", action="store_true", help="10 seeds, 500 ticks")
    parser.add_argument("--json", type=Path, help="put what was found into this file")
    options = parser.parse_args()
    check(options.json)
    if options.quick:
        options.seeds, options.ticks = 10, 500
    columns = [Column.drawn(options.rows, 1_000 + seed) for seed in range(options.seeds)]
    found = {}
    for name, maker in MAKERS.items():
        found[name] = measured(maker, columns, options.ticks if name == "e-detector" else min(options.ticks, 500))
        print(name)
        for story, late in found[name].delays.items():
            print(f"  {story:34} {late}; target {STORIES[story].target:,}")
        for budget, share in found[name].alarms.items():
            print(f"  false alarms at a budget of {budget:6,} ticks: {share:.2f} of it", flush=True)
    good, text = verdict(found)
    told = {
        name: {
            "delays": {story: [late.median, late.high, late.missed, late.early] for story, late in each.delays.items()},
            "alarms": {str(budget): share for budget, share in each.alarms.items()},
        }
        for name, each in found.items()
    }
    put(options.json, "drift", {"options": {"seeds": options.seeds, "rows": options.rows}, "detectors": told})
    print(text)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
