"""What becomes of a scored batch: the records that its transaction publishes, each on its topic and partition."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from models.runtimes.base import Counts
from schemas.deployment import Quotas
from schemas.values import Rejection
from streams.arms import Made, Share
from streams.batch import Batch, Records
from streams.budget import Budget
from streams.deadletters import LetterLimit, letters
from streams.haste import Haste
from streams.pace import Slowdown
from streams.sampler import Sampled, Sampler
from streams.scorer import Scored, Scorer
from streams.sizing import FIRST_EVENTS


class Profiles(Protocol):
    """What the worker needs of models.profiler.Profilers."""

    def profiles(
        self,
        frame: pl.DataFrame,
        outputs: pl.DataFrame,
        partitions: npt.NDArray[np.int32],
        timestamps: npt.NDArray[np.int64],
        arms: Sequence[str],
        arm_of: npt.NDArray[np.int64] | None = None,
    ) -> list[bytes]: ...
    def progress(self, partitions: Sequence[int], now_ms: int) -> list[bytes]: ...
    def forget(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Route:
    """Where a deployment's records go. A count is a topic's number of partitions.

    beside: by name, where the dead letters of arms go that score every event beside the others; in as many partitions.
    """

    deployment: str
    source: str
    source_count: int
    output: str
    output_count: int
    dead_letters: str
    dead_letter_count: int
    profiles: str | None = None
    samples: str | None = None
    letter_bytes: int = 1 << 20  # the largest dead letter that its topic takes
    beside: Mapping[str, str] = field(default_factory=dict)


class Starts(Protocol):
    """What the worker needs of streams.swaps.Starts."""

    def records(self, firsts: Mapping[int, int]) -> Records | None: ...
    def forget(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Work:
    """One batch, ready to be published whole. inferences: how many, by who made them. reasons: of dead letters.

    beside: reasons of dead letters of arms that score every event beside the others, by the arm's name and the reason.
    sampled: events by the arm whose samples tell of them; unsampled: events that cannot be, by the reason. shares: of
    arms that share the events.
    """

    records: list[Records]
    batch: Batch
    inferences: dict[Made, int]
    reasons: dict[str, int]
    seconds: float  # what putting it together took
    beside: dict[tuple[str, str], int] = field(default_factory=dict)
    sampled: Mapping[str, int] = field(default_factory=dict)
    unsampled: Mapping[str, int] = field(default_factory=dict)
    shares: Mapping[str, Share] = field(default_factory=dict)


class Composer:
    """Turns scored batches into work.

    profiler, sampler: None where the deployment asks for neither profiles nor samples. starts: tells from which offset
    on the present state scores each partition; None where nobody asks. clock: seconds since 1970.
    """

    def __init__(
        self,
        route: Route,
        profiler: Profiles | None = None,
        starts: Starts | None = None,
        clock: Callable[[], float] = time.time,
        sampler: Sampler | None = None,
    ) -> None:
        self.route, self.profiler, self._starts, self._clock = route, profiler, starts, clock
        self.sampler = sampler

    def work(self, batch: Batch, scored: Scored) -> Work:
        """Return what is published of the batch."""
        route, began = self.route, time.perf_counter()
        records = []
        if scored.inferences:
            keys = batch.keys if scored.rows is None else [batch.keys[row] for row in scored.rows.tolist()]
            partitions = self._partitions(batch, scored.rows, route.output_count)
            most = 1 + len(route.beside)
            records.append(Records(route.output, scored.inferences, keys, partitions, of_an_event=most))
        reasons: dict[str, int] = {}
        if scored.rejected:
            for rejection in scored.rejected:
                reasons[rejection.reason] = reasons.get(rejection.reason, 0) + 1
            records.append(self._letters(batch, scored.rejected, route.dead_letters))
        beside = dict[tuple[str, str], int]()
        for name, found in scored.beside.items():
            if found:
                records.append(self._letters(batch, found, route.beside[name]))
            for each in found:
                beside[name, each.reason] = beside.get((name, each.reason), 0) + 1
        times = batch.timestamps() if self.profiler is not None and scored.inferences else None
        if self.profiler is not None and times is not None:
            records.append(self._profile(self.profiler, batch, scored, times))
        sampled = self._sample(batch, scored, times, records)
        if self._starts is not None and (told := self._starts.records(batch.firsts())) is not None:
            records.append(told)
        seconds = time.perf_counter() - began
        samples, shares = (sampled.rows, sampled.left_out), scored.shares
        return Work(records, batch, _counted(scored), reasons, seconds, beside, *samples, shares)

    def progress(self, partitions: Sequence[int]) -> Records | None:
        """Return the records that say that these partitions were read to their end; None without a monitor."""
        if self.profiler is None or self.route.profiles is None:
            return None
        values = self.profiler.progress(partitions, int(self._clock() * 1000))
        return Records(self.route.profiles, values, [self.route.deployment.encode()] * len(values))

    def forget(self) -> None:
        """What was profiled and told may not have been committed."""
        if self.profiler is not None:
            self.profiler.forget()
        if self._starts is not None:
            self._starts.forget()

    def _letters(self, batch: Batch, rejected: Sequence[Rejection], topic: str) -> Records:
        route = self.route
        values, keys, headers = letters(
            batch,
            rejected,
            deployment=route.deployment,
            topic=route.source,
            now=self._clock(),
            limit=route.letter_bytes,
        )
        rows = np.array(sorted(rejection.row for rejection in rejected), np.int64)
        return Records(topic, values, keys, self._partitions(batch, rows, route.dead_letter_count), headers)

    def _sample(
        self, batch: Batch, scored: Scored, times: npt.NDArray[np.int64] | None, records: list[Records]
    ) -> Sampled:
        """Add the records of samples to those of the batch."""
        topic = self.route.samples
        if self.sampler is None or topic is None or not scored.inferences:
            return Sampled()
        found = self.sampler.sample(batch, scored, times)
        if found.values:
            keys, most = [self.route.deployment.encode()] * len(found.values), 1 + len(self.route.beside)
            records.append(Records(topic, found.values, keys, found.partitions, of_an_event=most))
        return found

    def _profile(self, profiler: Profiles, batch: Batch, scored: Scored, times: npt.NDArray[np.int64]) -> Records:
        partitions = batch.partitions
        if scored.rows is not None:
            partitions, times = partitions[scored.rows], times[scored.rows]
        arms = [made.arm for made in scored.made]
        values = profiler.profiles(scored.frame, scored.outputs, partitions, times, arms, scored.made_of)
        assert self.route.profiles is not None
        return Records(self.route.profiles, values, [self.route.deployment.encode()] * len(values))

    def _partitions(self, batch: Batch, rows: npt.NDArray[np.int64] | None, count: int) -> list[int]:
        """Place records as their events: the same partition where the counts match, else by key, else by partition.

        The counts are those of the start: a partition added to the input since then wraps around.
        """
        partitions = batch.partitions if rows is None else batch.partitions[rows]
        if count == self.route.source_count:
            wrapped: list[int] = (partitions % count).tolist()
            return wrapped
        places: list[int] = partitions.tolist()
        keys = batch.keys if rows is None else [batch.keys[row] for row in rows.tolist()]
        return [place % count if key is None else -1 for place, key in zip(places, keys, strict=True)]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a worker scores and what it writes, under one revision.

    paused: it keeps its place and scores nothing. models: name and version of each arm's model, and leaves: what tells
    of those that are hierarchies, for metrics. quotas: of the slot. slowdowns: of the models, by their arms.
    first_events: of its first batches, at most. haste: asks for the batch in hand to be given up.
    """

    scorer: Scorer
    composer: Composer
    limit: LetterLimit
    budget: Budget | None = None
    paused: bool = False
    revision: int = 0
    models: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    leaves: Callable[[], Counts] = Counts
    quotas: Quotas = field(default_factory=Quotas)
    slowdowns: Mapping[str, Slowdown] = field(default_factory=dict)
    first_events: int = FIRST_EVENTS
    haste: Haste = field(default_factory=Haste)

    @property
    def row_seconds(self) -> dict[str, float]:
        """What a row takes of each arm's model by itself, where that was measured."""
        return {arm: each.pace.row_seconds for arm, each in self.slowdowns.items()}


def _counted(scored: Scored) -> dict[Made, int]:
    """Return how many inferences each of those who made some has made."""
    if not scored.inferences:
        return {}
    if scored.made_of is None:
        return {scored.made[0]: len(scored.inferences)}
    counts = np.bincount(scored.made_of, minlength=len(scored.made)).tolist()
    return {made: count for made, count in zip(scored.made, counts, strict=True) if count}
