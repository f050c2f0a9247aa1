"""Alerts as people ask for them: what is open, what was, and what somebody said about it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from penstock.client import cluster
from penstock.client.errors import ConnectionFailed, NoSuchTopic
from penstock.client.records import RecordReader
from penstock.errors import AlertUnknown
from schemas import records, silences
from schemas.errors import RecordInvalid
from schemas.silences import Silence
from schemas.values import as_bytes

TOPIC = "penstock.alerts"
PATIENCE = 30.0  # seconds without a record before a reader gives up
SECONDS = 10.0
FEWEST = 4  # letters of an id that name an alert
Alert = dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """An alert as its last record tells it, beside what people said about it."""

    alert: Alert
    silence: Silence | None = None
    ack: Silence | None = None

    @property
    def open(self) -> bool:
        return bool(self.alert["state"] != "closed")


def committed(kafka: Mapping[str, str], topic: str, clock: Callable[[], float] = time.monotonic) -> Iterator[bytes]:
    """Yield the values of all records that are committed in a topic now; nothing where it is not there.

    Raises ConnectionFailed.
    """
    settings: dict[str, Any] = {"log_level": 2, **kafka}
    servers = settings.pop("bootstrap.servers")
    try:
        reader = RecordReader(servers, topic, start="earliest", **settings)
    except NoSuchTopic:
        return
    try:
        deadline = clock() + PATIENCE
        while not reader.at_end:
            messages = reader.read(1000, 0.5)
            yield from (as_bytes(message.value()) or b"" for message in messages)
            if messages:
                deadline = clock() + PATIENCE
            elif clock() > deadline:
                raise ConnectionFailed(f"topic {topic!r} on {servers} could not be read to its end; try again")
    finally:
        reader.close()


def read_alerts(kafka: Mapping[str, str], topic: str = TOPIC) -> tuple[list[Alert], int]:
    """Return the last record of each alert, in the order in which they opened, and how many records are none.

    Raises ConnectionFailed.
    """
    found: dict[str, Alert] = {}
    unreadable = 0
    for value in committed(kafka, topic):
        try:
            alert = records.decode("alert", value)
        except RecordInvalid:
            unreadable += 1
            continue
        found[alert["id"]] = newer(found.get(alert["id"]), alert)
    return sorted(found.values(), key=lambda each: (each["opened"], each["at"], each["id"])), unreadable


def newer(known: Alert | None, alert: Alert) -> Alert:
    """Return which of two records of an alert is the later one: a monitor that starts over tells some again."""
    return alert if known is None or alert["number"] >= known["number"] else known


def read_silences(kafka: Mapping[str, str], topic: str = silences.TOPIC) -> list[Silence]:
    """Return what people said about alerts, each word as it stands now, oldest first. Raises ConnectionFailed."""
    found: dict[str, Silence] = {}
    for value in committed(kafka, topic):
        try:
            said = Silence.decode(value)
        except RecordInvalid:  # of a newer release
            continue
        found[said.id] = said
    return sorted(found.values(), key=lambda each: (each.at_ms, each.id))


def viewed(alerts: Iterable[Alert], said: Sequence[Silence], now_ms: int) -> list[View]:
    """Put what people said beside alerts."""
    return [View(each, silences.silenced(each, said, now_ms), silences.acked(each, said)) for each in alerts]


def named(alerts: Iterable[Alert], identity: str) -> Alert:
    """Return the alert whose id begins so. Raises AlertUnknown where there is none, or more than one."""
    found = [each for each in alerts if each["id"].startswith(identity)] if len(identity) >= FEWEST else []
    if len(found) == 1:
        return found[0]
    if found:
        told = ", ".join(f"{each['id'][:12]} ({each['name']})" for each in found[:5])
        raise AlertUnknown(f"{len(found)} alerts begin with {identity}: {told}; give more of the id")
    raise AlertUnknown(
        f"no alert begins with {identity!r}: give at least {FEWEST} letters of an id that `penstock alerts list` shows"
    )


def new_id() -> str:
    """Return the id of a new word about alerts."""
    return secrets.token_hex(8)


def say(kafka: Mapping[str, str], said: Silence, topic: str = silences.TOPIC) -> None:
    """Write a word about alerts, into a topic that is made where it is missing. Raises ConnectionFailed."""
    _ensure(kafka, topic)
    failures: list[KafkaError] = []
    producer = Producer({**kafka, "enable.idempotence": True, "message.timeout.ms": int(SECONDS * 1000)})
    producer.produce(
        topic, said.encode(), said.id.encode(), on_delivery=lambda error, _: failures.append(error) if error else None
    )
    left = producer.flush(SECONDS + 5)
    if failures:
        raise cluster.explain(KafkaException(failures[0]), kafka["bootstrap.servers"], topic)
    if left:
        raise ConnectionFailed(f"Kafka at {kafka['bootstrap.servers']} did not take it in time; try again")


def _ensure(kafka: Mapping[str, str], topic: str) -> None:
    try:
        cluster.partitions_of(kafka, topic, patience=0)
        return
    except NoSuchTopic:
        admin = AdminClient(dict(kafka), logger=cluster.logger)  # kept: its futures fail when it is collected
    try:
        admin.create_topics([NewTopic(topic, 1, config={"cleanup.policy": "compact"})], request_timeout=SECONDS)[
            topic
        ].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise cluster.explain(error, kafka["bootstrap.servers"], topic) from error
    cluster.partitions_of(kafka, topic, patience=SECONDS)
