"""The join once more, event by event with dicts: what the package does by column must come to the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl

from models.samples import ASSIGNED, LabelCopies, Samples
from monitoring.cells import Group
from monitoring.clocks import Clocks
from monitoring.folds import Out, Record
from monitoring.formulas import Formula
from monitoring.holding import MOST_BYTES, MOST_RECORDS, SPAN_MS
from monitoring.join_state import OTHER, VALUES, Joining
from monitoring.judging import Task, task_of
from monitoring.pending import GRAIN, LONGEST
from monitoring.sides import TEXT, judged_of, kind_of, latest_of
from monitoring.ticks import Ticks
from schemas.errors import RecordInvalid
from tests.monitoring import dict_judging as judging
from tests.monitoring.dict_histories import Event, Label, Said, Source, Truth, repeats
from tests.monitoring.dict_judging import Counted, Value
from tests.monitoring.dict_pending import Pending


@dataclass(slots=True)
class State:
    """The state of one partition of samples. taken: the next offset by partition of labels."""

    partition: int
    clocks: Clocks
    pending: Pending
    ticks: Ticks
    taken: dict[int, int] = field(default_factory=dict)
    known: dict[str, list[str]] = field(default_factory=dict)
    held: list[Record] = field(default_factory=list)

    def told_apart(self, kind: str, value: str) -> str:
        """Return the value, or OTHER where there are too many of its kind; the first ones stay for ever."""
        known = self.known.setdefault(kind, [])
        if value not in known:
            if len(known) >= VALUES:
                return OTHER
            known.append(value)
        return value


class DictFold:
    """Folds `<deployment>.samples`."""

    def __init__(self, joining: Joining) -> None:
        self._joining = joining

    def new(self, partition: int) -> State:
        """Return the state before the first record."""
        joining = self._joining
        return State(partition, Clocks(joining.labels), Pending(joining.window), Ticks(joining.tick_ms))

    def apply(self, state: State, record: Record) -> list[Out]:
        """Hold samples or copied labels; return the parts of the ticks that close with those of another moment."""
        outs: list[Out] = []
        if state.held and record.time // SPAN_MS != state.held[0].time // SPAN_MS:
            outs += self._taken(state)
        state.held.append(record)
        size = sum(len(each.value or b"") for each in state.held)
        if record.time < 0 or len(state.held) == MOST_RECORDS or size >= MOST_BYTES:
            outs += self._taken(state)
        return outs

    def _taken(self, state: State) -> list[Out]:
        for record in state.held:
            found, latest = _read(record.value or b""), latest_of(record)
            if found is None:
                state.ticks.count("poison")
            elif _deployment_of(found) != self._joining.deployment:
                state.ticks.count("foreign")
            elif isinstance(found, Samples):
                self._samples(state, found, latest)
            else:
                self._copies(state, found, latest)
        state.held = []
        return list(self._advance(state))

    def _samples(self, state: State, found: Samples, latest: int) -> None:
        if judged_of(found, self._joining.output) is None:
            state.ticks.count("without_output", len(found.keys))
        for key, event, said in _events(found, self._joining, state):
            if 0 <= event.time <= latest:
                self._sample(state, key, event, said)
                if said.source.role == ASSIGNED:  # a shadow may be far ahead
                    state.clocks.saw(event.partition, event.time)
            else:
                state.ticks.count("untimed_events")

    def _copies(self, state: State, found: LabelCopies, latest: int) -> None:
        if found.follows > state.taken.get(found.partition, -1):
            state.ticks.count("gaps")
            return
        state.clocks.told(found.partition, min(found.watermark, latest))
        for key, label in _labels(found, (*self._joining.numbers, *self._joining.fields)):
            if label.offset < state.taken.get(found.partition, 0):
                state.ticks.count("repeated_labels")
            elif 0 <= label.time <= latest:
                self._label(state, key, label)
            else:
                state.ticks.count("untimed_labels")
        state.taken[found.partition] = max(state.taken.get(found.partition, 0), found.position)

    def _sample(self, state: State, key: bytes, event: Event, said: Said) -> None:
        pending, ticks = state.pending, state.ticks
        if pending.window.event(event.time) <= pending.keep:
            ticks.count("late_events")
            return
        history = pending.history(key)
        kept = history.event(*event.order)
        if kept is None:
            ticks.count("events")
            late = history.late_from(event.time)
            event.said[said.source.arm] = said
            changes = history.add_event(event)
            pending.remember_event(key, event)
            ticks.count("late_labels", history.late_from(event.time) - late)
            ticks.count("missing", int(pending.closed(event.time)))
            self._scored(state, event, said)
            for change in changes:
                self._changed(state, change.event, change.before, change.after)
        elif said.source.arm in kept.said:
            ticks.count("repeated_predictions")
        else:
            kept.said[said.source.arm] = said
            self._scored(state, kept, said)
            self._joined(state, kept, [said], history.labels_of(kept), 1)

    def _label(self, state: State, key: bytes, label: Label) -> None:
        pending, ticks = state.pending, state.ticks
        ticks.count("labels")
        if label.truth.value is None:
            ticks.count("empty_labels")
            return
        ticks.count("out_of_order", state.clocks.before(label.partition, np.array([label.time])))
        if pending.window.closes(label.time) <= pending.keep:
            ticks.count("expired_labels")
            return
        history = pending.history(key)
        late = history.late_from(label.time)
        change = history.add_label(label)
        pending.remember_label(key, label)
        if change is None:
            ticks.count("late_labels", history.late_from(label.time) - late)
        else:
            self._changed(state, change.event, change.before, change.after)

    def _changed(self, state: State, event: Event, before: Sequence[Label], after: Sequence[Label]) -> None:
        """Count what another chain of labels changes."""
        ticks, came = state.ticks, bool(after) - bool(before)
        ticks.count("pairs", came)
        if state.pending.closed(event.time):
            ticks.count("missing", -came)
        (old, one), (new, other) = repeats(before), repeats(after)
        ticks.count("duplicates", new - old)
        ticks.count("corrections", other - one)
        self._joined(state, event, list(event.said.values()), before, -1)
        self._joined(state, event, list(event.said.values()), after, 1)

    def _joined(self, state: State, event: Event, saids: list[Said], chain: Sequence[Label], sign: int) -> None:
        for time, truth, way in _entries(chain):
            for said in saids:
                self._add(state, time, event, said, self._pair(said, truth), sign * way)
            for first, second in _beside(event, saids):
                won = judging.won(self._task(first), first.value, second.value, truth.value, _name(second))
                self._add(state, time, event, first, won, sign * way)

    def _pair(self, said: Said, truth: Truth) -> Counted:
        yield from judging.judged(self._task(said), said.value, truth.value, self._joining.error_range)
        if said.source.role == ASSIGNED:
            for name, number in zip(self._joining.numbers, truth.numbers, strict=False):
                if number is not None:
                    yield from judging.counted(name, number)
        for formula in self._joining.formulas:
            if said.source.role == ASSIGNED or not formula.of_labels:
                number = _reckoned(formula, said, truth)
                if number is not None:
                    yield from (("metric", formula.told, cell, by) for _, _, cell, by in judging.counted("", number))

    def _scored(self, state: State, event: Event, said: Said) -> None:
        self._add(state, event.time, event, said, judging.scored(self._task(said), said.value), 1)
        for first, second in _beside(event, [said]):
            compared = judging.compared(self._task(first), first.value, second.value, _name(second))
            self._add(state, event.time, event, first, compared, 1)

    def _task(self, said: Said) -> Task:
        return task_of(self._joining.task, self._joining.truth, said.kind, said.width)

    def _add(self, state: State, time: int, event: Event, said: Said, counted: Counted, sign: int) -> None:
        source = said.source
        by_name: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for what, name, cell, by in counted:
            kept = state.told_apart(what, name) if what == "confusion" else name
            by_name.setdefault((what, kept), []).append((cell, by))
        for (what, name), cells in by_name.items():
            for segment, value in (("", ""), *event.segments):
                group = Group(source.arm, source.model, source.version, segment, value, what, name)
                judging.add(state.ticks, time, group, cells, sign)

    def _advance(self, state: State) -> Iterator[Out]:
        grain = max(min(self._joining.window.within // GRAIN, LONGEST), 1)
        keep = state.clocks.keep(self._joining.within * 1000) // grain * grain
        if keep > state.pending.keep:
            for what, _ in state.pending.expire(keep):
                state.ticks.count(what)
        until = state.clocks.ticks() - self._joining.tick_grace_ms
        for key, value in state.ticks.close(self._joining.deployment, state.partition, until):
            yield Out(self._joining.topic, key, value)

    def facts(self, state: State) -> dict[str, int]:
        """Return what was counted."""
        return state.ticks.counts

    def dump(self, state: State) -> bytes:
        raise NotImplementedError

    def load(self, data: bytes) -> State:
        raise NotImplementedError


def _read(value: bytes) -> Samples | LabelCopies | None:
    for kind in (Samples, LabelCopies):
        try:
            return kind.decode(value)
        except RecordInvalid:
            continue
    return None


def _deployment_of(found: Samples | LabelCopies) -> str:
    return found.maker.deployment if isinstance(found, Samples) else found.deployment


def _reckoned(formula: Formula, said: Said, truth: Truth) -> float | None:
    """Evaluate a formula as the Python that it looks like; None where something missing is used."""
    pairs = [*zip(formula.outputs, said.others, strict=True), *zip(formula.fields, truth.numbers, strict=True)]
    names: dict[str, Any] = {**dict(pairs), formula.truth: truth.value}
    names = {n: None if v is None or isinstance(v, str) or not abs(v) <= 1e15 else v for n, v in names.items()}
    spaces = {side: SimpleNamespace(**names) for side in ("label", "output")}
    try:
        found = float(eval(formula.expression.text, {}, {**names, **spaces}))
    except (ZeroDivisionError, TypeError):
        return None
    return found if formula.low is None or formula.high is None else min(max(found, formula.low), formula.high)


def _entries(chain: Sequence[Label]) -> Iterator[tuple[int, Truth, int]]:
    """Yield what a chain of labels counts: time, truth and sign. A correction takes away what was, at its own time."""
    last: Truth | None = None
    for label in chain:
        if label.truth != last:
            if last is not None:
                yield label.time, last, -1
            yield label.time, label.truth, 1
            last = label.truth


def _beside(event: Event, saids: Iterable[Said]) -> Iterator[tuple[Said, Said]]:
    """Yield the pairs of the prediction that counted for the event and another one, of which one is among `saids`."""
    first = next((said for said in event.said.values() if said.source.role == ASSIGNED), None)
    if first is not None:
        among = [said.source.arm for said in saids]
        for arm, second in sorted(event.said.items()):
            if second.source.role != ASSIGNED and (arm in among or first.source.arm in among):
                yield first, second


def _name(said: Said) -> str:
    return "/".join(said.source[:3])


def _values(series: pl.Series) -> list[Value]:
    if isinstance(series.dtype, pl.Array | pl.List):
        return [None if each is None else tuple(float("nan") if n is None else n for n in each) for each in series]
    found = series.to_list()
    if series.dtype.is_float():
        return [None if each is None or each != each else each for each in found]
    return found


def _numbers(columns: Mapping[str, pl.Series], names: Sequence[str], rows: int) -> list[list[Any]]:
    return [_values(columns[name]) if name in columns else [None] * rows for name in names]


def _events(samples: Samples, joining: Joining, state: State) -> Iterator[tuple[bytes, Event, Said]]:
    maker = samples.maker
    source = Source(maker.arm, maker.model, maker.version, maker.role)
    judged = judged_of(samples, joining.output)
    if judged is None:
        return
    kind, width, values = kind_of(judged), 2 if judged.dtype.is_nested() else 1, _values(judged)
    others = _numbers(samples.outputs, joining.outputs, len(values))
    columns = [(f"segment {name}", name, column.to_list()) for name, column in samples.segments.items()]
    places = zip(samples.times.tolist(), samples.partitions.tolist(), samples.offsets.tolist(), strict=True)
    for at, (key, place) in enumerate(zip(samples.keys, places, strict=True)):
        segments = tuple(
            (name, state.told_apart(among, column[at][:TEXT]))
            for among, name, column in columns
            if column[at] is not None
        )
        yield key, Event(*place, segments), Said(source, kind, width, values[at], tuple(each[at] for each in others))


def _labels(copies: LabelCopies, numbers: Sequence[str]) -> Iterator[tuple[bytes, Label]]:
    values, times, offsets = _values(copies.value), copies.times.tolist(), copies.offsets.tolist()
    columns = _numbers(copies.numbers, numbers, len(values))
    for at, key in enumerate(copies.keys):
        truth = Truth(values[at], tuple(column[at] for column in columns))
        yield key, Label(times[at], copies.partition, offsets[at], truth)
