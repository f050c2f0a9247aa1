"""The detector `windows`: ticks become windows of some thousand events, each compared with the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from models.reference import Reference, Slice, Tally
from monitoring.alerts import Explanation, Finding
from monitoring.detector import Verdict, dump_tally, load_tally
from monitoring.drift import Counts, LevelShift, mean_rank, moved_bins, noise, psi
from monitoring.settings import Settings


class Windows:
    """PSI of every column, and river's PageHinkley on the level of each output."""

    def __init__(self, reference: Reference, tick_ms: int, settings: Settings) -> None:
        self._reference, self._tick_ms, self._settings = reference, tick_ms, settings
        self._window: Tally | None = None
        self._start = self._end = 0  # ms, of the window
        self._levels: dict[str, LevelShift] = {}  # name of an output

    def update(self, tick: int, tally: Tally) -> Iterator[Verdict]:
        """Take a tick; where the window is full, yield a verdict on each column."""
        if self._window is None:
            self._window, self._start = Tally.empty(len(tally.cells)), tick * self._tick_ms
        self._window += tally
        self._end = (tick + 1) * self._tick_ms
        if self._window.rows >= self._settings.window_rows:
            window, self._window = self._window, None
            yield from self._judge(window)

    def _judge(self, window: Tally) -> Iterator[Verdict]:
        settings = self._settings
        for part in self._reference.slices:
            expected = self._reference.tally.cells[part.start : part.end]
            observed = window.cells[part.start : part.end]
            finding = self._compared(part, expected, observed)
            yield Verdict("psi", part.kind, part.name, finding, settings.patience, settings.rest)
            if part.kind == "output" and (shifted := self._shifted(part, expected, observed)):
                yield Verdict("page_hinkley", part.kind, part.name, shifted, 1, settings.shift_rest)

    def _compared(self, part: Slice, expected: Counts, observed: Counts) -> Finding:
        beyond = max(0.0, psi(expected, observed) - noise(expected, observed))
        rows = int(observed.sum())

        def explain() -> Explanation:
            evidence = moved_bins(expected, observed, [part.bins.label(at) for at in range(part.bins.size)])
            most = evidence[0]
            return Explanation(
                f"{part.name}: PSI {beyond:.3f} beyond chance over {rows:,} events; most: {most['bin']} "
                f"from {most['expected']:.1%} to {most['observed']:.1%} of events",
                evidence,
            )

        settings = self._settings
        deviates, calm = beyond >= settings.opens, beyond < settings.closes
        critical = beyond >= 2 * settings.opens
        return Finding(deviates, calm, beyond, settings.opens, rows, self._start, self._end, explain, critical)

    def _shifted(self, part: Slice, expected: Counts, observed: Counts) -> Finding | None:
        rank = mean_rank(expected[:-1], observed[:-1])  # missing has no rank
        if rank is None:
            return None
        level = self._levels.setdefault(part.name, LevelShift(self._settings.shift))
        shift = level.update(rank)
        told = Explanation(f"{part.name}: mean rank {rank:.3f}, its level was {level.mean:.3f}")
        threshold, rows = self._settings.shift.threshold, int(observed.sum())
        value = abs(rank - level.mean)
        critical = value >= 2 * threshold
        return Finding(shift, not shift, value, threshold, rows, self._start, self._end, lambda: told, critical)

    def untested(self) -> int:
        """Return 0: each column is tested from the start."""
        return 0

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "window": None if self._window is None else dump_tally(self._window),
            "start": self._start,
            "levels": {name: level.dump() for name, level in self._levels.items()},
        }

    def load(self, document: Mapping[str, Any]) -> None:
        """Take a dumped state. Raises KeyError, TypeError or ValueError when it is damaged."""
        self._window = None if document["window"] is None else load_tally(document["window"])
        self._start = document["start"]
        levels = document["levels"].items()
        self._levels = {name: LevelShift(self._settings.shift, values) for name, values in levels}
