"""Alerts and silences on a real Kafka, and `penstock alerts` as a user types it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
from click.testing import CliRunner, Result
from confluent_kafka import TopicPartition

from penstock.cli import main
from penstock.webhooks import Webhook
from tests.alert_records import values
from tests.rig import Worker
from tests.webhook_server import Receiver

SOURCE = "/penstock/test"


class AlertStand:
    """The topics of alerts and silences, and the processes that send alerts on."""

    def __init__(self, servers: str, folder: Path, topic: Callable[..., str]) -> None:
        self.servers, self.folder = servers, folder
        self.alerts, self.silences = topic(1, "alerts"), topic(1, "silences")
        self.told: list[dict[str, Any]] = []
        self._processes: list[Worker] = []

    @property
    def topics(self) -> list[str]:
        return ["--alerts-topic", self.alerts, "--silences-topic", self.silences]

    def tell(self, *alerts: dict[str, Any]) -> None:
        """Publish records of alerts."""
        self.told += alerts
        producer = confluent_kafka.Producer({"bootstrap.servers": self.servers})
        for alert, value in zip(alerts, values(*alerts), strict=True):
            producer.produce(self.alerts, value, alert["id"].encode())
        assert producer.flush(30) == 0

    @property
    def expected(self) -> list[str]:
        """The keys of all that was told, as webhooks get them."""
        return [f"{each['id']}-{each['number']}-{each['state']}" for each in self.told]

    def type(self, *words: str, topics: bool = True, status: int = 0) -> Result:
        """Type `penstock alerts ...` and return what it said; `status` is what it must end with."""
        options = self.topics if topics else ["--silences-topic", self.silences]
        result = CliRunner().invoke(main, ["alerts", *words, *options, "--bootstrap-servers", self.servers])
        assert result.exit_code == status, result.output
        return result

    def start(self, *arguments: str, **environment: str) -> Worker:
        """Start `penstock alerts send`."""
        process = Worker(
            [
                *("alerts", "send", *self.topics, "--source", SOURCE, "--bootstrap-servers", self.servers),
                *arguments,
            ],
            self.folder,
            self.folder / f"send-{len(self._processes)}.log",
            command=("tests.integration.events_process",),
            settings={"NO_PROXY": "127.0.0.1", **environment},
        )
        self._processes.append(process)
        return process

    def run(self, *arguments: str, seconds: float = 120, **environment: str) -> tuple[int, str]:
        """Run it to its end; returns its exit status and what it said."""
        process = self.start(*arguments, **environment)
        return process.process.wait(seconds), process.text()

    def wait_for_commit(self, receiver: Receiver, offset: int, seconds: float = 60) -> None:
        """Block until what is before an offset is done with for a webhook."""
        group = f"{self.alerts}.send.webhook.{Webhook.parse(receiver.url).key}"
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.servers, "group.id": group})
        deadline = time.monotonic() + seconds
        try:
            while (found := consumer.committed([TopicPartition(self.alerts, 0)], 10)[0].offset) < offset:
                assert time.monotonic() < deadline, f"{group} committed {found}, not {offset}"
                time.sleep(0.1)
        finally:
            consumer.close()

    def close(self) -> None:
        for process in self._processes:
            process.kill()
