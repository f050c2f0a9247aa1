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
from schemas.values import Reason, Rejection

Rows = npt.NDArray[np.int64]
Inputs = Mapping[str, npt.NDArray[Any]]
# Outputs of the rows that were scored; which they are, None for all; a rejection for each of the others.
Found = tuple[pl.DataFrame, Rows | None, list[Rejection]]

SEARCH_SECONDS = 120.0  # of a batch: Kafka takes the partitions of a worker that does not poll for 300 s


class Search:
    """Scores prepared rows with a model. seconds: that a run may take."""

    def __init__(self, model: Model, seconds: float, clock: Callable[[], float]) -> None:
        self._model, self._seconds, self._clock = model, seconds, clock
        self._began = self._allowed = self._patience = self._left = 0.0

    def score(
        self, inputs: Inputs, height: int, patience: float = SEARCH_SECONDS, left: float = SEARCH_SECONDS
    ) -> Found:
        """Return the outputs of `height` rows, less those that the model cannot score.

        One run is made in any case. After `left` seconds rows are refused untried: a batch that is searched until its
        partitions are taken away would be searched again, for ever. Once a run has failed, so they are after
        `patience` seconds: a hierarchy that only loads its leaves for long goes on.
        """
        self._began, self._allowed = self._clock(), math.inf
        self._patience, self._left = min(patience, left), left
        return self._attempt(inputs, height, self._seconds)

    def _attempt(self, inputs: Inputs, height: int, seconds: float) -> Found:
        if height == 0:
            return self._nothing(), None, []
        rows, pieces = np.arange(height), list[tuple[Rows, Found]]()
        while len(rows):
            tried = self._try(inputs if len(rows) == height else _take(inputs, rows), len(rows), seconds)
            if not isinstance(tried, RowsFailed):
                pieces.append((rows, tried))
                break
            pieces.append((rows[tried.scored], (tried.outputs, None, [])))
            for failed, cause in tried.failed:
                some = rows[failed]
                pieces.append((some, self._narrow(_take(inputs, some), len(some), cause, seconds)))
            rows = rows[tried.untried]
        return pieces[0][1] if len(pieces) == 1 else self._together(pieces, height)

    def _try(self, inputs: Inputs, height: int, seconds: float) -> Found | RowsFailed:
        took = self._clock() - self._began
        if took >= self._allowed:
            detail = f"was not tried: after {took:.3g} s the time that its batch may take was over"
            return self._refused([Rejection(row, "model_timed_out", detail) for row in range(height)])
        try:
            return self._model.run(inputs, seconds), None, []
        except RowsFailed as error:
            hung_or_failed = any(not isinstance(each, LeafUnavailable) for _, each in error.failed)
            self._allowed = min(self._allowed, self._patience if hung_or_failed else self._left)
            return error
        except ModelFailed as error:
            self._allowed = min(self._allowed, self._patience)
            cause = error
        return self._narrow(inputs, height, cause, seconds)

    def _narrow(self, inputs: Inputs, height: int, cause: ModelFailed, seconds: float) -> Found:
        """Return what becomes of rows that failed together.

        Half the rows get half the time, so that a row on which the model hangs costs twice the limit, not ten times.
        """
        if height == 1 or isinstance(cause, LeafUnavailable):
            reason: Reason = "model_timed_out" if isinstance(cause, ModelTimedOut) else "model_failed"
            name = type(cause).__name__
            return self._refused([Rejection(row, reason, str(cause), name) for row in range(height)])
        half, shorter = height // 2, max(seconds / 2, self._seconds / 16)
        left, right = np.arange(half), np.arange(half, height)
        pieces = [(rows, self._attempt(_take(inputs, rows), len(rows), shorter)) for rows in (left, right)]
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
