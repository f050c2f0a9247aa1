"""An audit on a real Kafka, the topic of its events, and `penstock events` as a user starts it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import confluent_kafka
from confluent_kafka import Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from penstock.webhooks import Webhook
from schemas.control import Entry
from tests.audit_entries import publish
from tests.rig import Worker, read_committed
from tests.webhook_server import Receiver, account

SOURCE = "/penstock/test"
NOTHING_WRONG = {"lost": 0, "disordered": 0, "unknown": 0, "altered": 0}


class Stand:
    """An audit, the topic of its events, and the processes that tell them."""

    def __init__(self, servers: str, folder: Path, topic: Callable[..., str]) -> None:
        self.servers, self.folder = servers, folder
        self.settings = {"bootstrap.servers": servers}
        self.admin = AdminClient(self.settings)
        self.audit, self.events = topic(1, "audit"), topic(1, "events")
        self.entries: list[Entry] = []
        self._processes: list[Worker] = []

    def change(self, entries: Sequence[Entry], per: int = 3) -> None:
        """Write entries into the audit."""
        self.entries += entries
        publish(self.servers, self.audit, [each.encode() for each in entries], per=per)

    def start(self, *arguments: str, **environment: str) -> Worker:
        """Start `penstock events`."""
        topics = ["--audit-topic", self.audit, "--events-topic", self.events, "--source", SOURCE]
        process = Worker(
            [*topics, "--bootstrap-servers", self.servers, *arguments],
            self.folder,
            self.folder / f"events-{len(self._processes)}.log",
            command=("tests.integration.events_process",),
            settings={"NO_PROXY": "127.0.0.1", **environment},
        )
        self._processes.append(process)
        return process

    def run(self, *arguments: str, seconds: float = 120, **environment: str) -> tuple[int, str]:
        """Run it to its end; returns its exit status and what it said."""
        process = self.start(*arguments, **environment)
        return process.process.wait(seconds), process.text()

    def told(self, count: int = 0) -> list[Message]:
        """What a read_committed reader has of the events, once at least `count` came."""
        return read_committed(self.servers, self.events, count)

    def ids(self, count: int = 0) -> list[str]:
        return [json.loads(message.value() or b"")["id"] for message in self.told(count)]

    @property
    def expected(self) -> list[str]:
        return [each.id for each in self.entries]

    def wait_for_group(self, group: str, offset: int, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while (found := self.committed(group).offset) < offset:
            assert time.monotonic() < deadline, f"{group} committed {found}, not {offset}"
            time.sleep(0.1)

    def committed(self, group: str) -> TopicPartition:
        consumer = confluent_kafka.Consumer({**self.settings, "group.id": group})
        (found,) = consumer.committed([TopicPartition(self.audit, 0)], 10)
        consumer.close()
        return found

    def hook_group(self, receiver: Receiver) -> str:
        return f"{self.events}.webhook.{Webhook.parse(receiver.url).key}"

    def make_anew(self, topic: str) -> None:
        self.admin.delete_topics([topic])[topic].result()
        while topic in self.admin.list_topics(timeout=10).topics:
            time.sleep(0.05)
        self.admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()

    def close(self) -> None:
        for process in self._processes:
            process.kill()


def fine(stand: Stand, receiver: Receiver) -> dict[str, int]:
    """The account of what a webhook took, without what may happen."""
    found = account(receiver.taken, stand.expected)
    found.pop("repeated")
    return found
