"""The fold of a partition of samples: predictions meet their labels, and what they add up to goes out tick by tick.

Both sides stand in one log, so the result is a function of it. A copy of labels that was taken already is dropped by
its offset; one that follows a copy which never came is left, for whoever lost that copy starts over and sends both.
A record is taken as a whole, by column: what waits, what meets and what it counts are array operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from models.samples import ASSIGNED, LATEST, LabelCopies, Samples
from monitoring.arrays import Array, Doubles
from monitoring.cells import Group
from monitoring.clocks import Clocks
from monitoring.counting import Asked, Counting, Source
from monitoring.folds import Out, Record, packed, unpacked
from monitoring.formulas import Formula
from monitoring.judging import task_of
from monitoring.meeting import Meeting
from monitoring.pending import Pending
from monitoring.rows import LABEL, Rows, Window, joined, widened
from monitoring.tally import View
from monitoring.ticks import Ticks
from monitoring.values import NONE, SCALAR
from schemas.errors import RecordInvalid

FORMAT = 1
VALUES = 200  # of a segment, and classes, that are told apart; further ones are `other`
OTHER = "other"
TEXT = 100  # characters of a value
FUTURE_MS = 3_600_000  # what claims to be later than this after its record was written has a wrong clock
MANY = 50_000  # rows that are read back at once


@dataclass(frozen=True)
class Joining:
    """What is joined. output: None where the models have one only. within: s. labels: partitions; 0 without labels.

    numbers: of labels that are told; fields: further ones that formulas need, and outputs likewise.
    """

    deployment: str
    topic: str  # of quality
    within: int = 3 * 86_400
    output: str | None = None
    task: str = "auto"
    truth: str = ""  # kind of the label's field: boolean, text or double
    numbers: tuple[str, ...] = ()
    labels: int = 0
    error_range: float | None = None
    grace_ms: int = 60_000
    tick_ms: int = 60_000
    tick_grace_ms: int = 30_000
    fields: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    formulas: tuple[Formula, ...] = ()

    @property
    def window(self) -> Window:
        return Window(self.within * 1000, self.grace_ms)

    @cached_property
    def extras(self) -> int:
        """The number of columns that rows have beside their values."""
        return max(len(self.numbers) + len(self.fields), len(self.outputs))


@dataclass(slots=True)
class State:
    """The state of one partition of samples. taken: the next offset by partition of labels. known: values told apart.

    sources: who predicted. segments: names of event fields. again: rows that were read back and are not kept yet.
    """

    partition: int
    clocks: Clocks
    pending: Pending
    ticks: Ticks
    taken: dict[int, int] = field(default_factory=dict)
    known: dict[str, list[str]] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    again: list[Rows] = field(default_factory=list)
    _codes: dict[str, dict[str, int]] = field(default_factory=dict)

    def code(self, kind: str, value: str) -> int:
        """Return the number of a value of a kind, from 1 on; VALUES + 1 where there are too many; the first stay."""
        known = self.known.setdefault(kind, [])
        codes = self._codes.setdefault(kind, {each: at for at, each in enumerate(known, 1)})
        if value not in codes and len(known) < VALUES:
            known.append(value)
            codes[value] = len(known)
        return codes.get(value, VALUES + 1)

    def told_apart(self, kind: str, value: str) -> str:
        """Return the value, or OTHER where there are too many of its kind."""
        return value if self.code(kind, value) <= VALUES else OTHER

    def source(self, source: Source) -> int:
        """Return the number of who predicts."""
        if source not in self.sources:
            self.sources.append(source)
        return self.sources.index(source)

    def view(self, segment: int, code: int) -> View:
        """Return a segment's name and the value of a number."""
        name = self.segments[segment]
        return name, self.known[f"segment {name}"][code - 1] if code <= VALUES else OTHER


