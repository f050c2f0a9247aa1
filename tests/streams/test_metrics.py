"""What a worker's metrics tell of the models of a hierarchy is what the model says when they are read."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from models.runtimes.base import Counts
from streams.metrics import WorkerMetrics

LABELS = {"deployment": "d", "arm": "active", "slot": "0"}
NAMES = ("made_total", "evicted_total", "loaded", "bytes")


def told(registry: CollectorRegistry) -> list[float | None]:
    return [registry.get_sample_value(f"penstock_leaves_{name}", LABELS) for name in NAMES]


def test_without_leaves_they_are_zero_and_with_them_those_of_now() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry, deployment="d", arm="active", slot="0")
    assert told(registry) == [0, 0, 0, 0]
    counts = [Counts(3, 1, 2, 4096), Counts(5, 4, 1, 2048)]
    metrics.leaves.follow(lambda: counts[0])
    assert told(registry) == [3, 1, 2, 4096]
    counts.pop(0)
    assert told(registry) == [5, 4, 1, 2048]
