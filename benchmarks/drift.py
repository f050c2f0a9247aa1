"""`scripts/bench drift`: how soon the e-detector finds changes, and whether it keeps its budget of false alarms.

Delays: columns are watched at a budget of one false alarm a week and column at 100,000 events/s, in ticks of 100
events, so that delays can be told in events. Each seed has a reference of its own. False alarms: budgets are made so
small that alarms without a change are many enough to be counted, on streams that are independent, autocorrelated,
bursty and seasonal; at the budget of a week there must be none. Detectors that fire always, never or every so often,
river's ADWIN on each value, and the e-detector without what it learns of bursts and seasons take the same tests and
must fail them. Cost: what a tick of 30 columns takes. The last line is the verdict; exit status 1 when it misses.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks import drift_cost
from benchmarks.drift_cost import Cost
from benchmarks.drift_streams import DAY, NULLS, STORIES, Columns, Counts, Floats, Story, draw, level_of
from benchmarks.drift_watchers import OTHERS, Alarm, Maker, certain, learning, seasonal, seasonless
from benchmarks.records import check, put

TICK = 100  # events
WEEK = 7 * 24 * 3600 * 100_000 // TICK  # ticks
BEFORE, AFTER = 50, 300  # ticks before a change, and after it
SPREAD = 1.6  # times the target that nine of ten delays may take
MISSES = 0.01
SETTLED = 3  # times that the evidence of a change has come, until its size is known
EFFECT = 0.25  # by which half of the effects may be off, at most, once they have settled
BUDGETS = (1_000, 10_000)  # ticks
LEARNING = 400  # ticks in which nothing is counted
DAYS = 2  # in which the seasonal stream teaches what a day is like
OURS = "e-detector", "e-detector, learned"  # where it is declared that events are independent, and by default
WEEK_TICK = 1_000  # events of a tick in the test at the budget of a week


@dataclass(frozen=True, slots=True)
class Delays:
    """In events, of the seeds that found the change; and the shares of seeds that missed it, or alarmed before it.

    onset: by how many events half of the estimated onsets are off at most. effect: by which share of it half of the
    effects are off at most, settled: the same of all that was seen when the evidence has come SETTLED times. All
    are None for detectors that tell no such thing.
    """

    median: float
    high: float  # nine of ten took no longer
    missed: float
    early: float
    onset: float | None = None
    effect: float | None = None
    settled: float | None = None

    def good(self, target: int) -> bool:
        """Say whether a target is kept."""
        soon = self.median <= target and self.high <= SPREAD * target
        told = (self.onset or 0.0) <= self.median and (self.settled or 0.0) <= EFFECT
        return soon and told and self.missed <= MISSES and self.early <= MISSES

    def __str__(self) -> str:
        text = f"{self.median:7,.0f} / {self.high:7,.0f} events, missed {self.missed:.0%}, too early {self.early:.0%}"
        if self.onset is not None and self.effect is not None:
            text += f", onset off by {self.onset:,.0f} events, effect by {self.effect:.0%}"
            text += "" if self.settled is None else f", settled by {self.settled:.0%}"
        return text


def delays(maker: Maker, columns: Columns, story: Story, seed: int, before: int = BEFORE) -> Delays:
    """Return how soon each column's watcher finds a story, after so many ticks without."""
    rng, watcher = np.random.default_rng(seed), maker(columns, WEEK)
    first, times = np.full(len(columns), AFTER + 1), Counter[int]()
    alarms, later = dict[int, Alarm](), dict[int, Alarm]()
    for tick in range(-before, AFTER):
        values = draw(rng, len(columns), TICK, story if tick >= 0 else None)
        answer = watcher.step(columns.tally(values), values)
        first = np.where(answer.fired & (first > AFTER), tick + 1, first)
        alarms = answer.alarms | alarms
        times.update(list(answer.alarms))
        later |= {at: alarm for at, alarm in answer.alarms.items() if times[at] == SETTLED}
    good = (first > 0) & (first <= AFTER)
    found = first[good] * TICK
    median, high = np.quantile(found, (0.5, 0.9)) if len(found) else (np.inf, np.inf)
    told = {at: alarm for at, alarm in alarms.items() if good[at]}
    onset = np.median([abs(alarm.onset - before) * TICK for alarm in told.values()]) if told else None
    effect, settled = (
        _effect(columns, story, each, rng) if each else None
        for each in (told, {at: alarm for at, alarm in later.items() if at in told})
    )
    missed, early = float((first > AFTER).mean()), float((first <= 0).mean())
    return Delays(float(median), float(high), missed, early, None if onset is None else float(onset), effect, settled)


