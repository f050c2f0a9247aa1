"""A broker, and a job's topics, model and expected scores: what every contestant of a comparison has alike."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime

from benchmarks.jobs import Job
from benchmarks.load import Wire, distinct, events_of
from models.bundle import Bundle
from models.repository import Repository
from penstock.bench import measure
from penstock.bench.latency import Latency
from penstock.bench.load import Task, produce
from penstock.bench.measure import AtEnd, Place
from penstock.bench.outputs import Checked, check, wrong_scores
from penstock.bench.system import Process
from penstock.bench.topics import Topics
from penstock.embedded import EmbeddedKafka

PARTITIONS = 4


class Contestant(Protocol):
    """A system that scores a job's topic into another.

    wire: the form of the events that it reads. jobs: those that it can do. share: of the events, so that a run takes
    seconds.
    """

    @property
    def name(self) -> str: ...

    @property
    def wire(self) -> Wire: ...

    @property
    def jobs(self) -> Sequence[str]: ...

    @property
    def share(self) -> float: ...

    def start(self, rig: Rig, source: str, target: str) -> Process:
        """Start it: it reads `source` from its beginning and writes to `target`."""

    def scores(self, rig: Rig, values: Sequence[bytes]) -> list[float]:
        """Return the scores of outputs; none where it computes none."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the cluster is. pid: the broker's process, None for one that is not ours."""

    servers: str
    pid: int | None = None


@contextmanager
def broker(servers: str | None) -> Iterator[Broker]:
    """Yield the broker that is measured on: the one given, else an embedded one with a heap that is never full."""
    given = servers or os.environ.get("PENSTOCK_BOOTSTRAP_SERVERS")
    if given:
        yield Broker(given)
        return
    with EmbeddedKafka(heap_mb=1024) as kafka:
        yield Broker(kafka.bootstrap_servers, kafka.pid)


@dataclass(frozen=True, slots=True)
class Backlog:
    """One run over a backlog: events/s; CPU microseconds an event of the system and of the broker; bytes on the network
    an event; resident MiB; what came out.
    """

    rate: float
    cpu: float
    broker_cpu: float
    network: float
    rss: float
    checked: Checked

    def __str__(self) -> str:
        cpu = f"{self.cpu:7.2f} us/event, broker {self.broker_cpu:5.2f}"
        return f"{self.rate:9,.0f}/s {cpu}, {self.network:5.0f} bytes, {self.rss:5.0f} MiB, {self.checked}"


class Rig:
    """A broker, a folder and the topics of one job."""

    def __init__(self, broker: Broker, folder: Path, job: Job, partitions: int = PARTITIONS) -> None:
        self.servers, self.folder, self.job = broker.servers, folder, job
        self.kafka = {"bootstrap.servers": self.servers}
        self.topics = Topics(self.kafka, f"bench.{job.name}.{time.time_ns() % 10**9}", partitions)
        self.place = Place(self.kafka, self.topics, folder, broker.pid)
        self.model, self.told = folder / "model.onnx", folder / "job.json"
        self.output_bytes = 0.0  # of an inference of Penstock's, once one was measured
        self._sources: dict[tuple[int, Wire, float], str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.model.write_bytes(job.network())
        self.told.write_text(job.told())
        bundle = Bundle.build(name=job.name, model=self.model.read_bytes(), features=job.features)
        Repository(str(folder / "models")).add(bundle, tags=["production"])

    @cached_property
    def expected(self) -> list[float]:
        """The score of each distinct event."""
        matrix = self.job.matrix(self.job.rows(distinct(self.job)))
        session = onnxruntime.InferenceSession(str(self.model), providers=["CPUExecutionProvider"])
        parts = [session.run(None, {"x": part})[0][:, 0] for part in np.array_split(matrix, 10)]
        return [float(score) for part in parts for score in part]

    @cached_property
    def labels(self) -> str:
        """A topic of labels, for who must name one."""
        return self.topics.make("labels")

    def source(self, count: int, wire: Wire = "own", bad: float = 0.0) -> str:
        """Return a topic of `count` events, a share of them bad; the same for all who ask for the same."""
        asked = (count, wire, bad)
        if asked not in self._sources:
            topic = self.topics.make("events")
            produce(self.kafka, events_of(self.job, wire, bad), Task(topic, self.topics.partitions, 0, count))
            self._sources[asked] = topic
        return self._sources[asked]

    def backlog(self, each: Contestant, count: int, bad: float = 0.0, at_end: AtEnd | None = None) -> Backlog:
        """Measure a contestant over a backlog; see penstock.bench.measure.backlog. bad: a share of the events."""
        source, due = self.source(count, each.wire, bad), int(count * (1 - 2 * bad))
        found = measure.backlog(self.place, partial(each.start, self), source, count, due, at_end)
        scores = each.scores(self, found.values)
        wrong = wrong_scores(found.outputs.event[: len(scores)].tolist(), scores, self.expected)
        return Backlog(
            found.rate,
            found.cpu * 1e6,
            found.broker_cpu * 1e6,
            found.network,
            found.rss,
            check(found.outputs, count, self.topics.partitions, wrong),
        )

    def at_rates(self, each: Contestant, rates: Sequence[float], seconds: float) -> list[Latency]:
        """Measure a contestant at ascending rates; see penstock.bench.measure.at_rates."""
        events = events_of(self.job, each.wire)
        return measure.at_rates(self.place, partial(each.start, self), events, rates, seconds)

    def close(self) -> None:
        self.topics.close()
