"""Kafka in: one static member of a consumer group that never skips an offset in silence."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from streams.batch import Batch, batch_of
from streams.batch import Message as BatchMessage
from streams.clients import talkative
from streams.errors import Fenced, Refused, Rewind, StartOver

log = logging.getLogger(__name__)

FENCED = {KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED}
INSTANCE_FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()  # a fatal error names its cause in words only
DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
}
MISSING = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
OUT_OF_RANGE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the worker hears of: partitions about to leave, and events lost to retention (partition, how many)."""

    revoked: Callable[[], None] = lambda: None
    lost: Callable[[int, int], None] = lambda partition, count: None


def consumer_settings(kafka: Mapping[str, str], group: str, slot: str) -> dict[str, Any]:
    """Return the settings that the promises rest on, over those that reach the cluster."""
    return {
        **kafka,
        **talkative(),
        "group.id": group,
        "client.id": f"{group}.{slot}",
        "group.instance.id": f"{group}.{slot}",
        "session.timeout.ms": 6_000,
        "heartbeat.interval.ms": 1_500,
        "partition.assignment.strategy": "cooperative-sticky",
        "auto.offset.reset": "error",  # where to start is decided in _start, and said
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "fetch.message.max.bytes": 4 << 20,
        "queued.min.messages": 100_000,
        "queued.max.messages.kbytes": 8_192,  # of prefetched events: memory stays flat whatever the backlog
        "fetch.wait.max.ms": 500,  # data is sent when there is some; at 50 ms an idle consumer costs 4 % of a core
        "fetch.queue.backoff.ms": 2,
        "topic.metadata.refresh.interval.ms": 10_000,  # how soon partitions added later are found
    }


