"""The join on a real Kafka: a monitor that is killed a dozen times misses no pair and counts none twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from xxhash import xxh64_intdigest

from monitoring import idle
from monitoring.cells import Group
from monitoring.judging import COUNT, FIXED, SUM, SUMS
from monitoring.quality_reader import parts
from monitoring.setup import Quality, Wiring
from monitoring.totals import totals_of
from penstock.cli import main
from tests.conftest import TopicFactory
from tests.integration.test_monitor import PATIENCE, ROOT
from tests.monitoring.dict_judging import score_bin
from tests.monitoring.joins import ARMS, AnEvent, sample
from tests.monitoring.traffic import reference

SOURCES, SAMPLES, LABELS = 2, 3, 2
WITHIN = 20_000  # ms, as monitor_process has it
KILLED = -signal.SIGKILL


@dataclass
class Labelled:
    """Topics of a deployment, what a worker and whoever knows the truth wrote there, and the truth."""

    wiring: Wiring
    folder: Path
    events: list[AnEvent] = field(default_factory=list)
    labels: list[tuple[bytes, int, int, int, bool, float]] = field(default_factory=list)  # ... time, partition, offset

    def __post_init__(self) -> None:
        kafka = dict(self.wiring.kafka)
        assert self.wiring.quality is not None
        self.quality = self.wiring.quality
        self.workers = Producer({**kafka, "transactional.id": self.wiring.deployment})
        self.workers.init_transactions(30)
        self.truths = Producer(kafka)
        self.random = random.Random(7)
        self.now = time.time_ns() // 1_000_000 - 2 * 3_600_000
        self.waiting: list[tuple[int, bytes]] = []

    def feed(self, batches: int) -> None:
        """Commit so many batches of samples, a second of record time each, every fifth aborted first; and labels."""
        for _ in range(batches):
            batch = [self._event() for _ in range(self.random.randint(1, 12))]
            if self.random.random() < 0.2:
                self._commit([AnEvent(e.key, e.time, e.partition, e.offset, (0.99, 0.99), "Z") for e in batch], False)
            self._commit(batch, True)
            self.events += batch
            self.now += 1000
            self._label([each for each in self.waiting if each[0] <= self.now])
        assert self.truths.flush(30) == 0

    def _event(self) -> AnEvent:
        draw = self.random
        partition, key = draw.randrange(SOURCES), b"key %d" % draw.randrange(5000)
        offset = sum(each.partition == partition for each in self.events) + draw.randrange(1 << 40)
        event = AnEvent(key, self.now, partition, offset, (draw.random(), draw.random()), draw.choice("ABC"))
        for _ in range(draw.choice((0, 1, 1, 1, 1, 2))):
            self.waiting.append((self.now + draw.randrange(0, WITHIN + 2000), key))
        return event

    def _commit(self, batch: list[AnEvent], commit: bool) -> None:
        places: dict[int, list[AnEvent]] = {}
        for event in batch:
            places.setdefault(xxh64_intdigest(event.key) % SAMPLES, []).append(event)
        self.workers.begin_transaction()
        for place, events in places.items():
            for arm in ARMS:
                value = sample(arm, events, self.wiring.deployment)
                self.workers.produce(self.quality.samples, value, partition=place)
        if commit:
            self.workers.commit_transaction(30)
        else:
            self.workers.flush(30)
            self.workers.abort_transaction(30)

    def _label(self, due: list[tuple[int, bytes]]) -> None:
        for one in due:
            self.waiting.remove(one)
        for at, key in sorted(due):
            value, revenue = self.random.random() < 0.5, self.random.choice((1.0, 2.5))
            document = json.dumps({"late": value, "revenue": revenue}).encode()
            place = self.random.randrange(LABELS)

            def kept(_: object, message: Any, at: int = at, value: bool = value, revenue: float = revenue) -> None:
                self.labels.append((message.key(), at, message.partition(), message.offset(), value, revenue))

            self.truths.produce(self.quality.labels, document, key, place, on_delivery=kept, timestamp=at)
        if due and self.random.random() < 0.1:
            self.truths.produce(self.quality.labels, b"no label", b"key", 0, timestamp=self.now)

    def end(self) -> None:
        """Let every label come, and every window end."""
        self.now += 60_000
        self._label(self.waiting[:])
        self.now += 600_000
        last = [AnEvent(b"end %d" % at, self.now, at % SOURCES, (1 << 50) + at, (0.5, 0.5), "A") for at in range(60)]
        self._commit(last, True)
        document = json.dumps({"late": True, "revenue": 1.0}).encode()
        for place in range(LABELS):
            self.truths.produce(self.quality.labels, document, b"nobody", place, timestamp=self.now)
        assert self.truths.flush(30) == 0

    def expected(self) -> dict[str, Any]:
        """The truth from plain dicts, as `told` gives what the monitor says."""
        by_key: dict[bytes, list[AnEvent]] = {}
        for event in sorted(self.events, key=lambda each: (each.time, each.partition, each.offset)):
            by_key.setdefault(event.key, []).append(event)
        final: dict[AnEvent, tuple[bool, float]] = {}
        unmatched = 0
        for key, at, _, _, value, revenue in sorted(self.labels, key=lambda each: each[1:4]):
            owner = next((event for event in reversed(by_key.get(key, [])) if event.time <= at), None)
            if owner is None or at - owner.time > WITHIN:
                unmatched += 1
            else:
                final[owner] = (value, revenue)
        outcomes = {
            (arm, origin): Counter(
                (score_bin(event.scores[place]), value)
                for event, (value, _) in final.items()
                if origin in ("", event.origin)
            )
            for place, arm in enumerate(ARMS)
            for origin in ("", "A", "B", "C")
        }
        return {
            "pairs": len(final),
            "missing": len(self.events) - len(final),
            "labels": len(self.labels) + LABELS,
            "unmatched": unmatched,
            "outcomes": outcomes,
            "revenue": (len(final), round(sum(revenue for _, revenue in final.values()) * FIXED)),
        }

    def told(self) -> dict[str, Any]:
        """What the quality topic says."""
        totals, counts = totals_of(parts(self.wiring.kafka, self.quality.quality))
        outcomes = {}
        for arm in ARMS:
            for origin in ("", "A", "B", "C"):
                group = Group(arm, "late", f"{arm}-1", "origin" if origin else "", origin, "binary")
                cells = totals.tables.get(group, {})
                found = {(cell // 2, bool(cell % 2)): count for cell, count in cells.items() if cell < SUMS}
                outcomes[arm, origin] = Counter(found)
        revenue = totals.tables.get(Group("active", "late", "active-1", "", "", "number", "revenue"), {})
        return {
            **{what: counts.get(what, 0) for what in ("pairs", "missing", "labels", "unmatched")},
            "outcomes": outcomes,
            "revenue": (revenue.get(COUNT, 0), revenue.get(SUM, 0)),
        }

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        names = [name for name in Wiring.__slots__ if name != "quality"]
        wiring = {name: getattr(self.wiring, name) for name in names}
        topics = {name: getattr(self.quality, name) for name in Quality.__slots__}
        config = {
            "wiring": {**wiring, "quality": topics},
            "reference": reference().to_bytes().decode(),
            "settings": {},
            "sources": SOURCES,
        }
        path = self.folder / "config.json"
        path.write_text(json.dumps(config))
        command = [sys.executable, "-m", "tests.integration.monitor_process", str(path), *flags]
        with (self.folder / "log").open("ab") as out:
            return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": "."})

    def wait(self, what: str, condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            log = (self.folder / "log").read_text()[-3000:]
            assert process.poll() is None, f"the monitor ended with {process.returncode} before {what}:\n{log}"
            assert time.monotonic() < deadline, f"{what} did not come to pass: {self.told()}\n{log}"
            time.sleep(0.3)

    def ended(self) -> bool:
        """Say whether the monitor has told of the end: of every event, whether it was labelled, and every label."""
        self._later()
        _, counts = totals_of(parts(self.wiring.kafka, self.quality.quality))
        return counts.get("pairs", 0) + counts.get("missing", 0) >= len(self.events)

    def _later(self) -> None:
        """Let another moment begin in every partition: what is held of the one before ends, and nothing is counted."""
        self.workers.begin_transaction()
        for place in range(SAMPLES):
            value = sample("active", [AnEvent(b"", self.now, 0, 0, (0.5, 0.5), "A")], "nobody's")
            self.workers.produce(self.quality.samples, value, partition=place)
        self.workers.commit_transaction(30)

    def copies(self) -> int:
        """The number of records in the topic of samples, all of them."""
        consumer = Consumer({**self.wiring.kafka, "group.id": "none"})
        try:
            bounds = [
                consumer.get_watermark_offsets(TopicPartition(self.quality.samples, each)) for each in range(SAMPLES)
            ]
            return sum(end for _, end in bounds)
        finally:
            consumer.close()


def test_a_partition_is_at_its_end_where_only_aborted_records_are_left(scene: Labelled) -> None:
    topic, kafka = scene.quality.labels, dict(scene.wiring.kafka)
    producer = Producer({**kafka, "transactional.id": f"{topic}.labels"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"1", partition=0)
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(topic, b"2", partition=0)
    producer.flush(30)
    producer.abort_transaction(30)
    at, found = idle.ended(scene.wiring, {(topic, 0): 1, (topic, 1): 0}, now=lambda: 5.0)
    assert (at, found) == (5000, {(topic, 0): 1, (topic, 1): 0})
    assert idle.ended(scene.wiring, {(topic, 0): 0})[1] == {}  # there is a label


@pytest.fixture
def scene(bootstrap_servers: str, topic: TopicFactory, tmp_path: Path) -> Labelled:
    quality = Quality(topic(SAMPLES, "samples"), topic(1, "quality"), topic(LABELS, "labels"), topic(1, "letters"))
    wiring = Wiring(
        deployment=f"judged-{quality.samples[-8:]}",
        profiles=topic(1, "profiles"),
        input=topic(SOURCES, "events"),
        kafka={"bootstrap.servers": bootstrap_servers},
        quality=quality,
        alerts=topic(1, "alerts"),
        snapshots=topic(1, "monitor", cleanup_policy="compact"),
        snapshot_seconds=0.5,
    )
    return Labelled(wiring, tmp_path)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def _feed_and_kill(scene: Labelled, processes: list[subprocess.Popen[bytes]], kills: int, *flags: str) -> None:
    """Kill monitors while they work: each when it has copied or told something, and a while after."""
    scene.feed(20)
    for number in range(kills):
        processes.append(scene.start(*flags))
        begin = scene.copies()
        scene.feed(6)
        after = scene.copies()
        scene.wait("a copy", lambda begin=begin, after=after: scene.copies() > max(begin, after), processes[-1])  # type: ignore[misc]
        if number % 3:
            time.sleep(scene.random.random())
        scene.feed(6)
        processes[-1].kill()
        assert processes[-1].wait() == KILLED
    processes.append(scene.start(*flags))
    scene.feed(10)
    scene.end()


@pytest.mark.timeout(600)
def test_a_monitor_that_is_killed_a_dozen_times_counts_every_pair_once(
    scene: Labelled, processes: list[subprocess.Popen[bytes]]
) -> None:
    _feed_and_kill(scene, processes, 12)
    scene.wait("the end", scene.ended, processes[-1])
    # Then what it says is the truth, whatever was repeated on the way
    assert scene.told() == scene.expected()
    assert scene.expected()["pairs"] > 500
    # and what is no label lies in the dead letters, byte for byte
    assert _letters(scene)
    # and the command shows it
    arguments = ["quality", scene.wiring.deployment, "--json", "--bootstrap-servers"]
    result = CliRunner().invoke(main, [*arguments, scene.wiring.kafka["bootstrap.servers"]])
    assert "cannot be read" in result.output  # its topic has another name here


def _letters(scene: Labelled) -> set[bytes | None]:
    consumer = Consumer({**scene.wiring.kafka, "group.id": "none", "enable.partition.eof": True})
    consumer.assign([TopicPartition(scene.quality.letters, 0, 0)])
    found = set()
    while (message := consumer.poll(10)) is not None:
        if (error := message.error()) is not None:
            assert error.code() == KafkaError._PARTITION_EOF
            break
        assert dict(message.headers() or [])["penstock.reason"] == b"not_json"
        found.add(message.value())
    consumer.close()
    assert found <= {b"no label"}
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("flag", ["--from-group-offsets", "--forget-copies"])
def test_a_monitor_that_breaks_the_recipe_fails_the_same_comparison(
    scene: Labelled, processes: list[subprocess.Popen[bytes]], flag: str
) -> None:
    # offsets that are committed more often than snapshots are written run ahead of them; the recipe does not mind
    scene.wiring = replace(scene.wiring, snapshot_seconds=2.0, commit_seconds=0.1)
    _feed_and_kill(scene, processes, 5, flag)
    deadline = time.monotonic() + 20
    while not scene.ended() and time.monotonic() < deadline and processes[-1].poll() is None:
        time.sleep(0.5)
    assert scene.told() != scene.expected()
