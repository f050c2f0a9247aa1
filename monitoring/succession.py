"""Which version scores in an arm, what the last window of the one before held, and what the first one since holds.

A version has taken over when another than the present one has filled a window during which the present one scored
nothing: while slots change over one by one both score, and nothing is compared yet. Ticks come in the order of their
times, so this is a function of the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from monitoring.cells import Tables, merge
from monitoring.ticks import dump_tables, load_tables

CHUNKS = 8  # that a last window is kept in
SPAN_MS = 3_600_000  # a window that is so long is full with few events, too
FEWEST = 100
Who = tuple[str, ...]


@dataclass(slots=True)
class Window:
    """What was counted from a time to another, in ms of record time. rows: events."""

    since: int = 0
    until: int = 0
    rows: int = 0
    tables: Tables = field(default_factory=dict)

    def add(self, start: int, end: int, rows: int, tables: Tables) -> None:
        """Take what follows."""
        if not self.until:
            self.since = start
        self.until = end
        self.rows += rows
        merge(self.tables, tables)

    def full(self, rows: int) -> bool:
        """Say whether it holds so many events, or few in a long time."""
        return self.rows >= rows or (self.until - self.since >= SPAN_MS and self.rows >= FEWEST)

    def dump(self) -> list[Any]:
        """Return it as plain values."""
        return [self.since, self.until, self.rows, dump_tables(self.tables)]

    @classmethod
    def load(cls, document: Iterable[Any]) -> Window:
        """Return what was dumped."""
        since, until, rows, tables = document
        return cls(since, until, rows, load_tables(tables))


@dataclass(slots=True)
class Lately:
    """The latest events of one version: as few parts as hold `rows` of them."""

    rows: int
    parts: list[Window] = field(default_factory=list)

    def add(self, start: int, end: int, rows: int, tables: Tables) -> None:
        """Take the next tick."""
        if not self.parts or self.parts[-1].rows * CHUNKS >= self.rows:
            self.parts.append(Window())
        self.parts[-1].add(start, end, rows, tables)
        held = sum(part.rows for part in self.parts)
        while len(self.parts) > 1 and held - self.parts[0].rows >= self.rows:
            held -= self.parts.pop(0).rows

    def whole(self, since: int = 0) -> Window:
        """Return all of it, or of the parts that begin at a time or later."""
        found = Window()
        for part in self.parts:
            if part.since >= since:
                found.add(part.since, part.until, part.rows, part.tables)
        return found

    def dump(self) -> list[Any]:
        """Return it as plain values."""
        return [part.dump() for part in self.parts]

    @classmethod
    def load(cls, rows: int, document: Iterable[Any]) -> Lately:
        """Return what was dumped."""
        return cls(rows, [Window.load(part) for part in document])


class Takeover(NamedTuple):
    """One version took over from another."""

    before: Who
    last: Window
    after: Who
    first: Window


@dataclass(slots=True)
class Succession:
    """Of one arm. rows: events of a full window."""

    rows: int
    present: Who = ()
    lately: Lately | None = None
    newcomer: Who = ()
    first: Window = field(default_factory=Window)

    def take(self, who: Who, start: int, end: int, rows: int, tables: Tables) -> Takeover | None:
        """Take a version's tick, in the order of times; return that it has taken over, if it has now."""
        if self.lately is None:
            self.present, self.lately = who, Lately(self.rows)
        if who == self.present:
            self.newcomer, self.first = (), Window()
            self.lately.add(start, end, rows, tables)
            return None
        if self.lately.parts and end <= self.lately.parts[-1].until:  # both score in this tick
            return None
        if who != self.newcomer:
            self.newcomer, self.first = who, Window()
        self.first.add(start, end, rows, tables)
        if not self.first.full(self.rows):
            return None
        found = Takeover(self.present, self.lately.whole(), who, self.first)
        self.present, self.lately = who, Lately(self.rows, [self.first])
        self.newcomer, self.first = (), Window()
        return found

    def dump(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "present": list(self.present),
            "lately": None if self.lately is None else self.lately.dump(),
            "newcomer": list(self.newcomer),
            "first": self.first.dump(),
        }

    @classmethod
    def load(cls, rows: int, document: Mapping[str, Any]) -> Succession:
        """Return what was dumped."""
        lately = None if document["lately"] is None else Lately.load(rows, document["lately"])
        return cls(
            rows, tuple(document["present"]), lately, tuple(document["newcomer"]), Window.load(document["first"])
        )
