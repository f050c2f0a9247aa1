"""The fold of the quality topic: parts become ticks, ticks become totals, and what became worse an alert.

A tick closes when every partition of samples has passed it. A part that was taken already is dropped by its number;
one whose predecessor never came is left, for whoever lost that one starts over and sends both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from monitoring import alerts, cells
from monitoring.advice import clock
from monitoring.alerts import Explanation, Finding, Subject, Told
from monitoring.cells import Group, Lineage, Tables
from monitoring.clocks import PATIENCE
from monitoring.comparing import Comparing
from monitoring.episodes import ALONE, Book
from monitoring.errors import PartInvalid
from monitoring.folds import Out, Record, packed, unpacked
from monitoring.handovers import Handovers
from monitoring.outcomes import ACCURACY, BETWEEN, SCORES, Outcomes, Sizes, Usual, measured
from monitoring.retraining import Asking
from monitoring.settings import Settings
from monitoring.ticks import dump_ticks, load_ticks
from monitoring.totals import Part, Totals, part_of

FORMAT = 3
KIND, BETWEEN_ARMS = "quality", "divergence"
WATCHED = 100  # of each kind: versions and values of segments that are watched for becoming worse, the first ones
RECENT = 60  # ticks of which `recent` tells
MOST_GROUPS = 10_000  # of all versions; beyond, the one that was seen least recently is forgotten
FORGET_MS = 35 * 86_400_000  # a version without events and labels for this long is forgotten
Stating = Callable[[str, str], float | None]  # of a model and version; always the same answer, or it raises
SILENT_MS = 3_600_000  # labels have stopped when none came for their window, or this where it is longer


@dataclass(frozen=True, slots=True)
class Judging:
    """How quality is judged. partitions: of the topic of samples. within: s; 0 without labels. topic: of alerts."""

    deployment: str
    partitions: int
    within: int
    false_alarms: float = 1.0  # a version or value of a segment and week, at most and on average
    design_effect: float | None = None  # events that tell as much as one independent event; None: learned
    topic: str = alerts.TOPIC
    usual: Usual = field(default_factory=Usual)
    stated: Stating | None = None  # asked which share of a version's predictions is wrong as usual
    silent: int | None = None  # s without a label that are too many; None: the window, an hour at least
    divergence: bool = True  # whether arms that differ more than before are told of
    scores: bool = False  # whether binary scores that are further from the truth are
    comparing: Comparing | None = None  # versions that take over, with the ones before
    asking: Asking | None = None  # for a new version, when one has been worse for long
    groups: tuple[str, ...] = ()  # segments of which fairness is told

    @property
    def settings(self) -> Settings:
        """The e-detector's; every version and value of a segment is a column of its own."""
        return Settings(false_alarms=self.false_alarms, design_effect=self.design_effect)

    @property
    def silent_ms(self) -> int:
        """How long no label may come though events go on."""
        return self.silent * 1000 if self.silent is not None else max(self.within * 1000, SILENT_MS)


@dataclass(slots=True)
class State:
    """The state of the quality topic. numbers, passed: next number, ms closed, by partition of samples."""

    numbers: dict[int, int] = field(default_factory=dict)
    passed: dict[int, int] = field(default_factory=dict)
    cut: bool = False  # the topic did not begin at its first record when this began
    tick_ms: int = 0
    closed: int = 0
    open: dict[int, Tables] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    recent: dict[int, Tables] = field(default_factory=dict)
    seen: dict[Lineage, int] = field(default_factory=dict)  # version in an arm -> end of its last tick
    outcomes: dict[Group, Outcomes] = field(default_factory=dict)
    books: dict[Lineage, Book] = field(default_factory=dict)  # what was told of episodes
    labelled: int = 0  # ms of the last labels, or of the first events without any
    evented: int = 0  # ms of the last events
    ever: bool = False  # a label has come
    counts: dict[str, int] = field(default_factory=dict)
    handovers: Handovers = field(default_factory=Handovers)
    asked: dict[Lineage, list[str]] = field(default_factory=dict)  # alerts for which a new version was asked for

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + by


