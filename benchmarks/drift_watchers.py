"""Whom `scripts/bench drift` puts to the test: the monitor's own e-detector, and those that must fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from river.drift import ADWIN

from benchmarks.drift_streams import Columns, Floats
from models.reference import Tally
from monitoring.budget import WEEK_MS
from monitoring.settings import Settings
from monitoring.watch import Watch, columns_of

Flags = npt.NDArray[np.bool_]
TICK_MS = 1  # of a stream of 100,000 events/s in ticks of 100 events
MINUTE_MS = 60_000
PERIOD = 40  # ticks


@dataclass(frozen=True, slots=True)
class Alarm:
    """What an alarm says of a column. onset: the tick since which it has been so. seen: events by bin since then."""

    onset: int
    seen: npt.NDArray[np.int64]


@dataclass(slots=True)
class Answer:
    """What a watcher says with a tick. fired: which columns alarm."""

    fired: Flags
    alarms: dict[int, Alarm] = field(default_factory=dict)  # by column, of who tells more


class Watcher(Protocol):
    """Some columns under watch."""

    def step(self, tally: Tally, values: Floats) -> Answer:
        """Take the next tick: the counts of all columns and their values (columns, events)."""


Maker = Callable[[Columns, float], Watcher]  # of columns and a budget in ticks


class Evidence:
    """The e-detector as the monitor runs it."""

    def __init__(self, columns: Columns, budget: float, tick_ms: int = TICK_MS, **settings: Any) -> None:
        chosen = Settings(detector="e_detector", false_alarms=WEEK_MS / tick_ms / budget, **settings)
        self._watch = Watch(columns.reference, columns_of(columns.reference, chosen.zone), tick_ms, chosen)
        self._names = {part.name: at for at, part in enumerate(columns.reference.slices)}
        self._tick, self._tick_ms = 0, tick_ms

    def step(self, tally: Tally, values: Floats) -> Answer:
        found, fired = {}, np.zeros(len(values), np.bool_)
        for verdict in self._watch.update(self._tick, tally):
            if verdict.finding.deviates:
                onset, at = verdict.finding.start // self._tick_ms, self._names[verdict.name]
                found[at], fired[at] = Alarm(onset, self._watch.seen(at, onset)[1]), True
        self._tick += 1
        return Answer(fired, found)


class Every:
    """Fires in every so many ticks, whatever happens; 0: never."""

    def __init__(self, ticks: int) -> None:
        self._ticks, self._tick = ticks, 0

    def step(self, tally: Tally, values: Floats) -> Answer:
        self._tick += 1
        return Answer(np.full(len(values), bool(self._ticks) and self._tick % self._ticks == 0))


class Adwin:
    """river's ADWIN with its defaults, on each value."""

    def __init__(self, columns: int) -> None:
        make: Any = ADWIN  # it has no types
        self._detectors = [make() for _ in range(columns)]

    def step(self, tally: Tally, values: Floats) -> Answer:
        return Answer(np.array([self._fires(*each) for each in zip(self._detectors, values.tolist(), strict=True)]))

    def _fires(self, detector: Any, values: Sequence[float]) -> bool:
        fired = False
        for value in values:
            if value == value:
                detector.update(value)
                fired |= detector.drift_detected
        return fired


def certain(columns: Columns, budget: float) -> Watcher:
    """The e-detector where it is declared that events are independent."""
    return Evidence(columns, budget, design_effect=1.0)


def learning(columns: Columns, budget: float) -> Watcher:
    """The e-detector with its defaults, which learns how much events tell."""
    return Evidence(columns, budget)


def seasonal(columns: Columns, budget: float) -> Watcher:
    """The e-detector on ticks of a minute, which learns what a day is like."""
    return Evidence(columns, budget, MINUTE_MS, rolling=7, season="daily")


def seasonless(columns: Columns, budget: float) -> Watcher:
    """The same against the bundle's reference, with nothing learned."""
    return Evidence(columns, budget, MINUTE_MS, design_effect=1.0)


OTHERS: dict[str, Maker] = {
    "ADWIN": lambda columns, _: Adwin(len(columns)),
    "always": lambda *_: Every(1),
    "never": lambda *_: Every(0),
    "periodic": lambda *_: Every(PERIOD),
}
