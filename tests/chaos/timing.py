"""How long events waited: from the log-append of an event to a reader's sight of its result, beside the faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.chaos.load import Ledger
from tests.chaos.reader import Results

SETTLE_SECONDS = 10.0  # after a fault's end, before its surroundings count as calm
Times = npt.NDArray[np.float64]


@dataclass(slots=True)
class Happened:
    """A fault as it was: when it began and ended (seconds since 1970), and whose partitions it hit."""

    began: float
    kind: str
    text: str
    ended: float = 0.0
    partitions: tuple[int, ...] = ()  # of the slot that it hit
    error: str = ""


@dataclass(frozen=True, slots=True)
class Waits:
    """Per event with a result: its source partition, its append time, when the first result came."""

    partition: npt.NDArray[np.int64]
    appended: Times
    arrived: Times

    @property
    def seconds(self) -> Times:
        return np.maximum(self.arrived - self.appended, 0.0)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Waits:
        return Waits(self.partition[chosen], self.appended[chosen], self.arrived[chosen])


def waits(ledger: Ledger, results: Results) -> Waits:
    """Put the ledger and a live reader's results together."""
    partitions, offsets, arrived = (results.column(name) for name in ("partition", "offset", "arrived"))
    parts: list[tuple[npt.NDArray[np.int64], Times, Times]] = []
    for partition, times in ledger.times.items():
        appended = np.array(times)
        mine = np.flatnonzero((partitions == partition) & (offsets < len(appended)))
        _, first = np.unique(offsets[mine], return_index=True)
        mine = mine[first]
        starts = appended[offsets[mine]]
        known = starts > 0
        parts.append((np.full(int(known.sum()), partition), starts[known], arrived[mine][known]))
    if not parts:
        empty = np.empty(0)
        return Waits(np.empty(0, np.int64), empty, empty)
    columns = [np.concatenate([part[i] for part in parts]) for i in range(3)]
    return Waits(columns[0], columns[1], columns[2])


def percentile(times: Times, share: float) -> float:
    """Return a percentile in seconds, NaN of nothing."""
    return float(np.percentile(times, share)) if len(times) else float("nan")


def calm(found: Waits, faults: Sequence[Happened]) -> Waits:
    """Keep the events that were appended and answered away from every fault."""
    quiet = np.ones(len(found.appended), bool)
    for fault in faults:
        quiet &= (found.arrived < fault.began) | (found.appended > fault.ended + SETTLE_SECONDS)
    return found.where(quiet)


def stuck(found: Waits, faults: Sequence[Happened]) -> float:
    """Return the longest time that an event waited while no fault was on that concerned it, in seconds.

    A fault of a slot concerns the partitions that the slot read, every other fault concerns all.
    """
    worst = 0.0
    for partition in np.unique(found.partition).tolist():
        mine = found.where(found.partition == partition)
        spans = _merged([(f.began, f.ended) for f in faults if not f.partitions or partition in f.partitions])
        excused = _covered(spans, mine.arrived) - _covered(spans, mine.appended)
        worst = max(worst, float(np.max(mine.seconds - excused)))
    return worst


def _merged(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the union of spans as spans that do not touch, in order."""
    merged: list[tuple[float, float]] = []
    for began, ended in sorted(spans):
        if merged and began <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(ended, merged[-1][1])
        else:
            merged.append((began, ended))
    return merged


def _covered(spans: Sequence[tuple[float, float]], times: Times) -> Times:
    """Return how many seconds the spans have covered up to each time."""
    if not spans:
        return np.zeros(len(times))
    knots = np.array(spans).ravel()
    lengths = np.cumsum([ended - began for began, ended in spans])
    totals = np.column_stack([np.concatenate([[0.0], lengths[:-1]]), lengths]).ravel()
    return np.asarray(np.interp(times, knots, totals), np.float64)


@dataclass(frozen=True, slots=True)
class Drained:
    """What a rise of the load left. rate: events a second. drain: seconds from its end to its last result.

    p95: in seconds, of the events after that.
    """

    rate: float
    drain: float
    p95: float


def after_steps(found: Waits, began: float, steps: Sequence[tuple[float, float]]) -> list[Drained]:
    """Return what each rise left. steps: seconds and events a second of each, the first one beginning at `began`."""
    drained, ends = [], began
    for number, (seconds, rate) in enumerate(steps):
        ends += seconds
        lower = number + 1 < len(steps) and steps[number + 1][1] < rate
        if not lower:
            continue
        before = found.where(found.appended <= ends)
        last = max(ends, float(before.arrived.max())) if len(before.arrived) else ends
        until = ends + steps[number + 1][0]
        later = found.where((found.appended > last) & (found.appended <= until))
        drained.append(Drained(rate, last - ends, percentile(later.seconds, 95)))
    return drained


def recovery(found: Waits, fault: Happened, until: float) -> float:
    """Return how long a slot's partitions were silent from a fault on, the worst of them, in seconds.

    The events after `until`, when the next fault began, tell nothing of this one.
    """
    worst = 0.0
    for partition in fault.partitions:
        mine = found.where(found.partition == partition)
        after = np.sort(mine.arrived[(mine.arrived > fault.began) & (mine.appended < until)])
        if not len(after):
            continue
        gaps = np.diff(np.concatenate([[fault.began], after]))
        early = np.concatenate([[fault.began], after])[:-1] < fault.began + 1.0  # what was on its way may come first
        worst = max(worst, float(np.max(gaps[early])))
    return worst
