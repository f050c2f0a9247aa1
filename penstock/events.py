"""The audit's entries as CloudEvents in a topic, each exactly once.

One transaction holds events and the offset behind the last entry that they tell of. A reader of what is committed sees
each entry once and in order, whoever is killed when. Kafka forgets the offsets of a group without members after 7 days;
each event therefore carries the offset and the digest of its entry, and the last one counts as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from penstock.client import cluster
from penstock.client.errors import ConnectionFailed, NoSuchTopic
from penstock.cloudevents import CONTENT_TYPE
from penstock.followers import ONCE_SECONDS, SECONDS, Wiring, final, first_offset, offset_of, patiently, replaced, some
from schemas.values import as_bytes
from streams.clients import quiet
from streams.errors import StartOver
from streams.publisher import Publisher

log = logging.getLogger(__name__)

OFFSET, DIGEST = "penstock.source.offset", "penstock.source.digest"
BATCH = 100
TRANSACTION_TIMEOUT_MS = 60_000  # longer than a session waits for one: only another process fences this one


@dataclass(frozen=True, slots=True)
class Told:
    """The entry that an event tells of: its record's offset and the digest of its bytes."""

    offset: int
    digest: str

    @classmethod
    def of(cls, record: Message) -> Told:
        """Name a record of the audit."""
        return cls(offset_of(record), hashlib.sha256(as_bytes(record.value()) or b"").hexdigest()[:32])

    @classmethod
    def parse(cls, event: Message) -> Told | None:
        """Read the headers of an event; None for a record that is none of ours."""
        found = {name: as_bytes(value) or b"" for name, value in dict(event.headers() or []).items()}
        offset, digest = found.get(OFFSET, b""), found.get(DIGEST, b"")
        return cls(int(offset), digest.decode(errors="replace")) if offset.isdigit() else None

    @property
    def headers(self) -> list[tuple[str, str | bytes | None]]:
        """Those of the event, with the one that the Kafka binding of CloudEvents asks for."""
        return [
            ("content-type", CONTENT_TYPE.encode()),
            (OFFSET, str(self.offset).encode()),
            (DIGEST, self.digest.encode()),
        ]


