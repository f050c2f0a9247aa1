"""Reads the newest snapshots back: blocking, at the start of a monitor and for every assignment of partitions."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from monitoring.errors import KafkaUnavailable, SnapshotInvalid
from monitoring.ledger import Snapshot
from monitoring.setup import SNAPSHOT_BYTES, Wiring, reading
from monitoring.sources import Source

log = logging.getLogger(__name__)
_FIRST_LOOK = 32  # records from the end; more are read while the key is not among them
_SECONDS = 30.0


def read(
    wiring: Wiring, places: int, source: Source, partitions: Iterable[int]
) -> dict[int, tuple[Snapshot | None, int]]:
    """Return, per partition of a source, its newest snapshot (or None) and the first offset that the partition holds.

    places: partitions of the topic of snapshots.

    Any snapshot is right, whoever wrote it and however late: the one that reaches furthest is taken.
    Raises KafkaUnavailable when this takes more than 30 seconds.
    """
    settings = reading(wiring.kafka, wiring.group) | {"fetch.message.max.bytes": SNAPSHOT_BYTES}
    consumer = Consumer(settings, logger=log)
    try:
        deadline = time.monotonic() + _SECONDS
        found = {}
        for partition in partitions:
            beginning, _ = _bounds(consumer, source.topic, partition)
            key, place = wiring.snapshot_key(partition, source.role), partition % places
            found[partition] = (_newest(consumer, wiring.snapshots, place, key, deadline), beginning)
        return found
    finally:
        consumer.close()


def forget(wiring: Wiring, places: int, source: Source) -> None:
    """Void the snapshots of a source: the next monitor begins with what its topic still holds.

    places: partitions of the topic of snapshots. Raises KafkaUnavailable when that takes more than 30 seconds.
    """
    producer = Producer(dict(wiring.kafka), logger=log)
    for partition in range(source.partitions):
        producer.produce(wiring.snapshots, None, wiring.snapshot_key(partition, source.role), partition % places)
    if producer.flush(_SECONDS):
        raise KafkaUnavailable(f"{wiring.snapshots} took no records within {_SECONDS:.0f} s; try again")


def _bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    bounds: tuple[int, int] | None = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    if bounds is None:
        raise KafkaUnavailable(f"no answer about the offsets of {topic}/{partition}")
    return bounds


def _newest(consumer: Consumer, topic: str, place: int, key: bytes, deadline: float) -> Snapshot | None:
    first, end = _bounds(consumer, topic, place)
    look = _FIRST_LOOK
    while True:
        start = max(first, end - look)
        found = _scan(consumer, TopicPartition(topic, place, start), key, deadline)
        if found or start == first:
            return max(found, key=lambda snapshot: snapshot.next, default=None)
        look *= 8


def _scan(consumer: Consumer, start: TopicPartition, key: bytes, deadline: float) -> list[Snapshot]:
    found: list[Snapshot] = []
    consumer.assign([start])
    while time.monotonic() < deadline:
        for message in consumer.consume(100, timeout=0.5):
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                return found
            value = message.value()
            if error is not None or message.key() != key:
                continue
            if value is None:
                found.clear()  # see `forget`
            else:
                try:
                    found.append(Snapshot.decode(value))
                except SnapshotInvalid:
                    log.exception("a snapshot is damaged; an older one is taken")
    raise KafkaUnavailable(f"the snapshots in {start.topic} could not be read within {_SECONDS:.0f} s")
