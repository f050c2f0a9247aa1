"""`penstock monitor DEPLOYMENT.yaml`: from a repository's reference to alerts in the topic."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from models.profiler import Profiler, Watermarks
from models.reference import Reference
from models.repository import Repository
from monitoring.folds import Folding, Record
from monitoring.profiles import ProfileFold
from monitoring.settings import Settings
from penstock.cli import main
from schemas import records
from tests.conftest import TopicFactory
from tests.models.graphs import linear_bundle
from tests.monitoring import traffic
from tests.monitoring.traffic import Batches, profiler
from tests.one_arm import OneArm
from tests.rig import Rig, encoder, read_committed

ROOT = Path(__file__).parents[2]
EVENT = {"type": "record", "name": "Event", "fields": [{"name": name, "type": "double"} for name in "abc"]}


def _declare(folder: Path, events: str, name: str) -> Path:
    (folder / "event.avsc").write_text(json.dumps(EVENT))
    path = folder / "deployment.yaml"
    path.write_text(
        f"""
name: {name}
input: {{topic: {events}, schema: event.avsc}}
output: {{topic: {name}.inferences}}
arms: [{{role: active, model: linear@production}}]
monitor: {{detector: windows, window_rows: 1000}}
"""
    )
    return path


def _add(folder: Path, profile: bytes | None) -> str:
    url = str(folder / "models")
    Repository(url, folder / "cache").add(linear_bundle(reference=profile), ["production"])
    return url


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "penstock.cli", "monitor", *arguments]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (tmp_path / "log").open("a") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, stderr=log, stdout=log, text=True, env=env))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def _wait(condition: Callable[[], object], process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def _told(servers: str, topic: str, name: str = "alert", deployment: str = "") -> list[bytes]:
    """What monitors told of a deployment, or of all; nothing where there is no topic yet. name: of the records."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "none", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = []
    while (message := consumer.poll(10)) is not None and message.error() is None:
        value = message.value() or b""
        if deployment in ("", records.decode(name, value)["deployment"]):
            found.append(value)
    consumer.close()
    return found


def _alerts(servers: str, topic: str) -> list[dict[str, object]]:
    return [records.decode("alert", value) for value in _told(servers, topic)]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("flags", [[], ["--oracle"]], ids=["faust", "oracle"])
