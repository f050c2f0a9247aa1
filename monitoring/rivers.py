"""River's detectors by name, for those who want them: fed one number a tick, with a state that is rebuilt by replaying.

They have no budget of false alarms (docs/drift.md measures them). On the mean rank of a column's events in a tick:
`adwin`, `page_hinkley`, `kswin`. On a stream of errors, 0 or 1: also `ddm`, `hddm_a`, `hddm_w`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from river.drift import ADWIN, KSWIN, PageHinkley
from river.drift.binary import DDM, HDDMA, HDDMW

from models.reference import Reference, Slice, Tally
from monitoring.alerts import Explanation, Finding
from monitoring.detector import Verdict
from monitoring.distances import told_distances
from monitoring.drift import mean_rank, moved_bins

REST = 60  # ticks without another alarm that close an episode


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a detector is made, and how many values it is rebuilt from."""

    make: Callable[[], Any]
    keep: int


KINDS: dict[str, _Kind] = {
    "adwin": _Kind(ADWIN, 1000),
    "page_hinkley": _Kind(partial(PageHinkley, min_instances=30, delta=0.005, threshold=0.5), 1000),
    "kswin": _Kind(partial(KSWIN, alpha=0.0001, seed=1), 100),
    "ddm": _Kind(DDM, 5000),
    "hddm_a": _Kind(HDDMA, 5000),
    "hddm_w": _Kind(HDDMW, 5000),
}


class Replayed:
    """One of river's detectors as a pure function of its last values: what is written down are the values.

    It begins anew at each alarm, and from the last `keep` values when it has seen twice as many: so one that was
    rebuilt and one that ran on are the same.
    """

    def __init__(self, name: str, values: list[float] | None = None) -> None:
        self._kind = KINDS[name]
        self._values: list[float] = []
        self._detector = self._kind.make()
        for value in values or []:
            self._take(value)

    def _take(self, value: float) -> bool:
        self._values.append(value)
        self._detector.update(value)
        return bool(self._detector.drift_detected)

    def update(self, value: float) -> bool:
        """Take the next value; return whether it alarms."""
        alarm = self._take(value)
        if alarm or len(self._values) > 2 * self._kind.keep:
            kept = [] if alarm else self._values[-self._kind.keep :]
            self._values, self._detector = [], self._kind.make()
            for each in kept:
                self._take(each)
        return alarm

    def dump(self) -> list[float]:
        """Return the values that rebuild it."""
        return list(self._values)


class Rivers:
    """One detector a column, on the mean rank (0 to 1) of its events in each tick."""

    def __init__(self, name: str, reference: Reference, tick_ms: int) -> None:
        self._name, self._reference, self._tick_ms = name, reference, tick_ms
        self._detectors: dict[str, Replayed] = {}  # by kind/name of the column
        self._levels: dict[str, list[float]] = {}  # sum and number of a column's ranks since its detector began

    def update(self, tick: int, tally: Tally) -> Iterator[Verdict]:
        """Take a tick; yield a verdict on each column that had a value in it."""
        for part in self._reference.slices:
            expected = self._reference.tally.cells[part.start : part.end]
            observed = tally.cells[part.start : part.end]
            rank = mean_rank(expected[:-1], observed[:-1])
            if rank is None:
                continue
            key = f"{part.kind}/{part.name}"
            alarm = self._detectors.setdefault(key, Replayed(self._name)).update(rank)
            total, number = self._levels.get(key, [0.0, 0])
            level = total / number if number else rank
            self._levels[key] = [0.0, 0] if alarm else [total + rank, number + 1]
            yield Verdict(
                self._name, part.kind, part.name, self._finding(part, tick, tally, rank, level, alarm), 1, REST
            )

    def _finding(self, part: Slice, tick: int, tally: Tally, rank: float, level: float, alarm: bool) -> Finding:
        """Return what is said of a tick whose events have this mean rank, where it was `level` on average before."""
        expected = self._reference.tally.cells[part.start : part.end]
        observed = tally.cells[part.start : part.end]

        def explain() -> Explanation:
            bins = moved_bins(expected, observed, [part.bins.label(at) for at in range(part.bins.size)])
            told = f"{part.name}: mean rank {rank:.3f}, its level was {level:.3f}; {told_distances(expected, observed)}"
            return Explanation(told, bins)

        start, end, rows = tick * self._tick_ms, (tick + 1) * self._tick_ms, int(observed.sum())
        return Finding(alarm, not alarm, rank, round(level, 6), rows, start, end, explain, critical=False)

    def untested(self) -> int:
        """Return 0: each column is tested from the start."""
        return 0

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "values": {key: detector.dump() for key, detector in self._detectors.items()},
            "levels": self._levels,
        }

    def load(self, document: Mapping[str, Any]) -> None:
        """Take a dumped state. Raises KeyError, TypeError or ValueError when it is damaged."""
        self._detectors = {key: Replayed(self._name, values) for key, values in document["values"].items()}
        self._levels = {key: [float(total), int(number)] for key, (total, number) in document["levels"].items()}
