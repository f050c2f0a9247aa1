"""What a column looks like at this time of the day, learned from the days before: references by phase.

Each hour of the day is a phase, of workdays and weekends apart where the season is a week; without one, all hours
are one. A phase's reference is the mean of its past hours, of which each weighs less the older it is; from the middle
of an hour to that of the next one it goes over to the other. How far it was off before, slot by slot and direction by
direction, widens the zone in which no change is looked for: days differ, and a column is known only as well as its
days agree. Hours are those of UTC.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models import varint
from models.reference import Counts
from monitoring.tilts import NOISE, Floats, Tilts, Zone, shares_of

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SLOT_MS = 300_000  # the reference is brought up to date this often
WANDER = 5.0  # deviations of what it was off by that are not looked for
JUDGED = 240  # slots with events, most of a day, that are compared with it before anything is tested
REMEMBERED = 2016  # slots (a week of them) that count in full for how far it is off
FIRST_MONDAY = 4  # days since 1970
Season = Literal["none", "daily", "weekly"]
Flags = npt.NDArray[np.bool_]


def phases(season: Season) -> int:
    """Return how many there are."""
    return {"none": 1, "daily": 24, "weekly": 48}[season]


def phase_of(ms: int, season: Season) -> int:
    """Return the phase of a record time: the hour of the day, 24 more on a Saturday or Sunday."""
    if season == "none":
        return 0
    hour = ms // HOUR_MS % 24
    weekend = season == "weekly" and (ms // DAY_MS - FIRST_MONDAY) % 7 >= 5
    return int(hour + 24 * weekend)


def hours_kept(season: Season, days: int) -> tuple[int, ...]:
    """Return of each phase how many of its hours there are in so many days."""
    if season == "none":
        return (24 * days,)
    if season == "daily":
        return (days,) * 24
    return (max(days * 5 // 7, 1),) * 24 + (max(days * 2 // 7, 1),) * 24


@dataclass(frozen=True, slots=True)
class Expected:
    """What the next slot should look like.

    tilts: of each column. cells: events of the reference by cell, of all its hours. tested: the columns whose reference
    is known.
    """

    tilts: tuple[Tilts, ...]
    cells: Counts
    tested: Flags


class Seasons:
    """The references by phase of some columns.

    columns: their tilts at training time. ends: the first cell of each column, and the one behind its last. days: of
    the past that are remembered.
    """

    def __init__(
        self,
        columns: Sequence[Tilts],
        ends: Sequence[tuple[int, int]],
        season: Season,
        days: int,
        zone: Zone,
    ) -> None:
        self._columns, self._ends, self._season, self._zone = columns, ends, season, zone
        size = max((end for _, end in ends), default=0)
        self._keep = hours_kept(season, days)
        self._past = np.zeros((phases(season), size), np.int64)
        self._hours = np.zeros((phases(season), len(columns)), np.int64)  # that the past of a phase holds
        self._slot, self._hour = -1, -1
        self._whole = False  # whether the hour was seen from its beginning
        self._slot_cells, self._hour_cells = np.zeros((2, size), np.int64)
        most = max((tilts.directions.shape[1] for tilts in columns), default=0)
        self._off = np.zeros((len(columns), most))  # sum of squares, in variances
        self._compared = np.zeros(len(columns), np.int64)
        self._effects = np.ones((len(columns), most))  # when the slot was entered
        self._packed: str | None = None  # the past, which changes once an hour
        self.expected: Expected | None = None

    def enter(self, ms: int, effects: Floats, quiet: Flags) -> bool:
        """Note the time of the next tick; return whether what is expected has changed with it.

        effects: design effects, shape (columns, directions). quiet: the columns that no episode touches.
        """
        slot, hour = ms // SLOT_MS, ms // HOUR_MS
        if slot == self._slot:
            return False
        if self._slot >= 0:
            self._compare(quiet)
        if hour != self._hour:
            self._keep_hour(quiet)
            self._whole, self._hour = self._hour >= 0, hour
        self._slot, self._effects = slot, effects.copy()
        self._slot_cells[:] = 0
        self.expected = self._expect()
        return True

    def add(self, cells: Counts) -> None:
        """Take the events of a tick of the slot that was entered."""
        self._slot_cells += cells
        self._hour_cells += cells

    def _compare(self, quiet: Flags) -> None:
        """Learn from the slot that ends how far the reference was off."""
        if self.expected is None:
            return
        for at, (tilts, (start, end)) in enumerate(zip(self.expected.tilts, self._ends, strict=True)):
            seen, rows = self._slot_cells[start:end], float(self._slot_cells[start:end].sum())
            if not rows or not quiet[at] or not self._known(at):
                continue
            known = max(float(self.expected.cells[start:end].sum()), 1.0)
            width = tilts.directions.shape[1]
            off = (seen / rows - tilts.shares) @ tilts.directions
            chance = self._effects[at, :width] * (1 / rows + 1 / known)
            if self._compared[at] >= REMEMBERED:
                self._off[at] -= self._off[at] / REMEMBERED
            self._off[at, :width] += off * off / tilts.variances - chance
            self._compared[at] += 1

    def _keep_hour(self, quiet: Flags) -> None:
        """Put the hour that ends into the past of its phase, but for columns that an episode touches."""
        if self._whole and self._hour_cells.any():
            phase = phase_of(self._hour * HOUR_MS, self._season)
            for at, (start, end) in enumerate(self._ends):
                if quiet[at]:
                    past = self._past[phase, start:end]
                    if self._hours[phase, at] >= self._keep[phase]:
                        past -= past // self._keep[phase]
                    past += self._hour_cells[start:end]
                    self._hours[phase, at] = min(self._hours[phase, at] + 1, self._keep[phase])
        self._hour_cells[:] = 0
        self._packed = None

    def _known(self, column: int) -> bool:
        return bool(self._hours[list(self._beside()), column].all())

    def _beside(self) -> tuple[int, int]:
        """Return the phases that the slot's time lies between."""
        middle = self._slot * SLOT_MS + SLOT_MS // 2
        return tuple(phase_of(middle + side, self._season) for side in (-HOUR_MS // 2, HOUR_MS // 2))  # type: ignore[return-value]

    def _expect(self) -> Expected:
        before, after = self._beside()
        slots = HOUR_MS // SLOT_MS
        at = (self._slot + slots // 2) % slots * 2 + 1  # of twice as many parts from one middle to the next
        tilts, cells, tested = [], np.zeros(self._past.shape[1], np.int64), []
        for column, (start, end) in enumerate(self._ends):
            known, base = self._known(column), self._columns[column]
            if known:
                cells[start:end] = self._between(column, at, 2 * slots)
                rows = [float(self._past[phase, start:end].sum()) for phase in (before, after)]
                base = self._under(column, cells[start:end], max(min(rows), 1.0))
            tilts.append(base)
            tested.append(known and self._compared[column] >= JUDGED)
        return Expected(tuple(tilts), cells, np.array(tested, np.bool_))

    def _between(self, column: int, at: int, parts: int) -> Counts:
        """Return the events of a column between two phases, as many as the one with fewer hours has, about.

        Each phase counts by its mean hour: `at` of so many parts lie behind the first one's middle.
        """
        start, end = self._ends[column]
        (one, first), (other, second) = (
            (int(self._hours[phase, column]), self._past[phase, start:end]) for phase in self._beside()
        )
        mixed, whole = (first * other * (parts - at) + second * one * at) * min(one, other), parts * one * other
        return np.asarray((mixed + whole // 2) // whole, np.int64)

    def _under(self, column: int, cells: Counts, rows: float) -> Tilts:
        """Return a column's tilts under its reference of this slot, which was made from so many events."""
        base = self._columns[column]
        width = base.directions.shape[1]
        wander = np.maximum(self._off[column, :width], 0.0) / max(int(self._compared[column]), 1)
        sampled = np.maximum(self._zone.deviations, NOISE * np.sqrt(self._effects[column, :width] / rows))
        radius = np.maximum(sampled, WANDER * np.sqrt(wander))
        return base.under(shares_of(cells), radius, self._zone.rare(rows))

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""
        self._packed = self._packed or _packed(self._past)
        return {
            "at": [self._slot, self._hour, self._whole],
            "past": self._packed,
            "counts": [_packed(each) for each in self._counts()],
            "floats": [base64.b64encode(each.tobytes()).decode() for each in (self._off, self._effects)],
        }

    def load(self, document: Mapping[str, Any]) -> None:
        """Take a dumped state. Raises KeyError, TypeError or ValueError when it is damaged."""
        self._slot, self._hour, self._whole = document["at"]
        packed = [document["past"], *document["counts"]]
        for array, each in zip((self._past, *self._counts()), packed, strict=True):
            array[...] = varint.unpack(base64.b64decode(each)).reshape(array.shape)
        for kept, each in zip((self._off, self._effects), document["floats"], strict=True):
            kept[...] = np.frombuffer(base64.b64decode(each), np.float64).reshape(kept.shape)
        self._packed = None
        if self._slot >= 0:
            self.expected = self._expect()

    def _counts(self) -> tuple[Counts, ...]:
        return self._hours, self._slot_cells, self._hour_cells, self._compared


def _packed(counts: Counts) -> str:
    return base64.b64encode(varint.pack(counts.ravel())).decode()
