"""A deployment under control with two versions of its model, and what an operator, a load and a reader do to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import yaml
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks import networks
from benchmarks.errors import StandFailed
from benchmarks.jobs import group_of, name_of
from benchmarks.load import events_of
from benchmarks.rig import Rig
from models.bundle import Bundle
from models.repository import Repository
from penstock.bench.latency import Latency, Reader, latencies
from penstock.bench.load import Task, told
from penstock.bench.outputs import Numbers, Times
from penstock.bench.system import ROOT, Process, wait_until
from penstock.bench.topics import group_position, read
from streams import statuses
from streams.control import TOPICS

STAMPED = {"message.timestamp.type": "LogAppendTime"}  # one clock tells when each record was there: the broker's
PATIENCE = 60.0  # seconds for anything to happen
READS = "reads partitions"  # what the log of a worker says once it scores
FIRST, SECOND = "first", "second"  # tags of the versions


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch of load. latency: as a read_committed reader saw it; lost, repeated: of its events, by the reader."""

    latency: Latency
    lost: int
    repeated: int


class Stand:
    """The deployment `name`, which reads `source` and writes `target`; nothing runs yet.

    Control's topics are made as a writer of control makes them, but that the broker stamps their records.
    """

    def __init__(self, rig: Rig) -> None:
        self.rig, self.sent, self.repository = rig, 0, str(rig.folder / "models")
        self.source, self.target = rig.topics.make("events"), rig.topics.make("inferences")
        self.name, self.partitions = name_of(self.target), rig.topics.partitions
        self.versions = [self._add(FIRST, 0), self._add(SECOND, 7)]
        self._values = rig.folder / "values"
        events_of(rig.job).write(self._values)
        (rig.folder / "event.avsc").write_text(json.dumps(rig.job.schema))
        self._make_topics()
        self.say("apply", str(self.file(FIRST)))

    def _add(self, tag: str, seed: int) -> str:
        job = self.rig.job
        model = networks.perceptron([len(job.features), 64, 64, 1], seed=seed)
        bundle = Bundle.build(name=job.name, model=model, features=job.features)
        Repository(self.repository).add(bundle, tags=[tag])
        return bundle.manifest.version

    def _make_topics(self) -> None:
        admin, settings = AdminClient(dict(self.rig.kafka)), TOPICS.settings()
        topics = [NewTopic(name, num_partitions=1, config={**each, **STAMPED}) for name, each in settings.items()]
        for made in admin.create_topics(topics).values():
            made.result()

    def file(self, tag: str, **changes: Any) -> Any:
        """Return the path of a file that declares the version with the tag; changes: of what else it says."""
        declared = self.rig.job.deployment(self.source, self.target)
        declared["arms"] = [{"role": "active", "model": f"{self.rig.job.name}@{tag}"}]
        path = self.rig.folder / f"{self.name}-{tag}.yaml"
        path.write_text(yaml.safe_dump(declared | changes))
        return path

    # ---- what an operator types

    @property
    def schemas(self) -> tuple[str, str]:
        """The option that says where writers' schemas are."""
        return "--schemas", str(self.rig.folder)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "penstock.cli", *words]

    def environment(self) -> dict[str, str]:
        places = {"PENSTOCK_BOOTSTRAP_SERVERS": self.rig.servers, "PENSTOCK_REPOSITORY": self.repository}
        return {**os.environ, "PYTHONPATH": str(ROOT), **places}

    def say(self, *words: str, status: Sequence[int] = (0,)) -> str:
        """Run a command to its end and return what it printed. Raises StandFailed for another exit status."""
        done = subprocess.run(
            self.command(*words),
            cwd=self.rig.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in status:
            raise StandFailed(f"`penstock {' '.join(words)}` ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def worker(self, *words: str, log: str = "worker.log") -> Process:
        """Start `penstock worker` with these arguments; it reads once its log says so."""
        folder = self.rig.folder
        command = self.command("worker", *words, *self.schemas)
        return Process(command, folder / log, cwd=folder, env=self.environment())

    def slot_pid(self) -> int:
        """Return the process of the slot that spoke last, 0 where it does not live."""
        mine = [each for each in statuses.read(self.rig.kafka) if each.deployment == self.name]
        pid = max(mine, key=lambda each: each.at_ms).pid if mine else 0
        return pid if pid and psutil.pid_exists(pid) else 0

    # ---- load

    def load(self, rate: float, count: int) -> Process:
        """Offer so many events more at a rate, from a process of its own."""
        task = Task(self.source, self.partitions, self.sent, count, rate)
        self.sent += count
        words = [sys.executable, "-m", "penstock.bench.load"]
        return Process(words, self.rig.folder / "load.log", told=told(self.rig.kafka, self._values, task))

    def turn(self, rate: float, seconds: float, beside: Callable[[], object] | None = None) -> Turn:
        """Offer events at a rate for so many seconds, and judge those after the first one.

        beside: called while they are offered. All have come when it returns, or will not.
        """
        first, count = self.sent, int(rate * seconds)
        with Reader(self.rig.kafka, self.target, self.partitions) as reader, self.load(rate, count):
            if beside is not None:
                beside()
            deadline = time.monotonic() + seconds * 3 + PATIENCE
            while len(reader) < count and time.monotonic() < deadline:
                time.sleep(0.05)
        numbers, arrived = reader.arrivals()
        return judged(numbers - first, arrived, self.appended(first), rate)

    def appended(self, first: int) -> Times:
        """Return when each event from `first` on was appended, in ms since 1970.

        Raises StandFailed where numbers and offsets do not belong together: an event's number is its key, and says
        partition and offset.
        """
        found, _ = read(self.rig.kafka, self.source, self.partitions, begin=first // self.partitions)
        times = np.full(self.sent - first, np.nan)
        mine = found.event >= first
        times[found.event[mine] - first] = found.appended[mine]
        if np.isnan(times).any():
            raise StandFailed(f"{int(np.isnan(times).sum())} events of {self.source} cannot be found again")
        return times

    def drained(self, seconds: float = PATIENCE) -> None:
        """Wait until the group has committed all events. Raises RuntimeError when it does not."""
        with group_position(self.rig.kafka, group_of(self.target), self.source, self.partitions) as position:
            wait_until(lambda: position() >= self.sent, seconds, f"all {self.sent:,} events")


def judged(numbers: Numbers, arrived: Times, appended: Times, rate: float) -> Turn:
    """Judge what came of a stretch. numbers: of the events, from 0 on; appended: when each was, by its number."""
    counts = np.bincount(numbers[(numbers >= 0) & (numbers < len(appended))], minlength=len(appended))
    latency = latencies(numbers, arrived, appended, int(rate))
    return Turn(latency, int(np.sum(counts == 0)), int(np.sum(counts[counts > 1] - 1)))
