"""The fold of a partition of samples: predictions meet their labels, and what they add up to goes out tick by tick.

Both sides stand in one log, so the result is a function of it. A copy of labels that was taken already is dropped by
its offset; one that follows a copy which never came is left, for whoever lost that copy starts over and sends both.
Records that were written within a moment (monitoring.holding) are taken as one, by column: what waits, what meets and
what it counts are array operations, so small records cost little more than large ones. What is held back stands in no
snapshot: it is read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from models.samples import ASSIGNED
from models.together import Head, ManyCopies, ManySamples
from monitoring.cells import Group
from monitoring.clocks import Clocks
from monitoring.counting import Asked, Counting, Source
from monitoring.folds import Out, Record, packed, unpacked
from monitoring.join_state import Joining, State
from monitoring.meeting import Meeting
from monitoring.pending import Pending
from monitoring.rewards import Rewards, grouped
from monitoring.rows import LABEL, Rows, joined, widened
from monitoring.sides import Chunk, Part, chunk_of, in_order, predictions, truths
from monitoring.tally import View
from monitoring.ticks import Ticks
from monitoring.values import NONE

FORMAT = 1
MANY = 50_000  # rows that are read back at once


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
        """Hold samples or copied labels; return the parts of the ticks that close with what is held no longer."""
        self._settle(state)
        outs = self._taken(state) if state.held.ends_before(record) else []
        state.held.add(record)
        return [*outs, *self._taken(state)] if state.held.full else outs

    def held(self, state: State) -> int | None:
        """Return the offset of the first record that is held, None for none: the state is as it was before it."""
        return state.held.first

    def _taken(self, state: State) -> list[Out]:
        """Take what is held as one; then the clocks move."""
        chunk, ticks = chunk_of(state.held.take(), self._joining.deployment), state.ticks
        ticks.count("poison", chunk.poison)
        ticks.count("foreign", chunk.foreign)
        self._mark(state, chunk)
        floors = self._floors(state, chunk)
        said = [self._samples(state, chunk, many) for many in chunk.samples]
        told = [self._labels(state, chunk, many, floors) for many in chunk.copies]
        rows = in_order([part for part in (*said, *told) if part is not None], len(state.segments))
        if rows is not None:
            self._take(state, self._in_time(state, rows))
        return [*self._reward(state, chunk), *self._advance(state)]

    def _reward(self, state: State, chunk: Chunk) -> Iterator[Out]:
        joining, at = self._joining, max(record.time for record in chunk.records)
        return state.rewards.tell(joining.rewards, joining.deployment, state.partition, at)

    def _mark(self, state: State, chunk: Chunk) -> None:
        for offset, deadline in chunk.deadlines(self._joining.window):
            state.pending.mark(offset, deadline)

    def _samples(self, state: State, chunk: Chunk, many: ManySamples) -> Part | None:
        """Return the predictions that have a time."""
        found, ticks = many.rows, state.ticks
        part = predictions(self._joining, state, chunk, many)
        if part is None:
            ticks.count("without_output", len(found.keys))
            return None
        timed = chunk.timed(found.times, part.places)
        ticks.count("untimed_events", int((~timed).sum()))
        if found.maker.role == ASSIGNED:  # a shadow may be far ahead
            for partition in np.unique(found.partitions[timed]).tolist():
                state.clocks.saw(partition, int(found.times[timed & (found.partitions == partition)].max()))
        return part.take(timed)

    def _floors(self, state: State, chunk: Chunk) -> dict[int, int | None]:
        """Return what `_copies` says of each copy, by its record; they follow one another, so in their order."""
        heads = [pair for many in chunk.copies for pair in zip(many.places.tolist(), many.heads, strict=True)]
        return {place: self._copies(state, head, int(chunk.latest[place])) for place, head in sorted(heads)}

    def _copies(self, state: State, head: Head, latest: int) -> int | None:
        """Note a copy; return the offset below which its labels were taken before, None where it must be left."""
        taken = state.taken.get(head.partition, 0)
        if head.follows > state.taken.get(head.partition, -1):
            state.ticks.count("gaps")
            return None
        state.clocks.told(head.partition, min(head.watermark, latest))
        state.taken[head.partition] = max(taken, head.position)
        return taken

    def _labels(self, state: State, chunk: Chunk, many: ManyCopies, floors: Mapping[int, int | None]) -> Part | None:
        """Return the labels that are new, and have a time and a value."""
        part, ticks = truths(self._joining, state, chunk, many), state.ticks
        if part is None:
            return None
        mine = [floors[place] for place in many.places.tolist()]
        follows = np.repeat([floor is not None for floor in mine], many.sizes)
        again = follows & (part.rows.offsets < np.repeat([floor or 0 for floor in mine], many.sizes))
        new, timed, full = follows & ~again, chunk.timed(part.rows.times, part.places), part.rows.kinds != NONE
        ticks.count("repeated_labels", int(again.sum()))
        ticks.count("untimed_labels", int((new & ~timed).sum()))
        ticks.count("labels", int((new & timed).sum()))
        ticks.count("empty_labels", int((new & timed & ~full).sum()))
        return part.take(new & timed & full)

    def _in_time(self, state: State, rows: Rows) -> Rows:
        """Return the rows whose time is not over. rows: in the order of the log."""
        ticks, events = state.ticks, rows.events
        for rank in np.unique(rows.ranks[~events]).tolist():
            ticks.count("out_of_order", state.clocks.before(rank - LABEL, rows.times[rows.ranks == rank]))
        due = state.pending.window.deadlines(rows) <= state.pending.keep
        ticks.count("late_events", int((due & events).sum()))
        ticks.count("expired_labels", int((due & ~events).sum()))
        return rows.take(~due) if due.any() else rows

    def _take(self, state: State, new: Rows) -> None:
        """Let new rows meet what waits, count what changes, and keep them."""
        if not len(new.ids):
            return
        meeting, again = self._meet(state, new)
        for what, count in again.items():
            state.ticks.count(what, count)
        counting = Counting(meeting, state.pending.reading, state.sources, self._asked, state.told_apart)
        for what, count in state.pending.told(meeting, counting.equal).items():
            state.ticks.count(what, count)
        state.ticks.count_moved(counting.count())
        views = [lambda code, at=at: state.view(at, code) for at in range(len(state.segments))]
        counting.tally.into(state.ticks, meeting.rows, meeting.firsts, _grouping(state.sources), views)
        counting.rewards.into(state.rewards, meeting.rows, meeting.firsts, _rewarding(state.sources), views)
        state.pending.take(meeting)

    def _meet(self, state: State, new: Rows) -> tuple[Meeting, dict[str, int]]:
        """Return the meeting of new rows, less those that were there already, and how many these are."""
        meeting = state.pending.meet(new)
        names = [source.arm for source in state.sources] or [""]
        arms = np.array([names.index(name) for name in names], np.int64)[meeting.rows.sources]
        again, events = meeting.repeated(arms), meeting.rows.events
        labels, said = int((again & ~events).sum()), int((again & events).sum())
        return meeting.without(again), {"repeated_labels": labels, "repeated_predictions": said}

    def rewind(self, state: State, record: Record) -> None:
        """Take a record that the snapshot counted already: what it brought is pending again, nothing is counted."""
        state.back.add(record)
        if state.back.full:
            self._read_back(state)

    def _read_back(self, state: State) -> None:
        """Return to the state what records brought that are read again."""
        chunk = chunk_of(state.back.take(), self._joining.deployment)
        self._mark(state, chunk)
        parts = [part for many in chunk.samples if (part := predictions(self._joining, state, chunk, many)) is not None]
        for many in chunk.copies:
            if (part := truths(self._joining, state, chunk, many)) is not None:
                floors = np.repeat([state.taken.get(head.partition, 0) for head in many.heads], many.sizes)
                chosen = (part.rows.offsets < floors) & (part.rows.kinds != NONE)
                parts.append(part.take(chosen))
        parts = [part.take(chunk.timed(part.rows.times, part.places)) for part in parts]
        if (rows := in_order(parts, len(state.segments))) is not None:
            due = state.pending.window.deadlines(rows) <= state.pending.keep
            state.again.append(rows.take(~due))
        if sum(len(each.ids) for each in state.again) >= MANY:
            self._keep(state)

    def _settle(self, state: State) -> None:
        """Keep what was read back."""
        if state.back.records:
            self._read_back(state)
        if state.again:
            self._keep(state)

    def _keep(self, state: State) -> None:
        parts, state.again = state.again, []
        rows = joined([widened(part, len(state.segments)) for part in parts])
        if len(rows.ids):
            state.pending.take(self._meet(state, rows)[0])

    def low(self, state: State, position: int) -> int:
        """Return the offset from which `rewind` must take records to have again what is pending at a position."""
        return state.pending.low(position if state.back.first is None else state.back.first)

    def _advance(self, state: State) -> Iterator[Out]:
        keep = state.clocks.keep(self._joining.within * 1000)
        for what, count in state.pending.expire(keep).items():
            state.ticks.count(what, count)
        until = state.clocks.ticks() - self._joining.tick_grace_ms
        for key, value in state.ticks.close(self._joining.deployment, state.partition, until):
            yield Out(self._joining.topic, key, value)

    def facts(self, state: State) -> dict[str, int]:
        """Return what was counted, and the sizes of what is pending; held: records that are not counted yet."""
        return {
            **state.ticks.counts,
            "held": len(state.held.records),
            "pending": len(state.pending),
            "open_ticks": len(state.ticks.open),
            "parts": state.ticks.number,
        }

    def dump(self, state: State) -> bytes:
        """Return everything but what is pending, and what is held."""
        document = {
            "format": FORMAT,
            "partition": state.partition,
            "clocks": state.clocks.dump(),
            "keep": state.pending.keep,
            "ticks": state.ticks.dump(),
            "taken": sorted(state.taken.items()),
            "rewards": state.rewards.dump(),
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
            Rewards.load(document["rewards"]) if "rewards" in document else Rewards(),  # none in earlier releases
            document["known"],
        )


def _grouping(sources: Sequence[Source]) -> Callable[[int, View, str, str], Group]:
    """Return what makes a group of a source's number, a view, what is counted and its name."""

    def group(source: int, view: View, what: str, name: str) -> Group:
        return Group(*sources[source][:3], *view, what, name)

    return group


def _rewarding(sources: Sequence[Source]) -> Callable[[int, View, str, str], Group]:
    """Return what makes a group of outcomes of a source's number, a view, what is counted and the metric."""

    def group(source: int, view: View, what: str, name: str) -> Group:
        del what
        return grouped(sources[source].assigned, *view, name)

    return group
