"""The arms of a worker: which model scores which row, and who steps in where it cannot. Pure.

A row is given to its assigned arm. Where that arm's model refuses or fails it, the next of the arm's chain has it, and
so on; the inference says who was assigned, who scored, and why it was another. What the last refuses is a dead letter.

Arms of the role `all` score every row beside that. What they refuse is a dead letter of theirs, and takes nothing away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from models.errors import LeafUnavailable
from models.frames import stacked, taken
from models.routing import Router
from schemas.values import Lineage, Rejection
from streams.breaker import Breaker
from streams.runner import Ran, Runner, at, through
from streams.search import BATCH_SECONDS, SEARCH_SECONDS, Rows

TIMED_OUT: Final = "model_timed_out"
FAILURES = ("model_failed", TIMED_OUT)
ABSENT = LeafUnavailable.__name__  # of some rows of a hierarchy: says nothing of its other leaves
OPEN = "circuit_open"  # why a row fell to the next arm: the model was not even tried
RESERVE = 15.0  # seconds of a batch that those who hang leave each arm that was not tried
PATIENCE = 2.0  # of a run's time limit that is spent on a model that hangs where another may score instead

Places = tuple[Sequence[bytes | None], npt.NDArray[np.int32], npt.NDArray[np.int64]]  # keys, partitions, offsets


@dataclass(frozen=True, slots=True)
class Made:
    """Who made an inference: what of the lineage may differ between the rows of a batch.

    propensity: the share of events that is assigned to the assigned arm. fallback: why another arm scored, "" where
    the assigned one did.
    """

    arm: str
    assigned: str
    propensity: float
    fallback: str
    model: str
    version: str


def made_of(lineage: Lineage) -> Made:
    """Return who made the inference that has this lineage."""
    return Made(lineage.arm, lineage.assigned, lineage.propensity, lineage.fallback, lineage.model, lineage.version)


@dataclass(frozen=True, slots=True)
class Contender:
    """A model under the name of its arm."""

    name: str
    runner: Runner
    breaker: Breaker = field(default_factory=Breaker)


@dataclass(frozen=True, slots=True)
class Share:
    """What became of the events that one of several arms was assigned. failed: those that its model did not score.

    runs, micros: of its model on them, and their microseconds.
    """

    events: int
    failed: int
    runs: int
    micros: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a frame. rows: of each row of outputs the frame's, in order; None: all, once.

    refused: one for each row that has no outputs of its assigned arm or its chain. made: who made outputs; made_of: the
    index into it for each row of outputs, None where one made all. beside: what arms refused that score every row.
    shares: by arm, where several share the rows.
    """

    outputs: pl.DataFrame
    rows: Rows | None
    refused: list[Rejection]
    made: tuple[Made, ...]
    made_of: Rows | None = None
    beside: Mapping[str, list[Rejection]] = field(default_factory=dict)
    shares: Mapping[str, Share] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    made: Made
    rows: Rows | None
    outputs: pl.DataFrame


@dataclass(frozen=True, slots=True)
class _Batch:
    """A frame on its way through the arms. until: when the time for models that hang is over; hung: those that did.

    ends: when no run goes on. untried: who has not had a run. shares: of arms that share the rows with others.
    """

    frame: pl.DataFrame
    until: float
    ends: float
    untried: set[str]
    parts: list[_Part] = field(default_factory=list)
    hung: set[str] = field(default_factory=set)
    shares: dict[str, Share] = field(default_factory=dict)


