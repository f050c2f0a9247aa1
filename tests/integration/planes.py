"""Control planes of tests: topics of their own on the real broker, and what a plain producer makes of them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from schemas.chain import Finding
from schemas.control import HEAD_KEY, NO_HEAD, Entry, Head, State
from streams.control import ControlLog, ControlTopics, read
from streams.control_writer import Author, Decide, Writer, Written
from streams.rollout import noted

ADA = Author("Ada", "here", "to see")


class Plane:
    """One control plane."""

    def __init__(self, servers: str, topics: ControlTopics | None = None) -> None:
        self.kafka = {"bootstrap.servers": servers}
        self.topics = topics or ControlTopics(f"test-{secrets.token_hex(4)}")

    def writer(self, **more: Any) -> Writer:
        return Writer(self.kafka, self.topics, **more)

    def change(self, decide: Decide, *, whole: bool = False, **more: Any) -> Written | None:
        return self.writer(**more).change(decide, ADA, whole=whole)

    def note(self, text: str = "a note", **more: Any) -> Written:
        written = self.change(lambda world: noted("m", "v", text), **more)
        assert written is not None
        return written

    def read(self) -> ControlLog:
        return read(self.kafka, self.topics, whole=True)

    def findings(self) -> list[Finding]:
        return self.read().findings()

    def forge(self, entries: list[Entry], head: Head = NO_HEAD, states: list[State] | None = None) -> None:
        """Write records as somebody without a writer would."""
        self.topics.ensure(self.kafka, self.topics.control, self.topics.audit)
        audit, control = self.topics.audit, self.topics.control
        records = [(audit, entry.encode(), entry.subject.encode()) for entry in entries]
        records += [(control, state.encode(), state.deployment.encode()) for state in states or []]
        self._put(records if head == NO_HEAD else [*records, (control, head.encode(), HEAD_KEY)])

    def put(self, topic: str, value: bytes | None, key: bytes) -> None:
        self._put([(topic, value, key)])

    def _put(self, records: Sequence[tuple[str, bytes | None, bytes]]) -> None:
        producer = Producer(self.kafka)
        for topic, value, key in records:
            producer.produce(topic, value, key)
        assert producer.flush(10) == 0

    def remove(self) -> None:
        admin = AdminClient(self.kafka)
        names = {self.topics.control, self.topics.audit, self.topics.swaps, self.topics.status}
        there = [name for name in admin.list_topics(timeout=10).topics if name in names]
        for done in admin.delete_topics(there).values() if there else []:
            done.result()


@contextmanager
def a_plane(servers: str) -> Iterator[Plane]:
    made = Plane(servers)
    yield made
    made.remove()
