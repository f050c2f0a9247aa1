"""A worker put together from a declaration: topics, what scores, clients, metrics, signals."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from models.bundle import Bundle
from models.errors import ModelError
from models.reference import Profiler, Reference
from models.repository import Repository
from models.runtimes.partitioned import PartitionedModel
from schemas.deployment import Arm, Deployment
from schemas.errors import SourceUnavailable
from schemas.sources import SchemaTopic
from streams.assembly import assemble, writers_of
from streams.budget import BATCH_EVENTS, Budget
from streams.deadletters import LetterLimit
from streams.errors import Refused
from streams.guarantees import Promise, uphold
from streams.health import HealthServer
from streams.membership import is_classic
from streams.metrics import WorkerMetrics
from streams.orders import Order
from streams.progress import Progress, Target, inference_origin, letter_origin
from streams.safeguard import safeguard
from streams.sink import AcknowledgedSink, TransactionalSink
from streams.slot import SlotLock
from streams.source import KafkaSource
from streams.starts import Hooks
from streams.topics import OVERHEAD, Topic, Topics
from streams.watchdog import Watchdog
from streams.work import Route
from streams.worker import Worker

log = logging.getLogger(__name__)

FRAMING = 512  # bytes at most that a record batch of one record adds to its value, key and headers
PUBLISH_SECONDS = 60.0  # that a start waits for the schema topic
YOUNG = 50_000, 20, 20  # a batch in hand is no garbage: to look at its messages every 700 took 7 % of all CPU time
DRAIN_SECONDS = 20.0  # a worker told to stop ends within this, whatever hangs


@dataclass(frozen=True, slots=True)
class Options:
    """What a worker's command line says besides the deployment.

    kafka: settings that reach the cluster. member: those that only a member of a group may have besides.
    """

    kafka: Mapping[str, str]
    repository: str
    slot: str = "0"
    arm: str = "active"
    registry: str | None = None
    schema_folder: Path | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    state_folder: Path = Path(".penstock")
    batch_events: int = BATCH_EVENTS
    member: Mapping[str, str] = field(default_factory=dict)


Orders = Callable[[Callable[[], bool], Callable[[], bool]], Order | None]


def serve(deployment: Deployment, reader: Mapping[str, Any], options: Options, orders: Orders | None = None) -> None:
    """Run one slot of one arm until SIGTERM or SIGINT. Raises Refused, Fenced, or an error of models or schemas.

    orders: asked which slot to take once all is ready that does not depend on it, with two functions: whether to stop,
    and whether what is ready is stale. None: options.slot at once.
    """
    arm = deployment.arm(options.arm)
    group = deployment.group(arm.role)
    signals = _Signals()
    folder = options.state_folder / "slots"
    order = Order(options.slot, options.metrics_port) if orders is None else None
    lock = SlotLock(folder, f"{group}.{order.slot}") if order else None
    topics = Topics(options.kafka)
    topics.wait_for_broker(signals.stopping)
    if signals.stopping():
        return
    parts = _Parts(deployment, arm, reader, options, topics, signals.stopping)
    gc.collect()
    gc.freeze()  # what the start made stays: a full collection of it would stop a batch for 15 ms again and again
    gc.set_threshold(*YOUNG)
    if orders is not None:
        log.info("ready to take a slot over")
        order = orders(signals.stopping, parts.stale)
    try:
        if order is not None:
            lock = lock or SlotLock(folder, f"{group}.{order.slot}")
            _run(parts, group, order, options, signals)
    finally:
        parts.model.close()
        if lock is not None:
            lock.close()


def _run(parts: _Parts, group: str, order: Order, options: Options, signals: _Signals) -> None:
    registry = CollectorRegistry()
    watchdog = Watchdog()
    worker = parts.worker(group, order, registry, watchdog, signals.stopping)
    health = None
    if order.metrics_port is not None:
        health = HealthServer(options.metrics_host, order.metrics_port, registry, lambda: worker.ready)
        log.info("metrics at http://%s:%d/metrics", options.metrics_host, health.port)
    signals.tell(worker)
    try:
        worker.run()
        log.info("stopped; everything scored was committed" if worker.whole else "stopped before the last commit")
    finally:
        for again in (signal.SIGTERM, signal.SIGINT):  # a second one must not undo an orderly end
            signal.signal(again, signal.SIG_IGN)
        watchdog.close()
        if health is not None:
            health.close()


class _Signals:
    """SIGTERM and SIGINT end the process within DRAIN_SECONDS, whatever hangs; SIGUSR1 goes on after a limit or a hold.

    Its handlers are the only ones from the start to the end: a signal between two handlers would be lost.
    """

    def __init__(self) -> None:
        self._stopping = self._resuming = False
        self._worker: Worker | None = None
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGUSR1, self._resume)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})  # one to a child of a supervisor waited until now

    def stopping(self) -> bool:
        return self._stopping

    def tell(self, worker: Worker) -> None:
        """Pass signals on to the worker, also those that came before: its order may name what was forgiven since."""
        self._worker = worker
        if self._resuming:
            worker.resume()
        if self._stopping:
            worker.stop()

    def _stop(self, *_: object) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._worker is not None:
            self._worker.stop()
        overdue = threading.Timer(DRAIN_SECONDS, _give_up)
        overdue.daemon = True
        overdue.start()

    def _resume(self, *_: object) -> None:
        self._resuming = True
        if self._worker is not None:
            self._worker.resume()


def _give_up() -> None:
    saying = threading.Thread(target=_say_overdue, daemon=True)  # what hangs may hold the log's lock
    saying.start()
    saying.join(2)
    os._exit(5)


def _say_overdue() -> None:
    log.error("did not stop within %.0f s; ending now, what was not committed will be scored again", DRAIN_SECONDS)
    logging.shutdown()


def _make_findable(topic: SchemaTopic, schema: Mapping[str, Any], stopping: Callable[[], bool]) -> None:
    """Publish the schema of the inferences; a broker that is away is waited for, but not for ever without a word."""
    deadline = time.monotonic() + PUBLISH_SECONDS
    while True:
        try:
            topic.publish(schema)
            return
        except SourceUnavailable as error:
            if stopping():
                return
            if time.monotonic() > deadline:
                raise
            log.error("%s", error)
            time.sleep(1)


class _Parts:
    """What a worker consists of; made once a process, while clients are made anew after a failure."""

    def __init__(
        self,
        deployment: Deployment,
        arm: Arm,
        reader: Mapping[str, Any],
        options: Options,
        topics: Topics,
        stopping: Callable[[], bool],
    ) -> None:
        self._deployment, self._arm, self._options = deployment, arm, options
        self._source = topics.require(deployment.input.topic)
        self._output = topics.ensure(deployment.output_topic(arm.role), self._source.partitions)
        letters = {"max.message.bytes": str(self._source.message_bytes + OVERHEAD)}
        self._letters = topics.ensure(deployment.dead_letter_topic(arm.role), self._source.partitions, letters)
        self._profiles = topics.ensure(deployment.profile_topic, 1) if self._watched else None
        uphold(topics.admin, self._promise())
        self._schema_topic = SchemaTopic(options.kafka)
        self._repository = Repository(options.repository)
        bundle = self._repository.load(arm.model)
        writers = writers_of(self._schema_topic, options.registry, options.schema_folder)
        self._assembly = assemble(deployment, arm, reader, bundle, writers)
        self.model = self._assembly.model
        self._scorer = self._assembly.scorer(self._output)
        _make_findable(self._schema_topic, self._assembly.codec.schema, stopping)
        self._profiler = self._make_profiler(bundle)
        log.info("scores with %s version %s", self.model.name, self.model.version)

    def _promise(self) -> Promise:
        return Promise(
            self._options.kafka["bootstrap.servers"],
            self._deployment.group(self._arm.role),
            classic=is_classic(self._options.member),
            exactly_once=self._deployment.delivery == "exactly_once",
            source=self._source.name,
            outputs=[target.name for target in self._targets],
            letters=self._letters.name,
        )

    @property
    def _targets(self) -> list[Topic]:
        return [self._output, self._letters] + ([self._profiles] if self._profiles else [])

    @property
    def _watched(self) -> bool:
        return self._deployment.monitor is not None

    def stale(self) -> bool:
        """Say whether the declared model means another version by now; not while the repository cannot tell."""
        try:
            return self._repository.resolve(self._arm.model).digest != self._assembly.bundle.digest
        except ModelError:
            return False

    def worker(
        self,
        group: str,
        order: Order,
        registry: CollectorRegistry,
        alive: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> Worker:
        """Return the worker of the slot that the order names."""
        deployment, options = self._deployment, self._options
        slot_id = f"{group}.{order.slot}"
        metrics = WorkerMetrics(registry, deployment=deployment.name, arm=self._arm.role, slot=order.slot)
        metrics.model(self.model.name, self.model.version)
        if isinstance(self.model, PartitionedModel):
            metrics.leaves.follow(self.model.sessions)
        folder, topic = options.state_folder / "slots", self._source.name
        return Worker(
            self._connector(group, order.slot, slot_id, metrics),
            self._scorer,
            Route(
                deployment=deployment.name,
                source=self._source.name,
                source_count=self._source.partitions,
                output=self._output.name,
                output_count=self._output.partitions,
                dead_letters=self._letters.name,
                dead_letter_count=self._letters.partitions,
                profiles=self._profiles.name if self._profiles else None,
                letter_bytes=self._letters.message_bytes - FRAMING,
            ),
            metrics,
            LetterLimit(deployment.limits.dead_letters_per_minute, time.monotonic),
            profiler=self._profiler,
            guard=safeguard(options.kafka, folder, group, slot_id, topic, order.caution, stopping),
            alive=alive,
            batch_events=options.batch_events,
            budget=Budget(deployment.latency_ms / 1000, options.batch_events) if deployment.latency_ms else None,
        )

    def _make_profiler(self, bundle: Bundle) -> Profiler | None:
        if not self._watched:
            return None
        if bundle.reference is None:
            raise Refused(
                f"deployment {self._deployment.name} declares a monitor, but bundle {bundle.manifest.ref} has no "
                "reference profile: build the bundle with one, or remove `monitor`"
            )
        return Profiler(
            Reference.from_bytes(bundle.reference),
            deployment=self._deployment.name,
            arm=self._arm.role,
            model=self.model.name,
            version=self.model.version,
        )

    def _connector(
        self, group: str, slot: str, slot_id: str, metrics: WorkerMetrics
    ) -> Callable[[Callable[[], None]], tuple[KafkaSource, TransactionalSink | AcknowledgedSink]]:
        deployment, kafka = self._deployment, self._options.kafka
        kind = TransactionalSink if deployment.delivery == "exactly_once" else AcknowledgedSink

        def connect(revoked: Callable[[], None]) -> tuple[KafkaSource, TransactionalSink | AcknowledgedSink]:
            source = KafkaSource(
                {**kafka, **self._options.member},
                self._source.name,
                group,
                slot,
                start=deployment.input.start,
                hooks=Hooks(revoked, metrics.lost, metrics.rescored, metrics.skipped),
                reached=self._progress(group),
                backlog=metrics.backlog,
            )
            limits = [target.message_bytes for target in self._targets]
            sink = kind(kafka, slot_id, source, message_bytes=max(limits), batch_bytes=min(limits))
            return source, sink

        return connect

    def _progress(self, group: str) -> Progress:
        """Return what tells how far the arm's records had got."""

        def count(topic: Topic) -> int | None:
            return topic.partitions if topic.partitions == self._source.partitions else None

        targets = [
            Target(self._output.name, count(self._output), inference_origin),
            Target(self._letters.name, count(self._letters), letter_origin(self._arm.role)),
        ]
        return Progress(self._options.kafka, group, self._deployment.name, self._arm.role, self._source.name, targets)
