"""A worker on the in-memory twin of Kafka, run in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry

from schemas.deployment import Quotas
from streams.deadletters import LetterLimit
from streams.memory import MemoryKafka, MemorySink, MemorySource
from streams.metrics import WorkerMetrics
from streams.work import Composer, Plan, Route
from streams.worker import Worker
from tests.streams.fakes import CODEC, scorer


class Bench:
    """A worker on a MemoryKafka, run in a thread until its input is decided."""

    def __init__(self, **options: Any) -> None:
        self.kafka = MemoryKafka({"in": 2, "out": options.pop("out", 2), "letters": 2, "profiles": 1, "samples": 4})
        self.fail: Callable[[], None] = lambda: None
        self.connects = 0
        self.sources: list[MemorySource] = []
        registry = CollectorRegistry()
        self.metrics = WorkerMetrics(registry, deployment="fake", arm="active", slot="0")
        self.registry = registry
        limit = options.pop("limit", 0)
        profiles = "profiles" if options.get("profiler") else None
        route = Route("fake", "in", 2, "out", len(self.kafka.topics["out"]), "letters", 2, profiles, "samples")
        plan = Plan(
            scorer(options.pop("decoder", None)),
            Composer(
                route,
                options.pop("profiler", None),
                options.pop("starts", None),
                sampler=options.pop("sampler", None),
            ),
            LetterLimit(limit, time.monotonic),
            options.pop("budget", None),
            quotas=options.pop("quotas", Quotas()),
        )
        self.worker = Worker(
            self._connect,
            plan,
            self.metrics,
            **options,
        )
        self.thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None

    def _connect(self, revoked: Callable[[], None]) -> tuple[MemorySource, MemorySink]:
        self.connects += 1
        source = MemorySource(self.kafka, "in", revoked)
        self.sources.append(source)
        return source, MemorySink(self.kafka, source, lambda: self.fail())

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.error = error

    def start(self) -> None:
        self.thread.start()

    def decided(self) -> int:
        return sum(self.kafka.offsets.values())

    def wait(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline
            assert self.thread.is_alive(), self.error
            time.sleep(0.005)

    def stop(self) -> None:
        self.worker.stop()
        self.worker.resume()
        self.thread.join(20)
        assert not self.thread.is_alive()

    def doubles(self) -> list[float]:
        return [CODEC.decode(m.value() or b"")["double"] for m in self.kafka.read("out")]

    def value(self, name: str, **labels: str) -> float:
        return (
            self.registry.get_sample_value(name, {"deployment": "fake", "arm": "active", "slot": "0"} | labels) or 0.0
        )
