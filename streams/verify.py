"""Whether the inferences of a range are all there, once, in order, and what their events, bundle and declaration give.

The first pass reads what one arm recorded (`streams.recorded`). The second reads the events, scores each again with the
very scorer of the worker under the revision and model version that its inference names, and compares whole records.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnxruntime
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from models.repository import Repository
from models.sandboxed import cpu_kind
from schemas.deployment import ACTIVE
from schemas.sources import SchemaTopic
from schemas.values import Rejection
from streams import swaps
from streams.assembly import writers_of
from streams.batch import Batch, batch_of
from streams.batch import Message as BatchMessage
from streams.clients import quiet
from streams.crew import Crew, standing_beside
from streams.errors import Refused
from streams.findings import EXAMPLES_OF_A_KIND, Findings
from streams.reading import Point, TopicReader, resolve
from streams.recorded import DIGEST, Ledger, Recorded, digest_of, headers_of, named
from streams.swaps import Spans, spans_of
from streams.topics import Topics
from streams.verify_arms import ArmJudge, part
from streams.versions import Declaration, Unknown, Version, Versions, differences

log = logging.getLogger(__name__)

LEFT_ALONE = {"quarantined", "model_timed_out"}  # reasons of dead letters whose events may crash or hang the model
SAY_SECONDS = 10.0
# why nothing is said of an event that has no record
ELSEWHERE = "an earlier state wrote to another topic"
UNDECLARED = "the state that scored what came there does not have the arm, as the audit tells"
REMOVED = "the output topic begins later, for retention removed what was before"
LATE = "the deployment starts at the latest event, and the first inference comes later"
YOUNGER = "they come before the first inference of the arm, which is younger"
Indexes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Options:
    """What is verified besides the declarations.

    begin, end: of the range of source events; None: all that there is, and what the group has committed.
    isolation: of the reader of inferences and dead letters; events are always read as the worker reads them.
    """

    kafka: Mapping[str, str]
    repository: str
    registry: str | None = None
    schema_folder: Path | None = None
    arm: str = "active"
    begin: Point | None = None
    end: Point | None = None
    isolation: str = "read_committed"
    batch_events: int = 2_000


def verify(declarations: Sequence[Declaration], options: Options) -> Findings:
    """Compare what an arm recorded of a range of events with what its events give, and return what was found.

    declarations: states of one deployment, the newest first, which says topics and group. Nothing is written. Both
    topics that the arm writes are read whole, whatever the range; 33 bytes of memory an event of the range are needed.
    Raises Refused, and errors of models and schemas when repository or schema source do not answer.
    """
    newest = declarations[0].deployment
    for other in declarations[1:]:
        if other.deployment.name != newest.name:
            raise Refused(
                f"the declarations are of {newest.name} and {other.deployment.name}; give states of one deployment"
            )
    beside = standing_beside(declarations)
    if options.arm not in beside:
        newest.arm(options.arm)  # refuses one that has no workers
    findings = _verified(declarations, options)
    if options.arm == ACTIVE:
        findings.beside = {arm: _verified(declarations, replace(options, arm=arm)) for arm in beside}
    return findings


def _verified(declarations: Sequence[Declaration], options: Options) -> Findings:
    """Verify what one arm recorded, or the active one and those that share its events."""
    began, newest = time.monotonic(), declarations[0].deployment
    group = newest.group(options.arm)
    events, records = TopicReader(options.kafka, group), TopicReader(options.kafka, group, options.isolation)
    try:
        ranges = resolve(events, newest.input.topic, group, options.begin, options.end)
        owner = next((each.deployment for each in declarations if options.arm in each.deployment.named), newest)
        topics = (newest.input.topic, owner.output_topic(options.arm), owner.dead_letter_topic(options.arm))
        findings = Findings(*topics, ranges, repeats=newest.delivery == "at_least_once")
        crew = Crew(declarations, options.arm)
        recorded = Recorded(newest.name, findings, crew, whole=options.begin is None)
        recorded.read(records)
        log.info("read %d inferences, %d dead letters", findings.counts["inferences"], findings.counts["dead_letters"])
        _Verification(declarations, options, findings, recorded, events, records).run()
    finally:
        events.close()
        records.close()
    findings.seconds = time.monotonic() - began
    return findings


@dataclass(frozen=True, slots=True)
class _Noted:
    """A batch of events with what was recorded of each; see streams.recorded.Ledger for the columns."""

    batch: Batch
    inferred: npt.NDArray[np.bool_]
    rejected: npt.NDArray[np.bool_]
    makers: Indexes
    kinds: Indexes
    digests: npt.NDArray[np.uint8]


def _writing_elsewhere(declarations: Sequence[Declaration], arm: str) -> set[int]:
    """Return the revisions whose inferences went to another topic than those of the newest one."""
    output = declarations[0].deployment.output_topic(arm)
    return {each.revision for each in declarations if each.deployment.output_topic(arm) != output}


class _Verification:
    """The second pass over one range."""

    def __init__(
        self,
        declarations: Sequence[Declaration],
        options: Options,
        findings: Findings,
        recorded: Recorded,
        events: TopicReader,
        records: TopicReader,
    ) -> None:
        output = Topics(options.kafka).require(findings.output)
        self._schema_topic = SchemaTopic(options.kafka)
        writers = writers_of(self._schema_topic, options.registry, options.schema_folder)
        self._versions = Versions(declarations, Repository(options.repository), writers, output)
        self._options, self._findings, self._recorded = options, findings, recorded
        self._events, self._records = events, records
        self._spans = self._told(declarations)
        told_for_sure = all(each.deployment.delivery == "exactly_once" for each in declarations)
        self._arms = ArmJudge(findings, recorded, self._versions, self._spans if told_for_sure else Spans())
        self._elsewhere = _writing_elsewhere(declarations, options.arm)
        self._starts_late = declarations[0].deployment.input.start == "latest" and options.begin is None
        self._unjudged: Counter[str] = Counter()
        self._kept: dict[int, int] = {}  # from where on retention of the output removed nothing
        sources = len(events.partitions(findings.source))
        self._floor = {partition: self._judged_from(partition, sources) for partition in recorded.ledgers}
        self._maker = {partition: self._first_maker(ledger) for partition, ledger in recorded.ledgers.items()}

    def run(self) -> None:
        said = time.monotonic()
        counts = self._findings.counts
        try:
            for messages in self._events.read(self._findings.source, self._findings.ranges, self._options.batch_events):
                self._check(batch_of(cast(list[BatchMessage], messages)))
                if time.monotonic() - said > SAY_SECONDS:
                    said = time.monotonic()
                    log.info("recomputed %d events so far", counts["events"])
            self._judge_absent_events()
            self._explain()
        finally:
            self._versions.close()
            self._schema_topic.close()

    def _told(self, declarations: Sequence[Declaration]) -> Spans:
        """Return which revision scored what, as the workers told; nothing where control does not count revisions.

        Offsets of a revision that read another topic are those of that topic.
        """
        newest, source, arm = declarations[0], self._findings.source, self._options.arm
        if newest.number is None:
            return Spans()
        others = {each.revision for each in declarations if each.deployment.input.topic != source}
        told = (swap for swap in swaps.read(self._records) if swap.revision not in others)
        return spans_of(told, newest.deployment.name, {arm if newest.deployment.is_shadow(arm) else ACTIVE})

    # ---- before

    def _judged_from(self, partition: int, sources: int) -> int:
        """Return the first event that must have been recorded: retention of the output, or a late start, set it."""
        kept = self._kept[partition] = self._recorded.kept_from(partition, sources)
        late = self._starts_late or self._recorded.crew.alone
        return max(kept, self._recorded.first_inferred(partition)) if late else kept

    def _first_maker(self, ledger: Ledger) -> int:
        """Return what made the first inference of a partition: dead letters before it do not say what made them."""
        rows = np.flatnonzero(ledger.inferences)
        if len(rows):
            return int(ledger.kind[rows[0]])
        makers = self._recorded.makers
        if not makers and (newest := self._versions.newest(self._options.arm)) is not None:
            makers.append(newest)
        return 0 if makers else -1

    # ---- a batch of events

    def _check(self, batch: Batch) -> None:
        noted = self._noted(batch)
        self._findings.counts["events"] += len(batch)
        self._miss(batch, np.flatnonzero(~noted.inferred & ~noted.rejected & ~self._recorded.excused(batch)))
        again = noted.inferred.copy()
        again[self._check_letters(noted)] = True
        for maker in np.unique(noted.makers[again]).tolist():
            self._recompute(noted, np.flatnonzero(again & (noted.makers == maker)), maker)

    def _noted(self, batch: Batch) -> _Noted:
        count = len(batch)
        inferred, rejected = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        makers, kinds, digests = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros((count, DIGEST), "u1")
        for partition in batch.positions:
            rows = np.flatnonzero(batch.partitions == partition)
            ledger = self._recorded.ledgers[partition]
            at = batch.offsets[rows] - ledger.first
            ledger.seen[at] = True
            inferred[rows] = ledger.inferences[at] > 0
            rejected[rows] = (ledger.letters[at] > 0) & ~inferred[rows]
            digests[rows], kinds[rows] = ledger.digests[at], ledger.kind[at]
            makers[rows] = self._filled(partition, np.where(inferred[rows], kinds[rows], -1))
        return _Noted(batch, inferred, rejected, makers, kinds, digests)

    def _filled(self, partition: int, makers: Indexes) -> Indexes:
        """Return the maker of each event of a partition; a dead letter's is that of the inference before it."""
        known = np.concatenate([[self._maker[partition]], makers])
        filled: Indexes = known[np.maximum.accumulate(np.where(known >= 0, np.arange(len(known)), 0))]
        self._maker[partition] = int(filled[-1])
        return filled[1:]

    def _miss(self, batch: Batch, rows: Indexes) -> None:
        for row in rows.tolist():
            partition, offset = int(batch.partitions[row]), int(batch.offsets[row])
            due = int(self._spans.revision_of(partition, batch.offsets[row : row + 1])[0])
            in_time = offset >= self._floor[partition]
            if due in self._elsewhere or not self._recorded.crew.due(due, in_time):
                self._findings.counts["unjudged"] += 1
                self._unjudged[self._why_unjudged(partition, offset, due)] += 1
                continue
            event = self._recorded.event(partition, offset)
            self._findings.found("missing", event=event, detail="has neither inference nor dead letter")

    def _why_unjudged(self, partition: int, offset: int, due: int) -> str:
        """Return why nothing is said of an event that has no record."""
        if due in self._elsewhere:
            return ELSEWHERE
        if self._recorded.crew.without(due):
            return UNDECLARED
        if offset < self._kept[partition]:
            return REMOVED
        return LATE if self._starts_late else YOUNGER

    def _check_letters(self, noted: _Noted) -> list[int]:
        """Compare dead letters with their events, and return those whose events may be scored again."""
        batch, safe = noted.batch, []
        for row in np.flatnonzero(noted.rejected).tolist():
            kind = self._recorded.kinds[noted.kinds[row]]
            mine = digest_of(batch.keys[row], batch.values[row], headers_of(cast(Any, batch.messages[row])))
            if kind.whole and mine != noted.digests[row].tobytes():
                self._differs(batch, row, "the dead letter is not its event byte for byte")
            if kind.reason in LEFT_ALONE:
                self._findings.counts["not_recomputed"] += 1
            else:
                safe.append(row)
        return safe

    # ---- scoring again

    def _recompute(self, noted: _Noted, rows: Indexes, maker: int) -> None:
        """Score events again with what made their inferences, and compare."""
        version = self._version(noted, rows, maker)
        if version is None:
            return
        batch = noted.batch
        self._arms.judge(batch, rows[noted.inferred[rows]], self._recorded.makers[maker])
        scored = version.scorer.score(part(batch, rows))
        for rejection in scored.rejected:
            self._rejected_now(noted, int(rows[rejection.row]), rejection)
        made = rows if scored.rows is None else rows[scored.rows]
        compared = noted.inferred[made]
        for row in made[~compared].tolist():
            self._findings.letters[f"{self._recorded.kinds[noted.kinds[row]].reason}, would be scored now"] += 1
        now = b"".join(digest_of(batch.keys[row], v) for row, v in zip(made.tolist(), scored.inferences, strict=True))
        same = (np.frombuffer(now, np.uint8).reshape(-1, DIGEST) == noted.digests[made]).all(axis=1)
        other = np.flatnonzero(~same & compared).tolist()
        if other:
            self._compare(batch, {int(made[i]): scored.inferences[i] for i in other}, version)

    def _version(self, noted: _Noted, rows: Indexes, maker: int) -> Version | None:
        """Return what scored the rows; None after counting them as what cannot be made again."""
        found: Version | Unknown = Unknown("unknown_version", "the repository has no model of this arm")
        if maker >= 0:
            found = self._versions.get(self._recorded.makers[maker])
        if isinstance(found, Version):
            return found
        inferred = rows[noted.inferred[rows]]
        self._findings.counts["not_recomputed"] += len(rows) - len(inferred)
        if len(inferred):
            event, record = self._recorded.places(noted.batch, int(inferred[0]))
            self._findings.found(found.what, event=event, record=record, detail=found.detail, count=len(inferred))
        return None

    def _rejected_now(self, noted: _Noted, row: int, rejection: Rejection) -> None:
        if noted.inferred[row]:
            detail = f"would be a dead letter now ({rejection.reason}: {rejection.detail:.200})"
            self._differs(noted.batch, row, detail)
        elif (reason := self._recorded.kinds[noted.kinds[row]].reason) != rejection.reason:
            self._findings.letters[f"{reason}, would be {rejection.reason} now"] += 1

    def _compare(self, batch: Batch, made: Mapping[int, bytes], version: Version) -> None:
        """Judge inferences whose bytes are others now, by row: a tolerance needs each of them, examples a few."""
        looked_at = list(made)
        if not version.tolerance:
            looked_at = looked_at[:EXAMPLES_OF_A_KIND] if self._findings.wants("different") else []
        texts = self._compared(batch, {row: made[row] for row in looked_at}, version)
        for row in made:
            text, within = texts.get(row, ("other bytes", False))
            if within:
                self._findings.counts["within_tolerance"] += 1
            else:
                self._differs(batch, row, text)
        self._note_surroundings(version)

    def _compared(self, batch: Batch, wanted: Mapping[int, bytes], version: Version) -> dict[int, tuple[str, bool]]:
        """Return by row what differs from the record that was published, and whether the tolerance allows it."""
        places = {row: self._recorded.place(batch, row) for row in wanted}
        offsets: dict[int, list[int]] = {}
        for partition, offset in places.values():
            offsets.setdefault(partition, []).append(offset)
        found = self._records.pick(self._findings.output, offsets)
        texts = {}
        for row, place in places.items():
            message = found.get(place)
            if message is None:
                texts[row] = ("other bytes, and retention has removed the record meanwhile", False)
                continue
            told, within = differences(version, message.value() or b"", wanted[row])
            if message.key() != batch.keys[row]:
                told, within = [f"its key is {message.key()!r:.80}, the event's {batch.keys[row]!r:.80}"], False
            texts[row] = ("; ".join(told), within)
        return texts

    # ---- words

    def _differs(self, batch: Batch, row: int, detail: str) -> None:
        event, record = self._recorded.places(batch, row)
        self._findings.found("different", event=event, record=record, detail=detail)

    def _note_surroundings(self, version: Version) -> None:
        here = {"onnxruntime": onnxruntime.__version__, "cpu": cpu_kind()}
        there = {name: version.proof.get(name, value) for name, value in here.items()}
        if there != here:
            self._findings.note(
                f"the bundle was proven with onnxruntime {there['onnxruntime']} on {there['cpu']}, this is "
                f"{here['onnxruntime']} on {here['cpu']}: others may round otherwise, verify where it was scored"
            )

    # ---- after

    def _judge_absent_events(self) -> None:
        """Judge records of events that the input topic does not hold: it lost them, or they never were."""
        ends = self._events.ends(self._findings.source)
        compacted: bool | None = None
        for partition, ledger in self._recorded.ledgers.items():
            low = ends[partition][0]
            absent = np.flatnonzero(((ledger.inferences > 0) | (ledger.letters > 0)) & ~ledger.seen) + ledger.first
            self._findings.counts["gone"] += int((absent < low).sum())
            for offset in absent[absent >= low].tolist():
                compacted = self._is_compacted(self._findings.source) if compacted is None else compacted
                if compacted:
                    self._findings.counts["gone"] += 1
                else:
                    self._invented(partition, offset, self._record_of(ledger, offset))
        for partition, (offset, topic, place) in self._recorded.beyond.items():
            if partition not in ends or offset >= ends[partition][1]:
                self._invented(partition, offset, named(topic, place))

    def _record_of(self, ledger: Ledger, offset: int) -> str:
        row = offset - ledger.first
        topic = self._findings.output if ledger.inferences[row] else self._findings.dead_letters
        return named(topic, (int(ledger.partitions[row]), int(ledger.offsets[row])))

    def _invented(self, partition: int, offset: int, record: str) -> None:
        detail = "the input topic has no such event: was an aborted one scored, or the topic made anew?"
        event = self._recorded.event(partition, offset)
        self._findings.found("without_event", event=event, record=record, detail=detail)

    def _is_compacted(self, topic: str) -> bool:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        admin = AdminClient({**self._options.kafka, **quiet()}, logger=log)
        try:
            entries = admin.describe_configs([resource], request_timeout=10)[resource].result()
        except KafkaException:
            return False
        return "compact" in entries["cleanup.policy"].value

    def _explain(self) -> None:
        """Say what an operator should know of the counts."""
        counts, findings = self._findings.counts, self._findings
        for why, count in self._unjudged.most_common():
            told = f"{count:,} event{'' if count == 1 else 's'} without a record of {self._options.arm}"
            findings.note(f"{told} {'is' if count == 1 else 'are'} not called missing: {why}")
        for topic in [each for each in (findings.output, findings.dead_letters) if counts["missing"]]:
            if self._is_compacted(topic):
                findings.note(
                    f"{topic} is compacted (cleanup.policy): a record whose key came again later may be gone, and its "
                    "event counts as missing; it must have cleanup.policy=delete to be verified"
                )
        if counts["twice"] and findings.repeats:
            findings.note("delivery is at_least_once: a batch that was repeated after a fault is not wrong")
        if counts["gone"]:
            findings.note(f"{counts['gone']} records are of events that retention removed; they cannot be recomputed")
