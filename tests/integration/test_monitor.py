"""The monitor on a real Kafka: the same alerts however often it is killed, and controls that must fail."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry, generate_latest

from monitoring import runner, snapshots
from monitoring.ledger import Snapshot
from monitoring.metrics import MonitorMetrics
from monitoring.setup import Topics, Wiring, prepare
from monitoring.sources import PROFILES, Source
from tests.chaos.monitored import read
from tests.conftest import TopicFactory
from tests.integration.monitor_process import fold_of, sources_of
from tests.monitoring.traffic import Alerts, Batches, by_state, fold_all, profiler, reference, state_of, told

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds until a condition must hold
SOURCES = 4
KILLED = -signal.SIGKILL


@dataclass
class Scene:
    """A deployment's topics with a feeder of profiles."""

    wiring: Wiring
    folder: Path
    committed: list[bytes] = field(default_factory=list)  # the profiles that a reader may see, in order
    end: int = 0  # offset behind the last of them

    def __post_init__(self) -> None:
        kafka = dict(self.wiring.kafka)
        self.source = Batches(profiler(self.wiring.deployment), sources=SOURCES)
        self.producer = Producer({**kafka, "transactional.id": self.wiring.deployment})
        self.producer.init_transactions(30)
        self.topics = Topics(SOURCES, 1, 1)

    @property
    def sources(self) -> list[Source]:
        return sources_of(self.wiring, self.topics, fold_of(self.config))

    @property
    def config(self) -> dict[str, Any]:
        wiring = {name: getattr(self.wiring, name) for name in Wiring.__slots__ if name != "quality"}
        settings = {"detector": "windows", "window_rows": 1000}
        return {
            "wiring": wiring,
            "reference": reference().to_bytes().decode(),
            "settings": settings,
            "sources": SOURCES,
        }

    def feed(self, batches: int, shift: float) -> None:
        """Commit so many batches; each fourth is followed by an aborted one of quite another kind."""
        for number in range(batches):
            self._transaction(self.source.batch(shift), commit=True)
            if number % 4 == 0:
                wild = Batches(profiler(self.wiring.deployment), tick=self.source.tick, sources=SOURCES)
                self._transaction(wild.batch(shift=50.0), commit=False)

    def _transaction(self, values: list[bytes], commit: bool) -> None:
        def delivered(_: object, message: Any) -> None:
            if commit:
                self.end = max(self.end, message.offset() + 1)

        self.producer.begin_transaction()
        for value in values:
            self.producer.produce(self.wiring.profiles, value, b"k", on_delivery=delivered)
        if commit:
            self.producer.commit_transaction(30)
            self.committed += values
        else:
            self.producer.flush(30)
            self.producer.abort_transaction(30)

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        path = self.folder / "config.json"
        path.write_text(json.dumps(self.config))
        command = [sys.executable, "-m", "tests.integration.monitor_process", str(path), *flags]
        with (self.folder / "log").open("ab") as out:
            return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": "."})

    def saved(self) -> int:
        """The position of the newest snapshot."""
        ((found, _),) = snapshots.read(self.wiring, 1, [(self.sources[0], 0)]).values()
        return found.next if found else 0

    def group_offset(self) -> int:
        consumer = Consumer({**self.wiring.kafka, "group.id": self.wiring.group})
        try:
            return int(consumer.committed([TopicPartition(self.wiring.profiles, 0)], timeout=10)[0].offset)
        finally:
            consumer.close()

    def wait(self, what: str, condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            log = (self.folder / "log").read_text()[-3000:]
            assert process.poll() is None, f"the monitor ended with {process.returncode} before {what}:\n{log}"
            assert time.monotonic() < deadline, f"{what} did not come to pass:\n{log}"
            time.sleep(0.1)

    def published(self) -> Alerts:
        """The alert records; two that share key, state and number must be the same bytes."""
        found: Alerts = {}
        for _, key, value in read(self.wiring.kafka, self.wiring.alerts):
            assert found.setdefault((key or b"", state_of(value)), value) == value
        return found

    def expected(self) -> Alerts:
        """What the oracle, and the fold over the list of committed profiles, say."""
        outs = runner.replay(self.wiring, fold_of(self.config))
        assert by_state(outs) == by_state(fold_all(fold_of(self.config), self.committed))
        assert ("opened", "psi", "wind") in told(outs)
        assert ("closed", "psi", "wind") in told(outs)
        return by_state(outs)


@pytest.fixture
def wiring(bootstrap_servers: str, topic: TopicFactory) -> Wiring:
    profiles = topic(1, "profiles")
    return Wiring(
        deployment=f"monitored-{profiles[-8:]}",
        profiles=profiles,
        input=topic(SOURCES, "events"),
        kafka={"bootstrap.servers": bootstrap_servers},
        alerts=topic(1, "alerts"),
        snapshots=topic(1, "monitor", cleanup_policy="compact"),
        snapshot_seconds=0.5,
    )


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    assert process.wait() == KILLED


@pytest.mark.timeout(300)
def test_a_monitor_that_is_killed_publishes_the_alerts_of_one_that_is_not(
    wiring: Wiring, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    # Given a monitor that first dies between an alert and the snapshot that would remember it
    scene = Scene(wiring, tmp_path)
    scene.feed(20, shift=0.0)
    scene.feed(40, shift=1.0)
    processes.append(scene.start("--die-after-outputs"))
    assert processes[-1].wait(PATIENCE) == KILLED
    assert scene.published()
    # When it is killed three more times in the midst of its work
    for shift in (0.0, 2.0, 0.0):
        processes.append(scene.start())
        begin = scene.end
        scene.feed(25, shift)
        scene.wait("a snapshot of new profiles", lambda begin=begin: scene.saved() > begin, processes[-1])
        scene.feed(10, shift)
        _kill(processes[-1])
    processes.append(scene.start())
    scene.feed(40, shift=0.0)
    scene.wait("the end", lambda: scene.saved() >= scene.end, processes[-1])
    processes[-1].terminate()
    assert processes[-1].wait(PATIENCE) == 0
    # Then its alerts are those of the oracle, byte for byte
    assert scene.published() == scene.expected()


@pytest.mark.timeout(300)
def test_a_monitor_that_starts_from_group_offsets_instead_fails_the_same_comparison(
    wiring: Wiring, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    careless = {name: getattr(wiring, name) for name in Wiring.__slots__}
    scene = Scene(Wiring(**careless | {"snapshot_seconds": 4.0, "commit_seconds": 0.3}), tmp_path)
    for shift in (0.0, 2.0, 0.0, 3.0):
        processes.append(scene.start("--from-group-offsets"))
        scene.feed(30, shift)
        scene.wait("offsets beyond the snapshot", lambda: scene.group_offset() > scene.saved(), processes[-1])
        _kill(processes[-1])
    processes.append(scene.start("--from-group-offsets"))
    scene.feed(40, shift=0.0)
    scene.wait("the end", lambda: scene.saved() >= scene.end, processes[-1])
    assert scene.published()
    assert scene.published() != scene.expected()


@pytest.mark.timeout(300)
def test_a_monitor_that_reads_uncommitted_profiles_fails_the_same_comparison(
    wiring: Wiring, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    scene = Scene(wiring, tmp_path)
    for shift in (0.0, 2.0, 0.0):
        scene.feed(30, shift)
    processes.append(scene.start("--read-uncommitted"))
    scene.wait("the end", lambda: scene.saved() >= scene.end, processes[-1])
    assert scene.published()
    assert scene.published() != scene.expected()


def test_the_runner_without_faust_publishes_the_same_alerts_across_restarts(wiring: Wiring, tmp_path: Path) -> None:
    scene = Scene(wiring, tmp_path)
    registry = CollectorRegistry()
    metrics = MonitorMetrics(registry, wiring.deployment)
    for shift in (0.0, 2.0, 0.0):
        scene.feed(30, shift)
        deadline = time.monotonic() + PATIENCE

        def stopping(deadline: float = deadline) -> bool:
            assert time.monotonic() < deadline
            return scene.saved() >= scene.end

        runner.run(wiring, scene.topics, scene.sources, metrics, stopping)
    assert scene.published() == scene.expected()
    text = generate_latest(registry).decode()
    place = f'deployment="{wiring.deployment}",partition="0",source="profiles"'
    assert f"penstock_monitor_position{{{place}}} {float(scene.end)}" in text
    assert 'what="rows"} 18000.0' in text


def test_a_snapshot_is_found_among_those_of_many_other_deployments(wiring: Wiring) -> None:
    producer = Producer(dict(wiring.kafka))
    producer.produce(wiring.snapshots, b'{"next": 7}\nmine', wiring.snapshot_key(0))
    producer.produce(wiring.snapshots, b'{"next": 5}\nstale', wiring.snapshot_key(0))
    producer.produce(wiring.snapshots, b"damaged", wiring.snapshot_key(0))
    for number in range(1000):
        producer.produce(wiring.snapshots, b'{"next": 99}\nother', f"other/{number % 3}".encode())
    producer.produce(wiring.snapshots, b'{"next": 3}\nlate', wiring.snapshot_key(0, "samples"))
    producer.flush(30)
    roles = {PROFILES: wiring.profiles, "samples": wiring.alerts, "labels": wiring.snapshots}
    sources = [Source(role, topic, None, 1) for role, topic in roles.items()]  # type: ignore[arg-type]
    found = snapshots.read(wiring, 1, [(source, 0) for source in sources])
    newest = {PROFILES: Snapshot(7, b"mine"), "samples": Snapshot(3, b"late"), "labels": None}
    assert found == {(roles[role], 0): (snapshot, 0) for role, snapshot in newest.items()}


def test_snapshots_that_are_void_are_not_found_and_those_of_others_and_later_ones_are(wiring: Wiring) -> None:
    source = Source("samples", wiring.profiles, None, 1)  # type: ignore[arg-type]
    other = Source(PROFILES, wiring.profiles, None, 1)  # type: ignore[arg-type]
    producer = Producer(dict(wiring.kafka))
    for each in (source, other):
        producer.produce(wiring.snapshots, b'{"next": 7}\nstate', wiring.snapshot_key(0, each.role))
    producer.flush(30)
    snapshots.forget(wiring, 1, source)
    assert snapshots.read(wiring, 1, [(source, 0)])[source.topic, 0][0] is None
    assert snapshots.read(wiring, 1, [(other, 0)])[other.topic, 0][0] is not None
    producer.produce(wiring.snapshots, b'{"next": 3}\nanew', wiring.snapshot_key(0, "samples"))
    producer.flush(30)
    found = snapshots.read(wiring, 1, [(source, 0)])[source.topic, 0][0]
    assert found is not None
    assert found.next == 3


def test_a_monitor_waits_for_the_profiles_topic_says_so_and_creates_its_own(
    wiring: Wiring, caplog: pytest.LogCaptureFixture
) -> None:
    names = {name: f"{wiring.profiles}.{name}" for name in ("profiles", "alerts", "snapshots")}
    late = Wiring(
        wiring.deployment,
        names["profiles"],
        wiring.input,
        wiring.kafka,
        alerts=names["alerts"],
        snapshots=names["snapshots"],
    )
    admin = AdminClient(dict(wiring.kafka))
    waited = threading.Event()

    def sleep(seconds: float) -> None:
        if not waited.is_set():
            waited.set()
            from confluent_kafka.cimpl import NewTopic

            admin.create_topics([NewTopic(names["profiles"], 2, 1)])[names["profiles"]].result()
        time.sleep(seconds)

    try:
        with caplog.at_level(logging.INFO, logger="monitoring"):
            found = prepare(late, sleep)
        assert waited.is_set()
        assert (found.sources, found.profiles, found.snapshots) == (SOURCES, 2, 2)
        assert f"waiting for the topic {names['profiles']}" in caplog.text
        assert prepare(late) == found  # and again, when all is there
    finally:
        for deleted in admin.delete_topics(list(names.values())).values():
            deleted.result()


def test_a_monitor_says_that_no_broker_answers_and_waits(wiring: Wiring, caplog: pytest.LogCaptureFixture) -> None:
    class Enough(Exception):
        pass

    def sleep(_: float) -> None:
        raise Enough

    nowhere = Wiring(wiring.deployment, wiring.profiles, wiring.input, {"bootstrap.servers": "127.0.0.1:1"})
    with caplog.at_level(logging.WARNING, logger="monitoring"), pytest.raises(Enough):
        prepare(nowhere, sleep)
    assert "no broker answers at 127.0.0.1:1" in caplog.text
