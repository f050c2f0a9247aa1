"""The counts of a partition of samples, tick by tick of record time, until each tick is closed and told.

What comes for a tick that is closed goes into the oldest one that is open: a total misses nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monitoring import cells
from monitoring.arrays import Longs
from monitoring.cells import Cells, Group, Tables
from schemas import records

MOST_CELLS = 200_000  # in open ticks; beyond, the oldest is closed early, and counted


@dataclass(slots=True)
class Ticks:
    """Open ticks. closed: ms up to which they are closed. number: of the next part. fresh: counters since the last."""

    tick_ms: int
    closed: int = 0
    number: int = 0
    open: dict[int, Tables] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    fresh: dict[str, int] = field(default_factory=dict)
    _most: int = field(default=0, compare=False)  # cells that are open, at most

    def count(self, what: str, by: int = 1) -> None:
        """Count something that happened."""
        if by:
            self.counts[what] = self.counts.get(what, 0) + by
            self.fresh[what] = self.fresh.get(what, 0) + by

    def of(self, times: Longs) -> Longs:
        """Return the ticks in which times (ms) count: their own, or the oldest that is open."""
        return np.maximum(times // self.tick_ms, self.closed // self.tick_ms)

    def count_moved(self, times: Longs) -> None:
        """Count the times that count in another tick than their own."""
        self.count("moved", int((self.of(times) != times // self.tick_ms).sum()))

    def put(self, tick: int, group: Group, found: Sequence[tuple[int, int]]) -> None:
        """Add counts to an open tick."""
        cells.add(self.open.setdefault(tick, {}), group, found)
        self._most += len(found)

    def close(self, deployment: str, partition: int, until: int) -> Iterator[tuple[bytes, bytes]]:
        """Close what ends up to a time; yield key and value of each part, the last of which says how far it is."""
        until = max(until // self.tick_ms * self.tick_ms, self.closed)
        size = self._most = self._size() if self._most > MOST_CELLS else self._most
        for tick in sorted(self.open) if size > MOST_CELLS else ():
            if size > MOST_CELLS:
                size -= sum(map(len, self._of(tick)))
                self.count("forced", int(self._end(tick) > until))
                until = max(until, self._end(tick))
        if until == self.closed:
            return
        ended = sorted(tick for tick in self.open if self._end(tick) <= until)
        due = [tick for tick in ended if self.open[tick]]
        for tick in set(ended) - set(due):  # what came was taken away again
            del self.open[tick]
        for tick in due or [until // self.tick_ms - 1]:
            self.closed = until if not due or tick == due[-1] else self._end(tick)
            yield self._part(deployment, partition, tick, self.open.pop(tick, {}))
        self._most = self._size()

    def _size(self) -> int:
        return sum(len(each) for tick in self.open for each in self._of(tick))

    def _end(self, tick: int) -> int:
        return (tick + 1) * self.tick_ms

    def _of(self, tick: int) -> Iterable[Cells]:
        return self.open[tick].values()

    def _part(self, deployment: str, partition: int, tick: int, tables: Tables) -> tuple[bytes, bytes]:
        number, fresh = self.number, self.fresh
        self.number, self.fresh = number + 1, {}
        record = {
            "deployment": deployment,
            "partition": partition,
            "number": number,
            "tick_ms": self.tick_ms,
            "tick": tick,
            "closed": self.closed,
            "counts": {what: count for what, count in sorted(fresh.items()) if count},
            "groups": [{**group._asdict(), "cells": cells.pack(found)} for group, found in sorted(tables.items())],
        }
        return f"{deployment}/{partition}/{number}".encode(), records.encode("quality", record)

    def dump(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "closed": self.closed,
            "number": self.number,
            "open": dump_ticks(self.open),
            "counts": self.counts,
            "fresh": self.fresh,
            "size": self._size(),
        }

    @classmethod
    def load(cls, tick_ms: int, document: Mapping[str, Any]) -> Ticks:
        """Return what was dumped."""
        found, counts, fresh = load_ticks(document["open"]), document["counts"], document["fresh"]
        return cls(tick_ms, document["closed"], document["number"], found, counts, fresh, document["size"])


def dump_ticks(ticks: Mapping[int, Tables]) -> list[list[Any]]:
    """Return counts by tick as plain values."""
    return [[tick, dump_tables(tables)] for tick, tables in sorted(ticks.items())]


def load_ticks(document: Iterable[tuple[int, Any]]) -> dict[int, Tables]:
    """Return what was dumped."""
    return {tick: load_tables(tables) for tick, tables in document}


def dump_tables(tables: Mapping[Group, Cells]) -> list[list[Any]]:
    """Return counts as plain values."""
    return [[list(group), base64.b64encode(cells.pack(found)).decode()] for group, found in sorted(tables.items())]


def load_tables(document: Iterable[tuple[list[str], str]]) -> Tables:
    """Return what was dumped."""
    return {Group(*group): cells.unpack(base64.b64decode(packed)) for group, packed in document}
