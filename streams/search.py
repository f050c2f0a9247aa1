"""Finds the rows that make a model fail, so that they alone are refused, without scoring the others again and again.

A model of one graph fails as a whole: its rows are halved until each that makes it fail stands alone. A hierarchy of
models says which of its rows failed: only those are halved, and not even they where their leaf cannot be loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.errors import LeafUnavailable, ModelFailed, ModelTimedOut, RowsFailed
from models.runtimes.base import Model
from models.runtimes.partitioned import PartitionedModel
from schemas.values import Reason, Rejection
from streams.haste import Haste
from streams.sizing import Fit

Rows = npt.NDArray[np.int64]
Inputs = Mapping[str, npt.NDArray[Any]]
# Outputs of the rows that were scored; which they are, None for all; a rejection for each of the others.
Found = tuple[pl.DataFrame, Rows | None, list[Rejection]]

SEARCH_SECONDS = 120.0  # of a batch: Kafka takes the partitions of a worker that does not poll for 300 s
BATCH_SECONDS = 240.0  # after which no run of a batch goes on, whoever has not been tried by then
BLOCKS = 3.0  # times the seconds of a run that a hierarchy of models may block, see `models.runtimes.base.Model.run`
QUARTERS = 4  # parts of rows that timed out together: half the time is enough for one where a model is only slow


class Search:
    """Scores prepared rows with a model. seconds: that a run may take. fit: how many rows it is handed at once.

    haste: asks for a batch to be given up, which raises Abandoned.
    """

    def __init__(
        self,
        model: Model,
        seconds: float,
        clock: Callable[[], float],
        fit: Fit | None = None,
        haste: Haste | None = None,
    ) -> None:
        self._model, self._seconds, self._clock = model, seconds, clock
        self._fit, self._haste = fit or Fit(seconds), haste or Haste()
        self._blocks = BLOCKS if isinstance(model, PartitionedModel) else 1.0
        self._began = self._allowed = self._patience = self._left = self._ends = 0.0

    def score(
        self,
        inputs: Inputs,
        height: int,
        patience: float = SEARCH_SECONDS,
        left: float = SEARCH_SECONDS,
        ends: float = BATCH_SECONDS,
    ) -> Found:
        """Return the outputs of `height` rows, less those that the model cannot score.

        After `left` seconds rows are refused untried: a batch that is searched until its partitions are taken away
        would be searched again, for ever. One run is made in any case, unless it could not end in `ends` seconds, in
        which all of them have to. Once a run has failed, rows are refused untried after `patience` seconds: a hierarchy
        that only loads its leaves for long goes on.
        """
        self._began, self._allowed, self._ends = self._clock(), math.inf, ends
        self._patience, self._left = min(patience, left), left
        return self._attempt(inputs, height, self._seconds)

    def _attempt(self, inputs: Inputs, height: int, seconds: float) -> Found:
        if height == 0:
            return self._nothing(), None, []
        rows, pieces = np.arange(height), list[tuple[Rows, Found]]()
        while len(rows):
            handed, rows = rows[: self._fit.rows], rows[self._fit.rows :]
            tried = self._try(inputs if len(handed) == height else _take(inputs, handed), len(handed), seconds)
            if not isinstance(tried, RowsFailed):
                pieces.append((handed, tried))
                continue
            pieces.append((handed[tried.scored], (tried.outputs, None, [])))
            for failed, cause in tried.failed:
                some = handed[failed]
                pieces.append((some, self._narrow(_take(inputs, some), len(some), cause, seconds)))
            rows = np.concatenate([handed[tried.untried], rows])
        return pieces[0][1] if len(pieces) == 1 else self._together(pieces, height)

    def _try(self, inputs: Inputs, height: int, seconds: float) -> Found | RowsFailed:
        took = self._clock() - self._began
        self._haste.check(took)
        if took >= min(self._allowed, self._ends):
            detail = f"was not tried: after {took:.3g} s the time that its batch may take was over"
            return self._refused([Rejection(row, "model_timed_out", detail) for row in range(height)])
        try:
            return self._model.run(inputs, min(seconds, (self._ends - took) / self._blocks)), None, []
        except RowsFailed as error:
            self._give_up()
            hung_or_failed = any(not isinstance(each, LeafUnavailable) for _, each in error.failed)
            self._allowed = min(self._allowed, self._patience if hung_or_failed else self._left)
            return error
        except ModelFailed as error:
            self._give_up()
            self._allowed = min(self._allowed, self._patience)
            cause = error
        if isinstance(cause, ModelTimedOut) and seconds >= self._seconds:
            self._fit.timed_out(height)
        return self._narrow(inputs, height, cause, seconds)

    def _give_up(self) -> None:
        """Raise Abandoned where a run failed because it was to end soon."""
        if self._haste.wanted:
            self._haste.check(self._clock() - self._began)

    def _narrow(self, inputs: Inputs, height: int, cause: ModelFailed, seconds: float) -> Found:
        """Return what becomes of rows that failed together.

        Parts of the rows get half the time, so that a row on which the model hangs costs twice the limit, not ten
        times. Where it hung, they are quarters: a model that is only slow scores a quarter in half the time.
        """
        if height == 1 or isinstance(cause, LeafUnavailable):
            reason: Reason = "model_timed_out" if isinstance(cause, ModelTimedOut) else "model_failed"
            name = type(cause).__name__
            return self._refused([Rejection(row, reason, str(cause), name) for row in range(height)])
        shorter = max(seconds / 2, self._seconds / 16)
        parts = np.array_split(np.arange(height), min(height, QUARTERS if isinstance(cause, ModelTimedOut) else 2))
        pieces = [(rows, self._attempt(_take(inputs, rows), len(rows), shorter)) for rows in parts]
        return self._together(pieces, height)

    def _together(self, pieces: Sequence[tuple[Rows, Found]], height: int) -> Found:
        """Return what was found about several parts of the rows, in the order of the rows."""
        scored = [rows if found[1] is None else rows[found[1]] for rows, found in pieces]
        outputs = pl.concat([found[0] for _, found in pieces if len(found[0])] or [self._nothing()])
        refused = [replace(r, row=int(rows[r.row])) for rows, found in pieces for r in found[2]]
        rows = np.concatenate(scored)
        order = np.argsort(rows, kind="stable")
        refused.sort(key=lambda each: each.row)
        return outputs[order], None if len(rows) == height else rows[order], refused

    def _refused(self, rejections: list[Rejection]) -> Found:
        return self._nothing(), np.zeros(0, np.int64), rejections

    def _nothing(self) -> pl.DataFrame:
        return pl.DataFrame(schema=[output.name for output in self._model.outputs])


def _take(inputs: Inputs, rows: Rows) -> Inputs:
    return {name: array[rows] for name, array in inputs.items()}
