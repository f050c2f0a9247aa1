"""What waits for its other side, as columns: predictions and labels of one partition, sorted by key and time.

Rows lie in sorted runs. New ones are a run of their own, and MERGED runs that are not much smaller than the one before
them become one: so each row is moved a few times in all, and a look at a key is a binary search in a few runs. No run
grows beyond MOST, so no merge takes long. A row that is due is gone for whoever asks, at once; its memory is given back
a while later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from monitoring.arrays import Array, Bools, Longs, ragged

LABEL = 1 << 30  # ranks of labels begin here: at the same time, events come first
MOST = 1 << 21  # rows of a run
MERGED = 4  # runs at once
NEVER = -(1 << 62)  # ms
FEW = 8  # rows of a key in a run that are looked at without a search among them
STALE = 0.2  # share of a run's rows that are due when it is written anew without them


class Rows(NamedTuple):
    """A prediction or a label each; n rows, which are in order where a run or a meeting holds them.

    ids: of keys. times: ms. ranks: partition in the source topic, of a label LABEL more. offsets: in it. kinds, bits:
    the value (monitoring.values). sources: of predictions, their number. extras: further numbers, shape (n, k).
    segments: values of segments by number, 0 where there is none, shape (n, s). keys, sizes: the key's bytes.
    """

    ids: npt.NDArray[np.uint64]
    times: Longs
    ranks: npt.NDArray[np.int32]
    offsets: Longs
    kinds: npt.NDArray[np.uint8]
    bits: Longs
    sources: npt.NDArray[np.int16]
    extras: npt.NDArray[np.float64]
    segments: npt.NDArray[np.uint8]
    keys: Longs
    sizes: npt.NDArray[np.int32]

    @property
    def events(self) -> Bools:
        """Say of each row whether it is a prediction, not a label."""
        return self.ranks < LABEL

    def take(self, places: Array) -> Rows:
        """Return the rows at places, or those of a mask."""
        return Rows._make(column[places] for column in self)

    def order(self) -> Longs:
        """Return places in the order of key, time, rank and offset; equal rows stay in their order."""
        found = np.argsort(self.ids, kind="stable")
        ids = self.ids[found]
        same = np.flatnonzero(ids[1:] == ids[:-1])
        if len(same):
            tied = np.zeros(len(ids), bool)
            tied[same] = tied[same + 1] = True
            mine = found[tied]
            found[tied] = mine[np.lexsort((self.offsets[mine], self.ranks[mine], self.times[mine], self.ids[mine]))]
        return found

    def repeats(self) -> Bools:
        """Say of each ordered row whether it is at the place of the row before: the same key, time, rank and offset."""
        found = np.zeros(len(self.ids), bool)
        found[1:] = self.ids[1:] == self.ids[:-1]
        for column in (self.times, self.ranks, self.offsets):
            found[1:] &= column[1:] == column[:-1]
        return found


def joined(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts, one after the other."""
    return parts[0] if len(parts) == 1 else Rows._make(map(np.concatenate, zip(*parts, strict=True)))


@dataclass(frozen=True, slots=True)
class Window:
    """How long is waited. within, grace: ms."""

    within: int  # after its event's time a label counts
    grace: int  # more, for what arrives out of order

    def closes(self, time: int) -> int:
        """Return when an event that has no label will have none, and when a label is forgotten."""
        return time + self.within + self.grace

    def event(self, time: int) -> int:
        """Return when an event is forgotten: not before any label that it can have."""
        return time + 2 * self.within + self.grace

    def closings(self, rows: Rows) -> Longs:
        """Return `closes` of each row."""
        return rows.times + (self.within + self.grace)

    def deadlines(self, rows: Rows) -> Longs:
        """Return when each row is forgotten."""
        found: Longs = self.closings(rows) + np.where(rows.events, self.within, 0)
        return found


class Run:
    """Ordered rows. starts: places of the first row of each event. stale: when a part of the rows is due. last: all."""

    __slots__ = ("last", "rows", "stale", "starts")

    def __init__(self, rows: Rows, window: Window) -> None:
        self.rows = rows
        self.starts = np.flatnonzero(rows.events & ~rows.repeats()).astype(np.int32)
        deadlines, at = window.deadlines(rows), int(STALE * len(rows.ids))
        self.last, self.stale = int(deadlines.max()), int(np.partition(deadlines, at)[at])

    def spans(self, wanted: Rows) -> tuple[Longs, Longs, Longs]:
        """Return places among ordered rows whose ids are here, and from where to where they are."""
        ids = self.rows.ids
        low = np.searchsorted(ids, wanted.ids)
        at = np.flatnonzero(ids[np.minimum(low, len(ids) - 1)] == wanted.ids)
        return at, low[at], np.searchsorted(ids, wanted.ids[at], "right") if len(at) else at

    def last_of(self, low: Longs, high: Longs) -> Longs:
        """Return in ranges of rows of a key each the last place and that of the last event; one is due last of all."""
        events = self.starts[np.searchsorted(self.starts, high) - 1].astype(np.int64) if len(self.starts) else low
        return np.concatenate((high - 1, np.where((events >= low) & (events < high), events, low)))

    def around(self, low: Longs, high: Longs, times: Longs) -> tuple[Longs, Longs]:
        """Return in each range of places the times of the last event before a time and of the first one after it."""
        starts, found = self.starts, self.rows.times
        before = np.searchsorted(starts, _search(found, low, high, times, False)) - 1
        after = np.searchsorted(starts, _search(found, low, high, times, True))
        padded = np.concatenate((starts, [0])).astype(np.int64)  # so that each has a place
        earlier, later = padded[np.maximum(before, 0)], padded[after]
        there, follows = (before >= 0) & (earlier >= low), (after < len(starts)) & (later < high)
        return np.where(there, found[earlier], NEVER), np.where(follows, found[later], -NEVER)


