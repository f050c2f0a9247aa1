"""How far the replays of dead letters came: one record a topic, reason and partition, in a compacted topic.

Kafka forgets the offsets of a group without members (after 7 days, `offsets.retention.minutes`), and letters may stay
in their topic for longer. A record of a compacted topic stays until the next one of its key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import confluent_kafka
from confluent_kafka import (
    OFFSET_BEGINNING,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from penstock.client import cluster
from penstock.client.errors import ConnectionFailed, NoSuchTopic
from schemas.values import as_bytes

TOPIC = "penstock.replays"
NO_ID = "A" * 22  # what a broker without topic ids says, in base64
_SECONDS = 30.0
_PATIENCE = 90.0  # longer than the transaction of a replay that was killed stays open


@dataclass(frozen=True, slots=True)
class Progress:
    """Every letter of a reason before offset `next` of a partition was replayed. topic_id: empty where Kafka has none.

    A topic that is deleted and made anew begins again at 0, under another id.
    """

    reason: str
    partition: int
    next: int
    topic_id: str = ""

    def record(self, topic: str) -> tuple[bytes, bytes]:
        """Return key and value of the record that keeps it; `topic` has the letters."""
        key = {"topic": topic, "reason": self.reason, "partition": self.partition}
        return json.dumps(key, sort_keys=True).encode(), json.dumps(
            {"next": self.next, "topic_id": self.topic_id}
        ).encode()

    @classmethod
    def parse(cls, key: bytes | None, value: bytes | None, topic: str) -> Progress | None:
        """Read `record`; None for another topic's, and for what is none. Deleted: nothing was replayed."""
        try:
            named = json.loads(key or b"")
            kept: Any = {"next": 0, "topic_id": ""} if value is None else json.loads(value)
            found = cls(str(named["reason"]), int(named["partition"]), int(kept["next"]), str(kept["topic_id"]))
            return found if named["topic"] == topic else None
        except (ValueError, KeyError, TypeError):
            return None


