"""Runs a rescore to the end of its range: reads, scores, and commits records and offsets together.

No group is joined, so that nothing can disturb the deployment's: the offsets are committed under a group of the
rescore's own, in the transactions that publish its records. The transactional id is the same for whoever runs the same
rescore: one that was killed goes on behind its last commit, and of two at once one ends.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from schemas.errors import SourceUnavailable
from streams.batch import Batch, Records, batch_of
from streams.batch import Message as BatchMessage
from streams.errors import Fenced, Refused, Rewind, StartOver
from streams.publisher import Publisher
from streams.reading import TopicReader
from streams.rescore import Errand, Options, Report, cut_text
from streams.safeguard import Safeguard
from streams.scorer import Scored
from streams.sink import TransactionalSink
from streams.slot import SlotLock

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
SAY_SECONDS = 10.0
KNOWN = 8  # positions of a partition that this run may have committed last; two batches at most are undecided


@dataclass(frozen=True, slots=True)
class Tally:
    """What a transaction commits."""

    events: int = 0
    inferences: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)


class _Place:
    """The group and topic whose offsets the transactions commit; see streams.sink.Origin."""

    def __init__(self, topic: str, reader: TopicReader) -> None:
        self.topic, self._reader = topic, reader

    def metadata(self) -> object:
        return self._reader.metadata()

    def doubt(self) -> None:
        """Who fenced this run shows when the committed offsets are read again."""


def rescore(errand: Errand, options: Options, stopping: Callable[[], bool]) -> Report:
    """Score what is left of the range until all is committed, or until told to stop, and return what was done.

    Raises Refused, Fenced where another process runs the same rescore, or an error of models or schemas.
    """
    began = time.monotonic()
    lock = SlotLock(options.state_folder / "slots", errand.group)
    run = Rescoring(errand, options, stopping)
    try:
        run.run()
    finally:
        lock.close()
    run.report.seconds = time.monotonic() - began
    return run.report


class Rescoring:
    """One run of an errand, through any number of lives of its clients."""

    def __init__(self, errand: Errand, options: Options, stopping: Callable[[], bool]) -> None:
        self._errand, self._options, self._stopping = errand, options, stopping
        self._topic, self._ranges = errand.stretch.topic, errand.stretch.ranges
        self._guard = Safeguard(self._topic, quarantine=errand.quarantine)
        self._pending: deque[tuple[Mapping[int, int], Tally]] = deque()  # handed to the publisher, not known committed
        self._mine: dict[int, deque[int]] = {}  # per partition the positions that this run may have left committed
        self._lost: dict[tuple[int, int], int] = {}  # per partition and offset: events gone from there on
        self._said = time.monotonic()
        self.report = errand.report()

    def run(self) -> None:
        """Go on behind the last commit until the end of the range is committed, or until told to stop."""
        failures = 0
        while not self._stopping() and not self.report.done:
            why, before = None, self.report.events
            try:
                self._life()
            except (Rewind, StartOver) as error:
                why = str(error)
            failures = failures + 1 if why and self.report.events == before else 0
            if why:
                log.warning("%s; going on behind the last commit", why)
                self._rest(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])

    def _rest(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stopping() and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    # ---- one life of the clients

    def _life(self) -> None:
        errand, kafka = self._errand, self._options.kafka
        reader = TopicReader(kafka, errand.group)
        limits = [errand.output.message_bytes, errand.letters.message_bytes]
        place = _Place(self._topic, reader)
        sink = TransactionalSink(kafka, errand.group, place, message_bytes=max(limits), batch_bytes=min(limits))
        publisher: Publisher | None = None
        failure: BaseException | None = None
        try:
            sink.begin()
            positions = self._resume(reader, sink)
            publisher = Publisher()
            self._work(reader, sink, publisher, positions)
        except BaseException as error:
            failure = error
        if publisher is not None:  # out here: see streams/clients.py
            publisher.close()
        sink.close()
        reader.close()
        if failure is not None:
            raise failure

    def _resume(self, reader: TopicReader, sink: TransactionalSink) -> dict[int, int]:
        """Return the committed offset of each partition; those of a new rescore are committed first."""
        found = reader.committed(self._topic, self._ranges)
        if not found:
            self._refuse_used(reader)
            found = {partition: first for partition, (first, _) in self._ranges.items()}
            sink.publish([], found)
        self._settle(found)
        if not self._mine:
            self.report.earlier = sum(found[p] - first for p, (first, _) in self._ranges.items())
            if self.report.earlier:
                log.info("%d of %d offsets were done before", self.report.earlier, self._errand.stretch.offsets)
        elif others := [p for p, offset in found.items() if offset not in self._mine[p]]:
            raise Fenced(
                f"another process runs the same rescore: {self._topic}/{others[0]} was committed up to "
                f"{found[others[0]]}, and not by this one; wait for it, or stop it"
            )
        for partition, offset in found.items():
            self._mine[partition] = deque([offset], maxlen=KNOWN)
        self._refuse_cut(reader, found)
        return found

    def _refuse_used(self, reader: TopicReader) -> None:
        """Raise Refused where the topics hold records although nothing is known of this rescore."""
        for topic in (self._errand.output.name, self._errand.letters.name):
            if any(low < high for low, high in reader.ends(topic).values()):
                raise Refused(
                    f"topic {topic} holds records, but the brokers know nothing of how far this rescore got: they are "
                    "of something else, or of the same rescore so long ago that the brokers forgot its group. Delete "
                    f"the topic, or name another one with --output"
                )

    def _refuse_cut(self, reader: TopicReader, positions: Mapping[int, int]) -> None:
        if self._options.partial:
            return
        left = {}
        for partition, position in positions.items():
            if position < self._ranges[partition][1] and (low := reader.bounds(self._topic, partition)[0]) > position:
                left[partition] = low
        if left:
            raise Refused(cut_text(self._topic, left))

    def _work(
        self, reader: TopicReader, sink: TransactionalSink, publisher: Publisher, positions: Mapping[int, int]
    ) -> None:
        known = dict(positions)
        left = {p: (known[p], last) for p, (_, last) in self._ranges.items() if known[p] < last}
        for messages in reader.read(self._topic, left, self._options.batch_events):
            batch = batch_of(cast(list[BatchMessage], messages))
            for partition, first in batch.firsts().items():
                self._pass(reader, partition, known[partition], first)
            scored = self._score(batch)
            if scored is None or self._stopping():
                publisher.join()
                return
            work = self._errand.composer.work(batch, scored)
            tally = Tally(len(batch), sum(work.inferences.values()), work.reasons)
            self._submit(publisher, sink, work.records, batch.positions, tally)
            known.update(batch.positions)
            self._say(known)
        ends = {partition: last for partition, (_, last) in left.items() if known[partition] < last}
        for partition, last in ends.items():
            self._pass(reader, partition, known[partition], last)
        if ends:
            self._submit(publisher, sink, [], ends, Tally())
        publisher.join()
        self.report.done = True

    def _score(self, batch: Batch) -> Scored | None:
        """Return what the batch became; None when told to stop while schemas could not be read."""
        attempt = 0
        while not self._stopping():
            try:
                return self._guard.score(self._errand.scorer, batch)
            except SourceUnavailable as error:
                log.error("%s; %d events wait, nothing is lost", error, len(batch))
            self._rest(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1
        return None

    def _pass(self, reader: TopicReader, partition: int, expected: int, first: int) -> None:
        """Count what is missing before `first`: markers of transactions have offsets, too, and so has what is gone."""
        if first <= expected:
            return
        low = reader.bounds(self._topic, partition)[0]
        if low <= expected:
            return
        if not self._options.partial:
            raise Refused(cut_text(self._topic, {partition: low}))
        gone = min(first, low) - expected
        if (partition, expected) not in self._lost:
            log.warning(
                "%s/%d: retention removed offsets %d to %d", self._topic, partition, expected, expected + gone - 1
            )
        self._lost[partition, expected] = gone
        self.report.lost = sum(self._lost.values())

    # ---- what is committed

    def _submit(
        self,
        publisher: Publisher,
        sink: TransactionalSink,
        records: Sequence[Records],
        positions: Mapping[int, int],
        tally: Tally,
    ) -> None:
        self._pending.append((positions, tally))
        for partition, offset in positions.items():
            self._mine[partition].append(offset)
        publisher.submit(partial(self._publish, sink, records, positions))

    def _publish(self, sink: TransactionalSink, records: Sequence[Records], positions: Mapping[int, int]) -> None:
        """Publish and count; on the publisher's thread."""
        sink.publish(records, positions)
        _, tally = self._pending.popleft()
        self._count(tally)

    def _settle(self, committed: Mapping[int, int]) -> None:
        """Count what was committed although its outcome was not known; the rest comes again."""
        for positions, tally in self._pending:
            if all(committed[partition] >= offset for partition, offset in positions.items()):
                self._count(tally)
        self._pending.clear()

    def _count(self, tally: Tally) -> None:
        report = self.report
        report.events += tally.events
        report.inferences += tally.inferences
        report.reasons = report.reasons + Counter(tally.reasons)

    def _say(self, known: Mapping[int, int]) -> None:
        if time.monotonic() - self._said > SAY_SECONDS:
            self._said = time.monotonic()
            left = sum(last - known[partition] for partition, (_, last) in self._ranges.items())
            whole = self._errand.stretch.offsets
            log.info("rescored %d of %d offsets (%d %%)", whole - left, whole, 100 * (whole - left) // whole)
