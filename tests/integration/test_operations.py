"""Operations alerts on a real Kafka: workers that refuse events or die are told of, whoever kills the monitor when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from confluent_kafka.admin import AdminClient

from models.reference import Reference
from schemas import records
from tests.conftest import TopicFactory
from tests.integration.obeying_stand import Stand, encode
from tests.rig import Rig, Worker, read_committed, sum_model

PATIENCE = 150.0  # seconds until an alert must have come


class Monitored:
    """A deployment under control whose operations are watched, and its monitor."""

    def __init__(self, rig: Rig, topic: TopicFactory) -> None:
        self.rig, self.stand = rig, Stand(rig)
        self.alerts, self.snapshots = topic(1, "alerts"), topic(1, "snapshots")
        rng = np.random.default_rng(7)
        training = pl.DataFrame({"a": rng.normal(size=2_000), "b": rng.normal(size=2_000)})
        kept = Reference.from_frame(training, training.select(score=pl.col("a") + pl.col("b"))).to_bytes()
        name = f"watched-{rig.name[-8:]}"
        rig.add_model(name, model=sum_model(), reference=kept)
        operations = {"silent_seconds": 20, "window_seconds": 60, "rows": 10}
        self.stand.declare(arms=[{"role": "active", "model": f"{name}@production"}], monitor={"operations": operations})
        self._started: list[Worker] = []

    def start(self, *flags: str) -> Worker:
        """Start `penstock monitor NAME`."""
        topics = ["--alerts-topic", self.alerts, "--snapshots-topic", self.snapshots]
        where = ["--bootstrap-servers", self.rig.servers, "--repository", str(self.rig.folder / "models")]
        log: Path = self.rig.folder / f"monitor-{len(self._started)}.log"
        words = [self.rig.name, *topics, *where, *flags]
        self._started.append(Worker(words, self.rig.folder, log, command=("penstock.cli", "monitor")))
        return self._started[-1]

    def told(self) -> list[dict[str, Any]]:
        """The alerts about operations; a record that comes again must be the same."""
        found: dict[tuple[str, int], bytes] = {}
        for message in read_committed(self.rig.servers, self.alerts, 0):
            value = message.value() or b""
            alert = records.decode("alert", value)
            if alert["kind"] == "operations":
                assert found.setdefault((alert["id"], alert["number"]), value) == value
        return [records.decode("alert", value) for value in found.values()]

    def wait_for(self, name: str, state: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while True:
            for alert in self.told():
                if (alert["name"], alert["state"]) == (name, state):
                    return alert
            assert time.monotonic() < deadline, (self.told(), self._started[-1].text())
            time.sleep(0.5)

    def close(self) -> None:
        for process in self._started:
            process.kill()
        AdminClient({"bootstrap.servers": self.rig.servers}).delete_topics([f"{self.rig.name}.profiles"])


@pytest.fixture
def monitored(rig: Callable[..., Rig], topic: TopicFactory) -> Iterator[Monitored]:
    made = Monitored(rig(), topic)
    yield made
    made.close()


@pytest.mark.timeout(420)
@pytest.mark.parametrize("flags", [[], ["--oracle"]], ids=["faust", "oracle"])
def test_dead_letters_over_budget_and_workers_that_died_are_told_of_and_their_end(
    monitored: Monitored, flags: list[str]
) -> None:
    # Given a worker that is watched, and nothing wrong
    monitored.stand.said("apply", str(monitored.rig.file))
    worker = monitored.stand.worker()
    monitor = monitored.start(*flags)
    monitored.rig.produce([encode({"id": at, "a": 1.0, "b": 1.0}) for at in range(40)])
    monitored.rig.wait_committed(40)
    # When events come that it cannot read, then that is told
    monitored.rig.produce([b"junk"] * 20)
    opened = monitored.wait_for("dead_letters", "opened")
    assert "of 60 events became dead letters" in opened["summary"]
    assert (opened["deployment"], opened["arm"]) == (monitored.rig.name, "active")
    # When the worker dies, and the monitor, too, then nobody scores, which is told once
    worker.kill()
    monitor.kill()
    monitored.start(*flags)
    opened = monitored.wait_for("workers", "opened")
    assert opened["severity"] == "critical"
    # and that it is over, when there is one again
    monitored.stand.worker()
    closed = monitored.wait_for("workers", "closed")
    assert closed["id"] == opened["id"]
    # and nobody takes the monitor's word for a slot's
    assert {slot["state"] for slot in monitored.stand.status()["slots"]} <= {"running", "stopped"}
    names = [(alert["name"], alert["state"]) for alert in monitored.told()]
    assert {name for name, _ in names} == {"dead_letters", "workers"}
    assert names.count(("workers", "opened")) == 1


@pytest.mark.timeout(420)
def test_two_monitors_of_one_deployment_tell_the_same_alerts_under_the_same_ids(monitored: Monitored) -> None:
    # Given a deployment whose operations two monitors watch, one of which dies now and then
    monitored.stand.said("apply", str(monitored.rig.file))
    monitored.stand.worker()
    first, _ = monitored.start(), monitored.start("--slot", "1")
    monitored.rig.produce([encode({"id": at, "a": 1.0, "b": 1.0}) for at in range(40)])
    monitored.rig.wait_committed(40)
    # When events come that nobody can read, and again after it was over
    monitored.rig.produce([b"junk"] * 20)
    opened = monitored.wait_for("dead_letters", "opened")
    first.kill()
    closed = monitored.wait_for("dead_letters", "closed")
    monitored.start()
    # Then both tell one episode: records that come twice are the same, which `told` checks
    assert closed["id"] == opened["id"]
    names = [(alert["name"], alert["state"], alert["number"]) for alert in monitored.told()]
    assert sorted(names) == sorted(set(names))
    assert {name for name, _, _ in names} == {"dead_letters"}
