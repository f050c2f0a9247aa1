"""Where to start reading a partition, so that no offset is skipped in silence and none is read twice in silence.

Usually where the group's commit is. Beside that: nothing was ever committed, retention removed what was to be read, the
topic was made anew, or somebody set the group's offsets by hand: then what is scored once more, or skipped, is counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from streams.errors import Refused
from streams.marks import is_marked, marked

log = logging.getLogger(__name__)

TIMEOUT = 10.0
LOOK_SECONDS = 0.2  # how often a slot looks whether another one has said where a new group begins

# Given partitions, says which offset is behind the last event that has a record; None: no event has one. A partition of
# which that cannot be told is left out.
Reached = Callable[[Collection[int]], Mapping[int, int | None]]

# Says where the log of a partition ends, open transactions included, which a read_committed consumer cannot tell.
End = Callable[[int], int]


def unknown(partitions: Collection[int]) -> Mapping[int, int | None]:
    """Say of no partition how far its records had got."""
    return {}


def end_of(admin: Callable[[], AdminClient], topic: str) -> End:
    """Return what says where a topic's partitions end; it raises KafkaException when that cannot be told."""

    def ask(partition: int) -> int:
        asked = admin().list_offsets(
            {TopicPartition(topic, partition): OffsetSpec.latest()},  # type: ignore[no-untyped-call]
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=TIMEOUT,
        )
        (found,) = asked.values()
        return int(found.result().offset)

    return ask


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the worker hears of: partitions about to leave, and events (partition, how many) that retention removed
    before they were scored, that are scored once more, or that are passed over, because offsets were set by hand."""

    revoked: Callable[[], None] = lambda: None
    lost: Callable[[int, int], None] = lambda partition, count: None
    rescored: Callable[[int, int], None] = lambda partition, count: None
    skipped: Callable[[int, int], None] = lambda partition, count: None


class Starts:
    """Finds where to start in the partitions of one topic. start: earliest or latest, where nothing was ever scored."""

    def __init__(self, consumer: Consumer, topic: str, start: str, hooks: Hooks, reached: Reached, end: End) -> None:
        self._consumer, self._topic, self._start_at = consumer, topic, start
        self._hooks, self._reached, self._end = hooks, reached, end

    def find(self, partitions: list[TopicPartition]) -> dict[int, int]:
        """Return the offset to read next of each partition. Raises Refused; KafkaException where it cannot be told."""
        if not partitions:
            return {}
        committed = self._committed(partitions)
        if self._start_at == "latest" and all(tp.offset < 0 for tp in committed):
            committed = self._begin_at_end({tp.partition for tp in partitions})
        bounds = {tp.partition: self._bounds(tp) for tp in committed}
        strange = [tp.partition for tp in committed if not is_marked(tp) and _holds_any(bounds[tp.partition])]
        reached = self._reached(strange) if strange else {}
        starts = {tp.partition: self._start(tp, bounds[tp.partition]) for tp in committed}
        untold = set(strange) - reached.keys()
        self._judge({tp.partition: tp.offset for tp in committed}, reached, starts, untold)
        return starts

    def _commit(self, offsets: Sequence[TopicPartition]) -> None:
        for done in self._consumer.commit(offsets=list(offsets), asynchronous=False):
            if done.error is not None:
                raise KafkaException(done.error)

    def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Return the committed offsets; one that cannot be told must not pass for one that was never committed."""
        committed: list[TopicPartition] = self._consumer.committed(partitions, timeout=TIMEOUT)
        for tp in committed:
            if tp.error is not None:
                raise KafkaException(tp.error)
        return committed

    def _all_partitions(self) -> list[TopicPartition]:
        metadata = self._consumer.list_topics(self._topic, timeout=TIMEOUT).topics[self._topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        return [TopicPartition(self._topic, partition) for partition in metadata.partitions]

    def _begin_at_end(self, mine: Collection[int]) -> list[TopicPartition]:
        """Begin a new group at the end of every partition, once; return what is committed of `mine` then.

        Else a restart before the first batch, or the first slot that is given a partition later, would skip what came
        meanwhile. One slot only says where, that with the lowest partition: were each to do so, a slow one would undo
        what the others have committed by then. All offsets are one commit, so that a crash leaves all of them or none.
        """
        deadline = time.monotonic() + TIMEOUT
        while True:
            everywhere = self._committed(self._all_partitions())
            if any(tp.offset >= 0 for tp in everywhere):
                return [tp for tp in everywhere if tp.partition in mine]
            if min((tp.partition for tp in everywhere), default=-1) in mine:
                self._commit_ends(everywhere)
            elif time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no other slot has said where the group begins"))
            else:
                time.sleep(LOOK_SECONDS)

    def _commit_ends(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit without our mark: no batch ends there, and whoever starts there must look for older records."""
        self._commit([TopicPartition(tp.topic, tp.partition, self._bounds(tp)[1]) for tp in partitions])

    def _bounds(self, tp: TopicPartition) -> tuple[int, int]:
        low, high = self._consumer.get_watermark_offsets(tp, timeout=TIMEOUT, cached=False)
        return low, high

    def _start(self, tp: TopicPartition, bounds: tuple[int, int]) -> int:
        """Go on at a committed offset inside the log, else at the log's beginning."""
        low, high = bounds
        if tp.offset < 0:
            return low  # a partition added later is read from its beginning whatever `start` says
        if tp.offset > high:
            self._refuse_past_end(tp.partition, tp.offset)
        return max(tp.offset, low)

    def _judge(
        self,
        set_to: Mapping[int, int],
        reached: Mapping[int, int | None],
        starts: Mapping[int, int],
        untold: Collection[int],
    ) -> None:
        """Say and count what retention took and what offsets set by hand mean.

        set_to: what was committed, -1001 for nothing. untold: partitions of which it should be known how far their
        records had got, and is not. The offsets are committed with our mark first: whoever starts next will not count
        them once more, and counts what retention takes from there on.
        """
        decided = {p: max(set_to[p], reached.get(p) or 0) for p in starts if set_to[p] >= 0 or reached.get(p)}
        lost = {p: end for p, end in decided.items() if end < starts[p]}
        back = {p: end for p, end in reached.items() if end is not None and starts[p] < end}
        forward = {p: end for p, end in reached.items() if end is not None and end < set_to[p]}
        known = {p: starts[p] for p in starts if p in reached or p in lost or (set_to[p] < 0 and p not in untold)}
        if known:
            self._commit(marked(self._topic, known))
        for partition, end in lost.items():
            self._lost(partition, end, starts[partition])
        for partition, end in back.items():
            self._say_back(partition, starts[partition], end)
        for partition, end in forward.items():
            self._say_forward(partition, end, set_to[partition])

    def _refuse_past_end(self, partition: int, position: int) -> None:
        """Refuse an offset behind which nothing can come; behind a transaction that is still open it is one."""
        end = self._end(partition)
        if position > end:
            raise Refused(
                f"{self._topic}/{partition}: the group's committed offset {position} is past the end of the log "
                f"({end}): was the topic made anew? Delete the group's offsets or rename the deployment"
            )

    def _lost(self, partition: int, position: int, low: int) -> None:
        log.error(
            "%s/%d: retention removed offsets %d to %d (at most %d events) before they were scored; lengthen the "
            "topic's retention or add slots",
            self._topic,
            partition,
            position,
            low - 1,
            low - position,
        )
        self._hooks.lost(partition, low - position)

    def _say_back(self, partition: int, start: int, reached: int) -> None:
        log.warning(
            "%s/%d: the group's offset was set back or deleted: offsets %d to %d (at most %d events) are scored "
            "once more",
            self._topic,
            partition,
            start,
            reached - 1,
            reached - start,
        )
        self._hooks.rescored(partition, reached - start)

    def _say_forward(self, partition: int, reached: int, start: int) -> None:
        log.error(
            "%s/%d: the group's offset was set forward: offsets %d to %d (at most %d events) are never scored; to "
            "score them, stop the workers and set the group's offset to %d",
            self._topic,
            partition,
            reached,
            start - 1,
            start - reached,
            reached,
        )
        self._hooks.skipped(partition, start - reached)


def _holds_any(bounds: tuple[int, int]) -> bool:
    return bounds[0] < bounds[1]
