"""A worker on its own code without Kafka: events come from memory, and records go nowhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import confluent_kafka
from prometheus_client import CollectorRegistry

from benchmarks.jobs import Job
from benchmarks.load import events_of
from models.bundle import Bundle
from models.profiler import Profiler, Profilers
from models.reference import Reference
from schemas.deployment import ACTIVE, Deployment
from schemas.sources import SchemaFolder, Writers
from streams.assembly import Assembly, assemble
from streams.backlog import Backlog
from streams.batch import Batch, Message, Records, batch_of
from streams.budget import BATCH_EVENTS
from streams.deadletters import LetterLimit
from streams.inflight import Marker
from streams.metrics import WorkerMetrics
from streams.pool import Pool
from streams.safeguard import Safeguard
from streams.sampler import Sampler, sampler_of
from streams.topics import Topic
from streams.work import Composer, Plan, Route
from streams.worker import Worker

EVENTS, OUTPUT, LETTERS, PROFILES = "events", "costs.inferences", "costs.dead-letters", "costs.profiles"
SAMPLES = "costs.samples"
PARTITIONS = 4  # of which each batch has events: a profile record for each of them
TOPIC_BYTES = 1 << 20
REFERENCE_ROWS = 5_000
LABEL = {"type": "record", "name": "Label", "fields": [{"name": "truth", "type": "boolean"}]}

Messages = Sequence[Sequence[Message]]  # of each batch


class Source:
    """Gives batches in order, then ends the worker; see streams.protocols.Source."""

    topic, joined = EVENTS, True

    def __init__(self, messages: Messages, backlog: Backlog) -> None:
        self._left, self._backlog = iter(messages), backlog
        self.ended: Callable[[], None] = lambda: None

    def poll(self, limit: int, seconds: float, wait: float = 0.0) -> Batch | None:
        found = next(self._left, None)
        if found is None:
            self.ended()
            return None
        batch = batch_of(found)
        self._backlog.took(batch)
        return batch

    def committed(self, positions: Mapping[int, int]) -> None:
        self._backlog.committed(positions)

    def begin(self) -> None: ...
    def rewind(self) -> None: ...
    def hold(self, seconds: float) -> bool:
        return True

    def park(self, partition: int, offset: int) -> None: ...
    def unpark(self) -> None: ...
    def assigned(self) -> Sequence[int]:
        return range(PARTITIONS)

    def positions(self) -> Mapping[int, int]:
        return {}

    def lags(self) -> Mapping[int, int]:
        return {}

    def close(self, leave: bool) -> None: ...


@dataclass(slots=True)
class Sink:
    """Counts the records and bytes of each topic where `counts`, and keeps nothing; see streams.protocols.Sink."""

    counts: bool = False
    records: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def publish(self, records: Sequence[Records], positions: Mapping[int, int]) -> None:
        for group in records if self.counts else ():
            size = sum(len(value or b"") for value in group.values)
            self.records[group.topic] = self.records.get(group.topic, 0) + len(group.values)
            self.sizes[group.topic] = self.sizes.get(group.topic, 0) + size

    def begin(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker consists of; a part is left out by putting another thing into its place."""

    assembly: Assembly
    profiler: Profilers | None
    metrics: WorkerMetrics
    guard: Safeguard
    pool: Pool
    sampler: Sampler | None = None

    def run(self, messages: Messages, sink: Sink) -> float:
        """Return the CPU seconds, of all threads of this process, that a worker takes for the batches."""
        source = Source(messages, self.metrics.backlog)
        name, count = self.assembly.deployment.name, PARTITIONS
        route = Route(name, EVENTS, count, OUTPUT, count, LETTERS, count, PROFILES, SAMPLES)
        scorer = self.assembly.scorer(Topic(OUTPUT, PARTITIONS, TOPIC_BYTES))
        plan = Plan(scorer, Composer(route, self.profiler, sampler=self.sampler), LetterLimit(0, time.monotonic))
        worker = Worker(lambda _: (source, sink), plan, self.metrics, guard=self.guard, batch_events=BATCH_EVENTS)
        source.ended = worker.stop
        began = time.process_time()
        worker.run()
        return time.process_time() - began


def everything(job: Job, folder: Path) -> Setup:
    """Return a worker's setup with every part that is on while `monitor` and `labels` are declared, of all events.

    folder: where its schema and its note of what is being scored go.
    """
    (folder / "event.avsc").write_text(json.dumps(job.schema))
    labels = {"topic": "labels", "schema": LABEL, "value": "truth"}
    declared = Deployment.model_validate(job.deployment(EVENTS, OUTPUT) | {"monitor": {}, "labels": labels})
    bundle = Bundle.build(name=job.name, model=job.network(), features=job.features)
    writers = Writers(folder=SchemaFolder(folder))
    pool = Pool()
    assembly = assemble(declared, job.schema, {ACTIVE: bundle}, writers, pool)
    metrics = WorkerMetrics(CollectorRegistry(), deployment=declared.name, arm=ACTIVE, slot="0")
    metrics.backlog.assigned(dict.fromkeys(range(PARTITIONS), 0), range(PARTITIONS))
    profiler = Profiler(
        _reference(job, assembly),
        deployment=declared.name,
        arm=ACTIVE,
        model=bundle.manifest.name,
        version=bundle.manifest.version,
    )
    guard = Safeguard(EVENTS, marker=Marker(folder / "slot.inflight", EVENTS))
    outputs, columns = assembly.models[ACTIVE].outputs, assembly.decoder.columns
    sampler = sampler_of(declared, ACTIVE, 1, outputs, columns, None, TOPIC_BYTES)
    return Setup(assembly, Profilers({ACTIVE: profiler}), metrics, guard, pool, sampler)


def _reference(job: Job, assembly: Assembly) -> Reference:
    """Return the reference of a training set with its scores."""
    rows = assembly.decoder.decode([job.head + datum for datum in job.events(REFERENCE_ROWS, seed=1)]).frame
    model, declared = assembly.models[ACTIVE], assembly.deployment
    outputs = model.run(model.prepare(rows).inputs, declared.limits.model_seconds)
    return Reference.from_frame(rows.select(job.features), outputs)


def messages_of(job: Job, batches: int) -> Messages:
    """Return messages of so many batches, an equal share of each from every partition, recorded now."""
    values, share = events_of(job).values, BATCH_EVENTS // PARTITIONS
    now = int(time.time() * 1000)

    def message(batch: int, place: int) -> confluent_kafka.Message:
        number, partition = batch * BATCH_EVENTS + place, place // share
        offset, key = batch * share + place % share, str(number).encode()
        return confluent_kafka.Message(
            EVENTS, partition, offset, key, values[number % len(values)], None, None, (1, now)
        )

    return cast(Messages, [[message(batch, place) for place in range(BATCH_EVENTS)] for batch in range(batches)])
