"""What follows the audit or the alerts, for topics and webhooks, shares: settings, patience, and when to end.

Call no client while an exception is being handled: see streams/clients.py.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from penstock import audit
from penstock.client import cluster
from penstock.client.errors import ConnectionFailed, NoSuchTopic
from penstock.cloudevents import Event, event_of, unreadable_event
from penstock.errors import EventsRefused, TakenOver, Undelivered
from schemas.control import Entry
from schemas.errors import RecordInvalid
from schemas.values import as_bytes
from streams.clients import quiet, talkative

log = logging.getLogger(__name__)

TOPIC = "penstock.events"
SECONDS = 10.0
ONCE_SECONDS = 60.0  # that `--once` spends on what does not work
LONGEST_PAUSE = 10.0
REMIND_SECONDS = 30.0
DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
}
FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_RECORD}


@dataclass(frozen=True, slots=True)
class Wiring:
    """kafka: settings that reach the cluster; member: those that only a member of a group may have besides.

    source: the `source` of every event. begin: where to begin what never began. events: also the name of the group and
    of the transactional id. audit: the topic that is followed, which may be that of the alerts: kind says so.
    """

    kafka: Mapping[str, str] = field(repr=False)
    source: str
    member: Mapping[str, str] = field(default_factory=dict)
    audit: str = audit.TOPIC
    events: str = TOPIC
    begin: Literal["beginning", "end"] = "beginning"
    kind: Literal["audit", "alerts"] = "audit"

    def consumer(self, group: str, **more: Any) -> Consumer:
        """Return a consumer that reads what is committed and leaves every decision about offsets to its caller."""
        settings = {
            **self.kafka,
            **talkative(),
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "queued.min.messages": 1_000,
            **more,
        }
        return Consumer(settings, logger=log)

    def event(self, message: Message) -> Event:
        """Return the event of a record of the audit, also of one that is no entry."""
        try:
            return event_of(Entry.decode(as_bytes(message.value()) or b""), self.source)
        except (RecordInvalid, ValueError, TypeError, OverflowError, RecursionError) as error:
            offset, at_ms = offset_of(message), message.timestamp()[1]
            log.error("%s/0@%d is no entry of the audit: %s", self.audit, offset, error)
            return unreadable_event(self.audit, 0, offset, at_ms, str(error), self.source)


class Part(Protocol):
    """What runs on a thread of its own until `stop`, or with `once` until the end of the audit."""

    def run(self, stop: threading.Event, once: bool) -> None:
        """Raises an error of ours when it must end; Undelivered ends this part only."""


def run_all(parts: Sequence[Part], stop: threading.Event, once: bool) -> None:
    """Run every part beside the others until all have ended; raises what one of them failed with."""
    failures: list[BaseException] = []

    def one(part: Part) -> None:
        try:
            part.run(stop, once)
        except BaseException as error:
            failures.append(error)
            if not isinstance(error, Undelivered):
                stop.set()

    threads = [threading.Thread(target=one, args=(part,), daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # signals are handled between two joins
            thread.join(0.5)
    if failures:
        raise min(failures, key=lambda error: isinstance(error, Undelivered))


def run_in_turn(first: Sequence[Part], then: Sequence[Part], stop: threading.Event) -> None:
    """Run some parts to the end and then others; what the first ones did not get done holds the others up no more."""
    late: Undelivered | None = None
    try:
        run_all(first, stop, once=True)
    except Undelivered as error:
        late = error
    run_all(then, stop, once=True)
    if late is not None:
        raise late


def wait_for_audit(wiring: Wiring, stop: threading.Event, once: bool) -> bool:
    """Block until the audit's topic is there, and say so; False when stopped, or with `once` when it is not there.

    Raises EventsRefused where it has several partitions, and with `once` ConnectionFailed when nobody answers.
    """
    said = float("-inf")
    while not stop.is_set():
        try:
            found = cluster.partitions_of({**wiring.kafka, **quiet()}, wiring.audit, patience=0)
        except NoSuchTopic:
            nobody = "nobody has changed anything" if wiring.kind == "audit" else "no monitor has begun"
            trouble = f"there is no topic {wiring.audit} yet: {nobody}"
            if once:
                log.info("%s", trouble)
                return False
        except ConnectionFailed as error:
            if once:
                raise
            trouble = f"{error}; waiting, nothing is lost"
        else:
            if found == [0]:
                return True
            raise EventsRefused(f"topic {wiring.audit} has {len(found)} partitions: its order needs it to have one")
        if time.monotonic() - said >= REMIND_SECONDS:
            said = time.monotonic()
            log.warning("%s", trouble)
        stop.wait(1.0)
    return False


def cluster_source(kafka: Mapping[str, str]) -> str:
    """Return `/penstock/<cluster id>`. Raises ConnectionFailed when no broker answers."""
    try:
        found = AdminClient({**kafka, **quiet()}, logger=log).list_topics(timeout=SECONDS)
    except KafkaException as error:
        raise cluster.explain(error, kafka["bootstrap.servers"]) from None
    return f"/penstock/{found.cluster_id}"


def patiently(session: Callable[[], str | None], stop: threading.Event, once: bool, what: str) -> None:
    """Run `session` until it returns None; after trouble that passes, which it returns, run it again with new clients.

    Raises Undelivered when with `once` nothing else comes for a minute.
    """
    failed, began = 0, time.monotonic()
    while not stop.is_set():
        begun = time.monotonic()
        trouble = session()
        if trouble is None:
            return
        if once and time.monotonic() - began > ONCE_SECONDS:
            raise Undelivered(
                f"{what}: {trouble}; given up after {ONCE_SECONDS:.0f} s, the next run goes on from there"
            )
        failed = 1 if time.monotonic() - begun > REMIND_SECONDS else failed + 1
        log.warning("%s: %s; going on with new clients, nothing is lost", what, trouble)
        stop.wait(min(LONGEST_PAUSE, 0.5 * 2.0 ** min(failed - 1, 10)))


def final(error: KafkaError, wiring: Wiring) -> Exception | None:
    """Return the error to end with, or None for one that may pass."""
    if error.code() in FENCED:
        return TakenOver(f"another `penstock events` publishes to {wiring.events} since now; this one ends")
    if error.code() in DENIED and wiring.kind == "alerts":
        return EventsRefused(
            f"no permission ({error.str()}): grant read on {wiring.audit} and on groups that begin with {wiring.events}"
        )
    if error.code() in DENIED:
        return EventsRefused(
            f"no permission ({error.str()}): grant read on {wiring.audit}, read and write on {wiring.events}, read on "
            f"groups that begin with {wiring.events}, and write on the transactional id {wiring.events}"
        )
    if error.code() in TOO_LARGE:
        return EventsRefused(
            f"topic {wiring.events} does not take an event ({error.str()}): raise its max.message.bytes, and make its "
            "cleanup.policy delete"
        )
    if error.code() == KafkaError._AUTO_OFFSET_RESET and wiring.kind == "audit":
        return replaced(wiring, f"{wiring.audit} does not hold the entry to go on with")
    return None


def replaced(wiring: Wiring, what: str) -> EventsRefused:
    """Return the error about an audit, or a topic of alerts, that is not the one that was told."""
    if wiring.kind == "alerts":
        return EventsRefused(
            f"{what}: the topic was made anew since then. To send what is there now from its beginning, delete the "
            f"groups that begin with {wiring.events}"
        )
    return EventsRefused(
        f"{what}: the audit was cut or made anew since then; find out by whom. To tell what is there now from its "
        f"beginning, delete the topic {wiring.events} and the groups that begin with {wiring.events}"
    )


def some(consumer: Consumer, most: int, seconds: float = 0.5) -> tuple[list[Message], bool]:
    """Return the records that are there, and whether the end was reached behind them. Raises KafkaException."""
    records: list[Message] = []
    ended = False
    first = consumer.consume(1, seconds)  # then what is there: it would wait for a number of messages
    for message in [*first, *(consumer.consume(most - 1, 0) if first and most > 1 else [])]:
        error = message.error()
        if error is None:
            records.append(message)
            ended = False
        elif error.code() == KafkaError._PARTITION_EOF:
            ended = True
        elif not error.retriable():
            raise KafkaException(error)
    return records, ended


def offset_of(message: Message) -> int:
    """Return the offset, which every record has."""
    offset = message.offset()
    assert offset is not None
    return offset


def first_offset(consumer: Consumer, wiring: Wiring, committed: int) -> int:
    """Return where to go on, or to begin where nothing is committed (`committed` below 0).

    Raises EventsRefused where the audit ends before what is committed.
    """
    low, high = consumer.get_watermark_offsets(TopicPartition(wiring.audit, 0), SECONDS, cached=False)
    if committed > high:
        raise replaced(wiring, f"{wiring.audit} was told up to offset {committed}, and it ends at {high}")
    if 0 <= committed < low:
        log.error("%d offsets of %s were removed before they were told", low - committed, wiring.audit)
    if committed >= 0:
        return max(low, committed)
    begin = low if wiring.begin == "beginning" else high
    if wiring.begin == "end":  # what comes before the first commit would be passed over after a crash
        commit(consumer, wiring.audit, begin)
    return begin


def commit(consumer: Consumer, topic: str, offset: int, metadata: str = "") -> None:
    """Commit the offset of the one partition. Raises KafkaException."""
    place = TopicPartition(topic, 0, offset, metadata=metadata)
    for done in consumer.commit(offsets=[place], asynchronous=False) or []:
        if done.error is not None:
            raise KafkaException(done.error)