class JoinFold:
    """Folds `<deployment>.samples`."""

    def __init__(self, joining: Joining) -> None:
        self._joining = joining
        self._asked = Asked(joining.numbers, joining.formulas, joining.error_range)

    def new(self, partition: int) -> State:
        """Return the state before the first record."""
        joining = self._joining
        return State(partition, Clocks(joining.labels), Pending(joining.window), Ticks(joining.tick_ms))

    def apply(self, state: State, record: Record) -> list[Out]:
        """Take samples or copied labels; return the parts of the ticks that close with it."""
        self._settle(state)
        found = read(record.value or b"")
        if found is None or deployment_of(found) != self._joining.deployment:
            state.ticks.count("poison" if found is None else "foreign")
            return []
        self._mark(state, record, found)
        if isinstance(found, Samples):
            self._samples(state, found, latest_of(record))
        else:
            self._copies(state, found, latest_of(record))
        return list(self._advance(state))

    def _samples(self, state: State, found: Samples, latest: int) -> None:
        judged, ticks = judged_of(found, self._joining.output), state.ticks
        if judged is None:
            ticks.count("without_output", len(found.keys))
            return
        timed = (found.times >= 0) & (found.times <= latest)
        ticks.count("untimed_events", int((~timed).sum()))
        if found.maker.role == ASSIGNED:  # a shadow may be far ahead
            for partition in np.unique(found.partitions[timed]).tolist():
                state.clocks.saw(partition, int(found.times[timed & (found.partitions == partition)].max()))
        rows = self._predictions(state, found, judged, latest)
        due = state.pending.window.deadlines(rows) <= state.pending.keep
        ticks.count("late_events", int((timed & due).sum()))
        self._take(state, rows.take(timed & ~due), "repeated_predictions")

    def _copies(self, state: State, found: LabelCopies, latest: int) -> None:
        ticks, taken = state.ticks, state.taken.get(found.partition, 0)
        if found.follows > state.taken.get(found.partition, -1):
            ticks.count("gaps")
            return
        state.clocks.told(found.partition, min(found.watermark, latest))
        state.taken[found.partition] = max(taken, found.position)
        if not len(found.keys):
            return
        rows = self._truths(state, found, latest)
        again, timed = rows.offsets < taken, (rows.times >= 0) & (rows.times <= latest)
        fresh, full = timed & ~again, rows.kinds != NONE
        ticks.count("repeated_labels", int(again.sum()))
        ticks.count("untimed_labels", int((~timed & ~again).sum()))
        ticks.count("labels", int(fresh.sum()))
        ticks.count("empty_labels", int((fresh & ~full).sum()))
        rows = rows.take(fresh & full)
        ticks.count("out_of_order", state.clocks.before(found.partition, rows.times))
        due = state.pending.window.deadlines(rows) <= state.pending.keep
        ticks.count("expired_labels", int(due.sum()))
        self._take(state, rows.take(~due), "repeated_labels")

    def _take(self, state: State, new: Rows, repeated: str) -> None:
        """Let new rows meet what waits, count what changes, and keep them."""
        if not len(new.ids):
            return
        meeting, again = self._meet(state, new)
        state.ticks.count(repeated, again)
        counting = Counting(meeting, state.pending.reading, state.sources, self._asked, state.told_apart)
        for what, count in state.pending.told(meeting, counting.equal).items():
            state.ticks.count(what, count)
        state.ticks.count_moved(counting.count())
        views = [lambda code, at=at: state.view(at, code) for at in range(len(state.segments))]
        counting.tally.into(state.ticks, meeting.rows, meeting.firsts, _grouping(state.sources), views)
        state.pending.take(meeting)

    def _meet(self, state: State, new: Rows) -> tuple[Meeting, int]:
        """Return the meeting of new rows, less those that were there already, and how many these are."""
        meeting = state.pending.meet(new)
        names = [source.arm for source in state.sources] or [""]
        arms = np.array([names.index(name) for name in names], np.int64)[meeting.rows.sources]
        again = meeting.repeated(arms)
        return meeting.without(again), int(again.sum())

    def rewind(self, state: State, record: Record) -> None:
        """Take a record that the snapshot counted already: what it brought is pending again, nothing is counted."""
        found = read(record.value or b"")
        if found is None or deployment_of(found) != self._joining.deployment:
            return
        self._mark(state, record, found)
        rows, latest = None, latest_of(record)
        if isinstance(found, Samples):
            judged = judged_of(found, self._joining.output)
            rows = self._predictions(state, found, judged, latest) if judged is not None else None
        elif len(found.keys):
            rows = self._truths(state, found, latest)
            rows = rows.take((rows.offsets < state.taken.get(found.partition, 0)) & (rows.kinds != NONE))
        if rows is not None:
            due = state.pending.window.deadlines(rows) <= state.pending.keep
            state.again.append(rows.take((rows.times >= 0) & (rows.times <= latest) & ~due))
        if sum(len(each.ids) for each in state.again) >= MANY:
            self._settle(state)

    def _settle(self, state: State) -> None:
        """Keep what was read back."""
        parts, state.again = state.again, []
        if not any(len(part.ids) for part in parts):
            return
        meeting, _ = self._meet(state, joined([widened(part, len(state.segments)) for part in parts]))
        state.pending.take(meeting)

    def low(self, state: State, position: int) -> int:
        """Return the offset from which `rewind` must take records to have again what is pending at a position."""
        return state.pending.low(position)

    def _mark(self, state: State, record: Record, found: Samples | LabelCopies) -> None:
        if len(found.keys):
            state.pending.mark(record.offset, self._end(found, latest_of(record)))

    def _end(self, found: Samples | LabelCopies, latest: int) -> int:
        """Return the deadline of the last that a record brought."""
        last, window = min(int(found.times.max()), latest), self._joining.window
        return window.event(last) if isinstance(found, Samples) else window.closes(last)

    def _predictions(self, state: State, found: Samples, judged: pl.Series, latest: int) -> Rows:
        """Return what a record says, event by event."""
        deadline, maker, reading = self._end(found, latest), found.maker, state.pending.reading
        ids, keys, sizes = state.pending.put(found.keys, deadline)
        kinds, bits, width = reading.column(judged, deadline)
        task = task_of(self._joining.task, self._joining.truth, kind_of(judged), 1 if width == SCALAR else 2)
        source = state.source(Source(maker.arm, maker.model, maker.version, maker.role, task, width))
        ranks = np.clip(found.partitions, 0, LABEL - 1).astype(np.int32)
        sources, segments = np.full(len(ids), source, np.int16), _segments(state, found)
        extras = self._extras(len(ids), self._joining.outputs, found.outputs)
        return Rows(ids, found.times, ranks, found.offsets, kinds, bits, sources, extras, segments, keys, sizes)

    def _truths(self, state: State, found: LabelCopies, latest: int) -> Rows:
        """Return what a record says, label by label."""
        deadline, rows = self._end(found, latest), len(found.keys)
        ids, keys, sizes = state.pending.put(found.keys, deadline)
        kinds, bits, _ = state.pending.reading.column(found.value, deadline)
        ranks = np.full(rows, LABEL + min(max(found.partition, 0), LABEL - 1), np.int32)
        sources, segments = np.full(rows, -1, np.int16), np.zeros((rows, len(state.segments)), np.uint8)
        extras = self._extras(rows, (*self._joining.numbers, *self._joining.fields), found.numbers)
        return Rows(ids, found.times, ranks, found.offsets, kinds, bits, sources, extras, segments, keys, sizes)

    def _extras(self, rows: int, names: Sequence[str], columns: Mapping[str, pl.Series]) -> Doubles:
        """Return the numbers of columns, NaN where they are missing; shape (rows, extras)."""
        found = np.full((rows, self._joining.extras), np.nan)
        for at, name in enumerate(names):
            series = columns.get(name)
            if series is not None and (series.dtype.is_numeric() or series.dtype == pl.Boolean):
                found[:, at] = series.cast(pl.Float64).to_numpy()  # null is NaN
        return found

    def _advance(self, state: State) -> Iterator[Out]:
        keep = state.clocks.keep(self._joining.within * 1000)
        for what, count in state.pending.expire(keep).items():
            state.ticks.count(what, count)
        until = state.clocks.ticks() - self._joining.tick_grace_ms
        for key, value in state.ticks.close(self._joining.deployment, state.partition, until):
            yield Out(self._joining.topic, key, value)

    def facts(self, state: State) -> dict[str, int]:
        """Return what was counted, and the sizes of what is pending."""
        return {
            **state.ticks.counts,
            "pending": len(state.pending),
            "open_ticks": len(state.ticks.open),
            "parts": state.ticks.number,
        }

    def dump(self, state: State) -> bytes:
        """Return everything but what is pending."""
        document = {
            "format": FORMAT,
            "partition": state.partition,
            "clocks": state.clocks.dump(),
            "keep": state.pending.keep,
            "ticks": state.ticks.dump(),
            "taken": sorted(state.taken.items()),
            "known": state.known,
        }
        return packed(document)

    def load(self, data: bytes) -> State:
        """Return the dumped state, for `rewind` to fill. Raises SnapshotInvalid."""
        return unpacked(data, FORMAT, self._loaded)

    def _loaded(self, document: Mapping[str, Any]) -> State:
        return State(
            document["partition"],
            Clocks.load(self._joining.labels, document["clocks"]),
            Pending(self._joining.window, document["keep"]),
            Ticks.load(self._joining.tick_ms, document["ticks"]),
            dict(map(tuple, document["taken"])),
            document["known"],
        )


