"""Follows the desired state of one deployment: what the control topic holds of it, as it changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.control import State
from schemas.errors import RecordInvalid
from streams import control
from streams.clients import quiet
from streams.control import TOPICS, ControlTopics
from streams.errors import ControlUnavailable, Refused
from streams.reading import UNJOINED

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.25  # how soon a stop is seen; a change is seen as soon as the broker sends it
SAY_SECONDS = 30.0
LOOK_SECONDS = 30.0  # how often it is looked whether the topic is still the same
ASK_SECONDS = 5.0


class Desired(threading.Thread):
    """Reads the control topic in a thread of its own and tells of each state of the deployment.

    changed: called with each state, the newest one first of what was there, and None where control has it no more.
    A topic that was deleted and made again is read from its beginning: librdkafka would go on where it was in the old
    one. identity: tells the topic's id, None where nobody answers.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        deployment: str,
        changed: Callable[[State | None], None],
        topics: ControlTopics = TOPICS,
        identity: Callable[[Mapping[str, str], str], str | None] | None = None,
    ) -> None:
        super().__init__(name="control", daemon=True)
        self._deployment, self._changed, self._topic = deployment, changed, topics.control
        self._kafka, self._topics = kafka, topics
        self._ended = False
        self._said = self._looked = 0.0
        self._identity = identity or topic_id
        self._known: str | None = None
        self._settings: dict[str, Any] = {
            **{name: value for name, value in kafka.items() if not name.startswith("group.")},
            **quiet(),
            "group.id": f"{topics.control}.readers",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 500,  # data is sent when there is some
            "queued.max.messages.kbytes": 1_024,
        }
        self._consumer = Consumer(self._settings, logger=log)

    def run(self) -> None:
        """Follow until `close`."""
        self._begin()
        self._known = self._identity(self._kafka, self._topic)
        while not self._ended:
            self._look()
            failure: object = None
            try:
                messages = self._consumer.consume(1, WAIT_SECONDS)  # then what is there: it would wait for a number
                messages += self._consumer.consume(1_000, 0)
            except (KafkaException, RuntimeError) as error:
                failure, messages = error, []
            errors = (message.error() for message in messages)
            failure = failure or next((each for each in errors if each is not None and each.code() != UNJOINED), None)
            if failure is not None:
                self._looked = min(self._looked, time.monotonic() - LOOK_SECONDS + ASK_SECONDS)
                self._say(failure)
            mine = [m for m in messages if m.error() is None and m.key() == self._deployment.encode()]
            if mine:
                self._take(mine[-1].value())  # those before it are history
        self._consumer.close()

    def _begin(self) -> None:
        self._looked = time.monotonic()
        self._consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])

    def _look(self) -> None:
        """Begin anew, with another client, where the topic is another one under the same name."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        found = self._identity(self._kafka, self._topic)
        if found is None or found == self._known:
            return
        if self._known is not None:
            log.warning("%s was made anew: it is read from its beginning", self._topic)
            self._consumer.close()
            self._consumer = Consumer(self._settings, logger=log)
            self._begin()
        self._known = found

    def close(self) -> None:
        """End the thread."""
        self._ended = True
        self.join(5)

    def _take(self, value: bytes | None) -> None:
        if not value and not self._is_gone():
            return
        try:
            state = State.decode(value) if value else None
        except RecordInvalid as error:
            log.error(
                "the state of %s in %s cannot be read: %s; going on as before", self._deployment, self._topic, error
            )
            return
        self._changed(state)

    def _is_gone(self) -> bool:
        """Look whether control lacks the deployment now: a tombstone may be history, with a newer state behind it."""
        while not self._ended:
            try:
                return self._deployment not in control.read(self._kafka, self._topics).states
            except (Refused, ControlUnavailable) as error:
                log.warning("it seems that %s was removed: %s; looking again", self._deployment, error)
            time.sleep(WAIT_SECONDS)
        return False

    def _say(self, failure: object) -> None:
        if time.monotonic() - self._said > SAY_SECONDS:
            self._said = time.monotonic()
            log.warning("%s cannot be followed now: %s; going on with what is known", self._topic, failure)
        time.sleep(WAIT_SECONDS)


def topic_id(kafka: Mapping[str, str], topic: str) -> str | None:
    """Return what tells a topic from one that had its name before; None where nobody answers, or there is none."""
    admin = AdminClient({**kafka, **quiet()}, logger=log)  # for one question: it is asked seldom
    try:
        (told,) = admin.describe_topics(TopicCollection([topic]), request_timeout=ASK_SECONDS).values()
        return str(told.result().topic_id)
    except KafkaException:
        return None