def _search(times: Longs, low: Longs, high: Longs, wanted: Longs, behind: bool) -> Longs:
    """Return in each range of places the first whose time is not before the wanted one, or is behind it."""
    low, high = low.copy(), high.copy()
    while (left := np.flatnonzero(low < high)).size:
        middle = (low[left] + high[left]) // 2
        found, sought = times[middle], wanted[left]
        less = found <= sought if behind else found < sought
        low[left] = np.where(less, middle + 1, low[left])
        high[left] = np.where(less, high[left], middle)
    return low


class Runs:
    """All runs, the oldest first: of two rows at the same place, the one in the earlier run came first."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self.runs: list[Run] = []

    def __len__(self) -> int:
        return sum(len(run.rows.ids) for run in self.runs)

    def near(self, wanted: Rows) -> list[Rows]:
        """Return, run by run, the rows that ordered new ones may have to do with.

        They are all of their keys, or of a key with many rows those from the event before to the event after, and one
        or two of which one is not due, if any is: so that it is seen whose the id is.
        """
        spans = [run.spans(wanted) for run in self.runs]
        many = np.zeros(len(wanted.ids), np.int64)
        for at, low, high in spans:
            many[at] += high - low
        far = many > FEW
        begin, end = self._times(spans, wanted, far) if far.any() else (wanted.times, wanted.times)
        found = []
        for run, (at, low, high) in zip(self.runs, spans, strict=True):
            some = np.zeros(0, np.int64)
            if len(chosen := np.flatnonzero(far[at])):
                times, ranges = run.rows.times, (low[chosen], high[chosen])
                some = run.last_of(*ranges)
                low[chosen] = _search(times, *ranges, begin[at[chosen]], False)
                high[chosen] = _search(times, *ranges, end[at[chosen]], True)
            places = np.concatenate((ragged(low, high - low), some))
            repeated = len(some) or (wanted.ids[at[1:]] == wanted.ids[at[:-1]]).any()
            if len(places):
                found.append(run.rows.take(np.unique(places) if repeated else places))
        return found

    def _times(self, spans: Sequence[tuple[Longs, Longs, Longs]], wanted: Rows, far: Bools) -> tuple[Longs, Longs]:
        """Return of each row the time of the event before it, its own where there is none, and of the event after."""
        begin, end = np.full(len(wanted.ids), NEVER), np.full(len(wanted.ids), -NEVER)
        for run, (at, low, high) in zip(self.runs, spans, strict=True):
            chosen = np.flatnonzero(far[at])
            rows = at[chosen]
            before, after = run.around(low[chosen], high[chosen], wanted.times[rows])
            begin[rows], end[rows] = np.maximum(begin[rows], before), np.minimum(end[rows], after)
        return np.where(begin == NEVER, wanted.times, begin), end

    def add(self, rows: Rows) -> None:
        """Take ordered rows, which are new."""
        if len(rows.ids):
            self.runs.append(Run(rows, self._window))
            self._settle()

    def forget(self, keep: int) -> None:
        """Give back the memory of what is due, where that is much."""
        if all(run.stale > keep for run in self.runs):
            return
        fresh = []
        for run in self.runs:
            if run.stale <= keep:
                left = run.rows.take(self._window.deadlines(run.rows) > keep) if run.last > keep else None
                fresh += [Run(left, self._window)] if left is not None else []
            else:
                fresh.append(run)
        self.runs = fresh
        self._settle()

    def widen(self, segments: int) -> None:
        """Make room for the values of so many segments."""
        for run in self.runs:
            run.rows = widened(run.rows, segments)

    def _settle(self) -> None:
        """Merge the last runs while as many are of a size."""
        while len(self.runs) >= MERGED:
            parts = [run.rows for run in self.runs[-MERGED:]]
            sizes = [len(part.ids) for part in parts]
            if sizes[0] > 2 * sizes[-1] or sum(sizes) > MOST:
                return
            rows = joined(parts)
            self.runs[-MERGED:] = [Run(rows.take(rows.order()), self._window)]


def widened(rows: Rows, segments: int) -> Rows:
    """Return rows with room for the values of so many segments."""
    lacking = segments - rows.segments.shape[1]
    if not lacking:
        return rows
    return rows._replace(segments=np.pad(rows.segments, ((0, 0), (0, lacking))))