def read(value: bytes) -> Samples | LabelCopies | None:
    """Return what a record of the topic holds; None where it is neither."""
    for kind in (Samples, LabelCopies):
        try:
            return kind.decode(value)
        except RecordInvalid:
            continue
    return None


def deployment_of(found: Samples | LabelCopies) -> str:
    """Return whose record it is."""
    return found.maker.deployment if isinstance(found, Samples) else found.deployment


def latest_of(record: Record) -> int:
    """Return the latest time that what a record says can have."""
    return record.time + FUTURE_MS if record.time >= 0 else LATEST


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


def _segments(state: State, samples: Samples) -> Array:
    """Return the values of segments by number; shape (n, segments that are known)."""
    state.segments += [name for name in samples.segments if name not in state.segments]
    found = np.zeros((len(samples.keys), len(state.segments)), np.uint8)
    for name, column in samples.segments.items():
        texts = [None if text is None else text[:TEXT] for text in column.to_list()]
        codes = {text: 0 if text is None else state.code(f"segment {name}", text) for text in dict.fromkeys(texts)}
        found[:, state.segments.index(name)] = [codes[text] for text in texts]
    return found


def _grouping(sources: Sequence[Source]) -> Callable[[int, View, str, str], Group]:
    """Return what makes a group of a source's number, a view, what is counted and its name."""

    def group(source: int, view: View, what: str, name: str) -> Group:
        return Group(*sources[source][:3], *view, what, name)

    return group
