"""Deployments with a canary under control, evidence about them on a real broker, and controllers that may be killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import Producer

from penstock.controller.decisions import Known, decisions_of
from penstock.controller.facts import Standings
from schemas import records
from schemas.control import Entry, State, Version, arms_of
from schemas.deployment import Deployment
from streams.rollout import World, applied
from streams.topics import Topics
from tests.integration.planes import Plane

READER: dict[str, Any] = {"type": "record", "name": "Event", "fields": [{"name": "a", "type": "double"}]}
FIXED = 1 << 20
VERSIONS = {"m@production": Version("m", "v1", "d1"), "m@candidate": Version("m", "v2", "d2")}


def declared(name: str, percent: float = 5.0) -> Deployment:
    return Deployment.model_validate(
        {
            "name": name,
            "input": {"topic": "events", "schema": "event.avsc"},
            "output": {"topic": f"{name}.out"},
            "arms": [
                {"role": "active", "model": "m@production"},
                {"role": "canary", "model": "m@candidate", "percent": percent},
            ],
        }
    )


def put(world: World, deployment: Deployment) -> Any:
    return applied(world, deployment, READER, arms_of(deployment, VERSIONS))


@dataclass
class Stand:
    """rewards: the topic of outcomes of all deployments. base: of their policies."""

    plane: Plane
    base: dict[str, Any] = field(default_factory=dict)
    running: list[subprocess.Popen[str]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rewards = f"{self.plane.topics.prefix}.rewards"
        self.servers = self.plane.kafka["bootstrap.servers"]
        Topics(self.plane.kafka).ensure(self.rewards, 1, {})
        self.producer = Producer(self.plane.kafka)

    def apply(self, *names: str) -> None:
        for name in names:
            self.plane.change(partial(put, deployment=declared(name)), whole=True)

    def policies(self, names: Sequence[str]) -> str:
        return json.dumps([{"deployment": name, **self.base} for name in names])

    def start(self, names: Sequence[str], *flags: str) -> subprocess.Popen[str]:
        """Return a controller that reads already."""
        words = [self.servers, self.plane.topics.prefix, self.rewards, self.policies(names), *flags]
        command = [sys.executable, "-m", "tests.integration.controller_process", *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.running.append(process)
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        return process

    def tell(self, name: str, canary: tuple[int, int], active: tuple[int, int] = (950, 760), revision: int = 1) -> None:
        """Write outcomes of both arms: how many, and how many of them good."""
        number = self.numbers[name] = self.numbers.get(name, -1) + 1
        arms = [
            {
                "revision": revision,
                "arm": arm,
                "metric": "accuracy",
                "segment": "",
                "value": "",
                "count": count,
                "total": good * FIXED,
                "squares": good * FIXED,
            }
            for arm, (count, good) in (("active", active), ("canary", canary))
        ]
        record = {"deployment": name, "partition": 0, "number": number, "at": 0, "rewards": arms}
        self.producer.produce(self.rewards, records.encode("reward", record))
        self.producer.flush(10)

    def entries(self) -> list[Entry]:
        return self.plane.read().entries

    def decisions(self, name: str | None = None) -> list[Known]:
        return [known for known in decisions_of(self.entries()) if name in (None, known.deployment)]

    def state(self, name: str) -> State:
        return self.plane.read().states[name]

    def wait(self, number: int, seconds: float = 60, became: str = "done") -> list[Known]:
        """Return the decisions that became this, once there are so many."""
        deadline = time.monotonic() + seconds
        while True:
            found = [known for known in self.decisions() if known.became == became]
            if len(found) >= number:
                return found
            assert time.monotonic() < deadline, f"{len(found)} of {number} decisions are {became}"
            time.sleep(0.2)

    def close(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self.plane.remove()
        topics = Topics(self.plane.kafka)
        for done in topics.admin.delete_topics([self.rewards, f"{self.plane.topics.prefix}.controller"]).values():
            done.result()


def acted(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Return deployment and decision of each state that a decision made."""
    standings = Standings()
    return [(name, fact.decision) for entry in entries for name, fact in standings.take(entry) if fact.decision]
