"""What every runtime gives the worker: a model that turns a frame into outputs and says which rows it cannot take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.values import OutputField, Rejection

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The arrays of the rows that a model takes.

    inputs: input name -> array whose first dimension is the rows.
    rows: frame row of each input row, ascending; None: every row was taken.
    refused: one for each row that was not, `row` being the frame row; reasons `missing_value`,
    `wrong_shape` and `not_finite`.
    """

    inputs: Arrays
    rows: npt.NDArray[np.int64] | None
    refused: list[Rejection]


@dataclass(frozen=True, slots=True)
class Counts:
    """Sessions of a hierarchy of models: made and evicted so far, open now, and the bytes that these take, about."""

    made: int = 0
    evicted: int = 0
    open: int = 0
    bytes: int = 0


class Model(Protocol):
    """One loaded version of a model. Its methods are called by one thread at a time."""

    name: str
    version: str
    outputs: tuple[OutputField, ...]

    def prepare(self, frame: pl.DataFrame) -> Prepared:
        """Turn a frame with the model's features among its columns into arrays; refuses rows, never raises for data."""
        ...

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> pl.DataFrame:
        """Score prepared rows, or any slice of them: one column per output, one row per input row.

        Blocks for `seconds` at most, to within a quarter of a second, while the model is between two operators.
        Raises ModelTimedOut when it had to be terminated, ModelFailed when the model gave an error; RowsFailed, which
        is one too, where some rows were scored all the same. A hierarchy of models blocks for three times as long at
        most.
        """
        ...

    def hurry(self, on: bool) -> None:
        """End runs after `models.runtimes.watchdog.HURRY_SECONDS`, also the one in hand; or give them their time again.

        Any thread may ask.
        """
        ...

    def close(self) -> None:
        """Let go of the model's memory and thread; calling it twice is harmless."""
        ...
