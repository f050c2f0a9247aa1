"""What a record of samples or labels adds to the counts: by row as it is found, then added up at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from monitoring.arrays import Array, Longs, combined, sums
from monitoring.cells import Group
from monitoring.rows import Rows

View = tuple[str, str]  # a segment and its value, both empty for all events
Sums = Sequence[tuple[int, Array]]  # cells, and what is added to them by row


class Into(Protocol):
    """Where counts are put."""

    def of(self, times: Longs) -> Longs:
        """Return the ticks in which times (ms) count."""

    def put(self, tick: int, group: Group, found: Sequence[tuple[int, int]]) -> None:
        """Add counts to a tick."""


class Place(NamedTuple):
    """Whose counts, by row of a view: tick, source, number of the view (0: all events) and of its value.

    which: of the rows that were counted.
    """

    which: Longs
    ticks: Longs
    sources: Longs
    views: Longs
    values: Longs


class Tally:
    """Counts that are not added up yet."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], int] = {}
        self._counts: list[tuple[Longs, Longs, Longs, Longs, Longs]] = []
        self._sums: list[tuple[int, Longs, Longs, Sums]] = []

    def kind(self, what: str, name: str = "") -> int:
        """Return the number by which rows say what they count."""
        return self._kinds.setdefault((what, name), len(self._kinds))

    def count(self, kinds: int | Longs, rows: Longs, times: Longs, cells: int | Longs, signs: Longs) -> None:
        """Count predictions (places of rows) at times (ms) in a cell each, signs times; shape (n,) or one for all."""
        if len(rows):
            like = np.zeros(len(rows), np.int64)
            self._counts.append((like + kinds, rows, times, like + cells, signs))

    def sum(self, kind: int, rows: Longs, times: Longs, columns: Sums) -> None:
        """Add whole numbers of predictions up in several cells."""
        if len(rows):
            self._sums.append((kind, rows, times, columns))

    def into(
        self,
        ticks: Into,
        rows: Rows,
        firsts: Longs,
        group: Callable[[int, View, str, str], Group],
        views: Sequence[Callable[[int], View]],
    ) -> None:
        """Add all of it to ticks, for all events and by the value of each segment.

        firsts: of each row the first prediction of its event, whose segments count. group: of a number of a source, a
        view, what and name. views: of each segment, by the number of its value.
        """
        names = list(self._kinds)
        for (tick, source, view, value, kind), found in self._added(ticks, rows, firsts):
            place = views[view - 1](value) if view else ("", "")
            ticks.put(tick, group(source, place, *names[kind]), found)
        self._counts, self._sums = [], []

    def _added(self, ticks: Into, rows: Rows, firsts: Longs) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        if self._counts:
            kinds, whose, times, cells, signs = map(np.concatenate, zip(*self._counts, strict=True))
            place = _placed(ticks, rows, firsts, whose, times)
            columns = (*place[1:], kinds[place.which], cells[place.which])
            begins, order, starts = _ordered(columns)
            totals, last = sums(signs[place.which][order], starts), list[int]()
            found: list[tuple[int, int]] = []
            for *where, cell, total in zip(*(column[begins].tolist() for column in columns), totals, strict=True):
                if where != last:
                    if found:
                        yield last, found
                    last, found = where, []
                found.append((cell, total))
            yield last, found
        for kind, whose, times, added in self._sums:
            place = _placed(ticks, rows, firsts, whose, times)
            begins, order, starts = _ordered(place[1:])
            by_cell = [(cell, sums(by[place.which][order], starts)) for cell, by in added]
            for at, whom in enumerate(zip(*(column[begins].tolist() for column in place[1:]), strict=True)):
                yield [*whom, kind], [(cell, totals[at]) for cell, totals in by_cell]


def _placed(ticks: Into, rows: Rows, firsts: Longs, whose: Longs, times: Longs) -> Place:
    values = rows.segments[firsts[whose]]
    chosen = [np.arange(len(whose)), *(np.flatnonzero(column) for column in values.T)]
    which = np.concatenate(chosen)
    views = np.repeat(np.arange(len(chosen)), [len(each) for each in chosen])
    numbers = np.concatenate([chosen[0] * 0, *(column[at] for column, at in zip(values.T, chosen[1:], strict=True))])
    return Place(
        which, ticks.of(times)[which], rows.sources[whose].astype(np.int64)[which], views, numbers.astype(np.int64)
    )


def _ordered(columns: Sequence[Longs]) -> tuple[Longs, Longs, Longs]:
    """Return of each row that differs from others its first place, and the order in which they lie, and its starts."""
    keys = combined(*columns)
    order = np.argsort(keys)
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return order[starts], order, starts
