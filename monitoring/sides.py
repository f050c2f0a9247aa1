"""Both sides of the join as rows: what the predictions and labels of many records say, taken as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from models import together
from models.samples import ASSIGNED, LATEST, Maker, Samples
from models.together import ManyCopies, ManySamples
from monitoring.arrays import Array, Bools, Doubles, Longs
from monitoring.counting import Source
from monitoring.folds import Record
from monitoring.join_state import Joining, State
from monitoring.judging import task_of
from monitoring.rewards import ALONE, Assigned
from monitoring.rows import LABEL, Rows, Window, joined, widened
from monitoring.values import SCALAR

TEXT = 100  # characters of a value
Many = ManySamples | ManyCopies
FUTURE_MS = 3_600_000  # what claims to be later than this after its record was written has a wrong clock


class Part(NamedTuple):
    """Rows, and of each the place of its record among those of the chunk; shape (n,)."""

    rows: Rows
    places: Longs

    def take(self, chosen: Bools) -> Part:
        """Return the rows of a mask."""
        return Part(self.rows.take(chosen), self.places[chosen])


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records that are taken as one, and what they hold. latest: ms by record, that what it says can have.

    poison, foreign: how many are no records of the topic, and of another deployment.
    """

    records: Sequence[Record]
    latest: Longs
    samples: Sequence[ManySamples]
    copies: Sequence[ManyCopies]
    poison: int
    foreign: int

    def places(self, many: Many) -> Longs:
        """Return the place of each row's record; shape (rows,)."""
        return np.repeat(many.places, many.sizes)

    def timed(self, times: Longs, places: Longs) -> Bools:
        """Say of each row whether its time (ms) is one that its record can tell."""
        found: Bools = (times >= 0) & (times <= self.latest[places])
        return found

    def deadlines(self, window: Window) -> list[tuple[int, int]]:
        """Return offset and last deadline (ms) of each record that has rows, in the order of the log."""
        found: list[tuple[int, int]] = []
        for said in self.samples:
            found += self._ends(said, said.rows.times, window.event)
        for told in self.copies:
            found += self._ends(told, told.times, window.closes)
        return sorted(found)

    def _ends(self, many: Many, times: Longs, end: Callable[[int], int]) -> Iterator[tuple[int, int]]:
        if len(some := np.flatnonzero(many.sizes)):
            starts = (np.cumsum(many.sizes) - many.sizes)[some]
            last = np.maximum.reduceat(np.minimum(times, self.latest[self.places(many)]), starts)
            for place, time in zip(many.places[some].tolist(), last.tolist(), strict=True):
                yield self.records[place].offset, end(time)


def chunk_of(records: Sequence[Record], deployment: str) -> Chunk:
    """Return what records of the topic of samples hold."""
    found = together.read([record.value or b"" for record in records])
    samples = [many for many in found.samples if many.rows.maker.deployment == deployment]
    copies = [many for many in found.copies if many.deployment == deployment]
    ours = sum(len(many.places) for many in samples) + sum(len(many.places) for many in copies)
    latest = np.array([latest_of(record) for record in records], np.int64)
    return Chunk(records, latest, samples, copies, len(found.poison), len(records) - len(found.poison) - ours)


def latest_of(record: Record) -> int:
    """Return the latest time that what a record says can have."""
    return record.time + FUTURE_MS if record.time >= 0 else LATEST


