"""Runs one model over a frame: the rows that it takes, their outputs, and why not the others. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl

from models.runtimes.base import Model
from schemas.values import Rejection
from streams.haste import Haste
from streams.pace import Pace
from streams.search import BATCH_SECONDS, SEARCH_SECONDS, Rows, Search
from streams.sizing import Fit


@dataclass(frozen=True, slots=True)
class Ran:
    """rows: which of the frame's rows have outputs, in order; None: all. refused: one for each of the others."""

    outputs: pl.DataFrame
    rows: Rows | None
    refused: list[Rejection]


class Runner:
    """Runs a model. seconds: that a run may take. pace: what rows took at the warm-up, where that is known.

    ran: told the rows of each frame of which none failed, and its seconds. haste: see `streams.haste`.
    """

    def __init__(
        self,
        model: Model,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.perf_counter,
        ran: Callable[[int, float], None] | None = None,
        pace: Pace | None = None,
        haste: Haste | None = None,
    ) -> None:
        self.model, self.seconds, self._clock, self._ran = model, seconds, clock, ran
        self._fit = Fit(seconds, pace)
        self._search = Search(model, seconds, clock, self._fit, haste)

    def run(
        self,
        frame: pl.DataFrame,
        patience: float = SEARCH_SECONDS,
        left: float = SEARCH_SECONDS,
        ends: float = BATCH_SECONDS,
    ) -> Ran:
        """Return the outputs of the rows that the model takes, and why it does not take the others.

        patience, left, ends: seconds after which rows are refused untried, see `streams.search.Search.score`.
        Raises Abandoned.
        """
        began = self._clock()
        prepared = self.model.prepare(frame)
        height = len(frame) if prepared.rows is None else len(next(iter(prepared.inputs.values())))
        outputs, scored, failed = self._search.score(prepared.inputs, height, patience, left, ends)
        if not failed:
            took = self._clock() - began
            self._fit.ran(height, took)
            if self._ran is not None:
                self._ran(height, took)
        refused = prepared.refused + [replace(r, row=at(prepared.rows, r.row)) for r in failed]
        return Ran(outputs, through(prepared.rows, scored), refused)


def through(outer: Rows | None, inner: Rows | None) -> Rows | None:
    """Compose two selections, None being everything."""
    if inner is None:
        return outer
    return inner if outer is None else outer[inner]


def at(rows: Rows | None, row: int) -> int:
    """Return the row that a selection has at this place."""
    return row if rows is None else int(rows[row])
