"""The events and labels that may still change what is known, and when each may be forgotten.

What is pending at a position of the log is a function of the log and of one clock: whatever lies beyond its deadline is
gone. So a restart finds it again by reading the log from `low` on, and no snapshot holds it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from hashlib import blake2b
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from models import sampling
from monitoring.arrays import Array, Bools, Buffer, Longs, ragged
from monitoring.meeting import NOBODY, Equal, Meeting, repeats
from monitoring.rows import Rows, Runs, Window, joined, widened
from monitoring.values import TEXT, Reading

GRAIN = 1000  # the clock moves in steps of a thousandth of the window,
LONGEST = 60_000  # or this in ms, where that is less


class Due:
    """How many of something are due when, in steps of the clock."""

    def __init__(self, grain: int) -> None:
        self._grain = grain
        self._counts: dict[int, int] = {}
        self._steps: list[int] = []

    def add(self, deadlines: Longs, by: Longs) -> None:
        """Note that so many more are due."""
        if not len(by):
            return
        steps, inverse = np.unique(-(-deadlines // self._grain), return_inverse=True)
        counts = np.bincount(inverse.reshape(-1), weights=by).astype(np.int64)
        for step, count in zip(steps.tolist(), counts.tolist(), strict=True):
            if step not in self._counts:
                heappush(self._steps, step)
            self._counts[step] = self._counts.get(step, 0) + count

    def take(self, keep: int) -> int:
        """Return how many were due up to a step of the clock."""
        total = 0
        while self._steps and self._steps[0] * self._grain <= keep:
            total += self._counts.pop(heappop(self._steps))
        return total


class Pending:
    """What waits. keep: ms, what has its deadline up to it is gone; the fold moves it."""

    def __init__(self, window: Window, keep: int = 0) -> None:
        self.window, self.keep = window, keep
        self.reading = Reading()
        self.segments = 0  # that rows have room for
        self._grain = max(min(window.within // GRAIN, LONGEST), 1)
        self._runs, self._keys = Runs(window), Buffer(np.uint8)
        self._apart: dict[bytes, int] = {}  # ids of keys whose hash another one has
        self._without, self._unowned = Due(self._grain), Due(self._grain)  # events without labels, labels without event
        self._trail: deque[tuple[int, int]] = deque()  # offset in the log, deadline of what it brought

    def __len__(self) -> int:
        return len(self._runs)

    def put(self, keys: Sequence[bytes], deadline: int) -> tuple[sampling.Hashes, Longs, npt.NDArray[np.int32]]:
        """Keep the bytes of keys until a deadline; return their ids, places and sizes."""
        sizes = np.fromiter(map(len, keys), np.int64, len(keys))
        start = self._keys.put(np.frombuffer(b"".join(keys), np.uint8), deadline)
        ids = sampling.hashes(keys)
        ids = self._ids(keys, ids) if self._apart else ids
        return ids, start + np.cumsum(sizes) - sizes, sizes.astype(np.int32)

    def mark(self, offset: int, deadline: int) -> None:
        """Note that a record of the log brought what stays until a deadline."""
        self._trail.append((offset, deadline))

    def low(self, position: int) -> int:
        """Return the offset from which the log holds all that is pending."""
        while self._trail and self._trail[0][1] <= self.keep:
            self._trail.popleft()
        return self._trail[0][0] if self._trail else position

    def meet(self, new: Rows) -> Meeting:
        """Return what rows that are not due have to do with, and they among it; they are not kept yet."""
        if new.segments.shape[1] > self.segments:
            self.segments = new.segments.shape[1]
            self._runs.widen(self.segments)
        new = widened(new, self.segments)
        while True:
            new = new.take(new.order())
            near = self._runs.near(new)
            old = [part.take(self.window.deadlines(part) > self.keep) for part in near]
            rows = joined([*old, new])
            order = rows.order()
            rows, fresh = rows.take(order), order >= len(order) - len(new.ids)
            if not len(wrong := self._wrong(rows, fresh)):
                return Meeting(rows, fresh, self.window.within)
            new = self._set_apart(new, {self._key(rows, at) for at in wrong.tolist()})

    def _wrong(self, rows: Rows, fresh: Bools) -> Longs:
        """Return places of new rows whose keys share their ids with other keys, which came first."""
        begins = np.concatenate(([True], rows.ids[1:] != rows.ids[:-1]))
        group, first = np.cumsum(begins) - 1, np.flatnonzero(begins)
        old, new = np.flatnonzero(~fresh)[::-1], np.flatnonzero(fresh)
        first[group[old]] = old  # of several the first one is written last
        one = first[group[new]]
        return new[~self._equal(rows.keys[one], rows.sizes[one], rows.keys[new], rows.sizes[new])]

    def _set_apart(self, new: Rows, keys: set[bytes]) -> Rows:
        """Return rows with ids of their own for keys whose hash another one has."""
        for key in keys:
            seed = self._apart.get(key, 0).to_bytes(8, "big")
            self._apart[key] = int.from_bytes(blake2b(key, digest_size=8, salt=seed).digest(), "big")
        return new._replace(ids=self._ids([self._key(new, row) for row in range(len(new.ids))], new.ids))

    def _ids(self, keys: Sequence[bytes], ids: sampling.Hashes) -> sampling.Hashes:
        """Return ids, those of keys that are set apart in their place."""
        return np.array([self._apart.get(key, each) for key, each in zip(keys, ids.tolist(), strict=True)], np.uint64)

    def _key(self, rows: Rows, at: int) -> bytes:
        start = int(rows.keys[at])
        return bytes(self._keys.at(np.arange(start, start + int(rows.sizes[at]))))

    def _equal(self, one: Longs, size: Array, other: Longs, sizes: Array) -> Bools:
        """Say of pairs of keys whether they are the same bytes."""
        same: Bools = size == sizes
        some = np.flatnonzero(same & (size > 0))
        if len(some):
            length = size[some].astype(np.int64)
            differs = self._keys.at(ragged(one[some], length)) != self._keys.at(ragged(other[some], length))
            same[some] = ~np.logical_or.reduceat(differs, np.cumsum(length) - length)
        return same

    def take(self, meeting: Meeting) -> None:
        """Keep the new rows of a meeting."""
        rows, fresh, after, earlier = meeting.rows, meeting.fresh, meeting.after, meeting.earlier
        self._runs.add(rows.take(fresh))
        labels, events = ~rows.events, meeting.begins
        loose = (labels & (after.owners == NOBODY)).astype(np.int64)
        loose -= labels & ~fresh & (earlier.owners == NOBODY)
        bare = (events & ~meeting.labelled).astype(np.int64)
        bare -= events & ~fresh & ~meeting.labelled_before
        closes = self.window.closings(rows)
        for due, by in ((self._unowned, loose), (self._without, bare)):
            at = np.flatnonzero((by != 0) & (closes > self.keep))
            due.add(closes[at], by[at])

    def told(self, meeting: Meeting, equal: Equal) -> Counter[str]:
        """Return what the new rows of a meeting change of the counts of events and labels."""
        rows, after, earlier = meeting.rows, meeting.after, meeting.earlier
        new, closed = meeting.begins & meeting.fresh, self.window.closings(rows) <= self.keep
        came = meeting.labelled.astype(np.int64) - meeting.labelled_before
        (same, other), (same_before, other_before) = repeats(after, equal), repeats(earlier, equal)
        return Counter(
            events=int(new.sum()),
            pairs=int(came.sum()),
            missing=int((new & closed).sum()) - int(came[closed].sum()),
            duplicates=same - same_before,
            corrections=other - other_before,
            late_labels=int(after.late.sum()) - int(earlier.late.sum()),
        )

    def expire(self, keep: int) -> dict[str, int]:
        """Move the clock; return how many events will have no label and how many labels found no event, and forget."""
        keep = keep // self._grain * self._grain
        if keep <= self.keep:
            return {}
        self.keep = keep
        gone = {"missing": self._without.take(keep), "unmatched": self._unowned.take(keep)}
        self._runs.forget(keep)
        self._keys.forget(keep)
        self.reading.vectors.forget(keep)
        if self.reading.texts.crowded:
            rows = [run.rows for run in self._runs.runs]
            self.reading.texts.keep({code for each in rows for code in each.bits[each.kinds == TEXT].tolist()})
        return gone
