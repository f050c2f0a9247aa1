"""One lineage watched by the e-detector: ticks in, what moved out, with its onset and what has been seen since."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.reference import Reference, Slice, Tally
from monitoring.alerts import Explanation, Finding
from monitoring.detector import Verdict
from monitoring.distances import told_distances
from monitoring.drift import moved_bins, psi
from monitoring.edetector import EDetector
from monitoring.errors import SnapshotInvalid
from monitoring.past import Past
from monitoring.tilts import Floats, Tilts, tilts_of

WEEK_MS = 7 * 24 * 3_600_000
CRITICAL = 0.2  # PSI since the onset from which a change is critical
PATIENCE = 4  # times as long as it took at most the evidence may take to come again, ...
REST = 3  # ... and so many ticks more, until an episode is over
Columns = tuple[Tilts, ...]


def columns_of(reference: Reference) -> Columns:
    """Return the tilts of each profiled column of a reference."""
    cells = reference.tally.cells
    return tuple(tilts_of(part.bins, cells[part.start : part.end]) for part in reference.slices)


@dataclass(slots=True)
class Hold:
    """An episode that is open. In ticks: how long the evidence needed at most, and how long it has not come again."""

    needed: int
    since: int = 0


class Watch:
    """The evidence that columns have moved, and the past that tells since when.

    tick_ms: length of a tick. false_alarms: at most so many on average a column and week. An alarm begins the column's
    evidence again: while the change lasts, it comes again after about as long as it took; when it does not, it is over.
    """

    def __init__(self, reference: Reference, columns: Columns, tick_ms: int, false_alarms: float) -> None:
        self._reference, self._tick_ms = reference, tick_ms
        self._alarm = max(WEEK_MS / tick_ms / false_alarms, 2.0)
        self._detector, self._past = EDetector(columns), Past()
        self._holds: dict[int, Hold] = {}  # by column
        self._seen = self._detector.evidence()
        self._places = np.full((len(columns), self._detector.bins), len(reference.tally.cells))  # the last cell is none
        for at, part in enumerate(reference.slices):
            self._places[at, : part.end - part.start] = np.arange(part.start, part.end)

    def update(self, tick: int, tally: Tally) -> Iterator[Verdict]:
        """Take a tick; yield a verdict on each column that has moved, still does, or moves no more."""
        self._past.add(tick, tally.cells)
        evidence = self._seen = self._detector.update(np.append(tally.cells, 0)[self._places])
        for at, part in enumerate(self._reference.slices):
            hold = self._holds.get(at)
            if evidence[at] >= self._alarm:
                tilt, increments = self._detector.strongest(at)
                onset = self._past.onset(part.start, part.end, increments)
                needed = tick + 1 - onset if hold is None else max(hold.needed, hold.since + 1)
                self._holds[at] = Hold(needed)
                self._detector.restart(at)
                yield self._verdict(part, float(evidence[at]), onset, tick, tilt)
            elif hold is not None:
                hold.since += 1
                if hold.since > PATIENCE * hold.needed + REST:
                    del self._holds[at]
                    since = tick + 1 - hold.since
                    yield self._verdict(part, float(evidence[at]), since, tick, "as before")

    @property
    def evidence(self) -> tuple[Floats, float]:
        """Return each column's evidence at the last tick, before an alarm began it again, and the evidence of an alarm.

        Natural logarithms, at least 0; shape (columns,).
        """
        return np.log(np.maximum(self._seen, 1.0)), float(np.log(self._alarm))

    def _verdict(self, part: Slice, evidence: float, since: int, tick: int, tilt: str) -> Verdict:
        cells = self._past.since(since)
        expected = self._reference.tally.cells[part.start : part.end]
        observed = np.zeros_like(expected) if cells is None else cells[part.start : part.end]
        rows, size = int(observed.sum()), psi(expected, observed)

        def explain() -> Explanation:
            bins = moved_bins(expected, observed, [part.bins.label(each) for each in range(part.bins.size)])
            most = bins[0]
            return Explanation(
                f"{part.name}: {tilt}, {told_distances(expected, observed)} over {rows:,} events; most: {most['bin']} "
                f"from {most['expected']:.2%} to {most['observed']:.2%} of events",
                bins,
            )

        start, end = since * self._tick_ms, (tick + 1) * self._tick_ms
        moved = evidence >= self._alarm
        value, threshold = (round(float(np.log(max(each, 1.0))), 6) for each in (evidence, self._alarm))
        finding = Finding(moved, not moved, value, threshold, rows, start, end, explain, size >= CRITICAL, size)
        return Verdict("e_detector", part.kind, part.name, finding)

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "sums": base64.b64encode(self._detector.dump()).decode(),
            "past": self._past.dump(),
            "holds": [[at, hold.needed, hold.since] for at, hold in sorted(self._holds.items())],
        }

    def load(self, document: Mapping[str, Any]) -> None:
        """Take a dumped state. Raises SnapshotInvalid."""
        try:
            self._detector.load(base64.b64decode(document["sums"]))
            self._past = Past.load(document["past"])
            self._holds = {at: Hold(needed, since) for at, needed, since in document["holds"]}
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotInvalid(f"a damaged snapshot: {type(error).__name__}: {error}") from error