class KafkaSource:
    """A source on confluent-kafka; see streams.protocols.Source."""

    def __init__(
        self, kafka: Mapping[str, str], topic: str, group: str, slot: str, *, start: str, hooks: Hooks
    ) -> None:
        self.topic = topic
        self._start_at, self._hooks = start, hooks
        self._next: dict[int, int] = {}  # per assigned partition: the offset that the next message has at least
        self._committed: dict[int, int] = {}
        self._failure: Exception | None = None
        self._taken = False
        self.joined = False
        self.consumer = Consumer(consumer_settings(kafka, group, slot), logger=log)

    def begin(self) -> None:
        """Join the group."""
        self.consumer.subscribe([self.topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)

    # ---- reading

    def poll(self, limit: int, seconds: float) -> Batch | None:
        messages: list[Message] = self._consume(1, seconds)
        if messages and limit > 1:
            messages += self._consume(limit - 1, 0)
        if not messages:
            return None
        if any(map(Message.error, messages)):
            return self._admit_beside_errors(messages)
        return self._admit(batch_of(cast(list[BatchMessage], messages)))

    def _admit_beside_errors(self, messages: list[Message]) -> Batch | None:
        """Admit the messages before the errors are judged: what is in hand was not taken by retention."""
        good = [message for message in messages if message.error() is None]
        batch = self._admit(batch_of(cast(list[BatchMessage], good))) if good else None
        for message in messages:
            self._is_error(message)
        return batch

    def _consume(self, limit: int, seconds: float) -> list[Message]:
        try:
            messages: list[Message] = self.consumer.consume(limit, seconds)
        except KafkaException as error:
            raise self._judge(error.args[0]) from error
        except RuntimeError as error:  # the consumer was closed under us
            raise StartOver(str(error)) from error
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return messages

    def _admit(self, batch: Batch) -> Batch | None:
        """Drop what is not ours any more or was read before: a rebalance inside `poll` can leave such messages."""
        known = self._next
        for partition, position in batch.positions.items():
            if partition not in known or int(batch.offsets[batch.partitions == partition][0]) < known[partition]:
                return self._admit_some(batch)
            known[partition] = position
        return batch

    def _admit_some(self, batch: Batch) -> Batch | None:
        floor = {partition: self._next.get(partition, 1 << 62) for partition in batch.positions}
        keep = batch.offsets >= np.array([floor[int(p)] for p in batch.partitions], np.int64)
        log.info("dropped %d messages that were read before a rebalance", len(batch) - int(keep.sum()))
        if not keep.any():
            return None
        admitted = batch_of([batch.messages[row] for row in np.flatnonzero(keep).tolist()])
        self._next.update(admitted.positions)
        return admitted

    # ---- what went wrong

    def _is_error(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.code() in OUT_OF_RANGE:
            self._restart_partition(_place(message)[0])
            return True
        raise self._judge(error)

    def _judge(self, error: KafkaError) -> Exception:
        code = error.code()
        if code in FENCED or (code == KafkaError._FATAL and INSTANCE_FENCED in error.str()):
            return Fenced(f"another worker took over this slot: give each worker a --slot of its own ({error.str()})")
        if code in DENIED:
            return Refused(f"no permission to read {self.topic}: {error.str()}; grant READ on the topic and the group")
        if code in MISSING:
            return Refused(f"topic {self.topic} does not exist (any more): {error.str()}")
        return StartOver(f"the consumer failed: {error.str()} ({error.name()})")

    # ---- positions

    def committed(self, positions: Mapping[int, int]) -> None:
        self._committed.update(positions)

    def rewind(self) -> None:
        try:
            for partition in self._next:
                position = self._committed[partition]
                self._next[partition] = position
                self.consumer.seek(TopicPartition(self.topic, partition, position))
        except KafkaException as error:
            raise StartOver(f"cannot read again from the committed offsets: {error}") from error

    def hold(self, seconds: float) -> bool:
        self._taken = False
        mine = [TopicPartition(self.topic, partition) for partition in self._next]
        try:
            self.consumer.pause(mine)
            try:
                messages = self._consume(1, seconds)
            finally:  # also when a rebalance failed: a rewind goes on with these partitions
                self.consumer.resume([tp for tp in mine if tp.partition in self._next])
            unexpected = [message for message in messages if not self._is_error(message)]
            for partition, offset in map(_place, unexpected):  # it was on its way before the pause: read it again
                if partition in self._next:
                    self.consumer.seek(TopicPartition(self.topic, partition, min(self._next[partition], offset)))
        except KafkaException as error:
            raise StartOver(f"cannot hold partitions back: {error}") from error
        return not self._taken

    def park(self, partition: int, offset: int) -> None:
        place = TopicPartition(self.topic, partition, offset)
        try:
            self.consumer.seek(place)
            self.consumer.pause([place])
        except KafkaException as error:
            raise StartOver(f"cannot stop reading {self.topic}/{partition} at {offset}: {error}") from error
        self._next[partition] = offset

    def unpark(self) -> None:
        self.consumer.resume([TopicPartition(self.topic, partition) for partition in self._next])

    def assigned(self) -> Sequence[int]:
        return sorted(self._next)

    def positions(self) -> Mapping[int, int]:
        return dict(self._next)

    def lags(self) -> Mapping[int, int]:
        lags = {}
        for partition, position in list(self._next.items()):
            _, high = self.consumer.get_watermark_offsets(TopicPartition(self.topic, partition), cached=True)
            if high >= 0:  # known from the first fetch on
                lags[partition] = max(0, high - position)
        return lags

    def metadata(self) -> object:
        """Return the group membership that a transaction's offsets are fenced by."""
        return self.consumer.consumer_group_metadata()

    def close(self, leave: bool) -> None:
        def leaving() -> None:  # a static member that only closes keeps its partitions for the session timeout
            self.consumer.unsubscribe()
            self.consumer.consume(1, 0.1)

        for step in [leaving, self.consumer.close] if leave else [self.consumer.close]:
            try:
                step()
            except (KafkaException, RuntimeError) as error:
                log.warning("closing the consumer: %s", error)

    # ---- rebalances (called inside consume)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            starts = self._starts(partitions)
            consumer.incremental_assign(starts)
            consumer.resume(starts)  # one that left while `hold` paused it would come back paused
        except Refused as error:
            self._fail(error)
            return
        except KafkaException as error:
            self._fail(StartOver(f"cannot take partitions over: {error}"))
            return
        for start in starts:
            self._next[start.partition] = self._committed[start.partition] = start.offset
        self.joined = True
        log.info("reads partitions %s of %s", sorted(self._next), self.topic)

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._hooks.revoked()
        except Exception as error:
            self._fail(error)
        for gone in partitions:
            self._next.pop(gone.partition, None)
            self._committed.pop(gone.partition, None)
        self._taken = True
        try:
            consumer.incremental_unassign(partitions)
        except KafkaException as error:
            self._fail(StartOver(f"cannot give partitions back: {error}"))
        log.info("gave back partitions %s of %s", sorted(gone.partition for gone in partitions), self.topic)

    def _fail(self, error: Exception) -> None:
        """Keep what `_consume` will raise; a rewind of this client must not hide that the client is broken."""
        if self._failure is None or isinstance(self._failure, Rewind):
            self._failure = error

    def _starts(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Return where to read each partition from, as concrete offsets."""
        if not partitions:
            return []
        committed = self._offsets(partitions)
        if self._start_at == "latest" and all(tp.offset < 0 for tp in committed):
            everywhere = self._offsets(self._all_partitions())
            if all(tp.offset < 0 for tp in everywhere):
                self._begin_at_end(everywhere)
                committed = self._offsets(partitions)
        return [self._start(tp) for tp in committed]

    def _offsets(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Return the committed offsets; one that cannot be told must not pass for one that was never committed."""
        committed: list[TopicPartition] = self.consumer.committed(partitions, timeout=10)
        for tp in committed:
            if tp.error is not None:
                raise KafkaException(tp.error)
        return committed

    def _all_partitions(self) -> list[TopicPartition]:
        metadata = self.consumer.list_topics(self.topic, timeout=10).topics[self.topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        return [TopicPartition(self.topic, partition) for partition in metadata.partitions]

    def _begin_at_end(self, partitions: list[TopicPartition]) -> None:
        """Commit the end of every partition: else a restart before the first batch would skip what came meanwhile."""
        ends = [self.consumer.get_watermark_offsets(tp, timeout=10, cached=False)[1] for tp in partitions]
        starts = [TopicPartition(tp.topic, tp.partition, end) for tp, end in zip(partitions, ends, strict=True)]
        self.consumer.commit(offsets=starts, asynchronous=False)

    def _start(self, tp: TopicPartition) -> TopicPartition:
        """Go on at a committed offset inside the log; what retention removed before it was scored is counted."""
        low, high = self.consumer.get_watermark_offsets(tp, timeout=10, cached=False)
        if tp.offset < 0:  # never committed; a partition added later is read from its beginning whatever `start` says
            return TopicPartition(tp.topic, tp.partition, low)
        self._refuse_past_end(tp.partition, tp.offset, high, "the group's committed offset")
        if tp.offset < low:
            self._lost(tp.partition, low - tp.offset, tp.offset, low)
        return TopicPartition(tp.topic, tp.partition, max(tp.offset, low))

    def _restart_partition(self, partition: int) -> None:
        """Retention overtook this reader: count what is gone and go on at the beginning of the log."""
        if partition not in self._next:
            return
        tp, position = TopicPartition(self.topic, partition), self._next[partition]
        try:
            low, high = self.consumer.get_watermark_offsets(tp, timeout=10, cached=False)
            self._refuse_past_end(partition, position, high, "the next offset")
            if low > position:
                self._lost(partition, low - position, position, low)
            self._next[partition] = max(low, position)
            self.consumer.seek(TopicPartition(self.topic, partition, self._next[partition]))
        except KafkaException as error:
            raise StartOver(f"cannot find the beginning of {self.topic}/{partition}: {error}") from error
        time.sleep(0.1)

    def _refuse_past_end(self, partition: int, position: int, high: int, what: str) -> None:
        if position > high:
            raise Refused(
                f"{self.topic}/{partition}: {what} {position} is past the end of the log ({high}): "
                "was the topic made anew? Delete the group's offsets or rename the deployment"
            )

    def _lost(self, partition: int, count: int, position: int, low: int) -> None:
        log.error(
            "%s/%d: retention removed offsets %d to %d (%d events) before they were scored; lengthen the topic's "
            "retention or add slots",
            self.topic,
            partition,
            position,
            low - 1,
            count,
        )
        self._hooks.lost(partition, count)


def _place(message: Message) -> tuple[int, int]:
    """Return the partition and offset, which every message of a consumer has."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset
