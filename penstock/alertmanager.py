"""Keeps one Alertmanager told of what is open: told anew every minute, and once more when it is over.

An Alertmanager keeps states, not events, so this does, too: it reads the topic from its beginning at each start, and an
alert that closed lately is told as resolved again. Nothing is committed; who starts over tells rather too much.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from penstock.alert_events import Posted, labels_of, posted, resolved
from penstock.errors import Undelivered
from penstock.followers import ONCE_SECONDS, SECONDS, Wiring, final, patiently, some
from penstock.posting import send
from penstock.silent import Silences
from penstock.webhooks import Answer, Webhook, pause
from schemas import records
from schemas.errors import RecordInvalid
from schemas.values import as_bytes

log = logging.getLogger(__name__)

PATH = "/api/v2/alerts"
EVERY_SECONDS = 60.0
LATELY_MS = 3_600_000  # what closed longer ago is not told again at a start: by itself it was over after minutes
STALE_MS = 3 * 86_400_000  # an open alert without a word for so long is nobody's any more: monitors repeat it daily
MOST = 50  # alerts in a request
Send = Callable[[str, bytes, Mapping[str, str], float], Answer]


@dataclass(slots=True)
class Desk:
    """What an Alertmanager is to be told.

    open: by the alert's id, with when its record was written (ms since 1970). over: closed, and not told yet.
    known: the labels under which it was told of an alert.
    """

    members: bool = False
    open: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    over: dict[str, dict[str, Any]] = field(default_factory=dict)
    known: dict[str, dict[str, str]] = field(default_factory=dict)
    changed: bool = False

    def take(self, alert: dict[str, Any], written_ms: int, now_ms: int) -> None:
        """Take a record of an alert, in the order of the topic."""
        if alert["group"] and not self.members:
            if alert["id"] in self.open:  # it was told alone before
                del self.open[alert["id"]]
            return
        self.changed = True
        if alert["state"] != "closed":
            self.open[alert["id"]] = (written_ms, alert)
            self.over.pop(alert["id"], None)
            return
        self.open.pop(alert["id"], None)
        if now_ms - written_ms < LATELY_MS:
            self.over[alert["id"]] = alert

    def due(self, silences: Silences, link: str, now: datetime) -> list[tuple[str, Posted]]:
        """Return what is to be posted now, with the ids of the alerts."""
        now_ms = now.timestamp() * 1000
        told = []
        for identity, (written_ms, alert) in self.open.items():
            if now_ms - written_ms > STALE_MS or silences.silent(alert):
                continue
            labels = labels_of(alert)
            if (before := self.known.get(identity, labels)) != labels:  # severity is one of them
                told.append((identity, resolved(before, now)))
            told.append((identity, posted(alert, now, link, silences.ack(alert))))
        for identity, alert in self.over.items():
            ended = posted(alert, now, link)
            told.append((identity, {**ended, "labels": self.known.get(identity, ended["labels"])}))
        return told

    def taken(self, told: list[tuple[str, Posted]]) -> None:
        """Take notice that these were posted."""
        for identity, _ in told:
            if identity in self.over:
                del self.over[identity]
                self.known.pop(identity, None)
            elif identity in self.open:
                self.known[identity] = labels_of(self.open[identity][1])


class Alertmanager:
    """Tells one Alertmanager until told to stop; see followers.Part.

    wiring: of the alerts. address: of the Alertmanager, without the path of its API. link: of alerts, for a person.
    token: sent with each request, for whoever guards the Alertmanager.
    """

    def __init__(
        self,
        wiring: Wiring,
        address: Webhook,
        silences: Silences,
        *,
        members: bool = False,
        link: str = "",
        token: str = "",
        seconds: float = 10.0,
        every: float = EVERY_SECONDS,
        send: Send = send,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._wiring, self._silences, self._link = wiring, silences, link
        self._url, self._name = address.url.rstrip("/") + PATH, address.name.replace("webhook", "Alertmanager")
        self._members, self._seconds, self._every = members, seconds, every
        self._send, self._clock = send, clock
        self._headers = {"Content-Type": "application/json", "User-Agent": "penstock"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self.told = self.refused = 0

    def run(self, stop: threading.Event, once: bool) -> None:
        """Raises EventsRefused; Undelivered with `once`."""
        if self._silences.wait(stop):
            patiently(partial(self._try, stop, once), stop, once, self._name)
            log.info("%s: told %d times of alerts, %d refused", self._name, self.told, self.refused)

    def _try(self, stop: threading.Event, once: bool) -> str | None:
        """Run one session with a consumer of its own and return what went wrong, if it may pass."""
        consumer = self._wiring.consumer(f"{self._wiring.events}.alertmanager")  # never used: nothing is committed
        failure = None
        try:
            try:
                self._session(consumer, stop, once)
            except KafkaException as error:
                failure = error.args[0]
        finally:
            consumer.close()
        if failure is None:
            return None
        if (ending := final(failure, self._wiring)) is not None:
            raise ending
        return f"{failure.str()} ({failure.name()})"

    def _session(self, consumer: Consumer, stop: threading.Event, once: bool) -> None:
        low, _ = consumer.get_watermark_offsets(TopicPartition(self._wiring.audit, 0), SECONDS, cached=False)
        consumer.assign([TopicPartition(self._wiring.audit, 0, low)])
        desk, caught_up, began = Desk(self._members), False, time.monotonic()
        due, tries = 0.0, 0
        while not stop.is_set():
            messages, ended = some(consumer, 500)
            for message in messages:
                self._take(desk, message)
            caught_up = caught_up or ended
            now = time.monotonic()
            if not caught_up or not (now >= due or (desk.changed and not tries)):
                continue
            answer = self._post(desk)
            if answer is None:
                desk.changed, due, tries = False, now + self._every, 0
                if once:
                    return
                continue
            tries += 1
            wait = pause(tries, answer, random.random())
            if once and now - began + wait > ONCE_SECONDS:
                raise Undelivered(f"{self._name} did not take alerts in {tries} tries ({answer.said})")
            log.warning("%s: not told (%s); try %d in %.1f s", self._name, answer.said, tries + 1, wait)
            due = now + wait

    def _take(self, desk: Desk, message: Message) -> None:
        value, written = as_bytes(message.value()), message.timestamp()[1]
        try:
            desk.take(records.decode("alert", value or b""), written, round(self._clock() * 1000))
        except RecordInvalid as error:
            log.warning("%s/0@%s is no alert: %s", self._wiring.audit, message.offset(), error)

    def _post(self, desk: Desk) -> Answer | None:
        """Post all that is due; return the answer of who did not take it, None when all was taken or refused."""
        waiting = desk.due(self._silences, self._link, datetime.fromtimestamp(self._clock(), UTC))
        while waiting:
            part, waiting = waiting[:MOST], waiting[MOST:]
            body = json.dumps([each for _, each in part], ensure_ascii=False).encode("utf-8", "replace")
            answer = self._send(self._url, body, self._headers, self._seconds)
            if answer.verdict == "again":
                return answer
            if answer.verdict == "refused":
                self.refused += 1
                log.error("%s REFUSED %d alerts, such as %s (%s)", self._name, len(part), part[0][0], answer.said)
            else:
                self.told += 1
            desk.taken(part)
        return None
