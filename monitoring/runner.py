"""The same folds under a plain confluent-kafka loop: the tests' oracle, and the way out should Faust's hooks break.

Outputs, snapshots and nothing else are written in one transaction about every second; a second runner of the same slot
fences the first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from monitoring import snapshots
from monitoring.errors import KafkaUnavailable
from monitoring.folds import Fold, Folding, Out, Record
from monitoring.ledger import Ledger
from monitoring.metrics import MonitorMetrics
from monitoring.setup import SNAPSHOT_BYTES, Topics, Wiring

log = logging.getLogger(__name__)


def _consumer(wiring: Wiring) -> Consumer:
    settings = {
        **wiring.kafka,
        "group.id": wiring.group,  # required, never used: positions live in the snapshots
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
    }
    return Consumer(settings, logger=log)


def replay(wiring: Wiring, fold: Fold[Any], partition: int = 0) -> list[Out]:
    """Fold everything committed in one profiles partition from its beginning and return the outputs; writes nothing."""
    consumer = _consumer(wiring)
    try:
        beginning, _ = consumer.get_watermark_offsets(TopicPartition(wiring.profiles, partition), timeout=10)
        folding = Folding(fold, partition, beginning)
        outs: list[Out] = []
        consumer.assign([TopicPartition(wiring.profiles, partition, beginning)])
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
    fold: Fold[Any],
    metrics: MonitorMetrics,
    stopping: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Fold all profiles partitions until `stopping` says so."""
    ledger = Ledger(fold)
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
    everything = range(topics.profiles)
    ledger.own(everything)
    found = snapshots.read(wiring, topics, everything)
    starts = [TopicPartition(wiring.profiles, p, ledger.restore(p, *found[p])) for p in everything]
    log.info("restored, next offset by partition: %s, of %s", ledger.positions(), wiring.deployment)
    consumer = _consumer(wiring)
    try:
        consumer.assign(starts)
        due = clock() + wiring.snapshot_seconds
        while not stopping():
            for message in consumer.consume(1000, timeout=max(0.01, min(0.5, due - clock()))):
                _take(ledger, message)
            if clock() >= due:
                _publish(wiring, topics, ledger, producer, metrics)
                due = clock() + wiring.snapshot_seconds
    finally:
        consumer.close()


def _take(ledger: Ledger[Any], message: Any) -> None:
    if record := _record(message):
        ledger.accept(record, ledger.positions()[record.partition])


def _record(message: Any) -> Record | None:
    """Return the message's record, or None at the end of the partition. Raises KafkaUnavailable for other errors."""
    error = message.error()
    if error is None:
        return Record(message.partition(), message.offset(), message.key(), message.value())
    if error.code() == KafkaError._PARTITION_EOF:
        return None
    raise KafkaUnavailable(str(error))


def _publish(wiring: Wiring, topics: Topics, ledger: Ledger[Any], producer: Producer, metrics: MonitorMetrics) -> None:
    cut = ledger.cut()
    if cut.outs or cut.snapshots:
        producer.begin_transaction()
        for out in cut.outs:
            producer.produce(out.topic, out.value, out.key)
        for partition, value in cut.snapshots.items():
            place = partition % topics.snapshots
            producer.produce(wiring.snapshots, value, wiring.snapshot_key(partition), place)
        producer.commit_transaction(10)
    metrics.show(ledger, cut)
