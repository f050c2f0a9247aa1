"""Kafka in: one member of a consumer group that reads batches and answers for what becomes of its partitions."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from streams.backlog import Backlog
from streams.batch import Batch, batch_of
from streams.batch import Message as BatchMessage
from streams.clients import admin_of
from streams.codes import DENIED, FENCED, MISSING
from streams.errors import Fenced, Refused, Rewind, StartOver
from streams.fencing import owners_of, was_taken
from streams.membership import SESSION_TIMEOUT_MS, consumer_settings, is_classic
from streams.starts import Hooks, Reached, Starts, end_of, unknown

log = logging.getLogger(__name__)

INSTANCE_FENCED = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()  # a fatal error names its cause in words only
FENCED_SECONDS = 8.0  # a session timeout and some: a member that is still there then lives
OUT_OF_RANGE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
MISSING_SECONDS = 30.0  # brokers that move leaders, or start, may say for a while that a topic does not exist
LOOK_SECONDS = 1.0
# Brokers do not tell offsets that a transaction without an end may yet change: see docs/guarantees.md.
HANGING = "; if this goes on, a transaction may hang: kafka-transactions.sh find-hanging tells"
# What a member gives back in the first round of a cooperative rebalance is given out in the second, for which it asks.
# One that makes new clients in between comes back as the same static member and is handed what it had without a second
# round: the rest would be read by nobody until the next rebalance. So it leaves the group.
ROUNDS_SECONDS = 5.0
NEVER = float("-inf")


class KafkaSource:
    """A source on confluent-kafka; see streams.protocols.Source.

    reached: how far an arm's records had got, asked where offsets were set by hand. backlog: told what is read.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        topic: str,
        group: str,
        slot: str,
        *,
        start: str,
        hooks: Hooks,
        reached: Reached = unknown,
        backlog: Backlog | None = None,
    ) -> None:
        self.topic = topic
        self._hooks, self._backlog = hooks, backlog or Backlog()
        self._next: dict[int, int] = {}  # per assigned partition: the offset that the next message has at least
        self._committed: dict[int, int] = {}
        self._failure: Exception | None = None
        self._taken = self._leaving = self._overtaken = self._settled = False
        self._gave_back = NEVER  # when partitions last left for others
        self._missed = self._looked = 0.0  # since when the topic is missing, and when it was last looked for
        self.joined = False
        self.consumer = Consumer({**consumer_settings(kafka, group, slot), "stats_cb": self._note}, logger=log)
        admin = admin_of(kafka)
        self._owners, self._member = owners_of(admin, group, f"{group}.{slot}"), ""
        self._static, self._doubted = is_classic(kafka), False
        self._starts = Starts(self.consumer, topic, start, hooks, reached, end_of(admin, topic))

    def begin(self) -> None:
        """Join the group."""
        self.consumer.subscribe([self.topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)

    # ---- reading

    def poll(self, limit: int, seconds: float, wait: float = 0.0) -> Batch | None:
        if self._overtaken:
            self._start_over_behind_retention()
            return None
        batch = self._poll(limit, seconds, wait)
        if batch is not None:
            self._backlog.took(batch)
        elif self._missed:
            self._look_for_topic()
        return batch

    def _poll(self, limit: int, seconds: float, wait: float) -> Batch | None:
        messages: list[Message] = self._consume(1, seconds)
        if messages and limit > 1:
            messages += self._consume(limit - 1, wait)
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
        failed: KafkaError | None = None
        try:
            messages: list[Message] = self.consumer.consume(limit, seconds)
        except KafkaException as error:
            failed = error.args[0]
        except RuntimeError as error:  # the consumer was closed under us
            raise StartOver(str(error)) from error
        if failed is not None:  # out here, because the group may be asked: see streams/clients.py
            raise self._judge(failed)
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
            self._overtaken = self._overtaken or _place(message)[0] in self._next
            return True
        if error.code() in MISSING:
            if not self._missed:
                self._missed = time.monotonic()
                log.warning("%s: %s; waiting for the brokers to know it again", self.topic, error.str())
            return True
        raise self._judge(error)

    def _start_over_behind_retention(self) -> None:
        """Retention overtook this reader, or the log lost its end: what that means is judged when partitions are taken.

        What is in hand was not lost: it is committed first, as always when there is nothing new.
        """
        if self._settled:
            raise StartOver(f"an offset of {self.topic} that was to be read is not in the log")
        self._settled = True

    def _look_for_topic(self) -> None:
        """Ask whether the topic is there again; the client itself says only once that it is not."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            found = self.consumer.list_topics(self.topic, timeout=5).topics[self.topic]
        except KafkaException as error:
            log.info("cannot look for topic %s: %s", self.topic, error)
            return
        if found.error is None and found.partitions.keys() >= self._next.keys():
            # perhaps made anew: then the brokers forgot the group's offsets, and positions in the old one mean nothing
            raise StartOver(f"topic {self.topic} is there again")
        if now - self._missed > MISSING_SECONDS:
            raise Refused(
                f"topic {self.topic} does not exist (any more), or lacks partitions that were read: the brokers have "
                f"said so for {MISSING_SECONDS:.0f} s; create it, or correct input.topic"
            )

    def _judge(self, error: KafkaError) -> Exception:
        code = error.code()
        if code in FENCED or (code == KafkaError._FATAL and INSTANCE_FENCED in error.str()):
            return self._fenced(error)
        if code in DENIED:
            return Refused(f"no permission to read {self.topic}: {error.str()}; grant READ on the topic and the group")
        if code == KafkaError.INVALID_SESSION_TIMEOUT:
            return Refused(
                f"the brokers take no session timeout of {SESSION_TIMEOUT_MS} ms: group.min.session.timeout.ms and "
                "group.max.session.timeout.ms must let it pass"
            )
        return StartOver(f"the consumer failed: {error.str()} ({error.name()})")

    def _fenced(self, error: KafkaError) -> Exception:
        """Tell a worker that took the slot from a coordinator that only took us for one."""
        if was_taken(self._owners, self._member, FENCED_SECONDS):
            return _taken(error.str())
        return StartOver(f"the group's coordinator took this slot for another worker's ({error.str()})")

    def doubt(self) -> None:
        """Note that a producer of this slot was fenced: a member that is not static hears of a twin by asking only."""
        self._doubted = not self._static

    # ---- positions

    def committed(self, positions: Mapping[int, int]) -> None:
        self._committed.update(positions)
        self._backlog.committed(positions)

    def rewind(self) -> None:
        self._backlog.given_up()
        try:
            for partition in self._next:
                position = self._committed[partition]
                self._next[partition] = position
                self.consumer.seek(TopicPartition(self.topic, partition, position))
        except KafkaException as error:
            raise StartOver(f"cannot read again from the committed offsets: {error}") from error

    def hold(self, seconds: float) -> bool:
        if self._doubted and was_taken(self._owners, self.consumer.memberid() or "", FENCED_SECONDS):
            raise _taken("its producers fence ours")
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
        lags, ends = {}, {}
        for partition, position in list(self._next.items()):
            _, high = self.consumer.get_watermark_offsets(TopicPartition(self.topic, partition), cached=True)
            if high >= 0:  # known from the first fetch on
                lags[partition] = max(0, high - position)
                ends[partition] = high
        self._backlog.ends(ends)
        return lags

    def _note(self, statistics: str) -> None:
        """Tell the backlog which partitions are read to their end as far as that can be read; called inside consume.

        `next_offset` is behind transactions' markers, which are no messages.
        """
        topic = json.loads(statistics).get("topics", {}).get(self.topic, {})
        read = {}
        for name, state in topic.get("partitions", {}).items():
            end = state["ls_offset"] if state["ls_offset"] >= 0 else state["hi_offset"]
            if int(name) in self._next and state["fetchq_cnt"] == 0 and 0 <= end <= state["next_offset"]:
                read[int(name)] = state["hi_offset"]
        self._backlog.read(read)

    def metadata(self) -> object:
        """Return the group membership that a transaction's offsets are fenced by."""
        return self.consumer.consumer_group_metadata()

    def close(self, leave: bool) -> None:
        self._leaving = True
        self._backlog.given_up()

        def leaving() -> None:  # a static member that only closes keeps its partitions for the session timeout
            self.consumer.unsubscribe()
            self.consumer.consume(1, 0.1)

        if not leave:
            self._close_by(
                lambda: self.consumer.consume(1, 0.0)
            )  # a rebalance that waits for us begins here, not below
        amid = time.monotonic() - self._gave_back < ROUNDS_SECONDS
        if leave or amid:
            self._close_by(leaving)
        self._close_by(self.consumer.close)

    def _close_by(self, step: Callable[[], object]) -> None:
        try:
            step()
        except (KafkaException, RuntimeError) as error:
            log.warning("closing the consumer: %s", error)

    # ---- rebalances (called inside consume)

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            found = self._starts.find(partitions)
            starts = [TopicPartition(self.topic, partition, offset) for partition, offset in found.items()]
            consumer.incremental_assign(starts)
            consumer.resume(starts)  # one that left while `hold` paused it would come back paused
        except Refused as error:
            self._fail(error)
            return
        except KafkaException as error:
            hint = HANGING if error.args[0].code() == KafkaError._TIMED_OUT else ""
            self._fail(StartOver(f"cannot take partitions over: {error.args[0].str()}{hint}"))
            return
        self._next.update(found)
        self._committed.update(found)
        self._backlog.assigned(found, self._next)
        self.joined, self._member = True, consumer.memberid()
        log.info("reads partitions %s of %s", sorted(self._next), self.topic)

    def _lose(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The group has gone on without this member: it gives nothing back that a second round waits for."""
        self._revoke(consumer, partitions)
        self._gave_back = NEVER

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._gave_back = time.monotonic()
        try:
            self._hooks.revoked()
        except Exception as error:
            self._fail(error)
        for gone in partitions:
            self._next.pop(gone.partition, None)
            self._committed.pop(gone.partition, None)
        if not self._leaving:  # else they are read on by new clients, or the process ends
            self._backlog.revoked([gone.partition for gone in partitions])
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


def _taken(why: str) -> Fenced:
    return Fenced(f"another worker took over this slot: give each worker a --slot of its own ({why})")


def _place(message: Message) -> tuple[int, int]:
    """Return the partition and offset, which every message of a consumer has."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset
