"""Reads the quality topic from a time on, for whoever wants to tell how good versions are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from monitoring.errors import KafkaUnavailable, PartInvalid
from monitoring.setup import reading
from monitoring.totals import Part, part_of

_SECONDS = 30.0
_NEW_SECONDS = 5.0
_UNKNOWN = (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)


def parts(kafka: Mapping[str, str], topic: str, since: int = 0) -> list[Part]:
    """Return the parts of ticks that begin at `since` (ms since 1970) or later, in the order of the topic.

    Blocks up to 30 s without a record. Raises KafkaUnavailable, also when there is no such topic.
    """
    consumer = Consumer(reading(kafka, "penstock.quality"))
    try:
        consumer.assign([_place(consumer, topic, since)])
        return [part for part in _read(consumer, topic) if part.tick * part.tick_ms >= since]
    except KafkaException as error:
        why = error.args[0].str()
        raise KafkaUnavailable(f"{topic} cannot be read: {why}; does a monitor write quality there?") from error
    finally:
        consumer.close()


def _place(consumer: Any, topic: str, since: int) -> TopicPartition:
    """Return where to begin. A topic that was made a moment ago may not be known everywhere yet."""
    deadline = time.monotonic() + _NEW_SECONDS
    while True:
        try:
            place: TopicPartition = consumer.offsets_for_times([TopicPartition(topic, 0, since)], timeout=_SECONDS)[0]
            if place.error is None:
                return place
            raise KafkaException(place.error)
        except KafkaException as error:
            if error.args[0].code() not in _UNKNOWN or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _read(consumer: Any, topic: str) -> Iterator[Part]:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        for message in consumer.consume(1000, timeout=0.2):  # it waits so long also where the end is reached
            deadline = time.monotonic() + _SECONDS
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                return
            if error is not None:
                raise KafkaUnavailable(f"{topic} cannot be read: {error.str()}")
            try:
                yield part_of(message.value() or b"")
            except PartInvalid:
                continue
    raise KafkaUnavailable(f"{topic} cannot be read: no record came for {_SECONDS:.0f} s; do the brokers run?")