class Announcer:
    """Publishes events until told to stop, or to the end of the audit; see followers.Part."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._most = BATCH  # entries in a transaction; fewer after a failure
        self.told = 0

    def run(self, stop: threading.Event, once: bool) -> None:
        """Raises TakenOver, EventsRefused; Undelivered with `once`."""
        patiently(partial(self._try, stop, once), stop, once, self._wiring.events)
        log.info("%d events published to %s", self.told, self._wiring.events)

    def _try(self, stop: threading.Event, once: bool) -> str | None:
        """Run one session with clients of its own and return what went wrong, if it may pass."""
        consumer, producer, publisher = self._wiring.consumer(self._wiring.events), self._producer(), Publisher()
        failure, trouble, stuck = None, None, False
        try:
            try:
                self._session(consumer, producer, publisher, stop, once)
            except KafkaException as error:
                failure = error.args[0]
            except ConnectionFailed as error:
                trouble = str(error)
            except StartOver as error:  # a call of the producer did not return: it is left alone
                trouble, stuck = str(error), True
        finally:
            publisher.close()
            consumer.close()
            if not stuck:
                _discard(producer)
        if failure is not None:
            if (ending := final(failure, self._wiring)) is not None:
                raise ending
            trouble = f"{failure.str()} ({failure.name()})"
        if trouble is not None:
            self._most = max(1, self._most // 4)  # a slow broker may not take as much in the time of a transaction
        return trouble

    def _producer(self) -> Producer:
        return Producer(
            {
                **self._wiring.kafka,
                **quiet(),
                "transactional.id": self._wiring.events,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "compression.type": "lz4",
            }
        )

    def _session(
        self, consumer: Consumer, producer: Producer, publisher: Publisher, stop: threading.Event, once: bool
    ) -> None:
        wiring = self._wiring
        ensure(wiring)
        with contextlib.suppress(KafkaException):  # what is wrong is said below
            for _ in range(2):  # connected before, it begins without half a second's wait: see streams/sink.py
                producer.list_topics(wiring.events, timeout=5)
        producer.init_transactions(SECONDS)  # fences whoever publishes, and ends what a killed one left open
        last = last_told(consumer, wiring.events)
        start = self._start(consumer, last)
        if last is not None and start != last.offset:
            last = None
        consumer.assign([TopicPartition(wiring.audit, 0, start)])
        log.info("publishing to %s from offset %d of %s on", wiring.events, start + (last is not None), wiring.audit)
        heard = time.monotonic()
        while not stop.is_set():
            records, ended = some(consumer, self._most)
            if once and not ended and not records and time.monotonic() - heard > ONCE_SECONDS:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{wiring.audit} cannot be read to its end"))
            if records and last is not None:
                records, last = self._behind(records, last), None
            if records:
                publisher.submit(partial(self._transact, consumer, producer, records))
                publisher.join()
                self.told += len(records)
                self._most, heard = min(BATCH, self._most * 2), time.monotonic()
                log.info("told %d entries of %s, up to offset %d", len(records), wiring.audit, offset_of(records[-1]))
            if ended and once:
                return

    def _start(self, consumer: Consumer, last: Told | None) -> int:
        """Return the offset to begin at: that of the last entry told, to compare it, where it is still there."""
        (found,) = consumer.committed([TopicPartition(self._wiring.audit, 0)], SECONDS)
        behind = max(found.offset, -1 if last is None else last.offset + 1)
        first = first_offset(consumer, self._wiring, behind)
        return (
            first - 1 if last is not None and first == last.offset + 1 and self._holds(consumer, first - 1) else first
        )

    def _holds(self, consumer: Consumer, offset: int) -> bool:
        low, _ = consumer.get_watermark_offsets(TopicPartition(self._wiring.audit, 0), SECONDS, cached=False)
        return low <= offset

    def _behind(self, records: Sequence[Message], last: Told) -> list[Message]:
        """Leave out the record that was told last. Raises EventsRefused when another one stands in its place."""
        if Told.of(records[0]) != last:
            raise replaced(self._wiring, f"{self._wiring.audit}/0@{last.offset} is not the record that was told last")
        return list(records[1:])

    def _transact(self, consumer: Consumer, producer: Producer, records: Sequence[Message]) -> None:
        wiring = self._wiring
        events = [(wiring.event(record), Told.of(record)) for record in records]
        producer.begin_transaction()
        for event, told in events:
            producer.produce(wiring.events, event.value, event.subject.encode(), partition=0, headers=told.headers)
        offsets = [TopicPartition(wiring.audit, 0, offset_of(records[-1]) + 1)]
        producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), SECONDS)
        producer.commit_transaction(SECONDS)


def ensure(wiring: Wiring) -> None:
    """Make the topic of events where it is missing; what it holds is kept. Raises KafkaException, ConnectionFailed."""
    settings = {**wiring.kafka, **quiet()}
    with contextlib.suppress(NoSuchTopic):
        cluster.partitions_of(settings, wiring.events, patience=0)
        return
    wanted = NewTopic(wiring.events, 1, config={"cleanup.policy": "delete", "retention.ms": "-1"})
    admin = AdminClient(settings, logger=log)  # kept: its futures fail when it is collected
    try:
        admin.create_topics([wanted], request_timeout=SECONDS)[wiring.events].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
    cluster.partitions_of(settings, wiring.events, patience=SECONDS)


def last_told(consumer: Consumer, topic: str) -> Told | None:
    """Return what the last event of the topic tells of, None where it has none. Leaves the consumer unassigned."""
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), SECONDS, cached=False)
    begin, step, found = high, 16, None
    while begin > low and found is None:  # further back: markers and aborted records have offsets too
        begin, step = max(low, begin - step), step * 16
        consumer.assign([TopicPartition(topic, 0, begin)])
        ended = False
        while not ended:
            records, ended = some(consumer, 1_000, SECONDS)
            if not records and not ended:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{topic} cannot be read to its end"))
            found = next((told for each in reversed(records) if (told := Told.parse(each))), found)
    consumer.unassign()
    return found


def _discard(producer: Producer) -> None:
    """Drop what the producer still holds; one that was fenced raises that again."""
    with contextlib.suppress(KafkaException):
        producer.purge(in_queue=True, in_flight=True)
        producer.flush(1)
