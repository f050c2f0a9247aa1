"""Where alerts go: each webhook and each Alertmanager on a thread of its own, and what people silenced before both."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from confluent_kafka import Message

from penstock.alert_events import event_of_alert
from penstock.alertmanager import Alertmanager
from penstock.cloudevents import Event
from penstock.courier import Courier
from penstock.followers import Part, Wiring, cluster_source, run_all, wait_for_audit
from penstock.silent import Silences
from penstock.webhooks import Webhook
from schemas import records
from schemas.errors import RecordInvalid
from schemas.values import as_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Routes:
    """members: those that a group tells of are sent, too. link, token: see Alertmanager. seconds: of a request."""

    webhooks: Sequence[Webhook]
    alertmanagers: Sequence[Webhook]
    members: bool = False
    link: str = ""
    token: str = field(default="", repr=False)
    seconds: float = 10.0


class Telling:
    """Says which event a record is to a webhook: none for what is silent now, told by a group, or no alert."""

    def __init__(self, wiring: Wiring, silences: Silences, members: bool) -> None:
        self._wiring, self._silences, self._members = wiring, silences, members

    def __call__(self, message: Message) -> Event | None:
        try:
            alert = records.decode("alert", as_bytes(message.value()) or b"")
        except RecordInvalid as error:
            log.warning("%s/0@%s is no alert: %s", self._wiring.audit, message.offset(), error)
            return None
        if alert["group"] and not self._members:
            return None
        if self._silences.silent(alert):
            log.info("silent: %s of %s, %s", alert["state"], alert["deployment"], alert["id"])
            return None
        return event_of_alert(alert, self._wiring.source)


class Patient(Courier):
    """A courier that begins once it is known what is silent."""

    def __init__(self, wiring: Wiring, webhook: Webhook, silences: Silences, telling: Telling, seconds: float) -> None:
        super().__init__(wiring, webhook, telling=telling, seconds=seconds)
        self._silences = silences

    def run(self, stop: threading.Event, once: bool) -> None:
        if self._silences.wait(stop):
            super().run(stop, once)


def run(wiring: Wiring, routes: Routes, silences_topic: str, stop: threading.Event, once: bool) -> None:
    """Send until told to stop, or with `once` to the end of the topic.

    Raises EventsRefused, ConnectionFailed; Undelivered with `once`.
    """
    if not wait_for_audit(wiring, stop, once):
        return
    if not wiring.source:
        wiring = replace(wiring, source=cluster_source(wiring.kafka))
    silences = Silences(wiring.kafka, silences_topic)
    telling = Telling(wiring, silences, routes.members)
    parts: list[Part] = [
        silences,
        *(Patient(wiring, each, silences, telling, routes.seconds) for each in routes.webhooks),
        *(
            Alertmanager(
                wiring,
                each,
                silences,
                members=routes.members,
                link=routes.link,
                token=routes.token,
                seconds=routes.seconds,
            )
            for each in routes.alertmanagers
        ),
    ]
    run_all(parts, stop, once)
