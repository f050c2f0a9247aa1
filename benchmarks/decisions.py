"""Controllers that are killed while a hundred rollouts go on: what they decide is what the log says, once.

Deployments stand under control without workers; their outcomes are made up, some candidates better, some worse, some
alike, and written as the monitor writes them. When all is over the logs are folded once more, by nobody who was killed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from confluent_kafka import Producer

from benchmarks.rig import broker
from monitoring.decision import Decision
from monitoring.evidence import Fact
from monitoring.judging import FIXED
from penstock.bench.system import ROOT, Process
from penstock.controller.decisions import Known, decisions_of
from penstock.controller.facts import Standings, seen_of
from penstock.controller.keeping import Fold, folds_of
from penstock.controller.order import Order, Place
from schemas import records
from schemas.control import Entry, Version, arms_of
from schemas.deployment import Deployment
from schemas.policy import Policy
from schemas.values import as_bytes
from streams.control import TOPICS, read
from streams.control_writer import Author, Writer
from streams.following import Follower
from streams.rollout import Change, World, applied
from streams.topics import Topics

READER: dict[str, Any] = {"type": "record", "name": "Event", "fields": [{"name": "a", "type": "double"}]}
LABEL = {"type": "record", "name": "Label", "fields": [{"name": "truth", "type": "boolean"}]}
VERSIONS = {"m@production": Version("m", "v1", "d1"), "m@candidate": Version("m", "v2", "d2")}
GAINS = (0.1, -0.1, 0.0)  # of candidates, by turns
MEAN, EVENTS = 0.8, 1_000  # of the incumbent, and of both arms in a round
Kafka = dict[str, str]
AT_MS = 2**62  # later than any record


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the decisions. expected: that the logs lead to; lost, doubled, different: of them."""

    rollouts: int
    kills: int
    expected: int
    lost: int
    doubled: int
    different: int

    @property
    def wrong(self) -> int:
        return self.lost + self.doubled + self.different


def declared(name: str) -> Deployment:
    return Deployment.model_validate(
        {
            "name": name,
            "input": {"topic": "events", "schema": "event.avsc"},
            "output": {"topic": f"{name}.out"},
            "labels": {"topic": "labels", "schema": LABEL, "value": "truth"},
            "arms": [
                {"role": "active", "model": "m@production"},
                {"role": "canary", "model": "m@candidate", "percent": 5},
            ],
        }
    )


def said(name: str) -> dict[str, Any]:
    """Return a policy that acts at once."""
    promotion = {"labels": 100, "seconds": 0, "act": "act"}
    return {"deployment": name, "steps": [5, 25, 50, 100], "promotion": promotion, "cool_down": 0}


def killed(rollouts: int, kills: int, servers: str | None = None, seed: int = 1) -> Account:
    """Run so many rollouts with so many kills, and settle the account."""
    names = [f"d{number:03}" for number in range(rollouts)]
    with broker(servers) as where, tempfile.TemporaryDirectory(prefix="penstock-loop-") as folder:
        kafka = {"bootstrap.servers": where.servers}
        writer, topics = Writer(kafka), Topics(kafka)
        for name in names:
            writer.change(partial(_applied, deployment=declared(name)), Author("the benchmark", "here"))
        for name in names:
            topics.ensure(f"{name}.rewards", 1, {})
        _live(kafka, Path(folder), names, kills, random.Random(seed))
        return _settled(kafka, names, kills)


def _applied(world: World, deployment: Deployment) -> Change | None:
    return applied(world, deployment, READER, arms_of(deployment, VERSIONS))