class QualityFold:
    """Folds `<deployment>.quality`."""

    def __init__(self, judging: Judging) -> None:
        self._judging = judging

    def new(self, partition: int) -> State:
        """Return the state before the first record."""
        return State(totals=Totals(groups=self._judging.groups))

    def apply(self, state: State, record: Record) -> list[Out]:
        """Take a part; return the alerts that open or close with it."""
        state.count("records")
        try:
            part = part_of(record.value or b"")
        except PartInvalid:
            state.count("poison")
            return []
        if part.deployment != self._judging.deployment or state.tick_ms not in (0, part.tick_ms):
            state.count("foreign")
            return []
        state.cut = state.cut or (state.counts["records"] == 1 and record.offset > 0)
        if not self._next(state, part):
            return []
        state.tick_ms = part.tick_ms
        self._take(state, part)
        return list(self._close(state))

    def _next(self, state: State, part: Part) -> bool:
        expected = state.numbers.get(part.partition)
        if expected is None:
            expected = part.number if state.cut else 0
        if part.number != expected:
            state.count("repeated_parts" if part.number < expected else "gaps")
            return False
        state.numbers[part.partition] = part.number + 1
        return True

    def _take(self, state: State, part: Part) -> None:
        tick = max(part.tick, state.closed // part.tick_ms)
        cells.merge(state.open.setdefault(tick, {}), part.tables)
        state.passed[part.partition] = max(state.passed.get(part.partition, 0), part.closed)
        for what, count in part.counts.items():
            state.count(what, count)
        labels, events = (part.counts.get(what, 0) > 0 for what in ("labels", "events"))
        if labels or (events and not state.labelled):
            state.labelled = max(state.labelled, part.closed)
        if events:
            state.evented = max(state.evented, part.closed)
        state.ever = state.ever or labels

    def _close(self, state: State) -> Iterator[Out]:
        state.closed = max(state.closed, self._passed(state))
        for tick in sorted(state.open):
            if (tick + 1) * state.tick_ms > state.closed:
                break
            tables = state.open.pop(tick)
            state.totals.add(tables)
            state.recent[tick] = {group: found for group, found in tables.items() if not group.segment}
            for group in tables:
                state.seen[group[:3]] = (tick + 1) * state.tick_ms
            yield from self._settled(state, tick * state.tick_ms)
            yield from self._watch(state, tick, tables)
            yield from self._silence(state, (tick + 1) * state.tick_ms)
            yield from self._settled(state, (tick + 1) * state.tick_ms)
            yield from self._after(state, tick * state.tick_ms, tables)
        oldest = state.closed // state.tick_ms - RECENT
        state.recent = {tick: tables for tick, tables in state.recent.items() if tick >= oldest}
        yield from self._forget(state)

    def _passed(self, state: State) -> int:
        """Return the time that every partition has passed; one without labels or samples tells nothing of itself."""
        known = len(state.passed) == self._judging.partitions
        slowest = min(state.passed.values()) if known else 0
        return slowest if self._judging.within else max(slowest, max(state.passed.values()) - PATIENCE)

    def _after(self, state: State, start: int, tables: Tables) -> Iterator[Out]:
        """Compare versions where one took over, and ask for a new one where this one has been worse for long."""
        end, comparing, asking = start + state.tick_ms, self._judging.comparing, self._judging.asking
        if comparing is not None:
            for arm, took in state.handovers.take(start, end, tables):
                yield from comparing.quality(arm, took)
        if asking is None:
            return
        for lineage, book in sorted(state.books.items()):
            if any(lineage):
                yield from asking.requests(lineage, book, state.asked.setdefault(lineage, []), end)

    def _watch(self, state: State, tick: int, tables: Tables) -> Iterator[Out]:
        for group, found in sorted(tables.items()):
            for measure, sizes in measured(group.what, found):
                asked = self._judging.divergence if measure in BETWEEN else measure != SCORES or self._judging.scores
                if asked and any(count > 0 for count in sizes.values()):
                    yield from self._measure(state, tick, group._replace(what=measure), sizes)

    def _measure(self, state: State, tick: int, whose: Group, sizes: Sizes) -> Iterator[Out]:
        """Take a tick of a measure. whose: `what` is the measure, `name` of two arms the second."""
        between, judging = whose.what in BETWEEN, self._judging
        name = f"{whose.what} with {whose.name.partition('/')[0]}" if between else whose.what
        name += f" where {whose.segment} is {whose.value}" if whose.segment else ""
        subject = self._subject(whose[:3], "e_detector", name, BETWEEN_ARMS if between else KIND)
        if whose not in state.outcomes:
            yield from self._instead(state, tick, whose, subject)
            if sum((each.what in BETWEEN) == between for each in state.outcomes) >= WATCHED:
                return
            state.outcomes[whose] = Outcomes(state.tick_ms, judging.settings, whose.what, self._usual(whose, new=True))
        for finding in state.outcomes[whose].update(tick, sizes):
            yield from self._step(state, subject, replace(finding, explain=self._told(subject, finding)))

    def _usual(self, whose: Group, new: bool) -> Usual:
        """Return what is usual of a measure: what is declared or stated is so of all events, not of parts of them."""
        usual, stated = self._judging.usual, self._judging.stated
        if whose.segment:
            return replace(usual, errors=None)
        if new and stated is not None and whose.what == ACCURACY:
            return replace(usual, errors=stated(whose.model, whose.version))
        return usual

    def _instead(self, state: State, tick: int, whose: Group, subject: Subject) -> Iterator[Out]:
        """Forget an earlier version of the second arm, and close what was told of it."""
        arm, _, version = whose.name.partition("/")
        for other in [each for each in state.outcomes if each._replace(name="") == whose._replace(name="")]:
            if other != whose and other.name.partition("/")[0] == arm:
                del state.outcomes[other]
                told, at = Explanation(f"{version} is compared from here on"), tick * state.tick_ms
                calm = Finding(False, True, 0.0, 0.0, 0, at, at, partial(_same, told), False)
                yield from self._step(state, subject, calm)

    def _silence(self, state: State, now: int) -> Iterator[Out]:
        """Say that labels stopped though events go on, or never came, and that they are back."""
        if not self._judging.within or not state.labelled:
            return
        onset, wait = state.labelled, self._judging.silent_ms
        silent = state.evented - onset
        deviates = silent > wait
        if not deviates and now - onset > wait:
            return  # events have stopped, too: nothing is known of the labels
        since = "no label has come" if state.ever else "no label has ever come"
        action = "See whether who writes the labels still does, and whether they became dead letters (docs/quality.md)."
        told = Explanation(f"{since} for {silent // 60_000} minutes, and there are events to be judged", [], action)
        back = Explanation("labels come again")
        finding = Finding(
            deviates, not deviates, silent / 1000, wait / 1000, 0, onset, now, lambda: told if deviates else back, False
        )
        yield from self._step(state, self._subject(("", "", ""), "silence", "labels", KIND), finding)

    def _forget(self, state: State) -> Iterator[Out]:
        for lineage, last in sorted(state.seen.items(), key=lambda each: (each[1], each[0])):
            crowded = len(state.totals.tables) > MOST_GROUPS and len(state.seen) > 1
            if crowded or last + FORGET_MS <= state.closed:
                why = "others need its place" if crowded else "it has had neither events nor labels for long"
                yield from self._end(state, lineage, f"version {lineage[2]} is not told of any more: {why}")
                state.totals.forget(lineage)
                state.outcomes = {group: found for group, found in state.outcomes.items() if group[:3] != lineage}
                state.handovers.forget(lineage)
                state.asked.pop(lineage, None)
                del state.seen[lineage]

    def _told(self, subject: Subject, finding: Finding) -> Callable[[], Explanation]:
        def explain() -> Explanation:
            found, deployment, since = finding.explain(), subject.deployment, clock(finding.start)
            if subject.kind == BETWEEN_ARMS:
                rows = f"over {finding.rows:,} events"
                action = (
                    f"See `penstock quality {deployment}`: who of both is right where labels came; and what changed at "
                    f"about {since} with `penstock history {deployment}`."
                )
            else:
                rows = f"over {finding.rows:,} labelled events"
                action = (
                    f"See `penstock quality {deployment}`, also by segment, and what changed at about {since} with "
                    f"`penstock history {deployment}`; if the world did, train on labels since."
                )
            return replace(found, summary=f"{subject.name}: {found.summary}, {rows}", action=action)

        return explain

    def _settled(self, state: State, now: int) -> Iterator[Out]:
        for _, book in sorted(state.books.items()):
            yield from self._outs(book.settle(now))

    def _outs(self, told: Iterable[Told]) -> Iterator[Out]:
        return alerts.outs(self._judging.topic, told)

    def _end(self, state: State, lineage: Lineage, why: str) -> Iterator[Out]:
        if lineage in state.books:
            yield from self._outs(state.books.pop(lineage).end(why, state.closed))

    def _subject(self, lineage: Lineage, detector: str, name: str, kind: str) -> Subject:
        return Subject(self._judging.deployment, *lineage, detector, kind, name)

    def _step(self, state: State, subject: Subject, finding: Finding) -> Iterator[Out]:
        lineage = (subject.arm, subject.model, subject.version)
        if lineage not in state.books:
            state.books[lineage] = _book(state.tick_ms)
        yield from self._outs(state.books[lineage].take(subject, finding, 1, 1))

    def facts(self, state: State) -> dict[str, int]:
        """Return counters, those of the joins added up among them, and sizes."""
        return {
            **state.counts,
            "open_ticks": len(state.open),
            "open_alerts": sum(book.open for book in state.books.values()),
            "groups": len(state.totals.tables),
            "watched": len(state.outcomes),
        }

    def dump(self, state: State) -> bytes:
        """Return compressed JSON."""
        document = {
            "format": FORMAT,
            "numbers": sorted(state.numbers.items()),
            "passed": sorted(state.passed.items()),
            "cut": state.cut,
            "tick_ms": state.tick_ms,
            "closed": state.closed,
            "open": dump_ticks(state.open),
            "totals": state.totals.dump(),
            "recent": dump_ticks(state.recent),
            "seen": [[*lineage, last] for lineage, last in sorted(state.seen.items())],
            "outcomes": [[list(group), found.dump()] for group, found in sorted(state.outcomes.items())],
            "books": [[list(lineage), book.dump()] for lineage, book in sorted(state.books.items())],
            "labelled": [state.labelled, state.evented, state.ever],
            "counts": state.counts,
            "handovers": state.handovers.dump(),
            "asked": [[list(lineage), ids] for lineage, ids in sorted(state.asked.items())],
        }
        return packed(document)

    def load(self, data: bytes) -> State:
        """Return the dumped state. Raises SnapshotInvalid."""
        return unpacked(data, FORMAT, self._loaded)

    def _loaded(self, document: Mapping[str, Any]) -> State:
        tick_ms, settings = document["tick_ms"], self._judging.settings
        labelled, evented, ever = document["labelled"]
        return State(
            dict(map(tuple, document["numbers"])),
            dict(map(tuple, document["passed"])),
            document["cut"],
            tick_ms,
            document["closed"],
            load_ticks(document["open"]),
            replace(Totals.load(document["totals"]), groups=self._judging.groups),
            load_ticks(document["recent"]),
            {(arm, model, version): last for arm, model, version, last in document["seen"]},
            {
                Group(*group): Outcomes.load(tick_ms, settings, self._usual(Group(*group), new=False), found)
                for group, found in document["outcomes"]
            },
            {(arm, model, version): _book(tick_ms, found) for (arm, model, version), found in document["books"]},
            labelled,
            evented,
            ever,
            document["counts"],
            Handovers.load(document["handovers"]),
            {(arm, model, version): ids for (arm, model, version), ids in document["asked"]},
        )


def _same(told: Explanation) -> Explanation:
    return told


def _book(tick_ms: int, document: Mapping[str, Any] | None = None) -> Book:
    book = Book({KIND: 0}, tick_ms, ALONE)
    if document is not None:
        book.load(document)
    return book
