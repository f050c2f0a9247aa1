"""What people said about alerts, followed as they say it: who sends alerts asks before each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from penstock.client.errors import ConnectionFailed, NoSuchTopic
from penstock.client.records import RecordReader
from penstock.errors import Undelivered
from penstock.followers import patiently
from schemas import silences
from schemas.errors import RecordInvalid
from schemas.silences import Silence
from schemas.values import as_bytes

LOOK_SECONDS = 2.0  # between two looks for a topic that is not there yet


class Silences:
    """Follows the topic until told to stop; see followers.Part. Nothing is known before its end was reached once."""

    def __init__(
        self, kafka: Mapping[str, str], topic: str = silences.TOPIC, clock: Callable[[], float] = time.time
    ) -> None:
        self._kafka, self._topic, self._clock = kafka, topic, clock
        self._said: dict[str, Silence] = {}
        self._known, self._failed = threading.Event(), threading.Event()

    def run(self, stop: threading.Event, once: bool) -> None:
        """Raises Undelivered with `once`, when nobody answers."""
        try:
            patiently(partial(self._follow, stop, once), stop, once, f"silences ({self._topic})")
        except Undelivered:
            self._failed.set()
            raise

    def wait(self, stop: threading.Event, seconds: float = 0.2) -> bool:
        """Block until what was said up to now is known; False when told to stop before, or when it cannot be."""
        while not stop.is_set() and not self._failed.is_set():
            if self._known.wait(seconds):
                return True
        return False

    def silent(self, alert: Mapping[str, Any]) -> bool:
        """Say whether nobody is to be told of an alert now."""
        return silences.silenced(alert, list(self._said.values()), round(self._clock() * 1000)) is not None

    def ack(self, alert: Mapping[str, Any]) -> Silence | None:
        """Return who looks at an alert, if anybody does."""
        return silences.acked(alert, list(self._said.values()))

    def _follow(self, stop: threading.Event, once: bool) -> str | None:
        settings: dict[str, Any] = {"log_level": 2, **self._kafka}
        servers = settings.pop("bootstrap.servers")
        while not stop.is_set():
            try:
                reader = RecordReader(servers, self._topic, start="earliest", **settings)
            except NoSuchTopic:
                self._known.set()
                if once:
                    return None
                stop.wait(LOOK_SECONDS)
                continue
            except ConnectionFailed as error:
                return str(error)
            try:
                self._read(reader, stop, once)
                return None
            except (ConnectionFailed, NoSuchTopic) as error:
                return str(error)
            finally:
                reader.close()
        return None

    def _read(self, reader: RecordReader, stop: threading.Event, once: bool) -> None:
        while not stop.is_set():
            for message in reader.read(500, 0.2):
                try:
                    said = Silence.decode(as_bytes(message.value()) or b"")
                except RecordInvalid:  # of a newer release
                    continue
                self._said = {**self._said, said.id: said}
            if reader.at_end:
                self._known.set()
                if once:
                    return
