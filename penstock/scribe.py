"""Writes what slots refuse into the audit, each refusal once; from there it becomes an event as every entry does.

Slots say it in the status topic. The audit itself tells what is written already, read by a writer that keeps others
out: so nothing is written twice, whoever is killed when. The offset behind what was read only saves reading it again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from functools import partial

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from penstock.client import cluster
from penstock.client.errors import ConnectionFailed, NoSuchTopic
from penstock.followers import ONCE_SECONDS, SECONDS, Wiring, commit, offset_of, patiently, some
from schemas.control import Status
from schemas.errors import RecordInvalid
from schemas.values import as_bytes
from streams import control, refusals
from streams.clients import quiet
from streams.control import ControlTopics
from streams.control_writer import Writer
from streams.errors import ControlError, Refused

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # between two looks for a topic that is not there yet, and between two commits
AGAIN_SECONDS = 60.0  # before the audit is read again for a refusal that it does not know how to tell
MOST = 1_000
Key = tuple[str, int | None, str]  # deployment, revision, group


class Scribe:
    """Writes refusals until told to stop, or to the end of what slots said; see followers.Part.

    topics: of the control plane whose audit `wiring` follows.
    """

    def __init__(self, wiring: Wiring, topics: ControlTopics) -> None:
        self._wiring, self._topics = wiring, topics
        self._looked: dict[Key, float] = {}  # when to look again, never for one that is told
        self.written = 0

    @property
    def group(self) -> str:
        return f"{self._wiring.events}.refusals"

    def run(self, stop: threading.Event, once: bool) -> None:
        """Raises Undelivered with `once`. Whatever is wrong otherwise, the audit is told by others: so it tries on."""
        patiently(partial(self._try, stop, once), stop, once, f"what slots refuse ({self._topics.status})")

    def _try(self, stop: threading.Event, once: bool) -> str | None:
        """Run one session with clients of its own and return what went wrong, if it may pass."""
        try:
            if not self._is_there(stop, once):
                return None
        except ConnectionFailed as error:
            return str(error)
        consumer = self._wiring.consumer(self.group, **{"auto.offset.reset": "earliest"})
        try:
            try:
                self._session(consumer, stop, once)
                return None
            except KafkaException as error:
                return str(error.args[0].str())
            except (ControlError, Refused) as error:
                return str(error)
        finally:
            consumer.close()

    def _is_there(self, stop: threading.Event, once: bool) -> bool:
        """Wait for the first slot under control; False when stopped, or with `once` when there was none.

        Raises ConnectionFailed.
        """
        while not stop.is_set():
            try:
                cluster.partitions_of({**self._wiring.kafka, **quiet()}, self._topics.status, patience=0)
                return True
            except NoSuchTopic:
                if once:
                    return False
            stop.wait(LOOK_SECONDS)
        return False

    def _session(self, consumer: Consumer, stop: threading.Event, once: bool) -> None:
        place = TopicPartition(self._topics.status, 0)
        (known,) = consumer.committed([place], SECONDS)
        place.offset = known.offset if known.offset >= 0 else OFFSET_BEGINNING
        consumer.assign([place])
        done, committed, heard = known.offset, known.offset, time.monotonic()
        looked = heard
        while not stop.is_set():
            records, ended = some(consumer, MOST)
            self._take(records)
            now = time.monotonic()
            if records:
                done, heard = offset_of(records[-1]) + 1, now
            elif once and not ended and now - heard > ONCE_SECONDS:
                raise Refused(f"{self._topics.status} cannot be read to its end")
            if done != committed and (now - looked > LOOK_SECONDS or (once and ended)):
                commit(consumer, self._topics.status, done)
                committed, looked = done, now
            if once and ended:
                return

    def _take(self, records: Sequence[Message]) -> None:
        for record in records:
            value = as_bytes(record.value())
            try:
                status = Status.decode(value) if value else None
            except RecordInvalid:  # of a newer release
                continue
            if status is not None and status.refused is not None:
                self._tell(status)

    def _tell(self, status: Status) -> None:
        """Write an entry unless the audit has it. A look comes first: a writer keeps others out."""
        key: Key = (status.deployment, status.refused, status.group)
        now = time.monotonic()
        if self._looked.get(key, now) > now:
            return
        world = control.read(self._wiring.kafka, self._topics, whole=True).world()
        if refusals.refused(world, status) is not None:
            author, writer = refusals.author_of(status), Writer(self._wiring.kafka, self._topics, seconds=SECONDS)
            if writer.change(lambda world: refusals.refused(world, status), author, whole=True) is not None:
                self.written += 1
                log.info("%s refuses revision %s of %s: %s", author.who, status.refused, status.deployment, author.why)
        elif not refusals.is_told(world, status):  # of an audit that this one is not, or by a clock that goes wrong
            self._looked[key] = now + AGAIN_SECONDS
            return
        self._looked[key] = math.inf