def test_the_command_waits_for_profiles_then_publishes_alerts_and_serves_metrics(
    bootstrap_servers: str,
    topic: TopicFactory,
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    flags: list[str],
) -> None:
    # Given a deployment whose workers have not scored anything: there is no profiles topic yet
    events = topic(4, "events")
    name = f"monitored-{events[-8:]}"
    deployment, repository = _declare(tmp_path, events, name), _add(tmp_path, traffic.reference().to_bytes())
    topics = [f"{name}.profiles", f"{name}.alerts", f"{name}.snapshots"]
    options = ["--alerts-topic", topics[1], "--snapshots-topic", topics[2], "--metrics-port", "0"]
    options += ["--bootstrap-servers", bootstrap_servers, "--repository", repository, "--log-format", "json", *flags]
    process, log = start(str(deployment), *options), tmp_path / "log"
    _wait(lambda: "waiting for the topic" in log.read_text(), process, log)
    # When profiles of traffic that moves arrive
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(topics[0], 1, 1)])[topics[0]].result()
    try:
        producer, source = Producer({"bootstrap.servers": bootstrap_servers}), Batches(profiler(name))
        for value in [*source.batches(20), *source.batches(40, shift=2.0)]:
            producer.produce(topics[0], value, name.encode())
        producer.flush(30)
        _wait(lambda: "restored" in log.read_text(), process, log)
        _wait(lambda: len(_alerts(bootstrap_servers, topics[1])) >= 2, process, log)
        # Then alerts and metrics tell of it, the log is JSON, and the command stops when told
        found = _alerts(bootstrap_servers, topics[1])
        assert {(alert["state"], alert["name"]) for alert in found} >= {("opened", "wind"), ("opened", "late")}
        port = re.search(r"metrics at http://127.0.0.1:(\d+)/metrics", log.read_text())
        assert port

        def metrics() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/metrics", timeout=10) as answer:
                return str(answer.read().decode())

        _wait(lambda: re.search(r'what="open_alerts"} [23].0', metrics()), process, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert all(json.loads(line)["deployment"] == name for line in log.read_text().splitlines())
    finally:
        for deleted in admin.delete_topics(topics).values():
            deleted.exception()


@pytest.mark.timeout(200)
def test_every_event_is_profiled_once_though_the_worker_is_killed_and_a_change_opens_and_closes_an_alert(
    bootstrap_servers: str, topic: TopicFactory, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    # Given 32 seconds of traffic, of which nine are unlike the training data
    rng = np.random.default_rng(7)
    training = pl.DataFrame({"a": rng.normal(size=20_000), "b": rng.normal(size=20_000)})
    scores = training.select(score=pl.col("a") + pl.col("b"))
    reference = Reference.from_frame(training, scores)
    bundle = {"reference": reference.to_bytes()}
    rig = Rig(bootstrap_servers, tmp_path, topic, bundle=bundle, monitor={"detector": "windows", "window_rows": 500})
    alerts, profiles, encode = topic(1, "alerts"), f"{rig.name}.profiles", encoder()
    begin = time.time_ns() // 1_000_000 - 60_000
    for second in range(32):
        rows = rng.normal(size=(500, 2))
        rows[:, 0] += 2.0 * (8 <= second <= 16)
        values = [encode({"id": at, "a": a, "b": b}) for at, (a, b) in enumerate(rows.tolist())]
        rig.produce(values, timestamp=begin + 1000 * second)
    options = ["--alerts-topic", alerts, "--snapshots-topic", topic(1, "snapshots")]
    options += ["--bootstrap-servers", bootstrap_servers, "--repository", str(tmp_path / "models")]
    try:
        # When a worker scores it that is killed once, and a monitor watches
        process, log = start(str(rig.file), *options), tmp_path / "log"
        worker = rig.worker("--batch-events", "200")
        rig.wait_committed(1000)
        worker.kill()
        rig.worker()
        told: set[tuple[object, object]] = set()

        def closed() -> bool:
            told.update((alert["state"], alert["name"]) for alert in _alerts(bootstrap_servers, alerts))
            return {("closed", "a"), ("closed", "score")} <= told

        _wait(closed, process, log)
        # Then what did not change raised no alert, and every event is in exactly one profile
        assert {name for _, name in told} == {"a", "score"}
        rig.wait_committed(16_000)
        found = [records.decode("profile", m.value() or b"") for m in read_committed(bootstrap_servers, profiles, 1)]
        assert sum(profile["rows"] for profile in found) == 16_000
        # and none came after its tick had been closed
        fold = ProfileFold(rig.name, {found[0]["reference"]: reference}, 4)
        folding = Folding(fold, 0, 0)
        for at, profile in enumerate(found):
            folding.apply(Record(0, at, None, records.encode("profile", profile)))
        assert fold.facts(folding.state)["rows"] == 16_000
    finally:
        rig.close()
        AdminClient({"bootstrap.servers": bootstrap_servers}).delete_topics([profiles, rig.dead_letters])


def test_a_deployment_without_a_monitor_is_refused_with_the_way_out(bootstrap_servers: str, tmp_path: Path) -> None:
    deployment = _declare(tmp_path, "events", "unwatched")
    deployment.write_text(deployment.read_text().replace("monitor:", "#"))
    result = CliRunner().invoke(main, ["monitor", str(deployment), "--bootstrap-servers", bootstrap_servers])
    assert result.exit_code == 2
    assert "add `monitor: {}`" in result.output


def test_a_bundle_without_a_reference_is_refused_with_the_way_out(bootstrap_servers: str, tmp_path: Path) -> None:
    deployment, repository = _declare(tmp_path, "events", "unwatched"), _add(tmp_path, None)
    options = ["--bootstrap-servers", bootstrap_servers, "--repository", repository]
    result = CliRunner().invoke(main, ["monitor", str(deployment), *options])
    assert result.exit_code == 2
    assert "linear@production has no reference profile" in result.output
    assert "Reference.from_frame" in result.output


def test_a_weight_of_a_column_that_is_not_there_is_refused(bootstrap_servers: str, tmp_path: Path) -> None:
    deployment, repository = _declare(tmp_path, "events", "unwatched"), _add(tmp_path, traffic.reference().to_bytes())
    text = deployment.read_text()
    deployment.write_text(text[: text.index("monitor:")] + "monitor: {weights: {wind: 2, snow: 1}}\n")
    options = ["--bootstrap-servers", bootstrap_servers, "--repository", repository]
    for command, chosen in (("monitor", options), ("validate", options[2:]), ("apply", options)):
        result = CliRunner().invoke(main, [command, str(deployment), *chosen])
        assert result.exit_code == 2
        assert "no reference has a column snow; there are carrier, late, rain, wind" in result.output


def test_a_model_that_the_repository_lacks_is_refused(bootstrap_servers: str, tmp_path: Path) -> None:
    deployment = _declare(tmp_path, "events", "unwatched")
    options = ["--bootstrap-servers", bootstrap_servers, "--repository", str(tmp_path / "nothing")]
    result = CliRunner().invoke(main, ["monitor", str(deployment), *options])
    assert result.exit_code == 2
    assert "linear" in result.output


def test_a_second_monitor_of_a_slot_is_told_so(
    bootstrap_servers: str, tmp_path: Path, topic: TopicFactory, start: Callable[..., subprocess.Popen[str]]
) -> None:
    path = _declare(tmp_path, topic(2, "events"), f"twice-{time.time_ns()}")
    url = _add(tmp_path, traffic.reference().to_bytes())
    arguments = [str(path), "--bootstrap-servers", bootstrap_servers, "--repository", url]
    first = start(*arguments)
    locks = tmp_path / ".penstock" / "slots"
    _wait(lambda: locks.exists() and any(file.read_text() for file in locks.iterdir()), first, tmp_path / "log")
    second = start(*arguments)
    assert second.wait(60) == 3
    text = (tmp_path / "log").read_text()
    assert "is running already on this machine" in text
    assert f"process {first.pid}" in text
    assert first.poll() is None


@dataclass
class Swapping:
    """A deployment under control whose version changes while a monitor watches it by its name."""

    servers: str
    folder: Path
    name: str
    events: str

    def __post_init__(self) -> None:
        self.file, self.url = _declare(self.folder, self.events, self.name), str(self.folder / "models")
        self.alerts, self.snapshots, self.profiles = (f"{self.name}.{each}" for each in ("alerts", "snaps", "profiles"))
        self.model = f"linear-{self.name[-8:]}"  # of its own: a tag that moves concerns all deployments of the cluster
        self.file.write_text(self.file.read_text().replace("linear@production", f"{self.model}@production"))
        self.sent = 0

    def add(self, kept: Reference) -> str:
        made = linear_bundle(name=self.model, reference=kept.to_bytes())
        return Repository(self.url, self.folder / "cache").add(made).manifest.version

    def begin(self, kept: Reference) -> str:
        """Put the deployment and a first version under control, and make the topic of profiles; return the version."""
        self.admin = AdminClient({"bootstrap.servers": self.servers})
        version = self.add(kept)
        self.tag(version)
        self.apply()
        self.admin.create_topics([NewTopic(self.profiles, 1, 1)])[self.profiles].result()
        return version

    def tag(self, version: str) -> None:
        self.type("model", "tag", f"{self.model}@{version}", "production", "--repository", self.url)

    def apply(self) -> None:
        self.type("apply", str(self.file), "--repository", self.url)

    def end(self) -> None:
        for deleted in self.admin.delete_topics([self.profiles, self.alerts, self.snapshots]).values():
            deleted.exception()

    def type(self, *words: str) -> None:
        options = ["--bootstrap-servers", self.servers]
        result = CliRunner().invoke(main, [*words, *options])
        assert result.exit_code == 0, result.output

    def options(self, *more: str) -> list[str]:
        topics = ["--alerts-topic", self.alerts, "--snapshots-topic", self.snapshots]
        return [self.name, *topics, "--bootstrap-servers", self.servers, "--repository", self.url, *more]

    def feed(self, version: str, kept: Reference, batches: int, shift: float) -> None:
        one = Profiler(kept, deployment=self.name, arm="active", model=self.model, version=version)
        source = Batches(OneArm({"active": one}, Watermarks(clock=lambda: 2 * traffic.START)), tick=self.sent)
        producer = Producer({"bootstrap.servers": self.servers})
        for value in source.batches(batches, shift=shift):
            producer.produce(self.profiles, value, self.name.encode())
        assert producer.flush(30) == 0
        self.sent = source.tick

    def told(self) -> set[tuple[object, object, object]]:
        found = _alerts(self.servers, self.alerts)
        return {(alert["version"], alert["state"], alert["name"]) for alert in found}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("flags", [[], ["--oracle"]], ids=["faust", "oracle"])
def test_a_monitor_of_control_watches_a_version_that_comes_later_without_a_restart_and_ends_with_the_deployment(
    bootstrap_servers: str,
    topic: TopicFactory,
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    flags: list[str],
) -> None:
    events = topic(4, "events")
    scene, log = Swapping(bootstrap_servers, tmp_path, f"swapped-{events[-8:]}", events), tmp_path / "log"
    old, new = traffic.reference(), Reference.from_frame(*traffic.events(20_000, 7, shift=2.0))
    first = scene.begin(old)
    try:
        # Given a monitor that has seen the first version, and that it moved
        process = start(*scene.options(*flags))
        scene.feed(first, old, 20, shift=0.0)
        scene.feed(first, old, 40, shift=2.0)
        _wait(lambda: (first, "opened", "wind") in scene.told(), process, log)
        # When a version comes whose reference it does not know, calm and then moving; and the monitor is killed amid it
        second = scene.add(new)
        scene.tag(second)
        scene.feed(second, new, 30, shift=2.0)
        process.kill()
        process.wait()
        process = start(*scene.options(*flags))
        scene.feed(second, new, 40, shift=0.0)
        # Then it is watched against its own reference
        _wait(lambda: (second, "opened", "wind") in scene.told(), process, log)
        published = read_committed(bootstrap_servers, scene.profiles, 1)
        fold = ProfileFold(
            scene.name, {each.digest: each for each in (old, new)}, 4, Settings(detector="windows", window_rows=1000)
        )
        folding, expected = Folding(fold, 0, 0), set()
        for message in published:
            for out in folding.apply(Record(0, message.offset() or 0, None, message.value())):
                alert = records.decode("alert", out.value)
                expected.add((alert["version"], alert["state"], alert["name"]))
        _wait(lambda: scene.told() == expected, process, log)
        # and a change of how it is watched ends it to start anew, a removal ends it
        scene.file.write_text(scene.file.read_text().replace("window_rows: 1000", "window_rows: 2000"))
        scene.apply()
        assert process.wait(60) == 70
        process = start(*scene.options(*flags))
        restored = re.compile("restored(?!.*/operations)")
        _wait(lambda: len(restored.findall(log.read_text())) >= 3, process, log)
        scene.type("remove", scene.name, "--yes")
        assert process.wait(60) == 0
        assert f"{scene.name} was removed from control" in log.read_text()
        assert start(*scene.options(*flags)).wait(60) == 2
        assert f"{scene.name} is neither a YAML file nor a deployment under control" in log.read_text()
    finally:
        scene.end()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("flags", [[], ["--oracle"]], ids=["faust", "oracle"])
def test_a_version_that_took_over_is_compared_and_lasting_drift_asks_for_a_new_one_whoever_dies(
    bootstrap_servers: str,
    topic: TopicFactory,
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
    flags: list[str],
) -> None:
    # Given a version that scores, and a monitor that asks for another one when drift has lasted for a minute
    events = topic(4, "events")
    scene, log = Swapping(bootstrap_servers, tmp_path, f"taken-{events[-8:]}", events), tmp_path / "log"
    scene.file.write_text(scene.file.read_text().replace("window_rows: 1000", "window_rows: 1000, retrain_after: 60"))
    first = scene.begin(traffic.reference())

    def compared() -> list[bytes]:
        return _told(bootstrap_servers, "penstock.comparisons", "comparison", scene.name)

    def asked() -> list[bytes]:
        return _told(bootstrap_servers, "penstock.retraining", "retraining", scene.name)

    try:
        process = start(*scene.options(*flags))
        scene.feed(first, traffic.reference(), 40, shift=0.0)
        # When another one takes over, whose events move for two minutes, and the monitor dies again and again
        second = scene.add(traffic.reference())
        for _ in range(4):
            scene.feed(second, traffic.reference(), 30, shift=2.0)
            _wait(lambda: "restored" in log.read_text(), process, log)
            process.kill()
            process.wait()
            process = start(*scene.options(*flags))
        # Then each is told, repeats are the same record, and the commands show it
        _wait(lambda: asked() and compared(), process, log)
        time.sleep(3)  # for what would be told too often
        (comparison,), (request,) = set(compared()), set(asked())
        told = records.decode("comparison", comparison)
        assert (told["before"]["version"], told["after"]["version"]) == (first, second)
        wanted = records.decode("retraining", request)
        assert (wanted["version"], wanted["topic"], wanted["features"]) == (second, events, ["late", "wind"])
        assert wanted["since"].timestamp() * 1000 == pytest.approx(traffic.START + 40_000, abs=5_000)
        servers = ["--deployment", scene.name, "--bootstrap-servers", bootstrap_servers]
        shown = CliRunner().invoke(main, ["alerts", "comparisons", "--numbers", *servers]).output
        assert f"{scene.model}@{first[:8]} -> {scene.model}@{second[:8]}  outputs: moved: late median" in shown
        (listed,) = CliRunner().invoke(main, ["alerts", "retraining", "--json", *servers]).output.splitlines()
        assert json.loads(listed)["id"] == wanted["id"]
        shown = CliRunner().invoke(main, ["alerts", "retraining", *servers]).output
        assert f"train on {events} from 2023-11-14" in shown
    finally:
        scene.end()


def test_where_nobody_told_anything_beside_alerts_that_is_said(bootstrap_servers: str) -> None:
    for word, said in (("comparisons", "no version has taken over"), ("retraining", "no new version is asked for")):
        options = ["--topic", "nobody.told", "--bootstrap-servers", bootstrap_servers]
        result = CliRunner().invoke(main, ["alerts", word, *options])
        assert (result.exit_code, result.output.startswith(said)) == (0, True)
        assert CliRunner().invoke(main, ["alerts", word, "--json", *options]).output == ""