class Replays:
    """The progress of the replays of one dead-letter topic, in the topic `penstock.replays`.

    partitions: those of the dead-letter topic. notes: sentences for the operator about progress that does not count,
    or hides letters.
    Methods raise ConnectionFailed when Kafka does not answer or does not let us.
    """

    def __init__(self, settings: Mapping[str, Any], topic: str) -> None:
        """Asks Kafka for the topic's partitions and id. Raises NoSuchTopic."""
        self._settings, self._topic = dict(settings), topic
        self._servers = str(settings["bootstrap.servers"])
        self._admin = AdminClient(cluster.common(settings), logger=cluster.logger)
        self.partitions, self._id = self._describe()
        self._made = False
        self.notes: list[str] = []

    def read(self) -> dict[str, dict[int, int]]:
        """Return per reason and partition the offset behind the last letter that was replayed.

        Reads to where the topic ends now: a transaction that is open there, of a replay of another topic, is waited
        for, because what we committed behind its begin cannot be read before.
        """
        kept: dict[tuple[str, int], Progress] = {}
        for message in self._records():
            found = Progress.parse(as_bytes(message.key()), as_bytes(message.value()), self._topic)
            if found is not None:
                kept[found.reason, found.partition] = found
        ends = self.ends({partition for _, partition in kept})
        told: dict[str, dict[int, int]] = {}
        for each in kept.values():
            if self._counts(each, ends):
                told.setdefault(each.reason, {})[each.partition] = each.next
        return told

    def ends(self, partitions: Collection[int]) -> dict[int, int]:
        """Return where the logs of these partitions of the dead-letter topic end; 0 for one that it has not."""
        ends = self._ends(self._topic, [partition for partition in partitions if partition in self.partitions])
        return {partition: ends.get(partition, 0) for partition in partitions}

    def make(self) -> None:
        """Make `penstock.replays` where it is missing."""
        if self._made:
            return
        try:
            cluster.partitions_of(self._settings, TOPIC, patience=0)
        except NoSuchTopic:
            try:
                wanted = NewTopic(TOPIC, 1, config={"cleanup.policy": "compact"})
                made = self._admin.create_topics([wanted], operation_timeout=_SECONDS, request_timeout=_SECONDS)
                made[TOPIC].result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise cluster.explain(error, self._servers, TOPIC) from None
        self._made = True

    def records(self, reason: str, offsets: Mapping[int, int]) -> list[tuple[bytes, bytes]]:
        """Return key and value of each record that says that a reason's letters were replayed up to these offsets."""
        return [Progress(reason, each, offset, self._id).record(self._topic) for each, offset in offsets.items()]

    def note(self, text: str) -> None:
        """Keep a sentence for the operator, once."""
        if text not in self.notes:
            self.notes.append(text)

    def _counts(self, kept: Progress, ends: Mapping[int, int]) -> bool:
        """Say whether progress is of the topic that there is now: by its id, and without one by where it ends."""
        end = ends[kept.partition]
        same = kept.topic_id == self._id if kept.topic_id and self._id else kept.next <= end
        if not same:
            self.note(f"{self._topic} was made anew since letters of it were replayed: that progress does not count")
        elif kept.next > end:
            self.note(
                f"{self._topic}/{kept.partition} lost its end: its {kept.reason} letters were replayed up to offset "
                f"{kept.next}, and it ends at {end}; letters that take these places are replayed with --offsets only"
            )
        return same

    def _describe(self) -> tuple[list[int], str]:
        asked = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=_SECONDS)[self._topic]
        try:
            found = asked.result(timeout=_SECONDS + 1)
        except (KafkaException, TimeoutError) as error:
            raise cluster.explain(error, self._servers, self._topic) from None
        topic_id = "" if found.topic_id is None else str(found.topic_id)
        return sorted(each.id for each in found.partitions), "" if topic_id == NO_ID else topic_id

    def _ends(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """Return where each log ends, open transactions included."""
        if not partitions:
            return {}
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(topic, partition): latest for partition in partitions}
        level = IsolationLevel.READ_UNCOMMITTED
        try:
            found = self._admin.list_offsets(wanted, isolation_level=level, request_timeout=_SECONDS)
            return {place.partition: int(asked.result().offset) for place, asked in found.items()}
        except KafkaException as error:
            raise cluster.explain(error, self._servers, topic) from None

    def _records(self) -> Iterator[Message]:
        try:
            ends = self._ends(TOPIC, cluster.partitions_of(self._settings, TOPIC, patience=0))
        except NoSuchTopic:
            return
        self._made = True
        waiting = {partition: end for partition, end in ends.items() if end}
        consumer = confluent_kafka.Consumer(
            {
                "fetch.wait.max.ms": 10,
                **self._settings,
                "group.id": f"{TOPIC}.readers",  # required; never joined, never committed to
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "allow.auto.create.topics": False,
            },
            logger=cluster.logger,
        )
        try:
            consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in waiting])
            yield from self._read(consumer, waiting)
        except KafkaException as error:
            raise cluster.explain(error, self._servers, TOPIC) from None
        finally:
            consumer.close()

    def _read(self, consumer: Any, waiting: dict[int, int]) -> Iterator[Message]:
        """Yield what stands before the ends in `waiting`, and forget each that is reached."""
        deadline = time.monotonic() + _PATIENCE
        while waiting:
            first = consumer.consume(1, 0.5)  # then what is there: it would wait for a number of messages
            for message in first + consumer.consume(1_000, 0):
                error, partition, next_offset = message.error(), message.partition(), message.offset()
                if error is None:
                    yield message
                    next_offset += 1
                elif error.fatal() or error.code() in _FINAL:
                    raise KafkaException(error)
                elif error.code() != KafkaError._PARTITION_EOF:
                    cluster.logger.warning("%s: %s", TOPIC, error.str())
                    continue
                if next_offset >= waiting.get(partition, next_offset + 1):
                    del waiting[partition]
            if waiting and time.monotonic() > deadline:
                raise ConnectionFailed(
                    f"topic {TOPIC!r} on {self._servers} cannot be read to its end within {_PATIENCE:g} s: a "
                    "transaction that is open holds it back, or a broker is away; nothing was replayed, try again later"
                )


_FINAL = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}
