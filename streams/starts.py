"""Where to start reading a partition, so that no offset is skipped in silence and none is read twice in silence.

Usually where the group's commit is. Beside that: nothing was ever committed, retention removed what was to be read, the
topic was made anew, or somebody set the group's offsets by hand: then what is scored once more, or skipped, is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.errors import Refused
from streams.marks import is_marked, marked

log = logging.getLogger(__name__)

TIMEOUT = 10.0

# Given partitions, says which offset is behind the last event that has a record; None: no event has one. A partition of
# which that cannot be told is left out.
Reached = Callable[[Collection[int]], Mapping[int, int | None]]


def unknown(partitions: Collection[int]) -> Mapping[int, int | None]:
    """Say of no partition how far its records had got."""
    return {}


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

    def __init__(self, consumer: Consumer, topic: str, start: str, hooks: Hooks, reached: Reached) -> None:
        self._consumer, self._topic, self._start_at = consumer, topic, start
        self._hooks, self._reached = hooks, reached

    def find(self, partitions: list[TopicPartition]) -> dict[int, int]:
        """Return the offset to read next of each partition. Raises Refused; KafkaException where it cannot be told."""
        if not partitions:
            return {}
        committed = self._committed(partitions)
        bounds = {tp.partition: self._bounds(tp) for tp in committed}
        strange = [tp.partition for tp in committed if not is_marked(tp) and _holds_any(bounds[tp.partition])]
        reached = self._reached(strange) if strange else {}
        if self._start_at == "latest" and all(tp.offset < 0 for tp in committed):
            everywhere = self._committed(self._all_partitions())
            if all(tp.offset < 0 for tp in everywhere):
                self._begin_at_end(everywhere)
                committed = self._committed(partitions)
        starts = {tp.partition: self._start(tp, bounds[tp.partition], reached.get(tp.partition)) for tp in committed}
        self._judge({tp.partition: tp.offset for tp in committed}, reached, starts)
        return starts

    def behind_retention(self, partition: int, position: int) -> int:
        """Retention overtook this reader: count what is gone and return where to go on."""
        low, high = self._bounds(TopicPartition(self._topic, partition))
        self._refuse_past_end(partition, position, high, "the next offset")
        if low > position:
            self._lost(partition, position, low)
        return max(low, position)

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

    def _begin_at_end(self, partitions: list[TopicPartition]) -> None:
        """Commit the end of every partition: else a restart before the first batch would skip what came meanwhile.

        Without our mark: no batch ends there, and whoever reads such a partition must look for older records.
        """
        ends = [self._consumer.get_watermark_offsets(tp, timeout=TIMEOUT, cached=False)[1] for tp in partitions]
        starts = [TopicPartition(tp.topic, tp.partition, end) for tp, end in zip(partitions, ends, strict=True)]
        self._consumer.commit(offsets=starts, asynchronous=False)

    def _bounds(self, tp: TopicPartition) -> tuple[int, int]:
        low, high = self._consumer.get_watermark_offsets(tp, timeout=TIMEOUT, cached=False)
        return low, high

    def _start(self, tp: TopicPartition, bounds: tuple[int, int], reached: int | None) -> int:
        """Go on at a committed offset inside the log; what retention removed before it was scored is counted."""
        low, high = bounds
        if tp.offset < 0 and reached is None:
            return low  # a partition added later is read from its beginning whatever `start` says
        if tp.offset > high:  # it may have grown since
            high = self._bounds(tp)[1]
        self._refuse_past_end(tp.partition, tp.offset, high, "the group's committed offset")
        scored_to = max(tp.offset, reached or 0)
        if scored_to < low:
            self._lost(tp.partition, scored_to, low)
        return max(tp.offset, low)

    def _judge(self, set_to: Mapping[int, int], reached: Mapping[int, int | None], starts: Mapping[int, int]) -> None:
        """Say and count what offsets set by hand mean; `set_to` is what was committed, -1001 for nothing.

        The offsets are committed again with our mark first: whoever starts next will not count them once more.
        """
        back = {p: end for p, end in reached.items() if end is not None and starts[p] < end}
        forward = {p: end for p, end in reached.items() if end is not None and end < set_to[p]}
        known = {p: starts[p] for p in reached if set_to[p] >= 0 or p in back}
        if known:
            for done in self._consumer.commit(offsets=marked(self._topic, known), asynchronous=False):
                if done.error is not None:
                    raise KafkaException(done.error)
        for partition, end in back.items():
            self._say_back(partition, starts[partition], end)
        for partition, end in forward.items():
            self._say_forward(partition, end, set_to[partition])

    def _refuse_past_end(self, partition: int, position: int, high: int, what: str) -> None:
        if position > high:
            raise Refused(
                f"{self._topic}/{partition}: {what} {position} is past the end of the log ({high}): "
                "was the topic made anew? Delete the group's offsets or rename the deployment"
            )

    def _lost(self, partition: int, position: int, low: int) -> None:
        log.error(
            "%s/%d: retention removed offsets %d to %d (%d events) before they were scored; lengthen the topic's "
            "retention or add slots",
            self._topic,
            partition,
            position,
            low - 1,
            low - position,
        )
        self._hooks.lost(partition, low - position)

    def _say_back(self, partition: int, start: int, reached: int) -> None:
        log.warning(
            "%s/%d: the group's offset was set back or deleted: offsets %d to %d (%d events) are scored once more",
            self._topic,
            partition,
            start,
            reached - 1,
            reached - start,
        )
        self._hooks.rescored(partition, reached - start)

    def _say_forward(self, partition: int, reached: int, start: int) -> None:
        log.error(
            "%s/%d: the group's offset was set forward: offsets %d to %d (%d events) are never scored; to score them, "
            "stop the workers and set the group's offset to %d",
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
