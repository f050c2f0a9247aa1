"""The fold of a profiles topic: deltas become ticks, ticks become windows, windows are judged, findings become alerts.

A tick closes when every source partition has passed it; what comes later is counted, not tested. So it does not matter
over how many partitions and workers the events were spread, nor in what order their profiles arrived.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from models import varint
from models.errors import ReferenceInvalid
from models.reference import Reference, Slice, Tally, tally_of
from monitoring import alerts
from monitoring.alerts import Explanation, Finding, Subject, Told
from monitoring.drift import Counts, LevelShift, Shift, mean_rank, moved_bins, noise, psi
from monitoring.episodes import Book, Manners
from monitoring.errors import SnapshotInvalid
from monitoring.folds import Out, Record
from monitoring.watch import Columns, Watch, columns_of
from schemas import records

FORMAT = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """How windows are cut and judged."""

    detector: Literal["windows", "e_detector"] = "windows"
    false_alarms: float = 1.0  # of the e-detector, a column and week, at most and on average
    window_rows: int = 5000  # a window is as many closed ticks as hold this many events
    opens: float = 0.2  # PSI beyond chance at which a column deviates
    closes: float = 0.1  # PSI beyond chance below which it is calm
    patience: int = 2  # deviating windows in a row that open an episode
    rest: int = 3  # calm windows in a row that close it
    shift: Shift = field(default_factory=Shift)
    shift_rest: int = 10  # windows without another shift that close its episode
    grace_ms: int = 2000  # a partition has passed a tick when its watermark is this far beyond the tick's end
    open_ticks: int = 600  # of one version; the oldest is closed, and counted, when a partition holds more back
    idle_ms: int = 3_600_000  # a version without events for this long is forgotten, its episodes are closed
    manners: Manners = field(default_factory=Manners)


class Lineage(NamedTuple):
    """Whose profiles are added up: one version in one arm, counted in the bins of one reference."""

    arm: str
    model: str
    version: str
    reference: str


Find = Callable[[Lineage], Reference | None]  # always of the same answer, or it raises and the process ends


@dataclass(slots=True)
class Stream:
    """The state of one lineage."""

    tick_ms: int
    book: Book  # what was told of its episodes
    last: int = 0  # ms, end of its last closed tick
    ticks: dict[int, Tally] = field(default_factory=dict)  # open ticks
    window: Tally | None = None
    start: int = 0  # ms, of the window
    levels: dict[str, LevelShift] = field(default_factory=dict)  # name of an output
    watch: Watch | None = None  # the e-detector's


@dataclass(slots=True)
class State:
    """The state of one profiles partition."""

    sources: int  # partitions of the input topic
    passed: dict[str, dict[int, int]] = field(default_factory=dict)  # arm -> source partition -> watermark, ms
    closed: dict[str, int] = field(default_factory=dict)  # arm -> ms up to which ticks are closed
    streams: dict[Lineage, Stream] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + by


class ProfileFold:
    """Folds `<deployment>.profiles`.

    references: the references of model versions by digest. find: asked for others, once each; profiles that count in
    the bins of one that it has not are counted as `unknown_reference` and not tested. sources: partitions of the input
    topic; more are noticed as they appear.
    """

    def __init__(
        self,
        deployment: str,
        references: Mapping[str, Reference],
        sources: int,
        settings: Settings | None = None,
        topic: str = alerts.TOPIC,
        find: Find | None = None,
    ) -> None:
        self._deployment, self._references, self._sources = deployment, dict(references), sources
        self._find, self._absent = find, set[Lineage]()
        self._settings, self._topic = settings or Settings(), topic
        self._columns: dict[str, Columns] = {}  # by reference, when one is first asked for

    def new(self, partition: int) -> State:
        """Return the state before the first record."""
        return State(self._sources)

    def apply(self, state: State, record: Record) -> list[Out]:
        """Take one profile or progress record; return the alerts that open or close with it."""
        state.count("records")
        try:
            profile = records.decode("profile", record.value or b"")
        except records.RecordInvalid:
            state.count("poison")
            return []
        if profile["deployment"] != self._deployment or profile["tick_ms"] < 1:
            state.count("foreign")
            return []
        state.sources = max(state.sources, profile["partition"] + 1)
        self._add(state, profile)
        passed = state.passed.setdefault(profile["arm"], {})
        partition = profile["partition"]
        passed[partition] = max(passed.get(partition, 0), profile["watermark"])
        return list(self._close(state, profile["arm"]))

    def _add(self, state: State, profile: Mapping[str, Any]) -> None:
        rows, arm = profile["rows"], profile["arm"]
        state.count("clamped", profile["clamped"])
        if not rows:
            return
        lineage = Lineage(arm, profile["model"], profile["version"], profile["reference"])
        reference = self._reference(lineage)
        if reference is None:
            state.count("unknown_reference", rows)
            return
        tick, tick_ms = profile["tick"], profile["tick_ms"]
        if (tick + 1) * tick_ms <= state.closed.get(arm, 0):
            state.count("late", rows)
            return
        stream = state.streams.setdefault(
            lineage, Stream(tick_ms, self._new_book(reference, tick_ms), last=tick * tick_ms)
        )
        try:
            tally = tally_of(profile, len(reference.tally.cells))
        except ReferenceInvalid:
            state.count("poison")
            return
        if stream.tick_ms != tick_ms:
            state.count("poison")
            return
        known = stream.ticks.get(tick)
        stream.ticks[tick] = tally if known is None else known + tally
        state.count("rows", rows)

    def _reference(self, lineage: Lineage) -> Reference | None:
        """Return the bins of a lineage. Raises what `find` raises: the record is then folded by another process."""
        digest = lineage.reference
        if digest not in self._references and self._find is not None and lineage not in self._absent:
            found = self._find(lineage)
            if found is not None and found.digest == digest:
                self._references[digest] = found
            else:
                self._absent.add(lineage)
        return self._references.get(digest)

    def _close(self, state: State, arm: str) -> Iterator[Out]:
        """Close what every source partition has passed."""
        passed = state.passed[arm]
        if len(passed) == state.sources:
            state.closed[arm] = max(state.closed.get(arm, 0), min(passed.values()) - self._settings.grace_ms)
        streams = sorted((lineage, stream) for lineage, stream in state.streams.items() if lineage.arm == arm)
        for lineage, stream in streams:
            for tick in sorted(stream.ticks):
                end = (tick + 1) * stream.tick_ms
                if end > state.closed.get(arm, 0):
                    if len(stream.ticks) <= self._settings.open_ticks:
                        break
                    state.closed[arm] = end
                    state.count("forced")
                yield from self._outs(stream.book.settle(tick * stream.tick_ms))
                yield from self._closed_tick(lineage, stream, tick, stream.ticks.pop(tick))
                state.count("ticks")
            yield from self._outs(stream.book.settle(state.closed.get(arm, 0)))
            if not stream.ticks and state.closed.get(arm, 0) > stream.last + self._settings.idle_ms:
                yield from self._forget(lineage, stream)
                del state.streams[lineage]

    def _closed_tick(self, lineage: Lineage, stream: Stream, tick: int, tally: Tally) -> Iterator[Out]:
        reference = self._reference(lineage)
        if reference is None:  # restored from a snapshot, and its model has gone since
            stream.window, stream.watch, stream.last = None, None, (tick + 1) * stream.tick_ms
            return
        if self._settings.detector == "e_detector":
            stream.last = (tick + 1) * stream.tick_ms
            yield from self._watch(lineage, stream, reference, tick, tally)
            return
        if stream.window is None:
            stream.window, stream.start = Tally.empty(len(tally.cells)), tick * stream.tick_ms
        stream.window += tally
        stream.last = (tick + 1) * stream.tick_ms
        if stream.window.rows >= self._settings.window_rows:
            window, stream.window = stream.window, None
            yield from self._judge(lineage, stream, window)

    def _watch(self, lineage: Lineage, stream: Stream, reference: Reference, tick: int, tally: Tally) -> Iterator[Out]:
        stream.watch = stream.watch or self._new_watch(lineage, reference, stream.tick_ms)
        for part, finding in stream.watch.step(tick, tally):
            yield from self._step(lineage, stream, part, "e_detector", finding, 1, 1)

    def _new_watch(self, lineage: Lineage, reference: Reference, tick_ms: int) -> Watch:
        if lineage.reference not in self._columns:
            self._columns[lineage.reference] = columns_of(reference)
        return Watch(reference, self._columns[lineage.reference], tick_ms, self._settings.false_alarms)

    def _judge(self, lineage: Lineage, stream: Stream, window: Tally) -> Iterator[Out]:
        reference, settings = self._references[lineage.reference], self._settings
        for part in reference.slices:
            expected = reference.tally.cells[part.start : part.end]
            observed = window.cells[part.start : part.end]
            finding = self._compared(stream, part, expected, observed)
            yield from self._step(lineage, stream, part, "psi", finding, settings.patience, settings.rest)
            if part.kind == "output" and (shifted := self._shifted(stream, part, expected, observed)):
                yield from self._step(lineage, stream, part, "page_hinkley", shifted, 1, settings.shift_rest)

    def _compared(self, stream: Stream, part: Slice, expected: Counts, observed: Counts) -> Finding:
        beyond = max(0.0, psi(expected, observed) - noise(expected, observed))
        rows = int(observed.sum())

        def explain() -> Explanation:
            evidence = moved_bins(expected, observed, [part.bins.label(at) for at in range(part.bins.size)])
            most = evidence[0]
            return Explanation(
                f"{part.name}: PSI {beyond:.3f} beyond chance over {rows:,} events; most: {most['bin']} "
                f"from {most['expected']:.1%} to {most['observed']:.1%} of events",
                evidence,
            )

        settings = self._settings
        deviates, calm = beyond >= settings.opens, beyond < settings.closes
        critical = beyond >= 2 * settings.opens
        return Finding(deviates, calm, beyond, settings.opens, rows, stream.start, stream.last, explain, critical)

    def _shifted(self, stream: Stream, part: Slice, expected: Counts, observed: Counts) -> Finding | None:
        rank = mean_rank(expected[:-1], observed[:-1])  # missing has no rank
        if rank is None:
            return None
        level = stream.levels.setdefault(part.name, LevelShift(self._settings.shift))
        shift = level.update(rank)
        told = Explanation(f"{part.name}: mean rank {rank:.3f}, its level was {level.mean:.3f}")
        threshold, rows = self._settings.shift.threshold, int(observed.sum())
        value = abs(rank - level.mean)
        critical = value >= 2 * threshold
        return Finding(shift, not shift, value, threshold, rows, stream.start, stream.last, lambda: told, critical)

    def _step(
        self, lineage: Lineage, stream: Stream, part: Slice, detector: str, finding: Finding, patience: int, rest: int
    ) -> Iterator[Out]:
        subject = Subject(self._deployment, lineage.arm, lineage.model, lineage.version, detector, part.kind, part.name)
        yield from self._outs(stream.book.take(subject, finding, patience, rest))

    def _forget(self, lineage: Lineage, stream: Stream) -> Iterator[Out]:
        """Close the episodes of a version that scores no more."""
        end = stream.last + self._settings.idle_ms
        why = f"version {lineage.version} has scored no event for {self._settings.idle_ms} ms"
        yield from self._outs(stream.book.end(why, end))

    def _outs(self, told: Iterator[Told]) -> Iterator[Out]:
        return (Out(self._topic, *alerts.encoded(record)) for record in told)

    def _new_book(self, reference: Reference | None, tick_ms: int) -> Book:
        columns = Counter(part.kind for part in reference.slices) if reference is not None else {}
        return Book(columns, tick_ms, self._settings.manners)

    def facts(self, state: State) -> dict[str, int]:
        """Return counters and sizes: records, rows, ticks, late, forced, poison, open_ticks, open_alerts, ..."""
        return {
            **state.counts,
            "open_ticks": sum(len(stream.ticks) for stream in state.streams.values()),
            "open_alerts": sum(stream.book.open for stream in state.streams.values()),
            "streams": len(state.streams),
        }

    def dump(self, state: State) -> bytes:
        """Return compressed JSON."""
        document = {
            "format": FORMAT,
            "sources": state.sources,
            "passed": [[arm, sorted(by.items())] for arm, by in sorted(state.passed.items())],
            "closed": state.closed,
            "counts": state.counts,
            "streams": [[list(lineage), _dump_stream(stream)] for lineage, stream in sorted(state.streams.items())],
        }
        return zlib.compress(json.dumps(document, sort_keys=True, separators=(",", ":")).encode(), 1)

    def load(self, data: bytes) -> State:
        """Return the dumped state. Raises SnapshotInvalid."""
        try:
            document = json.loads(zlib.decompress(data))
            if document["format"] not in (FORMAT - 1, FORMAT):
                raise SnapshotInvalid(f"snapshot format {document['format']!r}; this version reads {FORMAT}")
            passed = {arm: dict(map(tuple, by)) for arm, by in document["passed"]}
            streams = {}
            for entry, stream in document["streams"]:
                lineage = Lineage(*entry)
                streams[lineage] = self._load_stream(lineage, stream)
            return State(document["sources"], passed, document["closed"], streams, document["counts"])
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            raise SnapshotInvalid(f"a damaged snapshot: {type(error).__name__}: {error}") from error

    def _load_stream(self, lineage: Lineage, document: Mapping[str, Any]) -> Stream:
        watch, reference = None, self._reference(lineage)
        book = self._new_book(reference, document["tick_ms"])
        if "book" in document:  # an earlier release had none
            book.load(document["book"])
        if document["watch"] is not None and reference is not None:
            watch = self._new_watch(lineage, reference, document["tick_ms"])
            watch.load(document["watch"])
        return Stream(
            document["tick_ms"],
            book,
            document["last"],
            {tick: _load_tally(tally) for tick, tally in document["ticks"]},
            None if document["window"] is None else _load_tally(document["window"]),
            document["start"],
            {name: LevelShift(self._settings.shift, values) for name, values in document["levels"].items()},
            watch,
        )


def _dump_stream(stream: Stream) -> dict[str, Any]:
    return {
        "tick_ms": stream.tick_ms,
        "last": stream.last,
        "ticks": [[tick, _dump_tally(tally)] for tick, tally in sorted(stream.ticks.items())],
        "window": None if stream.window is None else _dump_tally(stream.window),
        "start": stream.start,
        "book": stream.book.dump(),
        "levels": {name: level.dump() for name, level in stream.levels.items()},
        "watch": None if stream.watch is None else stream.watch.dump(),
    }


def _dump_tally(tally: Tally) -> list[Any]:
    return [tally.rows, base64.b64encode(varint.pack(tally.cells)).decode()]


def _load_tally(document: list[Any]) -> Tally:
    return Tally(document[0], np.array(varint.unpack(base64.b64decode(document[1])), np.int64))
