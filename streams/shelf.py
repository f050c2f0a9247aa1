"""Rows of two sides that are to be compared, in blocks of source offsets; what memory does not hold goes to disk.

The sides come in any order and at any pace, and each waits for the other. One block at a time is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

BLOCK = 1 << 14  # source offsets
BYTES = 256 << 20  # of rows in memory
Block = tuple[int, int]  # a source partition, and the number of a block in it


class Shelf:
    """folder: takes files, and is the caller's to remove. held: bytes of rows that stay in memory."""

    def __init__(self, folder: Path, held: int = BYTES) -> None:
        self._folder, self._most = folder, held
        self._held: dict[tuple[int, Block], list[pl.DataFrame]] = {}
        self._files: dict[tuple[int, Block], list[Path]] = {}
        self._bytes = 0
        self.spilled = 0

    def put(self, side: int, frame: pl.DataFrame) -> None:
        """Keep the rows of a side, 0 or 1; they have the columns partition and offset."""
        blocks = frame.with_columns((pl.col("offset") // BLOCK).alias("block"))
        for key, part in blocks.partition_by(["partition", "block"], as_dict=True, include_key=True).items():
            self._held.setdefault((side, (int(key[0]), int(key[1]))), []).append(part.drop("block"))
        self._bytes += int(frame.estimated_size())
        if self._bytes > self._most:
            self._spill()

    def blocks(self) -> Iterator[tuple[pl.DataFrame | None, pl.DataFrame | None]]:
        """Yield what both sides have of each block, None for nothing; each block once, and it is forgotten then."""
        for block in sorted({block for _, block in (*self._held, *self._files)}):
            yield self._take(0, block), self._take(1, block)

    def _take(self, side: int, block: Block) -> pl.DataFrame | None:
        key = side, block
        files = self._files.pop(key, [])
        frames = [*map(pl.read_ipc, files), *self._held.pop(key, [])]
        for file in files:
            file.unlink()
        return pl.concat(frames) if frames else None

    def _spill(self) -> None:
        for (side, block), frames in self._held.items():
            file = self._folder / f"{self.spilled}.arrow"
            pl.concat(frames).write_ipc(file)
            self._files.setdefault((side, block), []).append(file)
            self.spilled += 1
        self._held.clear()
        self._bytes = 0
