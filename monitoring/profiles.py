"""The fold of a profiles topic: deltas become ticks, a detector takes the ticks, what it says becomes alerts.

A tick closes when every source partition has passed it; what comes later is counted, not tested. So it does not matter
over how many partitions and workers the events were spread, nor in what order their profiles arrived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from models.errors import ReferenceInvalid
from models.reference import Reference, Tally, tally_of
from monitoring import alerts
from monitoring.alerts import Subject, Told
from monitoring.comparing import Comparing, outputs_of
from monitoring.detector import Detector, Verdict, dump_tally, load_tally
from monitoring.detectors import Detectors
from monitoring.episodes import Book
from monitoring.folds import Figure, Out, Record, packed, unpacked
from monitoring.recent import Recent
from monitoring.retraining import Asking
from monitoring.settings import Settings
from monitoring.succession import Succession
from schemas import records

FORMAT = 5
COMPARED = 5000  # events of a version that are compared with those of the one before


class Lineage(NamedTuple):
    """Whose profiles are added up: one version in one arm, counted in the bins of one reference."""

    arm: str
    model: str
    version: str
    reference: str


Find = Callable[[Lineage], Reference | None]  # always of the same answer, or it raises and the process ends


@dataclass(frozen=True, slots=True)
class Watched:
    """What watches a lineage: the detector's name in the settings, and its state."""

    name: str
    detector: Detector


@dataclass(slots=True)
class Stream:
    """The state of one lineage."""

    tick_ms: int
    book: Book  # what was told of its episodes
    last: int = 0  # ms, end of its last closed tick
    ticks: dict[int, Tally] = field(default_factory=dict)  # open ticks
    watched: Watched | None = None
    recent: Recent | None = None
    asked: list[str] = field(default_factory=list)  # alerts for which a new version was asked for


@dataclass(slots=True)
class State:
    """The state of one profiles partition."""

    sources: int  # partitions of the input topic
    passed: dict[str, dict[int, int]] = field(default_factory=dict)  # arm -> source partition -> watermark, ms
    closed: dict[str, int] = field(default_factory=dict)  # arm -> ms up to which ticks are closed
    streams: dict[Lineage, Stream] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    successions: dict[str, Succession] = field(default_factory=dict)  # by arm

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + by