class Arms:
    """chains: for each arm that events are assigned to, itself and who steps in, in order. router: assigns them.

    everywhere: those who score every event beside that. clock: seconds of any origin. However many models hang, they
    share the time that a batch may take.
    """

    def __init__(
        self,
        chains: Mapping[str, Sequence[Contender]],
        router: Router | None = None,
        everywhere: Sequence[Contender] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._chains, self._router, self._everywhere, self._clock = chains, router, list(everywhere), clock
        self._only = next(iter(chains))
        self._names = {each.name for chain in chains.values() for each in chain} | {each.name for each in everywhere}

    @property
    def circuits(self) -> Mapping[str, bool]:
        """Of each arm whose events another may score instead, whether its circuit is open."""
        return {each.name: each.breaker.broken for chain in self._chains.values() for each in chain[:-1]}

    def run(self, frame: pl.DataFrame, places: Callable[[], Places]) -> Outcome:
        """Score every row of the frame. places: of each row's event, asked only where they decide."""
        now, refused = self._clock(), list[Rejection]()
        batch = _Batch(frame, now + SEARCH_SECONDS, now + BATCH_SECONDS, set(self._names))
        for name, propensity, rows in self._assigned(frame, places):
            refused += self._through_chain(name, propensity, rows, batch)
        several = bool(self._everywhere) and len(frame) > 0
        beside = {each.name: self._beside(each, batch) for each in self._everywhere} if several else {}
        joined = _joined(batch.parts, refused, len(frame), several=several)
        return replace(joined, beside=beside, shares=batch.shares) if several or batch.shares else joined

    def _beside(self, contender: Contender, batch: _Batch) -> list[Rejection]:
        """Score every row with an arm that stands beside the others; one that hangs must not hold them up for long."""
        ran, model = self._run(contender, None, batch, is_last=False), contender.runner.model
        if len(ran.outputs):
            made = Made(contender.name, contender.name, 1.0, "", model.name, model.version)
            batch.parts.append(_Part(made, ran.rows, ran.outputs))
        return ran.refused

    def _assigned(self, frame: pl.DataFrame, places: Callable[[], Places]) -> Sequence[tuple[str, float, Rows | None]]:
        router = self._router
        if router is None or not len(frame):
            return [(self._only, 1.0, None)]
        found = router.assign(*places())
        groups = [
            (name, propensity, np.flatnonzero(found == index))
            for index, (name, propensity) in enumerate(zip(router.names, router.propensities, strict=True))
        ]
        return [group for group in groups if len(group[2])]

    def _through_chain(self, name: str, propensity: float, rows: Rows | None, batch: _Batch) -> list[Rejection]:
        """Score rows that are assigned to an arm; note what was scored in the batch, and return what was not."""
        waiting: dict[str, Rows | None] = {"": rows}  # by why they were passed on
        refusals: dict[int, Rejection] = {}
        *others, last = self._chains[name]
        for contender in (*others, last):
            if contender is not last and contender.breaker.open:
                if contender.name == name:
                    self._note(batch, name, rows, None, 0.0)
                waiting = {why or OPEN: which for why, which in waiting.items()}
                continue
            began = self._clock()
            passed: dict[str, list[int]] = {}
            for why, which in waiting.items():
                ran = self._run(contender, which, batch, is_last=contender is last)
                if contender.name == name:
                    self._note(batch, name, rows, ran, self._clock() - began)
                if len(ran.outputs):
                    model = contender.runner.model
                    made = Made(contender.name, name, propensity, why, model.name, model.version)
                    batch.parts.append(_Part(made, through(which, ran.rows), ran.outputs))
                for each in ran.refused:
                    row = at(which, each.row)
                    if row not in refusals:  # what the assigned arm said tells most
                        refusals[row] = each if row == each.row else replace(each, row=row)
                    passed.setdefault(why or each.reason, []).append(row)
            waiting = {why: np.array(sorted(found), np.int64) for why, found in passed.items()}
            if not waiting:
                return []
        return [refusals[row] for found in passed.values() for row in found]

    @staticmethod
    def _note(batch: _Batch, name: str, rows: Rows | None, ran: Ran | None, seconds: float) -> None:
        """Note what an arm did with its share of the rows; `ran` is None where its model was not tried."""
        if rows is not None:
            failed = len(rows) if ran is None else len(ran.refused)
            batch.shares[name] = Share(len(rows), failed, int(ran is not None), round(seconds * 1e6))

    def _run(self, contender: Contender, rows: Rows | None, batch: _Batch, *, is_last: bool) -> Ran:
        """Score rows of the batch. Who hung in it is not tried again once its time is over; others get one run."""
        frame, now = batch.frame if rows is None else taken(batch.frame, rows), self._clock()
        runner, left = contender.runner, max(0.0, batch.until - now)
        batch.untried.discard(contender.name)
        if not left and contender.name in batch.hung:
            ran = _untried(len(frame))
        else:
            patience = SEARCH_SECONDS if is_last else PATIENCE * runner.seconds
            ends = _share(batch.ends - now, len(batch.untried))
            ran = runner.run(frame, min(patience, left), left, ends)
        failed = [each.reason for each in ran.refused if each.reason in FAILURES and each.exception != ABSENT]
        if TIMED_OUT in failed:
            batch.hung.add(contender.name)
        contender.breaker.saw(len(ran.outputs) + len(failed), len(failed))
        return ran


def _share(left: float, others: int) -> float:
    """Return the seconds of a batch that an arm may take, while so many others have not been tried."""
    return max(0.0, left - RESERVE * others, left / (1 + others))


def _untried(height: int) -> Ran:
    detail = "was not tried: the model hung on other events of its batch, and the time that this may take was over"
    refused = [Rejection(row, TIMED_OUT, detail) for row in range(height)]
    return Ran(pl.DataFrame(), np.zeros(0, np.int64), refused)


def _joined(parts: Sequence[_Part], refused: list[Rejection], height: int, *, several: bool = False) -> Outcome:
    """Put what different arms scored into the order of the frame's rows; `several`: a row may be scored by some."""
    if not parts:
        return Outcome(pl.DataFrame(), np.zeros(0, np.int64), refused, ())
    if len(parts) == 1:
        (part,) = parts
        return Outcome(part.outputs, part.rows, refused, (part.made,))
    numbers = [np.arange(height) if part.rows is None else part.rows for part in parts]
    rows = np.concatenate(numbers)
    order = np.argsort(rows, kind="stable")
    made_of = np.repeat(np.arange(len(parts)), [len(each) for each in numbers])[order]
    outputs = taken(stacked([part.outputs for part in parts]), order)
    whole = len(rows) == height and not several
    return Outcome(outputs, None if whole else rows[order], refused, tuple(part.made for part in parts), made_of)
