"""Every metric of a worker, declared once, and flushed once a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from models.runtimes.base import Counts
from schemas.vitals import Vitals
from streams.arms import Made, Share
from streams.backlog import Backlog

if TYPE_CHECKING:
    from streams.work import Work

AGES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)
RESOURCES = {  # of a slot's vitals, as metrics
    "cpu": ("cpu_share", "CPU that this process uses, of its quota or the machine"),
    "memory": ("memory_share", "Memory that this process has, of its quota or the machine"),
    "disk_read": ("disk_read_bytes_per_second", "Bytes that this process reads from disks"),
    "disk_written": ("disk_written_bytes_per_second", "Bytes that this process writes to disks"),
    "received": ("network_received_bytes_per_second", "Bytes that the machine or container receives"),
    "sent": ("network_sent_bytes_per_second", "Bytes that the machine or container sends"),
    "gpu": ("gpu_share", "Time in which the busiest GPU of the machine works"),
    "gpu_memory": ("gpu_memory_share", "Memory in use of the fullest GPU of the machine"),
}
SHARES = {  # of arms that share the events, by the names of `streams.arms.Share`
    "events": ("assigned_events", "Events committed that were assigned to an arm beside others"),
    "failed": ("failed_events", "Those of them that the arm's own model did not score"),
    "runs": ("assigned_runs", "Runs of the arm's model on them"),
    "micros": ("assigned_run_seconds", "Seconds of these runs"),
}
SCALES = {"micros": 1_000_000}
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


class WorkerMetrics:
    """Metrics with the labels deployment, arm and slot bound at the start."""

    def __init__(self, registry: CollectorRegistry, *, deployment: str, arm: str, slot: str) -> None:
        self.registry = registry
        bound = {"deployment": deployment, "arm": arm, "slot": slot}
        names = list(bound)

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(f"penstock_{name}", text, [*names, *more], registry=registry)

        def gauge(name: str, text: str, *more: str) -> Gauge:
            return Gauge(f"penstock_{name}", text, [*names, *more], registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"penstock_{name}", text, names, buckets=buckets, registry=registry)

        self._bound = bound
        self.events = counter("events", "Events read from the input topic and decided").labels(**bound)
        self._inferences = counter("inferences", "Inferences committed, by the arm that scored", "scored_by")
        self._fallbacks = counter(
            "fallbacks", "Inferences of another arm than the assigned one, by that one and why", "assigned", "reason"
        )
        self._circuits = gauge(
            "circuit_open", "1 while an arm's model is not called because it keeps failing", "scored_by"
        )
        self._dead_letters = counter("dead_letters", "Dead letters committed, by reason", "reason")
        self._beside = counter(
            "arm_dead_letters", "Dead letters of arms that score every event beside the others", "scored_by", "reason"
        )
        self._broken_checks = counter("broken_checks", "Events read that broke a declared check, by field", "field")
        self._broken_so_far: dict[str, int] = {}
        self._lost = counter("events_lost", "Events that retention removed before they were scored", "partition")
        self._rescored = counter("rescored_events", "Events scored once more: offsets were set back", "partition")
        self._skipped = counter("events_skipped", "Events never scored: offsets were set forward", "partition")
        self.batches = counter("batches", "Batches committed").labels(**bound)
        self._stages = counter("stage_seconds", "Seconds spent in each stage of the hot path", "stage")
        self._restarts = counter("restarts", "Returns to the committed offsets, by cause", "cause")
        self.batch_events = histogram("batch_events", "Events in a batch", SIZES).labels(**bound)
        age = "From the log-append of a batch's first event to its commit"
        self.age = histogram("batch_age_seconds", age, AGES).labels(**bound)
        self.late = counter("late_events", "Events committed later than latency_ms").labels(**bound)
        self.lag = gauge("lag_events", "Events of this slot's partitions that are not read yet").labels(**bound)
        self.backlog = Backlog()
        gauge("drain_seconds", "Until no event waits, at the present rates").labels(**bound).set_function(
            self.backlog.drain_seconds
        )
        gauge("oldest_unscored_seconds", "Age of the oldest event that is not committed").labels(**bound).set_function(
            self.backlog.oldest_seconds
        )
        self.partitions = gauge("partitions", "Partitions that this slot reads").labels(**bound)
        self._held = gauge("held", "1 while the worker holds a batch back, by cause", "cause")
        self._model = gauge("model_info", "1 for each model version that scores", "scored_by", "model", "version")
        self._row_seconds = gauge("row_seconds", "Of a row in a model run by itself, at the warm-up", "scored_by")
        text = "Starts because the one before outgrew its quota"
        self.memory_restarts = counter("memory_restarts", text).labels(**bound)
        self.holding: set[str] = set()  # causes for which events are held back
        self.broken: set[str] = set()  # arms whose circuit is open
        self.samples, self.shares = SampleMetrics(registry, bound), ShareMetrics(registry, bound)
        self.leaves = LeafMetrics(bound)
        registry.register(self.leaves)
        self.load = LoadMetrics(bound)
        registry.register(self.load)

    def inferred(self, made: Made, count: int) -> None:
        self._inferences.labels(**self._bound, scored_by=made.arm).inc(count)
        if made.fallback:
            self._fallbacks.labels(**self._bound, assigned=made.assigned, reason=made.fallback).inc(count)

    def circuit(self, arm: str, broken: bool) -> None:
        (self.broken.add if broken else self.broken.discard)(arm)
        self._circuits.labels(**self._bound, scored_by=arm).set(broken)

    def dead_letters(self, reason: str, count: int) -> None:
        self._dead_letters.labels(**self._bound, reason=reason).inc(count)

    def arm_dead_letters(self, counts: Mapping[tuple[str, str], int]) -> None:
        """counts: by the arm and the reason."""
        for (arm, reason), count in counts.items():
            self._beside.labels(**self._bound, scored_by=arm, reason=reason).inc(count)

    def lost(self, partition: int, count: int) -> None:
        self._lost.labels(**self._bound, partition=str(partition)).inc(count)

    def rescored(self, partition: int, count: int) -> None:
        self._rescored.labels(**self._bound, partition=str(partition)).inc(count)

    def skipped(self, partition: int, count: int) -> None:
        self._skipped.labels(**self._bound, partition=str(partition)).inc(count)

    def broken_checks(self, totals: Mapping[str, int]) -> None:
        """Raise the counters to these totals of this process."""
        for name, total in totals.items():
            self._broken_checks.labels(**self._bound, field=name).inc(total - self._broken_so_far.get(name, 0))
            self._broken_so_far[name] = total

    def changed(
        self,
        models: Mapping[str, tuple[str, str]],
        leaves: Callable[[], Counts] = Counts,
        row_seconds: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Another scorer counts from 0 on, and other models (name and version, by arm) score.

        leaves: what tells of the models of hierarchies among them. row_seconds: of the others, by themselves.
        """
        self._row_seconds.clear()
        for arm, seconds in row_seconds.items():
            self._row_seconds.labels(**self._bound, scored_by=arm).set(seconds)
        self.leaves.follow(leaves)
        self._broken_so_far.clear()
        self._circuits.clear()
        self.broken.clear()
        self._model.clear()
        for arm, (name, version) in models.items():
            self._model.labels(**self._bound, scored_by=arm, model=name, version=version).set(1)

    def counts(self) -> dict[str, int]:
        """Return what a status tells of this process: sums over all labels."""
        found = {
            "events": self.events,
            "inferences": self._inferences,
            "fallbacks": self._fallbacks,
            "dead_letters": self._dead_letters,
            "late": self.late,
            "lost": self._lost,
        }
        sums = {name: _total(counter) for name, counter in found.items()}
        return {**sums, **self._beside_counts(), **self.shares.counts()}

    def _beside_counts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for sample in (sample for family in self._beside.collect() for sample in family.samples):
            if sample.name.endswith("_total"):
                name = f"dead_letters.{sample.labels['scored_by']}"
                found[name] = found.get(name, 0) + round(sample.value)
        return found

    def published(self, work: Work, seconds: float, now: float) -> None:
        """Count a batch that was committed, in so many seconds. now: seconds since 1970."""
        self.stage("publish", seconds)
        self.events.inc(len(work.batch))
        for made, count in work.inferences.items():
            self.inferred(made, count)
        self.batches.inc()
        self.batch_events.observe(len(work.batch))
        self.age.observe(max(0.0, now - work.batch.messages[0].timestamp()[1] / 1000))
        for reason, count in work.reasons.items():
            self.dead_letters(reason, count)
        self.arm_dead_letters(work.beside)
        self.samples.count(work.sampled, work.unsampled)
        self.shares.count(work.shares)

    def stage(self, stage: str, seconds: float) -> None:
        self._stages.labels(**self._bound, stage=stage).inc(seconds)

    def restarted(self, cause: str) -> None:
        self._restarts.labels(**self._bound, cause=cause).inc()

    def held(self, cause: str, value: bool) -> None:
        (self.holding.add if value else self.holding.discard)(cause)
        self._held.labels(**self._bound, cause=cause).set(value)


