"""Reading small topics of one partition to their end, again and again: read once, a topic stays assigned.

One that is let go and taken up again is read only when librdkafka next looks for work, after up to a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streams.codes import MISSING
from streams.errors import Refused
from streams.reading import PATIENCE, TIMEOUT, UNJOINED, TopicReader

WAIT_MS = 5  # that a broker holds an answer back: one that says "this is the end" is waited for, and others behind it

PASSED_OVER = MISSING | {UNJOINED}  # a topic that was just made may be unknown


class Follower(TopicReader):
    """Reads topics of one partition, read committed, on from where it stopped. Methods raise Refused."""

    def __init__(self, kafka: Mapping[str, str], group: str) -> None:
        """group: never joined."""
        super().__init__(kafka, group, wait_ms=WAIT_MS)
        self._next: dict[str, int] = {}

    def exists(self, topic: str) -> bool:
        """Say whether the topic is there, by what reads it. Raises Refused where we may not see it."""
        return bool(self._partitions(self._consumer, topic))

    def follows(self, topic: str) -> bool:
        """Say whether the topic is followed already."""
        return topic in self._next

    def end(self, topic: str, *, decided: bool = False) -> tuple[int, int]:
        """Return the topic's first offset, and the one behind its last.

        decided: without what follows the begin of the oldest open transaction, for which reading waits.
        """
        asking = self._consumer if decided else self._whole
        place = TopicPartition(topic, 0)
        low, high = self._ask(
            lambda: asking.get_watermark_offsets(place, TIMEOUT, cached=False), f"find the ends of {topic}"
        )
        return low, high

    def connect(self, topic: str, seconds: float) -> None:
        """Ask a broker for the topic, to have a connection. Raises KafkaException when none answers in time."""
        self._consumer.list_topics(topic, timeout=seconds)

    def connect_whole(self, topic: str, seconds: float) -> None:
        """The same for the other client, which says where topics end."""
        self._whole.list_topics(topic, timeout=seconds)

    def begin(self, topic: str, offset: int) -> None:
        """Follow the topic from this offset on, also where it was followed from another one."""
        place = TopicPartition(topic, 0, offset)
        if topic in self._next:
            self._consumer.incremental_unassign([place])
        self._consumer.incremental_assign([place])
        self._next[topic] = offset

    def follow(self, topic: str, high: int) -> Iterator[Message]:
        """Yield what followed topics hold until this one is read up to the offset `high`.

        Waits for transactions that are open before it. Raises Refused when that, or the broker, takes too long.
        """
        heard = time.monotonic()
        while self._next[topic] < high:
            for message in self._some():
                error, name, offset = message.error(), message.topic(), message.offset()
                if error is None or error.code() == KafkaError._PARTITION_EOF:
                    assert name is not None
                    assert offset is not None
                    heard, self._next[name] = time.monotonic(), offset + (error is None)
                    if error is None:
                        yield message
                elif not error.retriable() and error.code() not in PASSED_OVER:
                    raise Refused(f"{name or topic} cannot be read: {error.str()}; grant READ on it")
            if self._next[topic] < high and time.monotonic() - heard > PATIENCE:
                raise Refused(
                    f"{topic} cannot be read to its end: nothing came for {PATIENCE:g} s before offset {high}; an open "
                    "transaction holds it back, or the broker is away; try again later"
                )

    def _some(self) -> list[Message]:
        try:
            first: list[Message] = self._consumer.consume(1, 0.5)  # then what is there: it would wait for a number
            return first + self._consumer.consume(1_000, 0)
        except KafkaException as error:
            raise Refused(f"reading failed: {error.args[0].str()}") from error
