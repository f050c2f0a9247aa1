"""The arms of a worker: which model scores which row, and who steps in where it cannot. Pure.

A row is given to its assigned arm. Where that arm's model refuses or fails it, the next of the arm's chain has it, and
so on; the inference says who was assigned, who scored, and why it was another. What the last refuses is a dead letter.

Arms of the role `all` score every row beside that. What they refuse is a dead letter of theirs, and takes nothing away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from models.routing import Router
from schemas.values import Lineage, Rejection
from streams.breaker import Breaker
from streams.runner import Ran, Runner, at, through
from streams.search import SEARCH_SECONDS, Rows

FAILURES = ("model_failed", "model_timed_out")
OPEN = "circuit_open"  # why a row fell to the next arm: the model was not even tried
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
class Outcome:
    """What became of a frame. rows: of each row of outputs the frame's, in order; None: all, once.

    refused: one for each row that has no outputs of its assigned arm or its chain. made: who made outputs; made_of: the
    index into it for each row of outputs, None where one made all. beside: what arms refused that score every row.
    """

    outputs: pl.DataFrame
    rows: Rows | None
    refused: list[Rejection]
    made: tuple[Made, ...]
    made_of: Rows | None = None
    beside: Mapping[str, list[Rejection]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    made: Made
    rows: Rows | None
    outputs: pl.DataFrame


class Arms:
    """chains: for each arm that events are assigned to, itself and who steps in, in order. router: assigns them.

    everywhere: those who score every event beside that.
    """

    def __init__(
        self,
        chains: Mapping[str, Sequence[Contender]],
        router: Router | None = None,
        everywhere: Sequence[Contender] = (),
    ) -> None:
        self._chains, self._router, self._everywhere = chains, router, list(everywhere)
        self._only = next(iter(chains))

    @property
    def circuits(self) -> Mapping[str, bool]:
        """Of each arm whose events another may score instead, whether its circuit is open."""
        return {each.name: each.breaker.broken for chain in self._chains.values() for each in chain[:-1]}

    def run(self, frame: pl.DataFrame, places: Callable[[], Places]) -> Outcome:
        """Score every row of the frame. places: of each row's event, asked only where they decide."""
        parts: list[_Part] = []
        refused: list[Rejection] = []
        for name, propensity, rows in self._assigned(frame, places):
            refused += self._through_chain(name, propensity, frame, rows, parts)
        if not self._everywhere or not len(frame):
            return _joined(parts, refused, len(frame))
        beside = {each.name: self._beside(each, frame, parts) for each in self._everywhere}
        return replace(_joined(parts, refused, len(frame), several=True), beside=beside)

    def _beside(self, contender: Contender, frame: pl.DataFrame, parts: list[_Part]) -> list[Rejection]:
        """Score every row with an arm that stands beside the others; one that hangs must not hold them up for long."""
        ran, model = self._run(contender, frame, last=False), contender.runner.model
        if len(ran.outputs):
            parts.append(
                _Part(Made(contender.name, contender.name, 1.0, "", model.name, model.version), ran.rows, ran.outputs)
            )
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

    def _through_chain(
        self, name: str, propensity: float, frame: pl.DataFrame, rows: Rows | None, parts: list[_Part]
    ) -> list[Rejection]:
        """Score rows that are assigned to an arm; append what was scored to `parts`, and return what was not."""
        chain = self._chains[name]
        waiting: list[tuple[str, Rows | None]] = [("", rows)]  # why it was passed on, and the rows
        refusals: dict[int, Rejection] = {}
        for place, contender in enumerate(chain):
            last = place == len(chain) - 1
            if contender.breaker.open and not last:
                waiting = _merged([(why or OPEN, which) for why, which in waiting])
                continue
            passed: list[tuple[str, Rows | None]] = []
            for why, which in waiting:
                ran = self._run(contender, frame if which is None else frame[which], last)
                if len(ran.outputs):
                    model = contender.runner.model
                    made = Made(contender.name, name, propensity, why, model.name, model.version)
                    parts.append(_Part(made, through(which, ran.rows), ran.outputs))
                found = [replace(each, row=at(which, each.row)) for each in ran.refused]
                for each in found:
                    refusals.setdefault(each.row, each)  # what the assigned arm said tells most
                passed += [(why or each.reason, np.array([each.row], np.int64)) for each in found]
            waiting = _merged(passed)
            if not waiting:
                break
        return [refusals[row] for _, which in waiting for row in _numbers(which)]

    def _run(self, contender: Contender, frame: pl.DataFrame, last: bool) -> Ran:
        runner = contender.runner
        ran = runner.run(frame, SEARCH_SECONDS if last else min(SEARCH_SECONDS, PATIENCE * runner.seconds))
        failed = sum(each.reason in FAILURES for each in ran.refused)
        contender.breaker.saw(len(ran.outputs) + failed, failed)
        return ran


def _numbers(rows: Rows | None) -> Sequence[int]:
    assert rows is not None  # whoever refuses rows names them
    found: list[int] = rows.tolist()
    return found


def _merged(groups: Sequence[tuple[str, Rows | None]]) -> list[tuple[str, Rows | None]]:
    """Put rows together that were passed on for the same reason, in order."""
    if len(groups) == 1:
        return list(groups)
    found: dict[str, list[Rows]] = {}
    for why, rows in groups:
        assert rows is not None
        found.setdefault(why, []).append(rows)
    return [(why, np.sort(np.concatenate(rows))) for why, rows in found.items()]


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
    outputs = pl.concat([part.outputs for part in parts])[order]
    whole = len(rows) == height and not several
    return Outcome(outputs, None if whole else rows[order], refused, tuple(part.made for part in parts), made_of)
