"""Read the records of a topic, committed ones only, and decode each through the schema that its fingerprint names."""

from __future__ import annotations

import datetime
import io
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import confluent_kafka
import fastavro
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException, Message, TopicPartition

from penstock.client import cluster
from penstock.client.errors import NoSuchTopic, RecordUnreadable
from penstock.client.inference import Position
from schemas import wire
from schemas.errors import SchemaError, SourceUnavailable
from schemas.sources import SchemaTopic
from schemas.values import as_bytes

Start = Literal["earliest", "latest"]
NEW_PARTITIONS_SECONDS = 30.0


class RecordReader:
    """A read_committed consumer of one topic.

    Without a group it reads every partition from `start` and commits nothing. With a group, Kafka shares the
    partitions among its members, and what was handed out is committed when `done` says that it was dealt with.
    begin: without a group, only these partitions, each from its offset.
    Raises NoSuchTopic or ConnectionFailed at construction.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        group: str | None = None,
        *,
        start: Start = "latest",
        begin: Mapping[int, int] | None = None,
        **kafka: Any,
    ) -> None:
        if start not in ("earliest", "latest"):
            raise ValueError(f"start must be 'earliest' or 'latest', not {start!r}")
        self.topic, self.group = topic, group
        self.configuration = cluster.settings(bootstrap_servers, kafka)
        self._start = OFFSET_BEGINNING if start == "earliest" else OFFSET_END
        self._ended: set[int] = set()
        self._assigned: set[int] = set()
        self._looked, self._look_again = time.monotonic(), group is None
        partitions = cluster.partitions_of(self.configuration, topic)
        self._consumer = confluent_kafka.Consumer(
            {
                "fetch.wait.max.ms": 100,
                "auto.offset.reset": start,
                **self.configuration,
                "group.id": group or f"penstock.client.{uuid.uuid4().hex[:8]}",  # without a group: never used
                "isolation.level": "read_committed",
                "enable.auto.commit": group is not None,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
            },
            logger=cluster.logger,
        )
        if begin is not None:
            self._look_again = False
            for partition, offset in begin.items():
                if partition not in partitions:
                    raise NoSuchTopic(f"topic {topic!r} has no partition {partition}, only {len(partitions)} from 0 on")
                self._assign([partition], offset)
        elif group is None:
            self._assign(partitions, self._start)
        else:
            self._consumer.subscribe(
                [topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )

    @property
    def at_end(self) -> bool:
        """Whether every assigned partition was read to its end at least once."""
        return bool(self._assigned) and self._assigned <= self._ended

    def read(self, count: int, seconds: float) -> list[Message]:
        """Up to `count` messages: whatever is there, after at most `seconds`; an empty list when nothing came.

        Raises NoSuchTopic or ConnectionFailed for errors that do not go away.
        """
        if self._look_again and time.monotonic() - self._looked > NEW_PARTITIONS_SECONDS:
            self._look_for_partitions()
        first = self._consumer.consume(1, seconds)
        rest = self._consumer.consume(count - 1, 0) if first and count > 1 else []
        return [message for message in (*first, *rest) if self._is_record(message)]

    def done(self, message: Message) -> None:
        """This message and those before it in its partition were dealt with; a group goes on behind it."""
        if self.group is None:
            return
        try:
            self._consumer.store_offsets(message)
        except KafkaException as error:  # its partition went to another member, which gets it again
            if error.args[0].code() != KafkaError._STATE:
                raise cluster.explain(error, self.configuration["bootstrap.servers"], self.topic) from None

    def close(self) -> None:
        """Commit what is done and leave the group."""
        self._consumer.close()

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            self._ended.add(int(message.partition() or 0))
        elif self.group is None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return False  # librdkafka asks who coordinates a group that is never used
        elif error.fatal() or (not error.retriable() and error.code() not in _PASSING):
            raise cluster.explain(KafkaException(error), self.configuration["bootstrap.servers"], self.topic)
        else:
            cluster.logger.warning("%s: %s", self.topic, error.str())
        return False

    def _assign(self, partitions: list[int], offset: int) -> None:
        self._consumer.incremental_assign([TopicPartition(self.topic, partition, offset) for partition in partitions])
        self._assigned |= set(partitions)

    def _look_for_partitions(self) -> None:
        self._looked = time.monotonic()
        new = set(cluster.partitions_of(self.configuration, self.topic)) - self._assigned
        if new:  # added after the start, so nothing in them was there before
            self._assign(sorted(new), OFFSET_BEGINNING)

    def _on_assign(self, _: Any, partitions: list[TopicPartition]) -> None:
        self._assigned |= {partition.partition for partition in partitions}

    def _on_revoke(self, _: Any, partitions: list[TopicPartition]) -> None:
        gone = {partition.partition for partition in partitions}
        self._assigned -= gone
        self._ended -= gone


_PASSING = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError._MAX_POLL_EXCEEDED,
}


class RecordDecoder:
    """Bytes in Avro single-object encoding to dicts; schemas come from `penstock.schemas` by fingerprint, once each.

    known: schemas that need not be looked up.
    """

    def __init__(self, configuration: Mapping[str, Any], known: Sequence[Mapping[str, Any]] = ()) -> None:
        self.writers = SchemaTopic(cluster.common(configuration))
        self._parsed: dict[bytes, tuple[Any, Mapping[str, Any]]] = {
            bytes.fromhex(wire.fingerprint(schema)): (fastavro.parse_schema(dict(schema), {}), schema)
            for schema in known
        }

    def decode(self, message: Message) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """The record and its schema.

        Raises RecordUnreadable; schemas.errors.SourceUnavailable when the schema topic does not answer.
        """
        parsed, schema = self._known(message, fingerprint_of(message))
        value = message.value() or b""
        stream = io.BytesIO(value)
        stream.seek(wire.SINGLE_OBJECT_BYTES)
        try:
            record = fastavro.schemaless_reader(stream, parsed, None)
        except Exception as error:  # fastavro raises what it meets: EOFError, IndexError, UnicodeDecodeError, ...
            raise unreadable(message, f"{type(error).__name__}: {error}") from error
        if stream.tell() != len(value) or not isinstance(record, dict):
            raise unreadable(message, f"{len(value) - stream.tell()} bytes are left behind the record")
        return record, schema

    def schema(self, message: Message, fingerprint: bytes) -> Mapping[str, Any]:
        """The schema of a fingerprint; raises like `decode`."""
        return self._known(message, fingerprint)[1]

    def close(self) -> None:
        """Let go of the schema topic."""
        self.writers.close()

    def _known(self, message: Message, fingerprint: bytes) -> tuple[Any, Mapping[str, Any]]:
        known = self._parsed.get(fingerprint)
        if known is None:
            try:
                schema = self.writers.by_fingerprint(fingerprint.hex())
            except SourceUnavailable:
                raise
            except SchemaError as error:
                raise unreadable(message, str(error)) from None
            known = self._parsed[fingerprint] = fastavro.parse_schema(dict(schema), {}), schema
        return known


def fingerprint_of(message: Message) -> bytes:
    """The 8 bytes that name the writer's schema; raises RecordUnreadable for a message without them."""
    value = message.value()
    if not isinstance(value, bytes) or value[:2] != wire.SINGLE_OBJECT or len(value) < wire.SINGLE_OBJECT_BYTES:
        raise unreadable(message, "it has no Avro single-object header (C3 01 and a fingerprint)")
    return value[2 : wire.SINGLE_OBJECT_BYTES]


def position(message: Message) -> Position:
    """Where a message stands."""
    _, milliseconds = message.timestamp()
    return Position(
        topic=str(message.topic()),
        partition=int(message.partition() or 0),
        offset=int(message.offset() or 0),
        key=as_bytes(message.key()),
        timestamp=datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC),
    )


def unreadable(message: Message, reason: str) -> RecordUnreadable:
    return RecordUnreadable(str(message.topic()), int(message.partition() or 0), int(message.offset() or 0), reason)
