"""Reads the newest snapshots back: blocking, at the start of a monitor and for every assignment of partitions."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from monitoring.errors import KafkaUnavailable, SnapshotInvalid
from monitoring.ledger import Snapshot
from monitoring.setup import SNAPSHOT_BYTES, Wiring, reading
from monitoring.sources import Place, Source

log = logging.getLogger(__name__)
_FIRST_LOOK = 32  # records from the end for each key; more are read while one is not among them
_SECONDS = 30.0


def read(wiring: Wiring, places: int, wanted: Iterable[tuple[Source, int]]) -> dict[Place, tuple[Snapshot | None, int]]:
    """Return, per partition of a source, its newest snapshot (or None) and the first offset that the partition holds.

    places: partitions of the topic of snapshots, which is read once for all that is wanted: another assignment of a
    consumer takes up to a second.

    Any snapshot is right, whoever wrote it and however late: the one that reaches furthest is taken.
    Raises KafkaUnavailable when this takes more than 30 seconds.
    """
    settings = reading(wiring.kafka, wiring.group) | {"fetch.message.max.bytes": SNAPSHOT_BYTES}
    keys = {(source.topic, at): wiring.snapshot_key(at, source.role) for source, at in wanted}
    kept = dict[int, set[bytes]]()  # by the place where they are
    for (_, partition), key in keys.items():
        kept.setdefault(partition % places, set()).add(key)
    consumer = Consumer(settings, logger=log)
    try:
        deadline = time.monotonic() + _SECONDS
        beginnings = {place: _bounds(consumer, *place)[0] for place in keys}
        newest = _newest(consumer, wiring.snapshots, kept, deadline)
    finally:
        consumer.close()
    return {place: (newest.get(key), beginnings[place]) for place, key in keys.items()}


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


def _newest(consumer: Consumer, topic: str, kept: Mapping[int, set[bytes]], deadline: float) -> dict[bytes, Snapshot]:
    """Return the newest snapshot of each key. kept: keys by the partitions that hold them."""
    bounds = {place: _bounds(consumer, topic, place) for place in kept}
    found: dict[bytes, Snapshot] = {}
    missing, look = dict(kept), _FIRST_LOOK
    while missing:
        starts = {at: max(bounds[at][0], bounds[at][1] - look * len(keys)) for at, keys in missing.items()}
        found |= _scan(consumer, topic, starts, set().union(*missing.values()), deadline)
        missing = {at: left for at in missing if starts[at] > bounds[at][0] and (left := missing[at] - found.keys())}
        look *= 8
    return found


def _scan(
    consumer: Consumer, topic: str, starts: Mapping[int, int], keys: set[bytes], deadline: float
) -> dict[bytes, Snapshot]:
    """Return, by key, the snapshot that reaches furthest from these offsets on. starts: by partition."""
    found: dict[bytes, Snapshot] = {}
    consumer.assign([TopicPartition(topic, place, start) for place, start in starts.items()])
    reading = set(starts)
    while reading:
        if time.monotonic() > deadline:
            raise KafkaUnavailable(f"the snapshots in {topic} could not be read within {_SECONDS:.0f} s")
        message = consumer.poll(0.5)
        error = message.error() if message is not None else None
        if message is None:
            continue
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                reading.discard(message.partition() or 0)
        elif (key := message.key() or b"") in keys:
            _take(found, key, message.value())
    return found


def _take(found: dict[bytes, Snapshot], key: bytes, value: bytes | None) -> None:
    if value is None:
        found.pop(key, None)  # see `forget`
        return
    try:
        snapshot = Snapshot.decode(value)
    except SnapshotInvalid:
        log.exception("a snapshot is damaged; an older one is taken")
        return
    if key not in found or snapshot.next > found[key].next:
        found[key] = snapshot