def _effect(columns: Columns, story: Story, alarms: Mapping[int, Alarm], rng: np.random.Generator) -> float:
    """Return by which share half of the effects are off, along the direction in which the story truly goes."""
    truth = columns.tally(draw(rng, len(columns), 200_000, story))
    off = []
    for at, alarm in alarms.items():
        part = columns.reference.slices[at]
        p, q, seen = (
            _shares(cells)
            for cells in (
                columns.reference.tally.cells[part.start : part.end],
                truth.cells[part.start : part.end],
                alarm.seen,
            )
        )
        direction = q / p - 1
        off.append(abs(((seen - p) * direction).sum() / ((q - p) * direction).sum() - 1))
    return float(np.median(off))


def _shares(cells: Counts) -> Floats:
    return np.asarray((cells + 0.5) / (cells + 0.5).sum(), np.float64)


def alarms_of(maker: Maker, columns: Columns, stream: Iterator[Floats], budget: float, skip: int, ticks: int) -> int:
    """Return how many alarms there are in so many ticks of a stream, after some to learn from."""
    watcher, alarms = maker(columns, budget), 0
    for tick, values in enumerate(islice(stream, skip + ticks)):
        fired = watcher.step(columns.tally(values), values).fired
        alarms += int(fired.sum()) if tick >= skip else 0
    return alarms


def false_alarms(
    maker: Maker, columns: Columns, stream: Iterator[Floats], budget: float, skip: int, ticks: int
) -> float:
    """Return alarms without a change as a share of what the budget allows in so many ticks after some to learn from."""
    return alarms_of(maker, columns, stream, budget, skip, ticks) / (ticks * len(columns) / budget)


def null(name: str, count: int, seed: int) -> Iterator[Floats]:
    """Return a stream without a change."""
    return NULLS[name](np.random.default_rng(seed), count, TICK)


