"""Reads what a report tells of: profiles and alerts, as streams, in memory that does not grow with the range."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from confluent_kafka import Message

from models.errors import ReferenceInvalid
from models.reference import Reference, Tally, tally_of
from monitoring.course import Course, Grid
from monitoring.folds import Record
from monitoring.hindsight import HindsightFold, Look, Span
from monitoring.profiles import Find, Lineage
from monitoring.settings import Settings
from penstock.report.content import Found
from penstock.report.episodes import Episodes
from schemas import records
from schemas.errors import RecordInvalid
from schemas.values import as_bytes
from streams.reading import TopicReader, place_of, values_of

log = logging.getLogger(__name__)

LINEAGES = 32  # versions in arms that are told in detail
SLACK_MS = 600_000  # how much earlier than its tick a profile may seem to be published: clocks differ
SAY_SECONDS = 10.0
READ = 2_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be reported. sources: partitions of the input topic. against: None compares with the references.

    known: references by digest, which need not be looked for.
    """

    deployment: str
    profiles: str
    alerts: str
    sources: int
    settings: Settings
    span: Span
    against: Span | None = None
    known: Mapping[str, Reference] = field(default_factory=dict)


def gather(reader: TopicReader, asked: Asked, find: Find) -> Found:
    """Return what the topics tell of the range. find: gives the reference of a version.

    Raises Refused where topics cannot be read, ReferenceUnavailable where the repository does not answer.
    """
    compared = _other_range(reader, asked, find) if asked.against else {}
    references = {**asked.known, **compared}
    ledger = Courses(Grid.over(asked.span))
    fold = HindsightFold(asked.deployment, references, asked.sources, asked.settings, find, asked.span, ledger.see)
    counts = Counter[str]()
    for partition in reader.partitions(asked.profiles):
        state = fold.new(partition)
        for record in _records(reader, asked.profiles, partition, asked.span):
            fold.apply(state, record)
            if fold.done(state):
                break
        fold.finish(state)
        counts.update(state.counts)
    episodes = Episodes(asked.deployment, asked.span)
    for alert in _whole(reader, asked.alerts):
        episodes.add(alert)
    return Found(
        asked.deployment,
        asked.span,
        ledger.grid,
        ledger.courses,
        counts,
        episodes.found(),
        episodes.left_out,
        asked.against,
        frozenset(compared),
        ledger.skipped,
    )


@dataclass(slots=True)
class Courses:
    """The courses of the first LINEAGES lineages; of others, how many events they have."""

    grid: Grid
    courses: dict[Lineage, Course] = field(default_factory=dict)
    skipped: Counter[Lineage] = field(default_factory=Counter)

    def see(self, look: Look) -> None:
        course = self.courses.get(look.lineage)
        if course is None:
            if len(self.courses) >= LINEAGES:
                self.skipped[look.lineage] += look.tally.rows
                return
            course = self.courses[look.lineage] = Course(look.reference, self.grid)
        course.add(look)


def _other_range(reader: TopicReader, asked: Asked, find: Find) -> dict[str, Reference]:
    """Return references that count what was profiled in the other range, in the same bins; by digest.

    Of versions that share a reference all events count.
    """
    assert asked.against is not None
    sums = Sums(asked, find)
    for partition in reader.partitions(asked.profiles):
        for record in _records(reader, asked.profiles, partition, asked.against):
            sums.add(record)
            if sums.done():
                break
    return sums.found()


class Sums:
    """Profiles of the other range, added up by reference."""

    def __init__(self, asked: Asked, find: Find) -> None:
        assert asked.against is not None
        self._asked, self._span, self._find = asked, asked.against, find
        self._known: dict[str, Reference | None] = dict(asked.known)
        self._sums: dict[str, Tally] = {}
        self._passed: dict[str, dict[int, int]] = {}  # arm -> source partition -> watermark, ms

    def add(self, record: Record) -> None:
        """Take a record of the profiles topic; what is none of the deployment's range is passed over."""
        try:
            profile = records.decode("profile", record.value or b"")
        except RecordInvalid:
            return
        if profile["deployment"] != self._asked.deployment or profile["tick_ms"] < 1:
            return
        passed = self._passed.setdefault(profile["arm"], {})
        passed[profile["partition"]] = max(passed.get(profile["partition"], 0), profile["watermark"])
        if not profile["rows"] or not self._span.holds(profile["tick"] * profile["tick_ms"]):
            return
        reference = self._reference(profile)
        if reference is not None and (tally := _tally(profile, reference)) is not None:
            digest = profile["reference"]
            self._sums[digest] = self._sums[digest] + tally if digest in self._sums else tally

    def done(self) -> bool:
        """Say whether every source partition of every arm is past the range: what comes later is late."""
        end = self._span.end + self._asked.settings.grace_ms
        arms = self._passed.values()
        return bool(arms) and all(len(by) >= self._asked.sources and min(by.values()) >= end for by in arms)

    def found(self) -> dict[str, Reference]:
        """Return the sums as references, by the digest of those whose bins they count."""
        return {
            digest: replace(reference, tally=self._sums[digest])
            for digest, reference in self._known.items()
            if reference is not None and digest in self._sums
        }

    def _reference(self, profile: Mapping[str, Any]) -> Reference | None:
        digest = profile["reference"]
        if digest not in self._known:
            found = self._find(Lineage(profile["arm"], profile["model"], profile["version"], digest))
            self._known[digest] = found if found is not None and found.digest == digest else None
        return self._known[digest]


def _tally(profile: Mapping[str, Any], reference: Reference) -> Tally | None:
    """Return a profile's counts, None where they are damaged: the fold counts such as poison."""
    try:
        return tally_of(profile, len(reference.tally.cells))
    except ReferenceInvalid:
        return None


def _records(reader: TopicReader, topic: str, partition: int, span: Span) -> Iterator[Record]:
    """Yield the records of a partition that can tell of a span: from a while before it to the topic's end."""
    ends = {partition: reader.bounds(topic, partition)}
    first = reader.at(topic, max(span.begin - SLACK_MS, 0), ends)[partition]
    low, high = ends[partition]
    said, count = time.monotonic(), 0
    for messages in reader.read(topic, {partition: (max(low, first), high)}, READ):
        yield from map(_record, messages)
        count += len(messages)
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            log.info("read %d of %d records of %s", count, high - first, topic)


def _record(message: Message) -> Record:
    partition, offset = place_of(message)
    return Record(partition, offset, None, as_bytes(message.value()))


def _whole(reader: TopicReader, topic: str) -> Iterator[Mapping[str, Any]]:
    """Yield the alerts of a topic in order; what is none is passed over. A topic that is not there has none."""
    if not reader.partitions(topic):
        return
    for value in values_of(reader.read(topic, reader.ends(topic), READ)):
        try:
            yield records.decode("alert", value)
        except RecordInvalid:
            continue
