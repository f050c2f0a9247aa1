"""Runs one model over a frame, and finds the rows that it fails on. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from models.errors import ModelFailed, ModelTimedOut
from models.runtimes.base import Model
from schemas.values import Reason, Rejection

Rows = npt.NDArray[np.int64]

SEARCH_SECONDS = 120.0  # of a batch: Kafka takes the partitions of a worker that does not poll for 300 s


@dataclass(frozen=True, slots=True)
class Ran:
    """rows: which of the frame's rows have outputs, in order; None: all. refused: one for each of the others."""

    outputs: pl.DataFrame
    rows: Rows | None
    refused: list[Rejection]


class Runner:
    """Runs a model. seconds: that a run may take."""

    def __init__(self, model: Model, seconds: float = 10.0, clock: Callable[[], float] = time.perf_counter) -> None:
        self.model, self.seconds, self._clock = model, seconds, clock
        self._deadline, self._allowed = 0.0, SEARCH_SECONDS

    def run(self, frame: pl.DataFrame, search_seconds: float = SEARCH_SECONDS) -> Ran:
        """Return the outputs of the rows that the model takes, and why it does not take the others.

        search_seconds: after which rows are refused untried where the model hangs on many.
        """
        prepared = self.model.prepare(frame)
        height = len(frame) if prepared.rows is None else len(next(iter(prepared.inputs.values())))
        self._deadline, self._allowed = self._clock() + search_seconds, search_seconds
        outputs, scored, failed = self._bisect(prepared.inputs, height, self.seconds)
        refused = prepared.refused + [replace(r, row=at(prepared.rows, r.row)) for r in failed]
        return Ran(outputs, through(prepared.rows, scored), refused)

    def _bisect(
        self, inputs: Mapping[str, npt.NDArray[np.generic]], height: int, seconds: float
    ) -> tuple[pl.DataFrame, Rows | None, list[Rejection]]:
        """Run the model; where it fails, halve the rows until each row that makes it fail stands alone.

        Half the rows get half the time, so that a row on which the model hangs costs twice the limit, not ten times.
        Where it hangs on many, rows are refused untried after a while: a batch that is searched until its partitions
        are taken away would be searched again, for ever.
        """
        if height == 0:
            return self._no_outputs(), None, []
        if self._clock() > self._deadline:
            detail = f"was not tried: the model hung on other events of its batch for {self._allowed:g} s"
            return self._no_outputs(), _rows([]), [Rejection(row, "model_timed_out", detail) for row in range(height)]
        try:
            return self.model.run(inputs, seconds), None, []
        except (ModelFailed, ModelTimedOut) as error:
            if height == 1:
                reason: Reason = "model_timed_out" if isinstance(error, ModelTimedOut) else "model_failed"
                return self._no_outputs(), _rows([]), [Rejection(0, reason, str(error), type(error).__name__)]
        half, rest = height // 2, height - height // 2
        shorter = max(seconds / 2, self.seconds / 16)
        left, left_rows, left_failed = self._bisect({name: a[:half] for name, a in inputs.items()}, half, shorter)
        right, right_rows, right_failed = self._bisect({name: a[half:] for name, a in inputs.items()}, rest, shorter)
        left_rows = np.arange(half) if left_rows is None else left_rows
        right_rows = np.arange(rest) if right_rows is None else right_rows
        outputs = pl.concat([part for part in (left, right) if len(part)] or [left])
        failed = left_failed + [replace(r, row=r.row + half) for r in right_failed]
        return outputs, np.concatenate([left_rows, right_rows + half]), failed

    def _no_outputs(self) -> pl.DataFrame:
        return pl.DataFrame(schema=[output.name for output in self.model.outputs])


def through(outer: Rows | None, inner: Rows | None) -> Rows | None:
    """Compose two selections, None being everything."""
    if inner is None:
        return outer
    return inner if outer is None else outer[inner]


def at(rows: Rows | None, row: int) -> int:
    """Return the row that a selection has at this place."""
    return row if rows is None else int(rows[row])


def _rows(values: Sequence[int]) -> Rows:
    return np.array(values, np.int64)
