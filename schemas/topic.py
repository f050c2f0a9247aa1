"""Writer schemas by fingerprint, from a compacted topic: what a deployment without a registry uses.

Who publishes events publishes their schema first, once. Readers trust the content, not the key: they recompute the
fingerprint of what they read, refuse a key that says another, and the first schema of a fingerprint stays. The parsing
canonical form knows no logical types, so a second schema that differs only there is refused when it is published:
its readers would take its values for something else.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.documents import SCHEMA_BYTES, Cache, parse_text, safe_fingerprint
from schemas.errors import SchemaRefused, SourceUnavailable, UnknownSchema

TOPIC = "penstock.schemas"
HELD_BYTES = 64 << 20  # schemas that a reader holds, together
MEANING = ("logicalType", "precision", "scale")
ABSENT = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
_log = logging.getLogger("penstock.schemas")


class SchemaTopic:
    """The schema topic of one Kafka cluster, as reader and publisher. Safe to use from several threads.

    kafka: librdkafka settings of the cluster. seconds: how long one call may wait for the broker. A fingerprint that is
    not there makes the reader look for what was added since, at most once a second each.
    """

    def __init__(
        self,
        kafka: Mapping[str, Any],
        topic: str = TOPIC,
        *,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects on first use."""
        self.topic = topic
        self._kafka = {"log_level": 2, **kafka}  # what goes wrong is in the errors, not on stderr
        self._seconds = seconds
        self._texts: dict[str, bytes] = {}
        self._held = 0
        self._next: dict[int, int] = {}
        self._unknown: Cache[bool] = Cache(1024, 1.0, clock)
        self._consumer: Consumer | None = None
        self._lock = threading.Lock()

    def by_id(self, schema_id: int) -> Mapping[str, Any]:
        raise UnknownSchema(f"schema id {schema_id}: ids are found in a registry, not in {self.topic}")

    def by_fingerprint(self, fingerprint: str) -> Mapping[str, Any]:
        """Return the schema. Raises UnknownSchema, or SourceUnavailable when the broker does not answer (try again)."""
        with self._lock:
            if fingerprint not in self._texts and not self._unknown.get(fingerprint):
                self._catch_up()
                self._unknown.put(fingerprint, True)
            if fingerprint not in self._texts:
                raise UnknownSchema(f"schema {fingerprint}: not in {self.topic}; publish the schema before its events")
            schema: dict[str, Any] = json.loads(self._texts[fingerprint])
            return schema

    def publish(self, schema: Mapping[str, Any]) -> str:
        """Make the schema findable and return its fingerprint; does nothing when it is there. Creates the topic.

        Raises SchemaRefused when it is no schema that readers accept, or its fingerprint is taken by one with other
        logical types; SourceUnavailable when the broker did not take it.
        """
        fingerprint = safe_fingerprint(schema, "the schema to publish")
        text = json.dumps(_public(schema), separators=(",", ":")).encode()
        if len(text) > SCHEMA_BYTES:
            raise SchemaRefused(f"{len(text)} bytes of schema; the limit is {SCHEMA_BYTES}")
        with self._lock:
            self._catch_up()
            if fingerprint not in self._texts:
                self._create()
                self._produce(fingerprint, text)
                self._catch_up()
            self._refuse_other_meaning(fingerprint, schema)
        return fingerprint

    def close(self) -> None:
        """Let go of the connection; a later call connects again."""
        with self._lock:
            self._drop_consumer()

    def _refuse_other_meaning(self, fingerprint: str, schema: Mapping[str, Any]) -> None:
        published = json.loads(self._texts.get(fingerprint, b"null"))
        if published is not None and _meaning(published) != _meaning(_public(schema)):
            raise SchemaRefused(
                f"schema {fingerprint}: {self.topic} has it with other logical types, which a fingerprint does not "
                "tell apart; give the record another name"
            )

    def _catch_up(self) -> None:
        """Read what was added to the topic since the last time."""
        try:
            self._read_to_end()
        except KafkaException as error:
            if error.args[0].code() in ABSENT:
                return  # nothing was ever published
            self._drop_consumer()
            servers = self._kafka.get("bootstrap.servers", "")
            raise SourceUnavailable(
                f"the schema topic {self.topic} on {servers} cannot be read ({error.args[0].str()}); "
                "events wait and are tried again, nothing is lost"
            ) from error

    def _read_to_end(self) -> None:
        if self._consumer is None:
            self._consumer = self._connect()
        behind = []
        for partition in self._partitions(self._consumer):
            low, high = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), self._seconds)
            start = self._next.get(partition, low)
            if start > high:  # the topic was made anew
                start = low
            if start < high:
                behind.append(TopicPartition(self.topic, partition, max(start, low)))
        if behind:
            self._read(self._consumer, behind)

    def _partitions(self, consumer: Consumer) -> list[int]:
        metadata = consumer.list_topics(self.topic, self._seconds).topics[self.topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        return sorted(metadata.partitions)

    def _read(self, consumer: Consumer, behind: list[TopicPartition]) -> None:
        consumer.assign(behind)
        reading = {part.partition for part in behind}
        deadline = time.monotonic() + self._seconds
        while reading:
            message = consumer.poll(max(0.0, deadline - time.monotonic()))
            if message is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer within the time allowed"))
            partition, offset, error = message.partition() or 0, message.offset() or 0, message.error()
            if error is None:
                self._next[partition] = offset + 1
                self._take(offset, message.key(), message.value())
                deadline = time.monotonic() + self._seconds
            elif error.code() == KafkaError._PARTITION_EOF:
                self._next[partition] = offset
                reading.discard(partition)
            elif not error.retriable() and error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:  # it joins none
                raise KafkaException(error)
        consumer.unassign()  # an idle assignment would keep the broker busy

    def _take(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Hold the schema of one record, unless it is a deletion, refused, or not the first of its fingerprint."""
        if value is None:
            return
        where = f"{self.topic} offset {offset}"
        try:
            fingerprint = safe_fingerprint(parse_text(value, where), where)
            if key != fingerprint.encode():
                raise SchemaRefused(f"{where}: the key says {key!r}, its schema has the fingerprint {fingerprint}")
        except SchemaRefused as error:
            _log.warning("passed over a record: %s", error)
            return
        if fingerprint in self._texts:
            return
        if self._held + len(value) > HELD_BYTES:
            _log.warning("passed over %s: the schemas read are more than %s bytes together", where, HELD_BYTES)
            return
        self._texts[fingerprint] = value
        self._held += len(value)

    def _connect(self) -> Consumer:
        settings = {
            **self._kafka,
            "group.id": f"{self.topic}.readers",  # required; never joined, never committed to
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_uncommitted",
            "allow.auto.create.topics": False,
            "fetch.wait.max.ms": 10,  # assigned only while there is something to read
        }
        return Consumer(settings)

    def _drop_consumer(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _create(self) -> None:
        """Create the topic unless it is there."""
        admin = AdminClient(self._kafka)
        wanted = NewTopic(self.topic, 1, config={"cleanup.policy": "compact"})
        try:
            admin.create_topics([wanted], operation_timeout=self._seconds, request_timeout=self._seconds)[
                self.topic
            ].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise self._not_published(error.args[0]) from error

    def _produce(self, fingerprint: str, text: bytes) -> None:
        wait = int(self._seconds * 1000)
        # Not idempotent: librdkafka would wait half a second for an id, and a repeated record says the same again.
        limits = {"acks": "all", "message.max.bytes": SCHEMA_BYTES + 10_000, "message.timeout.ms": wait}
        producer = Producer({**self._kafka, **limits})
        outcome: list[KafkaError | None] = []
        producer.produce(self.topic, text, fingerprint.encode(), on_delivery=lambda error, _: outcome.append(error))
        producer.flush(self._seconds + 1)
        if not outcome:
            raise self._not_published(KafkaError(KafkaError._TIMED_OUT, "no answer within the time allowed"))
        if outcome[0] is not None and outcome[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
            raise SchemaRefused(f"{len(text)} bytes of schema: the broker takes no such record; shorten it")
        if outcome[0] is not None:
            raise self._not_published(outcome[0])

    def _not_published(self, error: KafkaError) -> SourceUnavailable:
        return SourceUnavailable(
            f"the schema cannot be published to {self.topic} on {self._kafka.get('bootstrap.servers', '')}: "
            f"{error.str()}; no event was sent, try again"
        )


def _public(document: Any) -> Any:
    """Return the document without what libraries put into it for themselves."""
    if isinstance(document, Mapping):
        return {key: _public(value) for key, value in document.items() if not str(key).startswith("__")}
    return [_public(item) for item in document] if isinstance(document, list | tuple) else document


def _meaning(document: Any) -> Any:
    """Return the logical types of a document by their place, whatever else stands there."""
    if isinstance(document, dict):
        own = {key: document[key] for key in MEANING if key in document}
        if "logicalType" not in own:
            own = {}
        return own, [_meaning(document[key]) for key in ("fields", "type", "items", "values") if key in document]
    return [_meaning(item) for item in document] if isinstance(document, list) else None