class SampleMetrics:
    """What was sampled for the join with labels, and what cannot be."""

    def __init__(self, registry: CollectorRegistry, labels: Mapping[str, str]) -> None:
        self._labels = labels
        text = "Inferences whose samples were committed, by the arm that scored"
        self._rows = Counter("penstock_samples", text, [*labels, "scored_by"], registry=registry)
        text = "Events scored that no share of keys samples, by why"
        self._left_out = Counter("penstock_unsampled_events", text, [*labels, "reason"], registry=registry)

    def count(self, rows: Mapping[str, int], left_out: Mapping[str, int]) -> None:
        """rows: by the arm that scored. left_out: by the reason."""
        for arm, count in rows.items():
            self._rows.labels(**self._labels, scored_by=arm).inc(count)
        for reason, count in left_out.items():
            self._left_out.labels(**self._labels, reason=reason).inc(count)


class ShareMetrics:
    """What became of the events of each arm that shares them with others. Counted also for a slot's vitals."""

    def __init__(self, registry: CollectorRegistry, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._sums: dict[tuple[str, str], int] = {}  # by arm and what is counted
        self._counters = {
            what: Counter(f"penstock_{name}", text, [*labels, "assigned"], registry=registry)
            for what, (name, text) in SHARES.items()
        }

    def count(self, shares: Mapping[str, Share]) -> None:
        """shares: by the arm, of a batch that was committed."""
        for arm, share in shares.items():
            for what in SHARES:
                count = getattr(share, what)
                self._counters[what].labels(**self._labels, assigned=arm).inc(count / SCALES.get(what, 1))
                self._sums[arm, what] = self._sums.get((arm, what), 0) + count

    def counts(self) -> dict[str, int]:
        """Return all counts of this process: `events.ARM`, `failed.ARM`, ..."""
        return {f"{what}.{arm}": count for (arm, what), count in list(self._sums.items())}


class LeafMetrics(Collector):
    """Metrics of the models of a hierarchy, asked for when they are read; all 0 without one."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._counts: Callable[[], Counts] = Counts

    def follow(self, counts: Callable[[], Counts]) -> None:
        """Ask this from now on."""
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        counts = self._counts()
        names, values = list(self._labels), list(self._labels.values())
        families: list[tuple[CounterMetricFamily | GaugeMetricFamily, float]] = [
            (_counter("made", "Models of a hierarchy that were loaded", names), counts.made),
            (_counter("evicted", "Models of a hierarchy that made room for others", names), counts.evicted),
            (_gauge("loaded", "Models of a hierarchy that are loaded", names), counts.open),
            (_gauge("bytes", "Memory that loaded models of a hierarchy take, estimated", names), counts.bytes),
        ]
        for family, value in families:
            family.add_metric(values, value)
            yield family


class LoadMetrics(Collector):
    """A slot's vitals, asked for when they are read; NaN where something is not known."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._vitals: Callable[[], Vitals] | None = None

    def follow(self, vitals: Callable[[], Vitals]) -> None:
        """Ask this from now on."""
        self._vitals = vitals

    def collect(self) -> Iterator[Metric]:
        now = self._vitals() if self._vitals is not None else Vitals(0, 0, 0, 0, 0)
        told: dict[str, tuple[str, float | None]] = {
            "arriving_events_per_second": ("Events that arrive in this slot's partitions", now.arriving),
            "scored_events_per_second": ("Events that this slot scores", now.scored),
            "capacity_events_per_second": ("Events that this slot could score, quotas included", now.capacity),
            "utilization": ("What this slot scores, of what it could", now.utilization),
            "slowdown": ("Time of model runs to that by themselves, 95th percentile", now.slowdown),
            "cpu_cores": ("Cores that this process uses", now.cpu),
            "resident_bytes": ("Memory that this process has", now.memory),
            **{name: (text, now.resources.get(key)) for key, (name, text) in RESOURCES.items()},
        }
        for name, (text, value) in told.items():
            family = GaugeMetricFamily(f"penstock_{name}", text, labels=list(self._labels))
            family.add_metric(list(self._labels.values()), math.nan if value is None else float(value))
            yield family


def _total(counter: Counter) -> int:
    samples = (sample for family in counter.collect() for sample in family.samples)
    return round(sum(sample.value for sample in samples if sample.name.endswith("_total")))


def _counter(name: str, text: str, labels: list[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"penstock_leaves_{name}", text, labels=labels)


def _gauge(name: str, text: str, labels: list[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"penstock_leaves_{name}", text, labels=labels)