def predictions(joining: Joining, state: State, chunk: Chunk, many: ManySamples) -> Part | None:
    """Return what records of samples say, event by event; None where they lack the output that is judged."""
    found, places = many.rows, chunk.places(many)
    judged = judged_of(found, joining.output)
    if judged is None:
        return None
    deadline = joining.window.event(int(np.minimum(found.times, chunk.latest[places]).max()))
    ids, keys, sizes = state.pending.put(found.keys, deadline)
    kinds, bits, width = state.pending.reading.column(judged, deadline)
    task, maker = task_of(joining.task, joining.truth, kind_of(judged), 1 if width == SCALAR else 2), found.maker
    assigned = Assigned(maker.revision, maker.assigned) if _is_shared(maker) else ALONE
    source = state.source(Source(maker.arm, maker.model, maker.version, maker.role, task, width, assigned))
    ranks = np.clip(found.partitions, 0, LABEL - 1).astype(np.int32)
    sources, segments = np.full(len(ids), source, np.int16), _segments(state, found)
    extras = _extras(joining, len(ids), joining.outputs, found.outputs)
    rows = Rows(ids, found.times, ranks, found.offsets, kinds, bits, sources, extras, segments, keys, sizes)
    return Part(rows, places)


def truths(joining: Joining, state: State, chunk: Chunk, many: ManyCopies) -> Part | None:
    """Return what records of labels say, label by label; None where they have none."""
    rows, places = len(many.keys), chunk.places(many)
    if not rows:
        return None
    deadline = joining.window.closes(int(np.minimum(many.times, chunk.latest[places]).max()))
    ids, keys, sizes = state.pending.put(many.keys, deadline)
    kinds, bits, _ = state.pending.reading.column(many.value, deadline)
    ranks = (LABEL + np.clip(many.partitions, 0, LABEL - 1)).astype(np.int32)
    sources, segments = np.full(rows, -1, np.int16), np.zeros((rows, len(state.segments)), np.uint8)
    extras = _extras(joining, rows, (*joining.numbers, *joining.fields), many.numbers)
    found = Rows(ids, many.times, ranks, many.offsets, kinds, bits, sources, extras, segments, keys, sizes)
    return Part(found, places)


def in_order(parts: Sequence[Part], segments: int) -> Rows | None:
    """Return the rows of all parts in the order of their records, with room for so many segments; None for none."""
    if not parts:
        return None
    rows = joined([widened(part.rows, segments) for part in parts])
    if len(parts) == 1:
        return rows
    return rows.take(np.argsort(np.concatenate([part.places for part in parts]), kind="stable"))


def _is_shared(maker: Maker) -> bool:
    """Say whether several arms share the events: each has a part of them by chance."""
    return maker.role == ASSIGNED and maker.propensity < 1.0


def kind_of(series: pl.Series) -> str:
    """Return the kind of a column, in the words of schemas/avsc/sample.avsc."""
    if isinstance(series.dtype, pl.Array | pl.List):
        return "double"
    if series.dtype == pl.Boolean:
        return "boolean"
    return "double" if series.dtype.is_float() else "long" if series.dtype.is_integer() else "text"


def judged_of(samples: Samples, output: str | None) -> pl.Series | None:
    """Return the output that labels are the truth of."""
    return samples.outputs.get(output) if output is not None else next(iter(samples.outputs.values()), None)


def _extras(joining: Joining, rows: int, names: Sequence[str], columns: Mapping[str, pl.Series]) -> Doubles:
    """Return the numbers of columns, NaN where they are missing; shape (rows, extras)."""
    found = np.full((rows, joining.extras), np.nan)
    for at, name in enumerate(names):
        series = columns.get(name)
        if series is not None and (series.dtype.is_numeric() or series.dtype == pl.Boolean):
            found[:, at] = series.cast(pl.Float64).to_numpy()  # null is NaN
    return found


def _segments(state: State, samples: Samples) -> Array:
    """Return the values of segments by number; shape (n, segments that are known)."""
    state.segments += [name for name in samples.segments if name not in state.segments]
    found = np.zeros((len(samples.keys), len(state.segments)), np.uint8)
    for name, column in samples.segments.items():
        texts = [None if text is None else text[:TEXT] for text in column.to_list()]
        codes = {text: 0 if text is None else state.code(f"segment {name}", text) for text in dict.fromkeys(texts)}
        found[:, state.segments.index(name)] = [codes[text] for text in texts]
    return found
