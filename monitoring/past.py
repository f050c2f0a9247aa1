"""The ticks of the recent past, the older the coarser: since when has it been so, and what has been seen since?

Ticks are kept one by one at first; of more than a few blocks of one length the two oldest become one of twice the
length. So a moment that lies `t` ticks back is known to within a quarter of `t`, in memory that grows with log(t).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models import varint
from models.reference import Counts
from monitoring.tilts import Floats

BLOCKS = 8  # of one length are kept
LENGTHS = 17  # of blocks: the longest one has 65,536 ticks; of ticks of a second, six days are kept


@dataclass(frozen=True, slots=True)
class Block:
    """Some ticks in a row: the number of the first one, how many, and their events in each cell."""

    start: int
    ticks: int
    cells: Counts

    def with_next(self, later: Block) -> Block:
        """Return both as one."""
        return Block(self.start, self.ticks + later.ticks, self.cells + later.cells)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two blocks of 2^level ticks, side by side, that have become one."""

    level: int
    earlier: Block
    later: Block


class Past:
    """The blocks, newest first within each length."""

    def __init__(self) -> None:
        self._blocks: list[list[Block]] = []
        self._packed: dict[tuple[int, int], str] = {}  # of the blocks at the last dump: they never change

    def add(self, tick: int, cells: Counts) -> list[Pair]:
        """Take the next tick; return the pairs of blocks that became one, the shortest first."""
        block: Block | None = Block(tick, 1, cells)
        pairs = []
        for level in range(LENGTHS):
            if block is None:
                break
            if level == len(self._blocks):
                self._blocks.append([])
            row = self._blocks[level]
            row.insert(0, block)
            block = None
            if len(row) > BLOCKS:
                later, earlier = row[-2], row[-1]
                del row[-2:]
                block = earlier.with_next(later)
                pairs.append(Pair(level, earlier, later))
        return pairs

    def __iter__(self) -> Iterator[Block]:
        """Newest first."""
        return (block for row in self._blocks for block in row)

    def dump(self) -> list[list[list[Any]]]:
        """Return the blocks as plain values."""
        before = self._packed
        self._packed = {(b.start, b.ticks): before.get((b.start, b.ticks)) or _packed(b.cells) for b in self}
        return [[[b.start, b.ticks, self._packed[b.start, b.ticks]] for b in row] for row in self._blocks]

    @classmethod
    def load(cls, document: Sequence[Sequence[Sequence[Any]]]) -> Past:
        """Return what was dumped."""
        past = cls()
        past._blocks = [[Block(start, ticks, _cells(packed)) for start, ticks, packed in row] for row in document]
        return past

    def onset(self, start: int, end: int, increments: Floats) -> int:
        """Return the tick since when a column's cells (`start` to `end`) speak most for a tilt."""
        best, total, found = -np.inf, 0.0, 0
        for block in self:
            total += float(block.cells[start:end] @ increments)
            if total > best:
                best, found = total, block.start
        return found

    def since(self, tick: int) -> Counts | None:
        """Return the events in each cell from a tick on, or from the start of its block; None for none."""
        found: Counts | None = None
        for block in self:
            if block.start + block.ticks <= tick:
                break
            found = block.cells if found is None else found + block.cells
        return found


def _packed(cells: Counts) -> str:
    return base64.b64encode(varint.pack(cells)).decode()


def _cells(packed: str) -> Counts:
    return np.array(varint.unpack(base64.b64decode(packed)), np.int64)
