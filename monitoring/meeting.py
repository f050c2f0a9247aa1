"""Which label belongs to which event: a function of what is there, in whatever order it came.

A label belongs to the last event of its key whose time is not after its own, if it came within the window; else it
waits. Several labels of one event are a chain in the order of their times: what repeats is a duplicate, what differs a
correction. Several predictions of one event, one by each arm, are one event.

A meeting is what new rows may have to do with, and the new rows among it. What they change is the difference of what
all rows say and what the old ones alone said; of rows whose own neighbours are not there both say the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from monitoring.arrays import Bools, Longs, combined, ragged
from monitoring.rows import Rows

NOBODY = -1
ALL, OLD, NEW = range(3)
Equal = Callable[[Longs, Longs], Bools]  # says of pairs of labels whether they say the same


class Chains(NamedTuple):
    """Of each row that is a label. owners: the first row of its event. before: the label before it of that event.

    NOBODY where there is none, and for events. late: it came after the window of the event before it.
    """

    owners: Longs
    before: Longs
    late: Bools


class Entries(NamedTuple):
    """Truths that an event counts. labels: whose times. truths: whose values. owners: events. signs: 1 or -1.

    of: ALL predictions of the event, only those that are OLD, or only those that are NEW.
    """

    labels: Longs
    truths: Longs
    owners: Longs
    signs: Longs
    of: Longs


def chains(rows: Rows, firsts: Longs, within: int) -> Chains:
    """Return which labels belong to which events. rows: in order. firsts: of each, see `Meeting`. within: ms."""
    places, label = np.arange(len(rows.ids)), ~rows.events
    last = np.maximum.accumulate(np.where(firsts == places, places, NOBODY))
    known = label & (last != NOBODY) & (rows.ids[last] == rows.ids)
    owned = known & (rows.times - rows.times[last] <= within)
    owners = np.where(owned, last, NOBODY)
    before = np.full(len(places), NOBODY)
    follows = owned[1:] & (owners[1:] == owners[:-1])
    before[1:][follows] = places[:-1][follows]
    return Chains(owners, before, known & ~owned)


def firsts_of(rows: Rows) -> Longs:
    """Return of each ordered row that is a prediction the first one of its event; of a label itself less one, or -1."""
    places, events = np.arange(len(rows.ids)), rows.events
    first = np.maximum.accumulate(np.where(events & ~rows.repeats(), places, NOBODY))
    return np.where(events, first, NOBODY)


@dataclass(frozen=True)
class Meeting:
    """Rows in order and whether each is new; at one place, the ones that came first lie first. within: ms."""

    rows: Rows
    fresh: Bools
    within: int

    @cached_property
    def firsts(self) -> Longs:
        """The first prediction of each prediction's event; NOBODY for labels."""
        return firsts_of(self.rows)

    @cached_property
    def begins(self) -> Bools:
        """Say of each row whether it is the first prediction of an event."""
        found: Bools = self.firsts == np.arange(len(self.fresh))
        return found

    def repeated(self, arms: Longs) -> Bools:
        """Say which new rows were there already: a label, or what an arm said of an event. arms: of predictions."""
        again = np.zeros(len(self.fresh), bool)
        labels = ~self.rows.events
        again[labels] = self.rows.repeats()[labels]
        if len(events := np.flatnonzero(~labels)) > 1:
            keys = combined(self.firsts[events], arms[events])
            order = np.argsort(keys, kind="stable")
            again[events[order[1:]]] = keys[order][1:] == keys[order][:-1]
        return again & self.fresh

    def without(self, rows: Bools) -> Meeting:
        """Return the meeting without some rows."""
        return Meeting(self.rows.take(~rows), self.fresh[~rows], self.within) if rows.any() else self

    @cached_property
    def after(self) -> Chains:
        """Which labels belong to which events now."""
        return chains(self.rows, self.firsts, self.within)

    @cached_property
    def earlier(self) -> Chains:
        """Which old labels belonged to which events before the new rows came."""
        size, old = len(self.fresh), np.flatnonzero(~self.fresh)
        found = Chains(np.full(size, NOBODY), np.full(size, NOBODY), np.zeros(size, bool))
        if len(old):
            rows = self.rows.take(old)
            alone = chains(rows, firsts_of(rows), self.within)
            for into, what in zip(found[:2], alone[:2], strict=True):
                into[old] = np.where(what == NOBODY, NOBODY, old[what])
            found.late[old] = alone.late
        return found

    @cached_property
    def labelled(self) -> Bools:
        """Say of each row whether it is the first of an event that has a label now."""
        return _owning(self.after)

    @cached_property
    def labelled_before(self) -> Bools:
        """Say the same of the time before the new rows came."""
        return _owning(self.earlier)

    def entries(self, equal: Equal) -> Entries:
        """Return what events count otherwise than before."""
        after, earlier = self.after, self.earlier
        changed = self.fresh | (after.owners != earlier.owners) | (after.before != earlier.before)
        more = np.zeros(len(self.fresh), bool)
        more[self.firsts[self.fresh & self.rows.events]] = True  # events that have new predictions
        owned = after.owners != NOBODY
        parts = [
            _entries(after, owned & changed, equal, 1, ALL),
            _entries(earlier, (earlier.owners != NOBODY) & changed, equal, -1, OLD),
            _entries(after, owned & ~changed & more[after.owners], equal, 1, NEW),
        ]
        return Entries._make(map(np.concatenate, zip(*parts, strict=True)))

    def spread(self, entries: Entries) -> tuple[Longs, Longs]:
        """Return places of entries and of the predictions of their events, old and new, one beside the other."""
        size = np.bincount(self.firsts[self.rows.events], minlength=len(self.fresh))
        sizes = size[entries.owners]
        return np.repeat(np.arange(len(sizes)), sizes), ragged(entries.owners, sizes)


def repeats(found: Chains, equal: Equal) -> tuple[int, int]:
    """Return how many labels are duplicates and how many corrections of the one before."""
    later = np.flatnonzero(found.before != NOBODY)
    same = int(equal(later, found.before[later]).sum())
    return same, len(later) - same


def _owning(found: Chains) -> Bools:
    has = np.zeros(len(found.owners), bool)
    has[found.owners[found.owners != NOBODY]] = True
    return has


def _entries(found: Chains, chosen: Bools, equal: Equal, sign: int, of: int) -> Entries:
    """A label counts its truth and takes away that of the one before, unless it says the same."""
    at = np.flatnonzero(chosen)
    later = found.before[at] != NOBODY
    differs = later.copy()
    differs[later] = ~equal(at[later], found.before[at[later]])
    counts = differs | ~later
    labels = np.concatenate((at[counts], at[differs]))
    truths = np.concatenate((at[counts], found.before[at[differs]]))
    signs = np.repeat((sign, -sign), (int(counts.sum()), int(differs.sum())))
    return Entries(labels, truths, found.owners[labels], signs, np.full(len(labels), of))