class ProfileFold:
    """Folds `<deployment>.profiles`.

    references: the references of model versions by digest. find: asked for others, once each; profiles that count in
    the bins of one that it has not are counted as `unknown_reference` and not tested. sources: partitions of the input
    topic; more are noticed as they appear. comparing, asking: what else is told beside alerts; None for nothing.
    """

    def __init__(
        self,
        deployment: str,
        references: Mapping[str, Reference],
        sources: int,
        settings: Settings | None = None,
        topic: str = alerts.TOPIC,
        find: Find | None = None,
        comparing: Comparing | None = None,
        asking: Asking | None = None,
    ) -> None:
        self._deployment, self._references, self._sources = deployment, dict(references), sources
        self._find, self._absent = find, set[Lineage]()
        self._comparing, self._asking = comparing, asking
        self._settings, self._topic = settings or Settings(), topic
        self._detectors = Detectors(self._settings)

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
        if (stream := state.streams.get(lineage)) is None:
            stream = Stream(tick_ms, self._new_book(reference, tick_ms), last=tick * tick_ms)
            state.streams[lineage] = stream
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
        closed: list[tuple[int, Lineage, int, Tally]] = []
        for lineage, stream in streams:
            for tick in sorted(stream.ticks):
                end = (tick + 1) * stream.tick_ms
                if end > state.closed.get(arm, 0):
                    if len(stream.ticks) <= self._settings.open_ticks:
                        break
                    state.closed[arm] = end
                    state.count("forced")
                yield from self._outs(stream.book.settle(tick * stream.tick_ms))
                closed.append((tick * stream.tick_ms, lineage, stream.tick_ms, stream.ticks.pop(tick)))
                yield from self._closed_tick(lineage, stream, tick, closed[-1][-1])
                state.count("ticks")
            yield from self._outs(stream.book.settle(state.closed.get(arm, 0)))
            if not stream.ticks and state.closed.get(arm, 0) > stream.last + self._settings.idle_ms:
                yield from self._forget(lineage, stream)
                del state.streams[lineage]
        for start, lineage, tick_ms, tally in sorted(closed, key=lambda each: each[:2]):
            yield from self._succeed(state, lineage, start, start + tick_ms, tally)

    def _succeed(self, state: State, lineage: Lineage, start: int, end: int, tally: Tally) -> Iterator[Out]:
        """Compare versions of an arm where another one has taken over; ticks come in the order of their times."""
        reference = self._reference(lineage)
        if self._comparing is None or reference is None:
            return
        arm = state.successions.setdefault(lineage.arm, Succession(COMPARED))
        took = arm.take(lineage[1:], start, end, tally.rows, outputs_of(reference, tally))
        if took is not None:
            earlier = self._reference(Lineage(lineage.arm, *took.before))
            yield from self._comparing.outputs(lineage.arm, took, (earlier, reference))

    def _closed_tick(self, lineage: Lineage, stream: Stream, tick: int, tally: Tally) -> Iterator[Out]:
        reference = self._reference(lineage)
        stream.last = (tick + 1) * stream.tick_ms
        if reference is None:  # restored from a snapshot, and its model has gone since
            stream.watched = None
            return
        if stream.watched is None:
            stream.watched = Watched(self._settings.detector, self._detectors.new(reference, stream.tick_ms))
            why = f"{self._settings.detector} watches it from here on"
            yield from self._outs(stream.book.end(why, stream.last))
        stream.recent = stream.recent or Recent(stream.tick_ms)
        stream.recent.add(tick, tally)
        for verdict in stream.watched.detector.update(tick, tally):
            yield from self._step(lineage, stream, verdict)
        if self._asking is not None:
            yield from self._asking.requests(lineage[:3], stream.book, stream.asked, stream.last)

    def _step(self, lineage: Lineage, stream: Stream, verdict: Verdict) -> Iterator[Out]:
        about = (lineage.arm, lineage.model, lineage.version)
        subject = Subject(self._deployment, *about, verdict.detector, verdict.kind, verdict.name)
        yield from self._outs(stream.book.take(subject, verdict.finding, verdict.patience, verdict.rest))

    def _forget(self, lineage: Lineage, stream: Stream) -> Iterator[Out]:
        """Close the episodes of a version that scores no more."""
        end = stream.last + self._settings.idle_ms
        why = f"version {lineage.version} has scored no event for {self._settings.idle_ms} ms"
        yield from self._outs(stream.book.end(why, end))

    def _outs(self, told: Iterator[Told]) -> Iterator[Out]:
        return alerts.outs(self._topic, told)

    def _new_book(self, reference: Reference | None, tick_ms: int) -> Book:
        columns = Counter(part.kind for part in reference.slices) if reference is not None else {}
        return Book(columns, tick_ms, self._settings.manners)

    def facts(self, state: State) -> dict[str, int]:
        """Return counters and sizes: records, rows, ticks, late, forced, poison, untested, open_alerts, ..."""
        return {
            **state.counts,
            "open_ticks": sum(len(stream.ticks) for stream in state.streams.values()),
            "untested": sum(s.watched.detector.untested() for s in state.streams.values() if s.watched),
            "open_alerts": sum(stream.book.open for stream in state.streams.values()),
            "streams": len(state.streams),
        }

    def figures(self, state: State) -> Iterator[Figure]:
        """Yield how far the columns of each version have been from their references of late."""
        for lineage, stream in sorted(state.streams.items(), key=lambda each: each[0]):
            reference = self._references.get(lineage.reference)
            if reference is not None and stream.recent is not None:
                yield from stream.recent.figures(reference, lineage.arm, lineage.version)

    def dump(self, state: State) -> bytes:
        """Return compressed JSON."""
        document = {
            "format": FORMAT,
            "sources": state.sources,
            "passed": [[arm, sorted(by.items())] for arm, by in sorted(state.passed.items())],
            "closed": state.closed,
            "counts": state.counts,
            "successions": {arm: each.dump() for arm, each in sorted(state.successions.items())},
            "streams": [[list(lineage), _dump_stream(stream)] for lineage, stream in sorted(state.streams.items())],
        }
        return packed(document)

    def load(self, data: bytes) -> State:
        """Return the dumped state. Raises SnapshotInvalid."""
        return unpacked(data, FORMAT, self._loaded)

    def _loaded(self, document: Mapping[str, Any]) -> State:
        passed = {arm: dict(map(tuple, by)) for arm, by in document["passed"]}
        streams = {}
        for entry, stream in document["streams"]:
            lineage = Lineage(*entry)
            streams[lineage] = self._load_stream(lineage, stream)
        known = document.get("successions", {})  # of an earlier release: none
        successions = {arm: Succession.load(COMPARED, each) for arm, each in known.items()}
        return State(document["sources"], passed, document["closed"], streams, document["counts"], successions)

    def _load_stream(self, lineage: Lineage, document: Mapping[str, Any]) -> Stream:
        reference, state = self._reference(lineage), document["watched"]
        book = self._new_book(reference, document["tick_ms"])
        book.load(document["book"])
        stream = Stream(
            document["tick_ms"],
            book,
            document["last"],
            {tick: load_tally(tally) for tick, tally in document["ticks"]},
            asked=document.get("asked", []),
        )
        if state is not None and reference is not None and state["name"] == self._settings.detector:
            detector = self._detectors.new(reference, stream.tick_ms)
            detector.load(state["state"])
            stream.watched = Watched(state["name"], detector)
        if document["recent"] is not None:
            stream.recent = Recent(stream.tick_ms)
            stream.recent.load(document["recent"])
        return stream


def _dump_stream(stream: Stream) -> dict[str, Any]:
    watched = stream.watched
    return {
        "tick_ms": stream.tick_ms,
        "last": stream.last,
        "asked": stream.asked,
        "ticks": [[tick, dump_tally(tally)] for tick, tally in sorted(stream.ticks.items())],
        "recent": None if stream.recent is None else stream.recent.dump(),
        "book": stream.book.dump(),
        "watched": None if watched is None else {"name": watched.name, "state": watched.detector.dump()},
    }
