"""A deployment's topics as workers and labellers fill them, for one layout of the same input; and what came of it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from xxhash import xxh64_intdigest

from models.profiler import Profiler, Watermarks
from monitoring import snapshots
from monitoring.cells import Group
from monitoring.judging import COUNT, SUM, SUMS
from monitoring.quality_reader import parts
from monitoring.setup import Quality, Wiring
from monitoring.sources import Source
from monitoring.totals import totals_of
from schemas import records
from tests.chaos.world import ORIGINS, ROWS, STEP_MS, STEPS, Layout, World
from tests.integration.monitor_process import fold_of
from tests.monitoring.joins import ARMS, AnEvent, sample
from tests.monitoring.traffic import Alerts, by_state, fold_all, reference, state_of
from tests.monitoring.traffic import events as traffic
from tests.one_arm import OneArm

DEPLOYMENT = "watched"  # all layouts have one name, or their alerts could not be the same
SAMPLES_MOST, LABELS = 6, 2  # partitions
GROUP = 4  # steps of a transaction
LATE = 0.3  # share of a worker's transactions that come after those that follow
WILD = 0.1  # share of transactions that are aborted first, with quite other records
END_MS = 660_000  # of record time, after which every window is over and every tick closes
Topic = Callable[..., str]


@dataclass
class Stage:
    """The topics of one layout. again: the stage whose input is read once more from its beginning."""

    layout: Layout
    world: World
    kafka: Mapping[str, str]
    topic: Topic
    folder: Path
    again: Stage | None = None
    snapshot_seconds: float = 0.5
    profiles: list[bytes] = field(default_factory=list)  # that were committed, in order

    def __post_init__(self) -> None:
        name, places = self.folder.name, min(self.layout.sources, SAMPLES_MOST)
        self.folder.mkdir(parents=True)
        self._random = random.Random(f"{self.world.seed} {self.layout.name}")
        if self.again is None:
            own = self.topic(places, f"{name}.samples"), self.topic(LABELS, f"{name}.labels")
            profiles, inputs = self.topic(1, f"{name}.profiles"), self.topic(self.layout.sources, f"{name}.events")
        else:
            before = self.again.wiring
            assert before.quality is not None
            own, profiles, inputs = (before.quality.samples, before.quality.labels), before.profiles, before.input
            self.profiles = self.again.profiles
        self.samples = places
        self.quality = Quality(own[0], self.topic(1, f"{name}.quality"), own[1], self.topic(LABELS, f"{name}.letters"))
        self.wiring = Wiring(
            deployment=DEPLOYMENT,
            profiles=profiles,
            input=inputs,
            kafka=self.kafka,
            quality=self.quality,
            alerts=self.topic(1, f"{name}.alerts"),
            snapshots=self.topic(1, f"{name}.snapshots", cleanup_policy="compact"),
            snapshot_seconds=self.snapshot_seconds,
            commit_seconds=0.3,
            data=str(self.folder / "faust"),
        )
        self._held: dict[int, list[tuple[list[bytes], list[AnEvent]]]] = {}
        self._writers: list[Writer] = []
        self._ends: list[int] = []  # of what is read, when that was asked first

    # ---- what workers and labellers do

    def feed(self, pause: Callable[[], object] = lambda: None) -> None:
        """Write all the input. pause: called after every few steps."""
        self._writers = [Writer(self.kafka, f"{self.layout.name}.{each}") for each in range(self.layout.workers)]
        self._profilers = [_profiler() for _ in range(self.layout.workers)]
        self._truths = Producer({**self.kafka, "enable.idempotence": True, "delivery.timeout.ms": 120_000})
        self._tell(self._everywhere(b"first", self.world.base - STEP_MS, 1 << 40))
        for first in range(0, STEPS, GROUP):
            self._step(range(first, first + GROUP))
            pause()
        for worker in range(self.layout.workers):
            self._release(worker)
        self._end()

    def _everywhere(self, name: bytes, time: int, offset: int) -> list[AnEvent]:
        """Return an event of each source partition in each partition of samples, which nobody labels."""
        found = []
        for source in range(self.layout.sources):
            keys = (b"%s %d %d" % (name, source, at) for at in range(1 << 20))
            for place in range(self.samples):
                key = next(key for key in keys if xxh64_intdigest(key) % self.samples == place)
                found.append(AnEvent(key, time, source, offset + place, (0.5, 0.5), "A"))
        return found

    def _tell(self, events: list[AnEvent]) -> None:
        """Let each worker tell of its events, and no profiles."""
        for worker, writer in enumerate(self._writers):
            mine = [each for each in events if self.layout.worker(each.partition) == worker]
            writer.commit([], self._samples(mine), self.wiring.profiles, self.quality.samples)

    def _step(self, steps: range) -> None:
        workers = list(range(self.layout.workers))
        self._random.shuffle(workers)
        for worker in workers:
            values = [value for step in steps for value in self._profiles(worker, step)]
            events = [
                each
                for step in steps
                for each in (self.world.placed(event, self.layout) for event in self.world.events[step])
                if self.layout.worker(each.partition) == worker
            ]
            self._held.setdefault(worker, []).append((values, events))
            if self._random.random() >= LATE or len(self._held[worker]) > 1:
                self._release(worker)
        for step in steps:
            self._label(step)

    def _release(self, worker: int) -> None:
        """Commit what a worker holds, now and then after having aborted something else."""
        for values, events in self._held.pop(worker, []):
            places = self.wiring.profiles, self.quality.samples
            if self._random.random() < WILD:
                wild = [replace(each, scores=(0.99, 0.99), origin="Z") for each in events]
                self._writers[worker].abort([*values, *values], self._samples(wild), *places)
            self._writers[worker].commit(values, self._samples(events), *places)
            self.profiles += values

    def _profiles(self, worker: int, step: int) -> list[bytes]:
        features, scores = traffic(ROWS, 1000 * self.world.seed + step, self.world.shift(step))
        partitions = (np.arange(ROWS) % self.layout.sources).astype(np.int32)
        rows = np.flatnonzero(partitions % self.layout.workers == worker)
        times = np.full(len(rows), self.world.base + STEP_MS * step)
        return self._profilers[worker].profiles(features[rows], scores[rows], partitions[rows], times)

    def _samples(self, events: list[AnEvent]) -> list[tuple[int, bytes]]:
        places: dict[int, list[AnEvent]] = {}
        for event in events:
            places.setdefault(xxh64_intdigest(event.key) % self.samples, []).append(event)
        return [(place, sample(arm, found, DEPLOYMENT)) for place, found in places.items() for arm in ARMS]

    def _label(self, step: int) -> None:
        for label in sorted(self.world.labels[step], key=lambda each: each.time):
            document = json.dumps({"late": label.value, "revenue": label.revenue}).encode()
            place = self._random.randrange(LABELS)
            self._truths.produce(self.quality.labels, document, label.key, place, timestamp=label.time)
        self._truths.poll(0)

    def _end(self) -> None:
        """Let every label come, and every window end."""
        for step in range(STEPS, len(self.world.labels)):
            self._label(step)
        now = self.world.base + STEP_MS * len(self.world.labels) + END_MS
        self._tell(self._everywhere(b"end", now, 1 << 50))
        document = json.dumps({"late": True, "revenue": 1.0}).encode()
        for place in range(LABELS):
            self._truths.produce(self.quality.labels, document, b"nobody", place, timestamp=now)
        if left := self._truths.flush(120):
            raise RuntimeError(f"{left} labels were not acknowledged")

    # ---- what monitors do

    def command(self, slot: str, *flags: str) -> list[str]:
        """Return the arguments of a monitor's process."""
        own = f"{self.folder.name}-{slot}"
        config = {**self.config, "wiring": {**self.config["wiring"], "slot": own}}
        path = self.folder / f"config-{slot}.json"
        path.write_text(json.dumps(config))
        return ["-m", "tests.integration.monitor_process", str(path), *flags]

    @property
    def config(self) -> dict[str, Any]:
        wiring = {name: getattr(self.wiring, name) for name in Wiring.__slots__ if name != "quality"}
        quality = {name: getattr(self.quality, name) for name in Quality.__slots__}
        return {
            "wiring": {**wiring, "kafka": dict(self.kafka), "quality": quality},
            "reference": reference().to_bytes().decode(),
            "settings": {},
            "apart": True,  # from the stages before, whose members the group would wait for
            "sources": self.layout.sources,
        }

    def _later(self) -> None:
        """Let another moment begin in every partition of samples: what a join holds ends, and nothing is counted."""
        producer = Producer(dict(self.kafka))
        for place in range(self.samples):
            event = AnEvent(b"", self.world.base, 0, 0, (0.5, 0.5), "A")
            producer.produce(self.quality.samples, sample("active", [event], "nobody's"), partition=place)
        producer.flush(10)

    def done(self) -> bool:
        """Say whether a monitor has told of every event, and has folded all that it told itself."""
        self._later()
        counts = self._told()[1]
        events = sum(map(len, self.world.events))
        if counts.get("pairs", 0) + counts.get("missing", 0) < events + self._unlabelled:
            return False
        places = (("profiles", self.wiring.profiles, 0), ("quality", self.quality.quality, 0))
        return all(self._saved(role, *at) >= self._end_of(*at) for role, *at in places)

    def read_up(self) -> bool:
        """Say whether everything was read that was there when this was asked first, whatever became of it."""
        topics = (("profiles", self.wiring.profiles, 1), ("samples", self.quality.samples, self.samples))
        places = [(role, topic, at) for role, topic, count in topics for at in range(count)]
        self._ends = self._ends or [self._end_of(topic, at) for _, topic, at in places]
        self._later()
        return all(self._saved(*place) >= end for place, end in zip(places, self._ends, strict=True))

    @property
    def _unlabelled(self) -> int:
        """How many events begin the log that nobody labels."""
        return self.layout.sources * self.samples

    def _told(self) -> tuple[Any, dict[str, int]]:
        return totals_of(parts(self.kafka, self.quality.quality))

    def _saved(self, role: str, topic: str, partition: int) -> int:
        source = Source(role, topic, None, 1)  # type: ignore[arg-type]
        found, _ = snapshots.read(self.wiring, 1, [(source, partition)])[source.topic, partition]
        return found.next if found else 0

    def _end_of(self, topic: str, partition: int) -> int:
        """Return the offset behind the last record of a partition that is data and committed."""
        return max((at for at, _, _ in read(self.kafka, topic, partition)), default=-1) + 1

    def joined(self) -> dict[str, Any]:
        """What the quality topic says, in the form of `World.truth`."""
        totals, counts = self._told()
        outcomes = {}
        for arm in ARMS:
            for origin in ORIGINS:
                group = Group(arm, "late", f"{arm}-1", "origin" if origin else "", origin, "binary")
                cells = totals.tables.get(group, {})
                outcomes[arm, origin] = Counter(
                    {(cell // 2, bool(cell % 2)): count for cell, count in cells.items() if cell < SUMS}
                )
        revenue = totals.tables.get(Group("active", "late", "active-1", "", "", "number", "revenue"), {})
        return {
            "pairs": counts.get("pairs", 0),
            "missing": counts.get("missing", 0) - self._unlabelled,
            "labels": counts.get("labels", 0) - LABELS,  # those that end the log
            "unmatched": counts.get("unmatched", 0),
            "outcomes": outcomes,
            "revenue": (revenue.get(COUNT, 0), revenue.get(SUM, 0)),
        }

    def alerts(self) -> tuple[Alerts, int]:
        """Return alert records by key, state and number; and how many of them were told in two ways."""
        found: Alerts = {}
        twofold = 0
        for _, key, value in read(self.kafka, self.wiring.alerts):
            name = (key or b"", state_of(value))
            twofold += found.setdefault(name, value) != value
        return found, twofold

    def of_profiles(self) -> Alerts:
        """What the fold says of the profiles that were committed, in this process and undisturbed."""
        return by_state(fold_all(fold_of(self.config), self.profiles))


class Writer:
    """A worker's transactions, which outlive a broker that goes away."""

    def __init__(self, kafka: Mapping[str, str], name: str) -> None:
        self._producer = Producer({**kafka, "transactional.id": f"{DEPLOYMENT}.{name}", "log_level": 2})
        _patiently(lambda: self._producer.init_transactions(60))

    def commit(self, values: list[bytes], samples: list[tuple[int, bytes]], profiles: str, topic: str) -> None:
        """Write profiles and samples in one transaction that is committed."""
        while True:
            try:
                self._write(values, samples, profiles, topic)
                _patiently(lambda: self._producer.commit_transaction(60))
                return
            except KafkaException as error:
                if not error.args[0].txn_requires_abort():
                    raise
                _patiently(lambda: self._producer.abort_transaction(60))

    def abort(self, values: list[bytes], samples: list[tuple[int, bytes]], profiles: str, topic: str) -> None:
        """Write the same and take it back; readers of committed records never see it."""
        try:
            self._write(values, samples, profiles, topic)
            self._producer.flush(10)
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
        _patiently(lambda: self._producer.abort_transaction(60))

    def _write(self, values: list[bytes], samples: list[tuple[int, bytes]], profiles: str, topic: str) -> None:
        self._producer.begin_transaction()
        for value in values:
            self._producer.produce(profiles, value, DEPLOYMENT.encode(), 0)
        for place, value in samples:
            self._producer.produce(topic, value, None, place)


def _patiently(step: Callable[[], object]) -> None:
    """Do a step of a transaction, again as long as it may be tried again."""
    for _ in range(10):
        try:
            step()
            return
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
    raise RuntimeError("a transaction could not be ended")


def _profiler() -> OneArm:
    one = Profiler(reference(), deployment=DEPLOYMENT, arm="active", model="late", version="v1")
    return OneArm({"active": one}, Watermarks(clock=lambda: 1 << 42))


def read(kafka: Mapping[str, str], topic: str, partition: int = 0) -> Iterator[tuple[int, bytes | None, bytes]]:
    """Yield offset, key and value of every committed record of a partition."""
    consumer = Consumer({**kafka, "group.id": "none", "enable.partition.eof": True, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0)])
    try:
        while (message := consumer.poll(20)) is not None:
            if (error := message.error()) is None:
                yield message.offset(), message.key(), message.value() or b""
            elif error.code() == KafkaError._PARTITION_EOF:
                return
        raise RuntimeError(f"{topic} could not be read to its end")
    finally:
        consumer.close()


def kind_of(value: bytes) -> str:
    """Return what an alert is about."""
    return str(records.decode("alert", value)["kind"])
