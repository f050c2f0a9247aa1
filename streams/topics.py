"""What must be true of the topics before a worker starts: the input exists, outputs exist or are made, sizes fit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._metadata import TopicMetadata
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from streams.clients import quiet
from streams.codes import DENIED
from streams.errors import Refused, Unanswered

log = logging.getLogger(__name__)

OVERHEAD = 16 << 10  # bytes that a record batch and a dead letter's headers add to a value
TIMEOUT = 10.0
APPEAR_SECONDS = 60.0  # a broker that is asked for hundreds of topics at once takes its time to show one
TRIES = 3
SILENT = {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the broker has it: its number of partitions and the largest record batch it takes, in bytes."""

    name: str
    partitions: int
    message_bytes: int


class Topics:
    """The cluster's topics, read and made through the admin client."""

    def __init__(self, kafka: Mapping[str, str]) -> None:
        self.admin = AdminClient({**kafka, **quiet()}, logger=log)
        self._servers = kafka["bootstrap.servers"]

    def wait_for_broker(self, stopping: Callable[[], bool], sleep: Callable[[float], object] = time.sleep) -> None:
        """Block until a broker answers, and say so while none does."""
        said = 0.0
        while not stopping():
            try:
                self.admin.list_topics(timeout=5)
                return
            except KafkaException as error:
                failure = error.args[0]
                if failure.code() in DENIED:
                    raise Refused(
                        f"{self._servers} refuses us: {failure.str()}; check PENSTOCK_KAFKA_ settings"
                    ) from error
                if time.monotonic() - said > 10:
                    said = time.monotonic()
                    log.error("no broker answers at %s (%s); waiting, nothing is lost", self._servers, failure.str())
                sleep(0.5)

    def get(self, name: str) -> Topic | None:
        """Return the topic, or None when it does not exist; raises Refused without permission to see it."""
        found = self._all().get(name)
        if found is None or (found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART):
            return None
        if found.error is not None:
            raise Refused(f"topic {name}: {found.error.str()}; grant DESCRIBE on it")
        return Topic(name, len(found.partitions), self._message_bytes(name))

    def partitions(self) -> Mapping[str, int]:
        """Return how many partitions each topic has that we may see. Raises Refused when no broker answers."""
        return {name: len(topic.partitions) for name, topic in self._all().items() if topic.error is None}

    def _all(self) -> Mapping[str, TopicMetadata]:
        try:
            found: Mapping[str, TopicMetadata] = _asked(lambda: self.admin.list_topics(timeout=TIMEOUT).topics)
            return found
        except KafkaException as error:
            kind = Unanswered if error.args[0].code() in SILENT else Refused
            raise kind(f"cannot list the topics of {self._servers}: {error.args[0].str()}") from error

    def _message_bytes(self, name: str) -> int:
        resource = ConfigResource(ResourceType.TOPIC, name)
        try:
            entries = _asked(
                lambda: self.admin.describe_configs([resource], request_timeout=TIMEOUT)[resource].result()
            )
        except KafkaException as error:
            failure = error.args[0]
            if failure.code() in SILENT:  # a guess that is too small would make dead letters of good events
                raise Unanswered(f"cannot read the settings of topic {name}: {failure.str()}") from error
            log.info("topic %s: its max.message.bytes cannot be read (%s); taking 1 MiB", name, failure.str())
            return 1 << 20
        return int(entries["max.message.bytes"].value)

    def require(self, name: str) -> Topic:
        """Return the topic; raises Refused when it does not exist."""
        topic = self.get(name)
        if topic is None:
            raise Refused(
                f"topic {name} does not exist on {self._servers}: create it with the partitions you need, "
                "or correct input.topic in the deployment's YAML file"
            )
        return topic

    def ensure(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> Topic:
        """Return the topic, made with so many partitions where it did not exist."""
        topic = self.get(name)
        if topic is not None:
            return topic
        new = NewTopic(name, num_partitions=partitions, replication_factor=-1, config=dict(config or {}))
        try:
            self.admin.create_topics([new], request_timeout=TIMEOUT)[name].result()
            log.info("made topic %s with %d partitions", name, partitions)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                kind = Unanswered if error.args[0].code() in SILENT else Refused
                raise kind(f"topic {name} does not exist and cannot be made: {error.args[0].str()}") from error
        return self._appeared(name)

    def _appeared(self, name: str) -> Topic:
        deadline = time.monotonic() + APPEAR_SECONDS
        while time.monotonic() < deadline:
            topic = self.get(name)
            if topic is not None and topic.partitions:
                return topic
            time.sleep(0.05)
        raise Refused(f"topic {name} exists but {self._servers} does not show it to us; grant DESCRIBE and WRITE on it")


def _asked(ask: Callable[[], Any]) -> Any:
    """Return the answer; asks again when no broker answers in time, because a slow one is no wrong one."""
    for _ in range(TRIES - 1):
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in SILENT:
                raise
    return ask()


def message_limit(topics: Sequence[Topic]) -> int:
    """Return the largest value, in bytes, that every one of the topics takes."""
    return max(1, min(topic.message_bytes for topic in topics) - OVERHEAD)
