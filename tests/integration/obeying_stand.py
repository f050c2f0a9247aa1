"""A deployment under control with workers on a real Kafka, and what is asked of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer

from schemas.heads import read_lineage
from tests.rig import ROOT, Rig, Worker, encoder, sum_model

encode = encoder()


class Stand:
    """A deployment under control, with a second version of its model and an operator's commands."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.name = rig, rig.name
        self.model = f"sum-{rig.name[-8:]}"  # of its own: a tag that moves concerns all deployments of the cluster
        self.first = rig.add_model(self.model, "production", model=sum_model())
        self.second = rig.add_model(self.model, "candidate", model=sum_model(scale=2.0))
        self.declare(arms=[{"role": "active", "model": f"{self.model}@production"}])

    def declare(self, **changes: Any) -> None:
        self.rig.declared |= changes
        self.rig.write()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PENSTOCK_BOOTSTRAP_SERVERS": self.rig.servers,
            "PENSTOCK_REPOSITORY": str(self.rig.folder / "models"),
        }
        command = [sys.executable, "-m", "penstock.cli", *words]
        return subprocess.run(
            command, cwd=self.rig.folder, capture_output=True, text=True, env=environment, check=False
        )

    def said(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def worker(self, *more: str) -> Worker:
        """Start `penstock worker NAME`."""
        where = ["--bootstrap-servers", self.rig.servers, "--repository", str(self.rig.folder / "models")]
        worker = Worker([self.name, *where, *more], self.rig.folder, self.rig.folder / f"obeying-{time.time_ns()}.log")
        self.rig._workers.append(worker)
        return worker

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", self.name, "--json").stdout)
        return found

    def wait_status(self, revision: int, seconds: float = 30) -> None:
        """Block until every slot that lives runs the revision."""
        deadline = time.monotonic() + seconds
        while True:
            slots = [slot for slot in self.status()["slots"] if slot["state"] != "stopped"]
            if slots and all(slot["revision"] == revision for slot in slots):
                return
            assert time.monotonic() < deadline, slots

    def told(self, change: str) -> None:
        """Let `penstock events` tell what is there; the audit then has the refusal once, and an event tells it."""
        events = f"{self.name}.told"
        self.said("events", "--once", "--events-topic", events)
        lines = [line for line in self.said("history", self.name).splitlines() if change in line]
        assert len(lines) == 1
        assert "slot active/0  refused" in lines[0]
        kinds = [json.loads(message.value() or b"")["type"] for message in self.rig.read(events, 1)]
        assert "io.penstock.deployment.refused" in kinds

    @contextmanager
    def stream(self, rate: float = 2_000.0) -> Iterator[Callable[[], int]]:
        """Publish events all the while; yields what tells how many so far."""
        ended, sent = threading.Event(), [0]
        producer = Producer({"bootstrap.servers": self.rig.servers, "linger.ms": 5})

        def feed() -> None:
            began = time.monotonic()
            while not ended.is_set():
                while sent[0] < (time.monotonic() - began) * rate:
                    number = sent[0]
                    value = encode({"id": number, "a": float(number), "b": 1.0})
                    producer.produce(self.rig.events, value, b"k%d" % number, number % 4)
                    sent[0] += 1
                producer.poll(0.01)

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            yield lambda: sent[0]
        finally:
            ended.set()
            thread.join()
            assert producer.flush(30) == 0

    def inferences(self, count: int) -> list[tuple[int, str, tuple[int, int]]]:
        """Revision, version and place of each inference."""
        from tests.places import place_of

        found = []
        for message in self.rig.read(self.rig.inferences, count):
            value = message.value() or b""
            lineage, _ = read_lineage(value)
            found.append((lineage.revision, lineage.version, place_of(value)))
        return found

    def verified(self) -> dict[str, Any]:
        done = self.run("verify", "--deployment", self.name, "--json")
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["ok"], (found["examples"], found["notes"])
        return found


def share(count: int) -> dict[int, int]:
    return {partition: len(range(partition, count, 4)) for partition in range(4)}
