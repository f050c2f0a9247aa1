"""Publish events: checked against the schema, encoded, idempotent, never lost in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException

from penstock.client import cluster
from penstock.client.errors import ClientError, DeliveryFailed, EventInvalid, FlushTimedOut
from penstock.client.events import EventEncoder, as_mapping
from schemas.sources import SchemaTopic

DEFAULTS = {
    "enable.idempotence": True,
    "acks": "all",
    "compression.type": "lz4",
    "linger.ms": 5,
    "partitioner": "murmur2_random",  # the same partitions as Java clients
    "queue.buffering.max.messages": 200_000,
    "delivery.report.only.error": True,  # a callback per message would cost half of the throughput
}


class Producer:
    """Publishes events of one schema to one topic.

    bootstrap_servers: `host:port`, several separated by commas; schema: an Avro record schema or the path of an .avsc
    file; key: the field whose value becomes the message's key; further keywords are librdkafka settings, with
    underscores for dots (`security_protocol="SASL_SSL"`).
    The schema is published to the topic `penstock.schemas` once; messages carry its fingerprint (Avro single-object
    encoding). The record timestamp is always now. Use it as a context manager, or call `close`.
    Raises SchemaInvalid, NoSuchTopic, ConnectionFailed at construction.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        schema: Mapping[str, Any] | str | Path,
        key: str | None = None,
        **kafka: Any,
    ) -> None:
        self.topic = topic
        self.encoder = EventEncoder(schema)
        if key is not None and key not in self.encoder.record.fields:
            raise EventInvalid(key, None, f"a key among {', '.join(self.encoder.record.fields)}", found="no such field")
        self._key = key
        self._failed, self._reason = 0, ""
        configuration = cluster.settings(bootstrap_servers, kafka)
        self._servers = configuration["bootstrap.servers"]
        self.partitions = cluster.partitions_of(configuration, topic)
        schemas = SchemaTopic(cluster.common(configuration))
        try:
            schemas.publish(self.encoder.schema)
        finally:
            schemas.close()
        self._kafka = confluent_kafka.Producer(
            {**DEFAULTS, **configuration, "on_delivery": self._on_failure}, logger=cluster.logger
        )

    def send(self, event: Mapping[str, Any] | Any, key: bytes | str | None = None) -> None:
        """Publish one event, a mapping or a dataclass instance; returns once it is queued.

        Waits while the queue is full. Raises EventInvalid (nothing is sent), DeliveryFailed for messages sent earlier.
        """
        event = as_mapping(event)
        value = self.encoder.encode(event)
        if key is None and self._key is not None:
            key = key_bytes(event.get(self._key))
        self.publish(value, key)

    def send_many(self, events: Iterable[Mapping[str, Any] | Any]) -> int:
        """Publish events one by one, as `send` does; returns how many."""
        count = 0
        for count, event in enumerate(events, start=1):  # noqa: B007
            self.send(event)
        return count

    def send_frame(self, frame: Any) -> int:
        """Publish every row of a polars or pandas frame; returns how many.

        All rows are checked and encoded first: EventInvalid means that none was sent. Times without a zone are UTC.
        """
        values = self.encoder.encode_frame(frame)
        keys: Sequence[bytes | None] = [None] * len(values)
        if self._key is not None and self._key in frame.columns:
            keys = [key_bytes(value) for value in frame[self._key].to_list()]
        for value, key in zip(values, keys, strict=True):
            self.publish(value, key)
        return len(values)

    def publish(self, value: bytes, key: bytes | str | None = None) -> None:
        """Queue an already encoded message; waits while the queue is full."""
        produce = self._kafka.produce
        while True:
            try:
                produce(self.topic, value, key)
                break
            except BufferError:  # the queue is full: wait until there is room, never drop
                self._kafka.poll(0.05)
                self._raise_failures()
            except KafkaException as error:
                raise self._refused(error) from None
        if self._failed:
            self._raise_failures()

    def poll(self) -> None:
        """Serve delivery errors without waiting; raises DeliveryFailed."""
        self._kafka.poll(0)
        self._raise_failures()

    @property
    def queued(self) -> int:
        """Messages that Kafka has not acknowledged yet."""
        return len(self._kafka)

    def flush(self, seconds: float = 30.0) -> None:
        """Wait until everything sent so far is acknowledged.

        Raises FlushTimedOut when that takes longer than `seconds`, DeliveryFailed for what Kafka refused.
        """
        left = self._kafka.flush(seconds)
        self._raise_failures()
        if left:
            raise FlushTimedOut(self.topic, left, seconds)

    def close(self, seconds: float = 30.0) -> None:
        """Flush; after an error what is still queued is dropped, and the error says how many."""
        try:
            self.flush(seconds)
        finally:
            self._kafka.purge()
            self._kafka.flush(1.0)

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _on_failure(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            self._failed += 1
            self._reason = self._reason or error.str()

    def _raise_failures(self) -> None:
        if self._failed:
            failed, reason = self._failed, self._reason
            self._failed, self._reason = 0, ""
            raise DeliveryFailed(self.topic, failed, reason)

    def _refused(self, error: KafkaException) -> ClientError:
        cause = error.args[0]
        if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return DeliveryFailed(
                self.topic, 1, f"{cause.str()}; raise message.max.bytes here and on the topic, or send less"
            )
        return cluster.explain(error, self._servers, self.topic)


def key_bytes(value: Any) -> bytes | None:
    """A field's value as a message key: bytes as they are, everything else as its text in UTF-8, null as no key."""
    if value is None or isinstance(value, bytes):
        return value
    return str(value).encode()
