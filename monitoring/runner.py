"""The same folds under a plain confluent-kafka loop: the tests' oracle, and the way out should Faust's hooks break.

Outputs, snapshots and nothing else are written in one transaction about every second; a second runner of the same slot
fences the first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from monitoring import idle, snapshots
from monitoring.errors import KafkaUnavailable
from monitoring.folds import Fold, Folding, Out, Record
from monitoring.metrics import MonitorMetrics
from monitoring.setup import SNAPSHOT_BYTES, Topics, Wiring, reading
from monitoring.sources import Ledgers, Source

log = logging.getLogger(__name__)
_TURN = 100  # records that are folded before it is looked whether a snapshot is due


def _consumer(wiring: Wiring) -> Consumer:
    return Consumer(reading(wiring.kafka, wiring.group, "error"), logger=log)


def replay(wiring: Wiring, fold: Fold[Any]) -> list[Out]:
    """Fold all committed profiles from their beginning and return the outputs; writes nothing."""
    consumer = _consumer(wiring)
    try:
        beginning, _ = consumer.get_watermark_offsets(TopicPartition(wiring.profiles, 0), timeout=10)
        folding = Folding(fold, 0, beginning)
        outs: list[Out] = []
        consumer.assign([TopicPartition(wiring.profiles, 0, beginning)])
        while True:
            for message in consumer.consume(1000, timeout=1):
                record = _record(message)
                if record is None:
                    return outs
                outs += folding.apply(record)
    finally:
        consumer.close()


def run(
    wiring: Wiring,
    topics: Topics,
    sources: Sequence[Source],
    metrics: MonitorMetrics,
    stopping: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Fold all partitions of all sources until `stopping` says so."""
    ledgers = Ledgers(sources)
    producer = Producer(
        {
            **wiring.kafka,
            "transactional.id": f"{wiring.group}.{wiring.slot}",
            "transaction.timeout.ms": 10_000,
            "message.max.bytes": SNAPSHOT_BYTES,
        },
        logger=log,
    )
    producer.init_transactions(30)  # fences a predecessor before its snapshots are read
    starts = _restore(wiring, topics, ledgers)
    consumer = _consumer(wiring)
    try:
        consumer.assign(starts)
        due, look = clock() + wiring.snapshot_seconds, clock() + idle.EVERY
        while not stopping():
            for message in consumer.consume(_TURN, timeout=max(0.01, min(0.5, due - clock()))):
                _take(ledgers, message)
            if clock() >= look:
                _look_for_idle(wiring, ledgers)
                look = clock() + idle.EVERY
            if clock() >= due:
                _publish(wiring, topics, ledgers, producer, metrics)
                due = clock() + wiring.snapshot_seconds
    finally:
        consumer.close()


def _look_for_idle(wiring: Wiring, ledgers: Ledgers) -> None:
    try:
        idle.tell(ledgers, idle.ended(wiring, ledgers.waiting()))
    except KafkaUnavailable as error:
        log.warning("whether labels are read to their end is not known now: %s", error)


def _restore(wiring: Wiring, topics: Topics, ledgers: Ledgers) -> list[TopicPartition]:
    ledgers.own(ledgers.places)
    wanted = [(source, partition) for source, _ in ledgers for partition in range(source.partitions)]
    found = snapshots.read(wiring, topics.snapshots, wanted)
    starts = [TopicPartition(topic, p, ledgers[topic].restore(p, *newest)) for (topic, p), newest in found.items()]
    positions = {f"{at.topic}/{at.partition}": at.offset for at in starts}
    log.info("restored, next offset by partition: %s, of %s", positions, wiring.deployment)
    return starts


def _take(ledgers: Ledgers, message: Any) -> None:
    if record := _record(message):
        topic = message.topic()
        ledgers.accept(topic, record, ledgers[topic].positions()[record.partition])


def _record(message: Any) -> Record | None:
    """Return the message's record, or None at the end of the partition. Raises KafkaUnavailable for other errors."""
    error = message.error()
    if error is None:
        return Record(message.partition(), message.offset(), message.key(), message.value(), message.timestamp()[1])
    if error.code() == KafkaError._PARTITION_EOF:
        return None
    raise KafkaUnavailable(str(error))


def _publish(wiring: Wiring, topics: Topics, ledgers: Ledgers, producer: Producer, metrics: MonitorMetrics) -> None:
    cuts = ledgers.cut()
    if any(cut.outs or cut.snapshots for _, cut in cuts):
        producer.begin_transaction()
        for source, cut in cuts:
            for out in cut.outs:
                place = -1 if out.partition is None else out.partition
                producer.produce(out.topic, out.value, out.key, place, headers=list(out.headers))
            for partition, value in cut.snapshots.items():
                key, place = wiring.snapshot_key(partition, source.role), partition % topics.snapshots
                producer.produce(wiring.snapshots, value, key, place)
            producer.flush(10)  # thousands of copies would fill the client's queue
        producer.commit_transaction(10)
    for source, cut in cuts:
        metrics.show(source.role, ledgers[source.topic], cut)
