"""Kafka out: two transactional producers that take turns, or one idempotent producer for at-least-once delivery.

librdkafka often meets CONCURRENT_TRANSACTIONS in the transaction after a commit, because the commit's markers are
still being written, and sleeps. Of two producers that alternate, one's markers are written while the other works. A
transaction begins only after the other's commit has returned success, so records keep their order and offsets never
commit out of order.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.batch import Headers, Records
from streams.clients import quiet
from streams.codes import DENIED, DENIED_TRANSACTION, FENCED, PRODUCER_FENCED, REFUSED_RECORD
from streams.errors import ProducerFenced, Refused, Rewind, StartOver
from streams.marks import marked
from streams.membership import TRANSACTION_TIMEOUT_MS
from streams.source import KafkaSource

log = logging.getLogger(__name__)

BATCH_BYTES = 1_000_000  # of a record batch, before compression
QUEUE_KBYTES = 64 << 10  # of records that wait for a slow broker; producing waits while they are more
QUEUE_RECORDS = 200_000
PATIENCE = 10.0  # seconds that a retriable step of a transaction is tried again
REFUSALS = 5  # how often topics refuse single events before the worker gives up
REBALANCED = {  # the partitions may be another's by now; whoever reads them scores the batch again
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.UNKNOWN_MEMBER_ID,
}


def producer_settings(kafka: Mapping[str, str], message_bytes: int, batch_bytes: int) -> dict[str, Any]:
    """Return what both kinds of sink share: order is kept, and librdkafka retries what may be retried.

    Nothing lingers, for every batch ends with a flush, which sends what is there: until then records gather into few
    requests, which halves what they cost client and broker beside sending each as it comes.

    message_bytes: of the topic that takes the largest records. batch_bytes: of the one that takes the smallest, because
    a topic's limit is on a whole record batch, and a batch that was refused is never split.
    """
    return {
        **kafka,
        **quiet(),
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": "lz4",
        "linger.ms": 5,
        "batch.num.messages": 10_000,
        "batch.size": min(BATCH_BYTES, batch_bytes),
        "queue.buffering.max.messages": QUEUE_RECORDS,
        "queue.buffering.max.kbytes": max(QUEUE_KBYTES, message_bytes >> 8),  # four of the largest at least
        "message.max.bytes": message_bytes,
        "partitioner": "murmur2_random",  # as Java's clients place a key
    }


class Origin(Protocol):
    """Whose offsets a transaction commits."""

    topic: str

    def metadata(self) -> object:
        """Return the group, with what fences a member that was overtaken."""

    def doubt(self) -> None:
        """Note that a producer of this slot was fenced."""


class TransactionalSink:
    """Exactly once: the records and the offsets of a batch in one transaction; see streams.protocols.Sink."""

    def __init__(
        self,
        kafka: Mapping[str, str],
        slot_id: str,
        source: Origin,
        *,
        message_bytes: int,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._source = source
        self._refused: Counter[int] = Counter()  # how often a single event was refused that stops its partition
        settings = producer_settings(kafka, message_bytes, batch_bytes) | {
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS
        }
        self._producers = [
            Producer({**settings, "transactional.id": f"{slot_id}-{turn}", "client.id": f"{slot_id}-{turn}"})
            for turn in "ab"
        ]

    def begin(self) -> None:
        """Abort what this slot left open and fence whoever else uses it; call before joining the group.

        Both producers at once: where one finds a transaction to abort, librdkafka waits half a second for it.
        """
        try:
            with ThreadPoolExecutor(len(self._producers)) as each:
                list(each.map(self._begin, self._producers))
        except KafkaException as error:
            failure = error.args[0]
            if failure.code() in DENIED_TRANSACTION:
                raise Refused(
                    f"no permission for transactions: {failure.str()}; grant WRITE on the transactional ids"
                ) from error
            if failure.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
                raise Refused(
                    f"the brokers take no transactions of {TRANSACTION_TIMEOUT_MS} ms: raise their "
                    "transaction.max.timeout.ms"
                ) from error
            raise StartOver(f"transactions cannot begin: {failure.str()} ({failure.name()})") from error

    def _begin(self, producer: Producer) -> None:
        """Connect before beginning: asked while it is not connected, librdkafka waits half a second to try again.

        The answer of the first broker makes librdkafka connect anew, under the broker's own name: hence a second call.
        """
        with contextlib.suppress(KafkaException):  # what is wrong is said below
            for _ in range(2):
                producer.list_topics(self._source.topic, timeout=5)
        _patiently(partial(producer.init_transactions, 10), "init_transactions")

    def publish(self, records: Sequence[Records], positions: Mapping[int, int]) -> None:
        producer = self._producers[0]
        self._producers.reverse()
        offsets = marked(self._source.topic, positions)
        failure: KafkaError | None = None
        try:
            producer.begin_transaction()
            for group in records:
                _produce(producer, group)
            metadata = self._source.metadata()
            _patiently(
                lambda: producer.send_offsets_to_transaction(offsets, metadata, 10), "send_offsets_to_transaction"
            )
            _patiently(lambda: producer.commit_transaction(10), "commit_transaction")
        except KafkaException as error:
            failure = error.args[0]
        except BufferError:
            failure = KafkaError(KafkaError._QUEUE_FULL)
        if failure is not None:  # out here, because aborting may fail: see streams/clients.py
            meaning = self._after(producer, failure)
            raise self._refused_for_good(failure, records, positions) or meaning
        for partition in positions:
            del self._refused[partition]

    def _after(self, producer: Producer, error: KafkaError) -> Exception:
        """Decide what a failed transaction means, and abort it where that is possible."""
        if error.code() in DENIED_TRANSACTION:
            return Refused(
                f"no permission to publish: {error.str()}; grant WRITE on the topics and the transactional id"
            )
        if error.code() in PRODUCER_FENCED:
            self._source.doubt()
            return ProducerFenced(f"this slot's producer was fenced: {error.str()}")
        if error.fatal() or not (error.txn_requires_abort() or error.code() == KafkaError._QUEUE_FULL):
            return StartOver(f"the outcome of a transaction is unknown: {error.str()} ({error.name()})")
        try:
            _patiently(partial(producer.abort_transaction, 10), "abort_transaction")
        except KafkaException as second:
            return StartOver(f"a transaction could not be aborted: {second.args[0].str()}")
        return Rewind(f"a transaction was aborted: {error.str()} ({error.name()})")

    def _refused_for_good(
        self, error: KafkaError, records: Sequence[Records], positions: Mapping[int, int]
    ) -> Refused | None:
        """Count single events that a topic does not take: batches shrink to them, and would be tried for ever."""
        if error.code() not in REFUSED_RECORD or any(len(group.values) > group.of_an_event for group in records):
            return None
        self._refused.update(positions.keys())
        if self._refused.total() < REFUSALS:
            return None
        return Refused(
            f"a topic does not take the record of an event: {error.str()}; correct its cleanup.policy or "
            "max.message.bytes, and start the worker again, which reads them anew"
        )

    def close(self) -> None:
        for producer in self._producers:
            _discard(producer)


class AcknowledgedSink:
    """At least once: offsets are committed after every record of the batch is acknowledged; a crash repeats a batch."""

    def __init__(
        self,
        kafka: Mapping[str, str],
        slot_id: str,
        source: KafkaSource,
        *,
        message_bytes: int,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._source = source
        self._failed: list[str] = []
        settings = producer_settings(kafka, message_bytes, batch_bytes) | {
            "client.id": slot_id,
            "delivery.report.only.error": True,
            "on_delivery": lambda error, _: self._failed.append(str(error)) if error else None,
        }
        self._producer = Producer(settings)

    def begin(self) -> None:
        """There is nothing to abort."""

    def publish(self, records: Sequence[Records], positions: Mapping[int, int]) -> None:
        offsets = marked(self._source.topic, positions)
        try:
            for group in records:
                _produce(self._producer, group)
            left = self._producer.flush(PATIENCE)
            if left or self._failed:
                raise StartOver(f"{left or len(self._failed)} records were not acknowledged: {self._failed[:1]}")
            if offsets:
                for done in self._source.consumer.commit(offsets=offsets, asynchronous=False):
                    if done.error is not None:  # one partition's may fail beside others that are committed
                        raise KafkaException(done.error)
        except KafkaException as error:
            raise _unacknowledged(error.args[0]) from error
        except BufferError as error:
            raise StartOver("the producer's queue stayed full") from error

    def close(self) -> None:
        _discard(self._producer)


def _discard(producer: Producer) -> None:
    """Drop what a producer still holds. One that was fenced raises that again, which must not hide why it is closed."""
    try:
        producer.purge(in_queue=True, in_flight=True)
        producer.flush(1)
    except KafkaException as error:
        log.info("closing a producer: %s", error.args[0].str())


def _unacknowledged(error: KafkaError) -> Exception:
    if error.code() in FENCED:  # also after an outage, when nobody took the slot: the worker asks the group
        return ProducerFenced(f"this slot's commit was fenced: {error.str()}")
    if error.code() in DENIED:
        return Refused(f"no permission to publish or commit: {error.str()}")
    if error.code() in REBALANCED:
        return Rewind(f"a batch's offsets were not committed: {error.str()} ({error.name()})")
    return StartOver(f"a batch was not acknowledged: {error.str()} ({error.name()})")


def _produce(producer: Producer, records: Records) -> None:
    produce, topic, values, keys = producer.produce, records.topic, records.values, records.keys
    partitions = records.partitions
    if records.headers is not None:
        for value, key, partition, headers in zip(
            values, keys, partitions or [-1] * len(values), records.headers, strict=True
        ):
            try:
                produce(topic, value, key, partition, headers=headers)
            except BufferError:
                _produce_when_there_is_room(producer, topic, value, key, partition, headers)
    elif partitions is not None:
        for value, key, partition in zip(values, keys, partitions, strict=True):
            try:
                produce(topic, value, key, partition)
            except BufferError:
                _produce_when_there_is_room(producer, topic, value, key, partition)
    else:
        for value, key in zip(values, keys, strict=True):
            try:
                produce(topic, value, key)
            except BufferError:
                _produce_when_there_is_room(producer, topic, value, key)


def _produce_when_there_is_room(
    producer: Producer,
    topic: str,
    value: bytes | None,
    key: bytes | None,
    partition: int = -1,
    headers: Headers | None = None,
) -> None:
    """Wait until the broker took enough of what is queued. Raises BufferError after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while True:
        producer.poll(0.05)  # lets go of what was acknowledged
        try:
            producer.produce(topic, value, key, partition, headers=headers or [])
            return
        except BufferError:
            if time.monotonic() > deadline:
                raise


def _patiently(step: Callable[[], object], name: str) -> None:
    """Run one step of a transaction, again while its failure is called retriable, for PATIENCE seconds at most."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            step()
            return
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise
            log.warning("%s: %s; trying again", name, error.args[0].str())
