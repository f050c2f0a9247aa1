"""Ranges of offsets that are not scored but become dead letters: kept in a compacted topic, one record a range.

An event on which a worker dies stops its partition: nothing behind it may be scored first. In quarantine it is neither
decoded nor scored, and goes to the dead letters in the same transaction as the rest of its batch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas.values import Rejection
from streams.batch import Batch, batch_of
from streams.clients import quiet
from streams.codes import DENIED, MISSING
from streams.errors import Refused
from streams.offsets import OffsetRange
from streams.reading import UNJOINED
from streams.scorer import Scored, Scorer

TOPIC = "penstock.quarantine"
REASON: Final = "quarantined"
DETAIL = "is quarantined: a worker may have died on it; see `penstock quarantine --list`, replay it once that is mended"
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One range, and when it was put in quarantine (ISO 8601)."""

    range: OffsetRange
    since: str


class Quarantine:
    """The ranges of one group's source topic, as the worker asks for them."""

    def __init__(self, ranges: Iterable[OffsetRange] = ()) -> None:
        self.ranges = sorted(set(ranges))
        self._spans: dict[int, list[tuple[int, int]]] = {}
        for each in self.ranges:
            self._spans.setdefault(each.partition, []).append((each.first, each.next))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def covers(self, partition: int, first: int, past: int) -> bool:
        """Say whether every offset from `first` to `past` - 1 is in quarantine."""
        for begin, end in self._spans.get(partition, []):  # in the order of their beginning
            if begin <= first < end:
                first = end
        return first >= past

    def rows(self, batch: Batch) -> npt.NDArray[np.bool_] | None:
        """Return which messages of the batch are in quarantine, shape (n,); None when none is."""
        found = np.zeros(len(batch), bool)
        for partition in batch.positions.keys() & self._spans.keys():
            mine = batch.partitions == partition
            for begin, end in self._spans[partition]:
                found |= mine & (batch.offsets >= begin) & (batch.offsets < end)
        return found if found.any() else None


def score_around(scorer: Scorer, batch: Batch, quarantined: npt.NDArray[np.bool_]) -> Scored:
    """Score the batch as `scorer.score` does, without a look at the quarantined messages: these are rejected.

    quarantined: shape (n,), at least one is true.
    """
    rows = np.flatnonzero(~quarantined)
    rejected = [Rejection(int(row), REASON, DETAIL) for row in np.flatnonzero(quarantined)]
    if not len(rows):
        return Scored([], rows, rejected, pl.DataFrame(), pl.DataFrame())
    scored = scorer.score(batch_of([batch.messages[row] for row in rows.tolist()]))
    others = [replace(each, row=int(rows[each.row])) for each in scored.rejected]
    kept = rows if scored.rows is None else rows[scored.rows]
    beside = {name: [replace(e, row=int(rows[e.row])) for e in found] for name, found in scored.beside.items()}
    return replace(scored, rows=kept, rejected=rejected + others, beside=beside)


class QuarantineTopic:
    """The topic `penstock.quarantine`: read whole when a worker starts, written by `penstock quarantine`.

    A record's key names group and range, so that two who write at once do not undo each other. Methods raise
    Refused when Kafka does not let us, and KafkaException when it does not answer.
    """

    def __init__(self, kafka: Mapping[str, str], seconds: float = SECONDS) -> None:
        self._kafka, self._seconds = {**kafka, **quiet()}, seconds

    def read(self, group: str) -> list[Quarantined]:
        """Return the ranges of a group in their order; none when the topic does not exist."""
        latest: dict[str, Quarantined | None] = {}
        consumer = Consumer(
            {
                **self._kafka,
                "group.id": f"{TOPIC}.readers",  # required; never joined, never committed to
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "allow.auto.create.topics": False,
                "fetch.wait.max.ms": 10,
            }
        )
        try:
            for key, value in self._records(consumer):
                found = _entry(key, value, group)
                if found is not None:
                    latest[str(found[0])] = found[1]
        except KafkaException as error:
            if error.args[0].code() in DENIED:
                raise Refused(f"no permission to read {TOPIC}: {error.args[0].str()}; grant READ on it") from error
            raise
        finally:
            consumer.close()
        return sorted((each for each in latest.values() if each), key=lambda each: each.range)

    def add(self, group: str, ranges: Collection[OffsetRange], now: float) -> None:
        """Put ranges in quarantine; `now` in seconds since 1970. The topic is made where it is missing."""
        self._create()
        value = json.dumps({"since": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")}).encode()
        self._produce([(_key(group, each), value) for each in ranges])

    def lift(self, group: str, ranges: Collection[OffsetRange]) -> None:
        """Take ranges out of quarantine."""
        self._produce([(_key(group, each), None) for each in ranges])

    def _records(self, consumer: Consumer) -> Iterable[tuple[bytes, bytes | None]]:
        metadata = consumer.list_topics(TOPIC, self._seconds).topics[TOPIC]
        if metadata.error is not None:
            if metadata.error.code() in MISSING:
                return
            raise KafkaException(metadata.error)
        consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in metadata.partitions])
        reading = set(metadata.partitions)
        deadline = time.monotonic() + self._seconds
        while reading:
            first = consumer.consume(1, 0.5)  # then what is there: it would wait for a number of messages
            for message in first + consumer.consume(1_000, 0):
                error = message.error()
                if error is None:
                    yield message.key() or b"", message.value()
                elif error.code() == KafkaError._PARTITION_EOF:
                    reading.discard(message.partition())
                elif not error.retriable() and error.code() != UNJOINED:
                    raise KafkaException(error)
            if reading and time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{TOPIC} cannot be read to its end"))

    def _create(self) -> None:
        wanted = NewTopic(TOPIC, 1, config={"cleanup.policy": "compact"})
        admin = AdminClient(self._kafka)
        try:
            admin.create_topics([wanted], operation_timeout=self._seconds, request_timeout=self._seconds)[
                TOPIC
            ].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise _denied(error.args[0], "make") or error from error

    def _produce(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        wait = {"enable.idempotence": True, "message.timeout.ms": int(self._seconds * 1000)}
        producer = Producer({**self._kafka, **wait})
        failed: list[KafkaError] = []
        for key, value in records:
            producer.produce(TOPIC, value, key, on_delivery=lambda error, _: failed.append(error) if error else None)
        if producer.flush(self._seconds + 1):
            failed.append(KafkaError(KafkaError._TIMED_OUT, "no answer within the time allowed"))
        if failed:
            raise _denied(failed[0], "write") or KafkaException(failed[0])


def _denied(error: KafkaError, what: str) -> Refused | None:
    if error.code() not in DENIED:
        return None
    return Refused(f"no permission to {what} {TOPIC}: {error.str()}; grant CREATE and WRITE on it")


def _key(group: str, where: OffsetRange) -> bytes:
    return json.dumps({"group": group, "range": str(where)}, sort_keys=True).encode()


def _entry(key: bytes, value: bytes | None, group: str) -> tuple[OffsetRange, Quarantined | None] | None:
    """Return the range of one record of this group and what holds of it now; None for a record of others."""
    try:
        named: dict[str, Any] = json.loads(key)
        if named["group"] != group:
            return None
        where = OffsetRange.parse(named["range"])
        return where, None if value is None else Quarantined(where, str(json.loads(value).get("since", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # nothing of ours
