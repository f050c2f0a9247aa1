"""What a slot says of itself to the status topic: what it runs, what it should run, and what it refused."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.control import Status
from schemas.vitals import Vitals
from streams.clients import quiet
from streams.control import TOPICS, ControlTopics

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0  # a slot that is silent for longer is gone
SHARED_SECONDS = 1.0  # while several arms share the events: who takes one back must not wait long
FLUSH_SECONDS = 2.0
ENDED = "refused"  # the state of a slot whose process ended because nothing can run


class Reports(threading.Thread):
    """Publishes a slot's status when it changes and every EVERY_SECONDS, or SHARED_SECONDS. Never holds scoring up.

    clock: seconds since 1970. vitals: tells the slot's load whenever something is published.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        deployment: str,
        group: str,
        slot: str,
        topics: ControlTopics = TOPICS,
        clock: Callable[[], float] = time.time,
        vitals: Callable[[], Vitals] | None = None,
    ) -> None:
        super().__init__(name="status", daemon=True)
        self._topic, self._clock, self._vitals = topics.status, clock, vitals
        self._producer = Producer({**kafka, **quiet(), "linger.ms": 0, "message.timeout.ms": 30_000}, logger=log)
        self._changed = threading.Event()
        self._ended = self._unheard = False
        self._lock = threading.Lock()
        self.status = Status(deployment, slot, group, socket.gethostname(), os.getpid(), 0, None, None, (), "starting")

    def tell(self, **facts: object) -> None:
        """Change what is told; the names are those of `schemas.control.Status`."""
        with self._lock:
            told = replace(self.status, **facts)  # type: ignore[arg-type]
            if told == self.status:
                return
            self.status = told
        self._changed.set()

    def run(self) -> None:
        """Publish until `close`."""
        while not self._ended:
            self._changed.wait(SHARED_SECONDS if self._publish() else EVERY_SECONDS)
            self._changed.clear()  # before it is looked what changed: what is told from here on wakes it again
        self._publish()
        self._producer.flush(FLUSH_SECONDS)

    def close(self, state: str = "stopped") -> None:
        """Say that the slot has ended."""
        self.tell(state=state)
        self._ended = True
        self._changed.set()
        self.join(FLUSH_SECONDS + 1)

    def _publish(self) -> bool:
        """Say what there is to say, and whether several arms share the events."""
        with self._lock:
            vitals = self._vitals() if self._vitals is not None and not self._ended else None
            status = replace(self.status, at_ms=int(self._clock() * 1000), vitals=vitals)
        try:
            self._producer.produce(self._topic, status.encode(), status.key, on_delivery=self._delivered)
            self._producer.poll(0)
        except (KafkaException, BufferError) as error:
            log.info("the status cannot be published now: %s", error)
        return vitals is not None and any(name.startswith("events.") for name in vitals.counts)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and not self._unheard:
            log.warning(
                "%s does not take what this slot says (%s): `penstock status` shows an old word of it or none; grant "
                "WRITE on it, if that is why",
                self._topic,
                error.str(),
            )
        self._unheard = error is not None
