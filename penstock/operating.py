"""Watches, beside the profiles, what the slots of a deployment say of themselves, and is the clock while none does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from prometheus_client import CollectorRegistry

from monitoring import runner
from monitoring.metrics import MonitorMetrics
from monitoring.operations import OperationsFold, tick_of
from monitoring.setup import Topics, Wiring
from monitoring.sources import PROFILES, Source
from monitoring.troubles import Thresholds
from penstock.client import cluster
from penstock.client.errors import ConnectionFailed, NoSuchTopic
from schemas.deployment import Deployment
from streams.clients import quiet

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # between two looks for the topic, which the first slot under control makes
EVERY_SECONDS = 10.0
AGAIN = 70  # exit status: start it again


def thresholds(declared: Deployment) -> Thresholds | None:
    """Return what the declaration asks for; None where operations are not watched."""
    asked = declared.monitor.operations if declared.monitor is not None else None
    if asked is None:
        return None
    limits = asked.model_dump()
    if declared.latency_ms is None:
        limits["late"] = None
    return Thresholds(**limits)


def wiring_of(wiring: Wiring, status: str) -> Wiring:
    """Return where the fold of operations reads and writes; no deployment has a name with a slash."""
    return replace(wiring, deployment=f"{wiring.deployment}/operations", profiles=status, quality=None)


class Clock(threading.Thread):
    """Says what time it is, every EVERY_SECONDS until `stop`. Who may not write says so once: others' words do, too."""

    def __init__(
        self, kafka: Mapping[str, str], status: str, deployment: str, slot: str, stop: threading.Event
    ) -> None:
        super().__init__(name="clock", daemon=True)
        self._status, self._whose, self._stopping = status, (deployment, slot), stop
        self._producer = Producer({**kafka, **quiet(), "linger.ms": 0, "message.timeout.ms": 30_000}, logger=log)
        self._unheard = False

    def run(self) -> None:
        while not self._stopping.is_set():
            word = tick_of(*self._whose, int(time.time() * 1000))
            try:
                self._producer.produce(self._status, word.encode(), word.key, on_delivery=self._delivered)
            except (KafkaException, BufferError) as error:
                log.info("the time cannot be published now: %s", error)
            deadline = time.monotonic() + EVERY_SECONDS
            while not self._stopping.is_set() and time.monotonic() < deadline:
                self._producer.poll(0.2)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and not self._unheard:
            log.warning(
                "%s does not take the monitor's word (%s): while every slot is silent, no alert says so; grant WRITE "
                "on it, if that is why",
                self._status,
                error.str(),
            )
        self._unheard = error is not None


class Operating(threading.Thread):
    """Folds the status topic until `stop`. end: ends the process, with a reason and an exit status."""

    def __init__(
        self,
        wiring: Wiring,
        topics: Topics,
        limits: Thresholds,
        status: str,
        end: Callable[[str, int], object],
        stop: threading.Event | None = None,
    ) -> None:
        super().__init__(name="operations", daemon=True)
        self._wiring, self._snapshots, self._limits, self._status = wiring, topics.snapshots, limits, status
        self._end, self._stopping = end, stop or threading.Event()

    def run(self) -> None:
        """Wait for the topic, then fold it."""
        failure: Exception | None = None
        try:
            if self._is_there():
                self._fold()
        except Exception as error:  # whatever it is, starting over is the way back
            failure = error
        if failure is not None and not self._stopping.is_set():
            self._end(f"what slots say cannot be watched: {failure!r}", AGAIN)

    def _fold(self) -> None:
        deployment, slot = self._wiring.deployment, self._wiring.slot
        Clock(self._wiring.kafka, self._status, deployment, slot, self._stopping).start()
        runner.run(
            wiring_of(self._wiring, self._status),
            Topics(1, 1, self._snapshots),
            [Source(PROFILES, self._status, OperationsFold(deployment, self._limits, self._wiring.alerts), 1)],
            MonitorMetrics(CollectorRegistry(), deployment),
            self._stopping.is_set,
        )

    def _is_there(self) -> bool:
        said = False
        while not self._stopping.is_set():
            try:
                cluster.partitions_of({**self._wiring.kafka, **quiet()}, self._status, patience=0)
                return True
            except (NoSuchTopic, ConnectionFailed) as error:
                if not said:
                    log.info("no slot under control has said anything yet (%s)", error)
                said = True
            self._stopping.wait(LOOK_SECONDS)
        return False