@dataclass(frozen=True, slots=True)
class Found:
    """What one detector did: its delays by story, and its false alarms, as shares of budgets, by stream and budget."""

    delays: dict[str, Delays]
    alarms: dict[str, float]

    def problems(self) -> list[str]:
        """Return what it misses."""
        late = [name for name, found in self.delays.items() if not found.good(STORIES[name].target)]
        return late + [name for name, share in self.alarms.items() if share > 1]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. count: seeds. rows: of a reference. ticks: without a change. days: of the season."""

    count: int
    rows: int
    ticks: int
    days: int
    calm: int  # seeds of 30 columns with 5,000,000 events each


def _kept(maker: Maker, columns: Columns, name: str, skip: int, ticks: int) -> dict[str, float]:
    """Return false alarms at each budget."""
    return {
        f"{name}, budget of {budget:,} ticks": false_alarms(
            maker, columns, null(name, len(columns), budget), budget, skip, ticks
        )
        for budget in BUDGETS
    }


def ours(size: Size) -> dict[str, Found]:
    """Return what the e-detector does, as it is and without what it learns."""
    columns = Columns.drawn(size.count, size.rows)
    daily = Columns.drawn(size.count, size.rows, 2_000, level_of)
    found = {name: delays(certain, columns, story, at) for at, (name, story) in enumerate(STORIES.items())}
    taught = {name: delays(learning, columns, story, at, LEARNING) for at, (name, story) in enumerate(STORIES.items())}
    alarms = _kept(certain, columns, "independent", 0, size.ticks)
    learned: dict[str, float] = {}
    for name in ("independent", "autocorrelated", "bursty"):
        learned |= _kept(learning, columns, name, 0, size.ticks)
    learned |= _kept(seasonal, daily, "seasonal", DAYS * DAY, size.days * DAY)
    without: dict[str, float] = {}
    for name in ("autocorrelated", "bursty"):
        without |= _kept(certain, columns, name, 0, min(size.ticks, 500))
    without |= _kept(seasonless, daily, "seasonal", 0, DAY)
    told = {name: Found({}, {name: share}) for name, share in without.items()}
    shown = {f"without what is learned, {name}": each for name, each in told.items()}
    if size.calm:
        alarms["independent, budget of a week"] = calm(size)
    return {OURS[0]: Found(found, alarms), OURS[1]: Found(taught, learned), **shown}


def calm(size: Size) -> float:
    """Return alarms at the budget of a week in 5,000,000 events of 30 columns for each of some seeds; 1 is too many."""
    alarms = 0
    for seed in range(size.calm):
        columns, rng = Columns.drawn(30, size.rows, 10_000 + 100 * seed), np.random.default_rng(seed)
        stream = NULLS["independent"](rng, 30, WEEK_TICK)
        alarms += alarms_of(learning, columns, stream, WEEK * TICK / WEEK_TICK, 0, 5_000_000 // WEEK_TICK)
    return 2.0 * alarms


def others(size: Size) -> dict[str, Found]:
    """Return what the other detectors do in the tests of delays and of independent events."""
    columns = Columns.drawn(size.count, size.rows)
    ticks = min(size.ticks, 500)
    return {
        name: Found(
            {story: delays(maker, columns, each, at) for at, (story, each) in enumerate(STORIES.items())},
            _kept(maker, columns, "independent", 0, ticks),
        )
        for name, maker in OTHERS.items()
    }


def verdict(found: Mapping[str, Found], cost: Cost | None = None) -> tuple[bool, str]:
    """Return whether the e-detector misses nothing and each of the others something, and the sentence that says so."""
    missed = [problem for name in OURS if name in found for problem in found[name].problems()]
    missed += [] if cost is None or cost.good else [f"a tick within {drift_cost.BOUND_MS:g} ms"]
    weak = [name for name, each in found.items() if name not in OURS and not each.problems()]
    text = f"the e-detector misses {', '.join(missed) or 'nothing'}"
    text += f"; the tests do not show that {', '.join(weak)} is worse" if weak else "; each of the others fails"
    return not missed and not weak, f"{'FAIL' if missed or weak else 'PASS'} {text}"


def _show(found: Mapping[str, Found]) -> None:
    for name, each in found.items():
        print(name)
        for story, late in each.delays.items():
            print(f"  {story:44} {late}; target {STORIES[story].target:,}")
        for stream, share in each.alarms.items():
            print(f"  {stream:44} false alarms {share:.2f} of the budget", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench drift", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each seed's reference")
    parser.add_argument("--ticks", type=int, default=4_000, help="of each seed without a change")
    parser.add_argument("--quick", action="store_true", help="10 seeds, 1,000 ticks, 300,000 rows; no test of a week")
    parser.add_argument("--json", type=Path, help="put what was found into this file")
    options = parser.parse_args()
    check(options.json)
    size = Size(options.seeds, options.rows, options.ticks, days=5, calm=20)
    if options.quick:
        size = Size(10, 300_000, 1_000, days=2, calm=0)
    cost = drift_cost.measured()
    print(cost, flush=True)
    found = ours(size)
    _show(found)
    rest = others(size)
    _show(rest)
    good, text = verdict(found | rest, cost)
    told = {name: asdict(each) for name, each in (found | rest).items()}
    put(options.json, "drift", {"options": asdict(size), "detectors": told, "cost": cost.document()})
    print(text)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