def _live(kafka: Kafka, folder: Path, names: Sequence[str], kills: int, draw: random.Random) -> None:
    """Give evidence round by round, while controllers are killed and started again."""
    files = []
    for name in names:
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(said(name)))
        files.append(f"{name}.yaml")
    rng, numbers, producer = np.random.default_rng(2), Counter[str](), Producer(kafka)
    for turn in range(kills + 1):
        command = [
            sys.executable,
            "-m",
            "penstock.cli",
            "controller",
            *files,
            "--bootstrap-servers",
            kafka["bootstrap.servers"],
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with Process(command, folder / "controller.log", cwd=folder, env=environment) as process:
            until = time.monotonic() + (30.0 if turn == kills else draw.uniform(4.0, 8.0))
            while time.monotonic() < until:
                states = read(kafka).states
                for number, name in enumerate(names):
                    _tell(producer, rng, numbers, states[name], GAINS[number % len(GAINS)])
                producer.flush(10)
                time.sleep(1.0)
            if turn < kills:
                os.kill(process.pid, signal.SIGKILL)


def _tell(producer: Producer, rng: np.random.Generator, numbers: Counter[str], state: Any, gain: float) -> None:
    """Write the outcomes of a round under the shares that a deployment has now."""
    share = next(((arm.weight or 0.0) / 100 for arm in state.arms if arm.role == "canary"), 0.0)
    candidate = int(rng.binomial(EVENTS, share))
    arms = []
    for arm, count, mean in (("active", EVENTS - candidate, MEAN), ("canary", candidate, MEAN + gain)):
        good = int(rng.binomial(count, mean)) * FIXED
        sums = {"count": count, "total": good, "squares": good}
        place = {"revision": state.revision, "arm": arm, "metric": "accuracy", "segment": "", "value": ""}
        arms.append({**place, **sums})
    name, number = state.deployment, numbers[state.deployment]
    record = {"deployment": name, "partition": 0, "number": number, "at": 0, "rewards": arms}
    producer.produce(f"{name}.rewards", records.encode("reward", record), f"{name}/0/{number}".encode())
    numbers[name] += 1


def _settled(kafka: Kafka, names: Sequence[str], kills: int) -> Account:
    entries = read(kafka, whole=True).entries
    made = [known for known in decisions_of(entries) if known.became == "done"]
    expected = _folded(kafka, names)
    told = Counter(entry.subject for entry in entries if entry.subject_kind == "decision")
    wanted, found = {each.id: each for each in expected}, {known.id: known for known in made}
    differ = sum(_differ(wanted[key], found[key]) for key in wanted.keys() & found.keys())
    return Account(
        len(names),
        kills,
        len(expected),
        lost=len(wanted.keys() - found.keys()),
        doubled=sum(count - 1 for count in told.values()),
        different=len(found.keys() - wanted.keys()) + differ,
    )


def _differ(decision: Decision, known: Known) -> bool:
    return (decision.kind, decision.to, decision.at) != (known.told["kind"], known.told["to"], known.told["at"])


def _folded(kafka: Kafka, names: Sequence[str]) -> list[Decision]:
    """Return the decisions that the logs lead to, in the order of time."""
    topics = {f"{name}.rewards": name for name in names}
    follower, order = Follower(kafka, "penstock.loop"), Order[bytes].of([TOPICS.audit, *topics])
    try:
        for topic in (TOPICS.audit, *topics):
            low, high = follower.end(topic)
            follower.begin(topic, low)
            for message in follower.follow(topic, high):
                value = as_bytes(message.value()) or b""
                order.add(Place(message.timestamp()[1], str(message.topic()), message.offset() or 0), value)
            order.ended(topic, AT_MS)
    finally:
        follower.close()
    folds = {name: folds_of(Policy.model_validate(said(name)))["candidate"] for name in names}
    standings, found = Standings(), list[Decision]()
    for place, value in order.due():
        facts = standings.take(Entry.decode(value)) if place.topic == TOPICS.audit else [seen_of(place.at, value)]
        found += _taken(folds, list(facts))
    return found


def _taken(folds: dict[str, Fold], facts: Sequence[tuple[str, Fact]]) -> list[Decision]:
    decided = [folds[name].take(fact) for name, fact in facts if name in folds]
    return [decision for decision in decided if decision is not None]
