"""Reading ranges of topics to their end, in no group: which offsets an operator means, and what stands there."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.moments import TIME_FORMS, moment_of
from schemas.values import as_bytes
from streams.clients import quiet
from streams.errors import Refused
from streams.trim import Trimmer

log = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds without a message before a reader gives up; an abandoned transaction ends within 10
TIMEOUT = 10.0
# librdkafka looks for the coordinator of a group also for who never joins it, and says so where it may not
UNJOINED = KafkaError.GROUP_AUTHORIZATION_FAILED
Ends = dict[int, tuple[int, int]]  # per partition: the first offset, and the one behind the last


@dataclass(frozen=True, slots=True)
class Point:
    """One end of a range: a time in ms since 1970, or an offset for each partition named."""

    ms: int | None = None
    offsets: Mapping[int, int] | None = None

    @classmethod
    def parse(cls, text: str, clock: Callable[[], float] = time.time) -> Point:
        """A time as `schemas.moments` has them, or offsets: `0:1200,3:1100`. Raises Refused."""
        parts = [re.fullmatch(r"(\d{1,9}):(\d{1,18})", part.strip()) for part in text.split(",")]
        if all(parts):
            return cls(offsets={int(part[1]): int(part[2]) for part in parts if part})
        ms = moment_of(text, clock())
        if ms is None:
            raise Refused(
                f"{text!r} is neither a time nor offsets: {TIME_FORMS}; or PARTITION:OFFSET and more after commas"
            )
        return cls(ms=ms)


class TopicReader:
    """Reads ranges of topics. isolation: read_committed, or read_uncommitted for a look at what was aborted too."""

    def __init__(
        self, kafka: Mapping[str, str], group: str, isolation: str = "read_committed", wait_ms: int = 50
    ) -> None:
        """group: is only asked for its committed offsets, never joined. wait_ms: for which brokers wait for records."""
        settings: dict[str, Any] = {
            **{name: value for name, value in kafka.items() if not name.startswith("group.")},
            **quiet(),
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "queued.min.messages": 20_000,  # small ones cost many times their bytes
            "queued.max.messages.kbytes": 8_192,
            "fetch.message.max.bytes": 4 << 20,
            "fetch.wait.max.ms": wait_ms,
            "fetch.queue.backoff.ms": 2,
        }
        self._consumer = Consumer({**settings, "isolation.level": isolation}, logger=log)
        # beside the first one: what a read_committed client calls a topic's end is where the oldest transaction began
        self._whole = Consumer({**settings, "isolation.level": "read_uncommitted"}, logger=log)

    def partitions(self, topic: str) -> list[int]:
        """Return the topic's partitions, none when it does not exist. Raises Refused where we may not see it.

        Asked for by its name: a list of all topics leaves out those that we may not see.
        """
        return self._partitions(self._whole, topic)

    def _partitions(self, client: Consumer, topic: str) -> list[int]:
        found = self._ask(lambda: client.list_topics(topic, timeout=TIMEOUT).topics[topic], f"list topic {topic}")
        if found.error is not None and found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise Refused(f"we may not see topic {topic}, or it does not exist: grant DESCRIBE and READ on it")
        return sorted(found.partitions)

    def ends(self, topic: str) -> Ends:
        """Return what each partition holds now, open transactions included. Raises Refused without the topic."""
        wanted = self.partitions(topic)
        if not wanted:
            raise Refused(f"topic {topic} does not exist: correct the deployment's YAML file or --bootstrap-servers")

        return {partition: self.bounds(topic, partition) for partition in wanted}

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first offset of a partition, and the one behind its last, open transactions included."""
        place = TopicPartition(topic, partition)
        low, high = self._ask(
            lambda: self._whole.get_watermark_offsets(place, TIMEOUT, cached=False),
            f"find the ends of {topic}/{partition}",
        )
        return low, high

    def committed(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Return what the group has committed, without the partitions of which it has nothing."""
        wanted = [TopicPartition(topic, partition) for partition in partitions]

        def ask() -> list[TopicPartition]:
            found: list[TopicPartition] = self._consumer.committed(wanted, timeout=TIMEOUT)
            for each in found:
                if each.error is not None:
                    raise KafkaException(each.error)
            return found

        found = self._ask(ask, f"read the group's offsets of {topic}")
        return {each.partition: each.offset for each in found if each.offset >= 0}

    def at(self, topic: str, ms: int, ends: Ends) -> dict[int, int]:
        """Return the first offset of each partition whose record time is `ms` or later; the end where none is."""
        wanted = [TopicPartition(topic, partition, ms) for partition in ends]
        found = self._ask(lambda: self._whole.offsets_for_times(wanted, timeout=TIMEOUT), "find offsets by time")
        return {each.partition: each.offset if each.offset >= 0 else ends[each.partition][1] for each in found}

    def read(self, topic: str, ends: Ends, limit: int = 2_000) -> Iterator[list[Message]]:
        """Yield the messages of a range, at most `limit` at a time, each partition's in order, until all is read.

        Waits for transactions that are open in the range. Raises Refused when that, or the broker, takes too long.
        """
        waiting = {partition: last for partition, (first, last) in ends.items() if first < last}
        starts = [TopicPartition(topic, partition, ends[partition][0]) for partition in waiting]
        self._consumer.assign(starts)
        self._consumer.resume(starts)  # one that an earlier call paused comes back paused
        heard, trim = time.monotonic(), Trimmer()
        try:
            while waiting:
                messages = self._consume(limit)
                kept = [message for message in messages if self._within(topic, message, waiting)]
                if messages:
                    heard = time.monotonic()
                elif time.monotonic() - heard > PATIENCE:
                    raise Refused(self._stuck(topic, waiting))
                if kept:
                    yield kept
                trim()
        finally:
            self._consumer.unassign()

    def pick(self, topic: str, places: Mapping[int, list[int]]) -> dict[tuple[int, int], Message]:
        """Return the messages at these offsets of each partition."""
        ends = {partition: (min(offsets), max(offsets) + 1) for partition, offsets in places.items()}
        wanted = {(partition, offset) for partition, offsets in places.items() for offset in offsets}
        found = {}
        for messages in self.read(topic, ends):
            for message in messages:
                if (place := place_of(message)) in wanted:
                    found[place] = message
        return found

    def metadata(self) -> object:
        """Return the group by which a transaction commits offsets; one without members, so that nothing fences it."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()
        self._whole.close()

    def _consume(self, limit: int) -> list[Message]:
        try:
            messages: list[Message] = self._consumer.consume(limit, 0.05)
        except KafkaException as error:
            raise Refused(f"reading failed: {error.args[0].str()}") from error
        return messages

    def _within(self, topic: str, message: Message, waiting: dict[int, int]) -> bool:
        """Say whether a message belongs to the range, and note a partition that is read to its end."""
        error = message.error()
        if error is not None and error.code() == UNJOINED:
            return False
        partition, offset = place_of(message)
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            if error.retriable():
                return False
            raise Refused(f"{topic}/{partition} cannot be read: {error.str()}")
        if partition not in waiting:
            return False
        last = waiting[partition]
        within = error is None and offset < last
        if offset >= last or (within and offset == last - 1):
            del waiting[partition]
            self._consumer.pause([TopicPartition(topic, partition)])
        return within

    def _stuck(self, topic: str, waiting: Mapping[int, int]) -> str:
        places = ", ".join(f"{topic}/{partition} before offset {last}" for partition, last in waiting.items())
        return (
            f"nothing came for {PATIENCE:g} s of {places}: an open transaction holds it back, or the broker is away; "
            "try again later, or look with --isolation read_uncommitted"
        )

    def _ask(self, call: Callable[[], Any], what: str) -> Any:
        """Ask the broker, again while it says that it will know later."""
        deadline = time.monotonic() + PATIENCE / 2
        while True:
            try:
                return call()
            except KafkaException as error:
                failure = error.args[0]
                if time.monotonic() > deadline or not (failure.retriable() or failure.code() == KafkaError._TIMED_OUT):
                    raise Refused(f"cannot {what}: {failure.str()}") from error
                time.sleep(0.2)


def resolve(reader: TopicReader, topic: str, group: str, begin: Point | None, end: Point | None) -> Ends:
    """Return what an operator means of the source topic: by default all of it, up to what the group has committed.

    Where an end names offsets, only the partitions named are meant. Nothing behind the group's commit is: it is not
    scored yet. A group without any commit (never run, or forgotten by the broker) must be told where to end.
    Raises Refused.
    """
    ends = reader.ends(topic)
    named = {partition for point in (begin, end) if point and point.offsets for partition in point.offsets}
    if absent := sorted(named - ends.keys()):
        raise Refused(f"{topic} has no partition {absent[0]}; it has {', '.join(map(str, sorted(ends)))}")
    ends = {partition: ends[partition] for partition in sorted(named or ends)}
    committed = reader.committed(topic, ends)
    if not committed and end is None:
        raise Refused(
            f"the group {group} has committed nothing of {topic}: was another deployment meant, or has the broker "
            "forgotten an idle group? Say where to end with --to"
        )
    firsts = _offsets(reader, topic, begin, ends, {partition: low for partition, (low, _) in ends.items()})
    lasts = _offsets(reader, topic, end, ends, {partition: committed.get(partition, 0) for partition in ends})
    found = {}
    for partition, (_, high) in ends.items():
        last = min(lasts[partition], committed.get(partition, high), high)
        found[partition] = (min(firsts[partition], last), last)
    return found


def _offsets(
    reader: TopicReader, topic: str, point: Point | None, ends: Ends, otherwise: Mapping[int, int]
) -> dict[int, int]:
    """Return what a point means in each partition."""
    if point is None:
        return dict(otherwise)
    if point.ms is not None:
        return reader.at(topic, point.ms, ends)
    return {partition: (point.offsets or {}).get(partition, otherwise[partition]) for partition in ends}


def values_of(read: Iterable[Sequence[Message]]) -> Iterator[bytes]:
    """Yield the values of messages as `TopicReader.read` yields them; empty where one has none."""
    return (as_bytes(message.value()) or b"" for messages in read for message in messages)


def place_of(message: Message) -> tuple[int, int]:
    """Return the partition and offset, which every message of a consumer has."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset
