"""What is done with the rows of every batch, the cheap way. Rows of frames are taken on the calling thread: polars' own
way hands each frame to its pool and waits, which on cores that are busy takes several times as long as the taking.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl


def taken(frame: pl.DataFrame, rows: npt.NDArray[np.int64]) -> pl.DataFrame:
    """Return these rows of a frame, in this order."""
    index = _index(rows)
    return pl.DataFrame([column[index] for column in frame.get_columns()])


def chosen(column: pl.Series, rows: npt.NDArray[np.int64]) -> pl.Series:
    """Return these rows of a column, in this order; `Series.gather` is a query, and takes five times as long."""
    return column[_index(rows)]


def stacked(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Return the rows of one frame after those of the other; at least one frame, all with the same columns."""
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.vstack(frame)
    return whole


def distinct(partitions: npt.NDArray[np.int32]) -> list[int]:
    """Return the partitions that are there, in order: they are few and small, so counting beats sorting."""
    found: list[int] = np.flatnonzero(np.bincount(partitions)).tolist()
    return found


def _index(rows: npt.NDArray[np.int64]) -> pl.Series:
    return pl.Series(rows.astype(np.uint32))
