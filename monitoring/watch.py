"""One lineage watched by the e-detector: ticks in, what moved out, with its onset and what has been seen since."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.reference import Counts, Reference, Slice, Tally
from monitoring.alerts import Explanation, Finding
from monitoring.budget import budget_of
from monitoring.detector import Verdict
from monitoring.distances import told_distances
from monitoring.drift import moved_bins, psi
from monitoring.edetector import EDetector
from monitoring.effects import LEVELS, Effects
from monitoring.errors import SnapshotInvalid
from monitoring.past import Pair, Past
from monitoring.seasons import DAY_MS, HOUR_MS, Flags, Seasons
from monitoring.settings import Settings
from monitoring.tilts import Floats, Tilts, Zone, tilts_of

CRITICAL = 0.2  # PSI since the onset from which a change is critical
PATIENCE = 4  # times as long as it took at most the evidence may take to come again, ...
REST = 3  # ... and so many ticks more, until an episode is over
STEADY_MS = 64_000  # within which a season hardly moves
NEVER = -1
TOGETHER = "all columns"  # the name of what has moved where no column has done so alone
NAMED = 5  # columns that an alert about all of them names
Columns = tuple[Tilts, ...]


def columns_of(reference: Reference, zone: Zone | None = None) -> Columns:
    """Return the tilts of each profiled column of a reference."""
    cells = reference.tally.cells
    return tuple(tilts_of(part.bins, cells[part.start : part.end], zone) for part in reference.slices)


@dataclass(slots=True)
class Hold:
    """An episode that is open. In ticks: how long the evidence needed at most, and how long it has not come again."""

    needed: int
    since: int = 0

    def over(self) -> bool:
        """Take a tick without an alarm; return whether it was one too many."""
        self.since += 1
        return self.since > PATIENCE * self.needed + REST


class Watch:
    """The evidence that columns have moved, and the past that tells since when.

    tick_ms: length of a tick. An alarm begins the column's evidence again: while the change lasts, it comes again after
    about as long as it took; when it does not, it is over.
    """

    def __init__(self, reference: Reference, columns: Columns, tick_ms: int, settings: Settings) -> None:
        self._parts, self._reference, self._tick_ms = reference.slices, reference.tally.cells, tick_ms
        self._budget = budget_of([part.name for part in self._parts], tick_ms, settings)
        self._detector, self._past = EDetector(columns), Past()
        self._seasons = None
        if settings.rolling is not None:
            ends = [(part.start, part.end) for part in self._parts]
            self._seasons = Seasons(columns, ends, settings.season, settings.rolling, settings.zone)
        self._tiring = (settings.rolling or 0) * DAY_MS // tick_ms  # ticks until a change that stays is learned
        self._hourly, self._hour = settings.season != "none", -1
        levels = max(STEADY_MS // tick_ms, 1).bit_length() if self._hourly else LEVELS
        self._effects = Effects(columns, levels, settings.design_effect)
        self._detector.allow(self._effects.values)
        self._edges = np.full((2, len(columns)), NEVER)  # ticks at which a column's latest episode began, and ended
        self._last = self._detector.evidence()
        self._holds: dict[int, Hold] = {}  # by column; of all of them together under their number
        self._opened: dict[int, int] = {}  # the tick at which a column's episode did
        self._padded = np.zeros(len(self._reference) + 1, np.int64)
        self._places = np.full((len(columns), self._detector.bins), len(self._reference))  # the last cell is none
        for at, part in enumerate(self._parts):
            self._places[at, : part.end - part.start] = np.arange(part.start, part.end)

    def update(self, tick: int, tally: Tally) -> Iterator[Verdict]:
        """Take a tick; yield a verdict on each column that has moved, still does, or moves no more."""
        tested = self._expected_now(tick, tally)
        self._learn(self._past.add(tick, tally.cells))
        evidence = self._last = self._detector.update(self._by_column(tally.cells))
        if tested is not None:
            for at in np.flatnonzero(~tested).tolist():
                self._detector.restart(at)
                evidence[at] = 0.0
        alarms = np.flatnonzero(evidence >= self._budget.columns).tolist()
        for at in sorted({*alarms, *self._holds} - {len(self._parts)}):
            judge = self._alarm if at in alarms else self._calm
            yield from judge(at, tick, float(evidence[at]))
        if self._budget.together is not None and not alarms:
            yield from self._all(tick, evidence, self._budget.together)

    @property
    def evidence(self) -> tuple[Floats, float]:
        """Return each column's evidence at the last tick, before an alarm began it again, and the evidence of an alarm.

        Natural logarithms, at least 0; shape (columns,). Where alarms of columns need more or less than that of the
        column that needs least, theirs is told by as much less or more.
        """
        needed = self._budget.columns
        least = float(needed.min(initial=np.inf, where=np.isfinite(needed)))
        told = np.log(np.maximum(self._last, 1.0)) - np.log(needed / least) if np.isfinite(least) else self._last * 0.0
        return np.asarray(np.maximum(told, 0.0)), float(np.log(min(least, 1e300)))

    def _by_column(self, cells: Counts) -> Counts:
        self._padded[:-1] = cells
        return np.asarray(self._padded[self._places], np.int64)

    def _expected_now(self, tick: int, tally: Tally) -> Flags | None:
        """Go on to the reference of this time; return which columns have one, None where it is always the same."""
        if self._seasons is None:
            return None
        quiet = np.array([not self._open(at, tick) for at in range(len(self._parts))])
        if self._seasons.enter(tick * self._tick_ms, self._effects.values, quiet) and self._seasons.expected:
            self._detector.bet(self._seasons.expected.tilts)
        if self._hourly and tick * self._tick_ms // HOUR_MS != self._hour:  # what is of another phase tells no onset
            self._past, self._hour = Past(), tick * self._tick_ms // HOUR_MS
        self._seasons.add(tally.cells)
        return self._seasons.expected.tested if self._seasons.expected else None

    def _open(self, at: int, tick: int) -> bool:
        """Whether a column has an episode that is not yet as old as all that is remembered."""
        return at in self._holds and tick - self._opened.get(at, tick) < self._tiring

    def _learn(self, pairs: Sequence[Pair]) -> None:
        """Learn from the past how much events tell."""
        for pair in pairs:
            cells = np.stack([self._by_column(block.cells) for block in (pair.earlier, pair.later)])
            first, last = pair.earlier.start, pair.later.start + pair.later.ticks - 1
            within = (first < self._edges) & (self._edges <= last)
            steady = ~(within[0] | within[1])
            moved = (first >= self._edges[0]) & ((last < self._edges[1]) | (self._edges[1] == NEVER))
            moved &= self._edges[0] != NEVER
            self._effects.take(pair, cells, steady, moved)
        if self._effects.tick():
            self._detector.allow(self._effects.values)

    def _alarm(self, at: int, tick: int, evidence: float) -> Iterator[Verdict]:
        hold, onset, tilt = self._holds.get(at), self._onset(at), self._detector.strongest(at)[0]
        self._holds[at] = _held(hold, tick, onset)
        if hold is None:
            self._edges[:, at] = onset, NEVER
        self._detector.restart(at)
        self._opened.setdefault(at, tick)
        yield self._verdict(at, evidence, onset, tick, tilt)

    def _calm(self, at: int, tick: int, evidence: float) -> Iterator[Verdict]:
        hold = self._holds.get(at)
        if hold is None:
            return
        if hold.over():
            self._edges[1, at] = tick + 1 - hold.since
            del self._holds[at]
            self._opened.pop(at, None)
            yield self._verdict(at, evidence, tick + 1 - hold.since, tick, "as before")

    def _all(self, tick: int, evidence: Floats, alarm: float) -> Iterator[Verdict]:
        """Judge the evidence of the columns together, without those that are known to have moved."""
        own = [at for at in range(len(self._parts)) if at not in self._holds]
        told = np.zeros(len(self._parts))
        told[own] = self._budget.shares[own] * evidence[own]
        total, key = float(told.sum()), len(self._parts)
        hold, most = self._holds.get(key), int(told.argmax())
        if total >= alarm and told[most] >= total / 2:  # of one column, then, with a little from the others
            yield from self._alarm(most, tick, total / float(self._budget.shares[most]))
        elif total >= alarm:
            named = np.argsort(-told, kind="stable")[:NAMED].tolist()
            onset = min(self._onset(at) for at in named)
            self._holds[key] = _held(hold, tick, onset)
            texts = [f"{self._parts[at].name} ({self._detector.strongest(at)[0]})" for at in named]
            text = f"no column alone, but several together: {', '.join(texts)}"
            yield self._joint(total, alarm, onset, tick, text, named)
        elif hold is not None and hold.over():
            del self._holds[key]
            yield self._joint(0.0, alarm, tick + 1 - hold.since, tick, "all columns together: as before", [])
        if total >= alarm:
            for at in own:
                self._detector.restart(at)

    def _onset(self, at: int) -> int:
        part = self._parts[at]
        return self._past.onset(part.start, part.end, self._detector.strongest(at)[1])

    def seen(self, at: int, since: int) -> tuple[Counts, Counts]:
        """Return the events of the reference in the bins of a column, and those seen since a tick."""
        part, cells = self._parts[at], self._past.since(since)
        season = self._seasons.expected if self._seasons else None
        expected = (self._reference if season is None else season.cells)[part.start : part.end]
        return expected, np.zeros_like(expected) if cells is None else cells[part.start : part.end]

    def _verdict(self, at: int, evidence: float, since: int, tick: int, tilt: str) -> Verdict:
        part, (expected, observed) = self._parts[at], self.seen(at, since)
        rows, alarm = int(observed.sum()), float(self._budget.columns[at])

        def explain() -> Explanation:
            bins = moved_bins(expected, observed, _labels(part))
            most = bins[0]
            return Explanation(
                f"{part.name}: {tilt}, {told_distances(expected, observed)} over {rows:,} events; most: {most['bin']} "
                f"from {most['expected']:.2%} to {most['observed']:.2%} of events",
                bins,
            )

        start, end = since * self._tick_ms, (tick + 1) * self._tick_ms
        moved, size = evidence >= alarm, psi(expected, observed)
        told, critical = (_log(evidence), _log(alarm)), size >= CRITICAL
        finding = Finding(moved, not moved, *told, rows, start, end, explain, critical, size)
        return Verdict("e_detector", part.kind, part.name, finding)

    def _joint(self, total: float, alarm: float, since: int, tick: int, text: str, named: Sequence[int]) -> Verdict:
        seen = {at: self.seen(at, since) for at in named}

        def explain() -> Explanation:
            bins = []
            for at, (expected, observed) in seen.items():
                most = moved_bins(expected, observed, _labels(self._parts[at]))[0]
                bins.append({**most, "bin": f"{self._parts[at].name}: {most['bin']}"})
            return Explanation(text, bins)

        start, end = since * self._tick_ms, (tick + 1) * self._tick_ms
        moved, rows = total >= alarm, max((int(observed.sum()) for _, observed in seen.values()), default=0)
        finding = Finding(moved, not moved, _log(total), _log(alarm), rows, start, end, explain, critical=False)
        return Verdict("e_detector", "group", TOGETHER, finding)

    def untested(self) -> int:
        """Return the columns of which it is not known yet how much events tell, or what is usual at this time."""
        if not self._effects.known or (self._seasons and self._seasons.expected is None):
            return len(self._parts)
        return int((~self._seasons.expected.tested).sum()) if self._seasons and self._seasons.expected else 0

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "sums": base64.b64encode(self._detector.dump()).decode(),
            "past": self._past.dump(),
            "effects": self._effects.dump(),
            "season": None if self._seasons is None else self._seasons.dump(),
            "edges": self._edges.tolist(),
            "hour": self._hour,
            "opened": sorted(self._opened.items()),
            "holds": [[at, hold.needed, hold.since] for at, hold in sorted(self._holds.items())],
        }

    def load(self, document: Mapping[str, Any]) -> None:
        """Take a dumped state. Raises SnapshotInvalid."""
        try:
            self._detector.load(base64.b64decode(document["sums"]))
            self._past = Past.load(document["past"])
            self._effects.load(document["effects"])
            self._detector.allow(self._effects.values)
            if self._seasons is not None:
                self._seasons.load(document["season"])
                if self._seasons.expected:
                    self._detector.bet(self._seasons.expected.tilts)
            self._edges, self._hour = np.array(document["edges"], np.int64), int(document["hour"])
            self._opened = dict(map(tuple, document["opened"]))
            self._holds = {at: Hold(needed, since) for at, needed, since in document["holds"]}
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotInvalid(f"a damaged snapshot: {type(error).__name__}: {error}") from error


def _labels(part: Slice) -> list[str]:
    return [part.bins.label(at) for at in range(part.bins.size)]


def _held(hold: Hold | None, tick: int, onset: int) -> Hold:
    """Return the episode after an alarm."""
    return Hold(tick + 1 - onset if hold is None else max(hold.needed, hold.since + 1))


def _log(evidence: float) -> float:
    return round(float(np.log(min(max(evidence, 1.0), 1e300))), 6)
