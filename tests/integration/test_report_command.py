"""`penstock report` as a user types it, on a real Kafka: from what workers and monitors published to the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from models.reference import Reference
from monitoring.profiles import ProfileFold
from monitoring.settings import Settings
from penstock.cli import main
from tests.conftest import TopicFactory
from tests.integration.monitor_process import LABEL
from tests.integration.test_monitor_command import Swapping, _add, _declare
from tests.monitoring import traffic
from tests.monitoring.traffic import START, Batches, fold_all, profiler
from tests.penstock.report.made import MINUTE, OTHER, parts
from tests.penstock.report.test_page import Read, check_alone
from tests.rig import Rig, encoder

pytestmark = pytest.mark.timeout(200)
TICKS, MOVED = 60, 40


def iso(second: int) -> str:
    return str(np.datetime64(START + 1000 * second, "ms")) + "Z"


class Past:
    """A deployment whose workers profiled a minute of traffic, of which the last 20 s moved; and its alerts."""

    def __init__(self, servers: str, topic: TopicFactory, folder: Path) -> None:
        self.servers, events = servers, topic(4, "events")
        self.name = f"reported-{events[-8:]}"
        self.file, self.repository = _declare(folder, events, self.name), _add(folder, traffic.reference().to_bytes())
        self.alerts, self.profiles = topic(1, "alerts"), f"{self.name}.profiles"
        source = Batches(profiler(self.name))
        values = [*source.batches(MOVED), *source.batches(TICKS - MOVED, shift=2.0)]
        fold = ProfileFold(
            self.name,
            {traffic.reference().digest: traffic.reference()},
            4,
            Settings(detector="windows", window_rows=1000),
        )
        admin = AdminClient({"bootstrap.servers": servers})
        admin.create_topics([NewTopic(self.profiles, 1, 1)])[self.profiles].result()
        producer = Producer({"bootstrap.servers": servers})
        for value in [*values, b"poison"]:
            producer.produce(self.profiles, value, self.name.encode())
        for out in fold_all(fold, values):
            producer.produce(self.alerts, out.value, out.key)
        assert producer.flush(30) == 0

    def report(self, *words: str) -> Result:
        place = ["--bootstrap-servers", self.servers, "--repository", self.repository, "--alerts-topic", self.alerts]
        result = CliRunner().invoke(main, ["report", str(self.file), *place, *words])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def told(self, *words: str) -> Any:
        result = self.report("--from", iso(0), "--to", iso(TICKS), *words, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def close(self) -> None:
        AdminClient({"bootstrap.servers": self.servers}).delete_topics([self.profiles])[self.profiles].exception()


@pytest.fixture
def past(bootstrap_servers: str, topic: TopicFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    made = Past(bootstrap_servers, topic, tmp_path)
    yield made
    made.close()


def column(told: Any, name: str) -> Any:
    (version,) = told["versions"]
    return next(each for each in version["columns"] if each["name"] == name)


def test_the_page_and_the_json_tell_of_every_event_and_of_what_moved(past: Past, tmp_path: Path) -> None:
    told = past.told()
    assert told["traffic"] == {
        "events": 200 * TICKS,
        "late": 0,
        "clamped": 0,
        "unknown_reference": 0,
        "poison": 1,
    }
    (version,) = told["versions"]
    assert sum(version["rows"]) == 200 * TICKS
    assert version["compared_with"] == "training"
    assert {version["columns"][0]["name"], version["columns"][1]["name"]} == {"wind", "late"}
    assert column(told, "wind")["psi"] > 0.2 > column(told, "rain")["psi"]
    assert {each["name"] for each in told["episodes"]} == {"wind", "late"}
    assert all(each["onset"] >= START + 1000 * MOVED for each in told["episodes"])
    # and the page says the same
    result = past.report("--from", iso(0), "--to", iso(TICKS), "--out", "some/page.html")
    assert result.exit_code == 0, result.output
    assert "12,000 events" in result.output
    read = Read.of((tmp_path / "some" / "page.html").read_text())
    check_alone(read)
    assert f"Report on {past.name}" in read.texts


def test_a_part_of_the_range_has_that_part_only(past: Past) -> None:
    result = past.report("--from", iso(10), "--to", iso(MOVED), "--json")
    told = json.loads(result.stdout)
    assert told["traffic"]["events"] == 200 * (MOVED - 10)
    assert column(told, "wind")["psi"] < 0.1
    assert told["episodes"] == []


def test_against_another_range_the_counts_of_that_range_are_expected(past: Past) -> None:
    words = ["--from", iso(MOVED), "--to", iso(TICKS), "--json", "--against"]
    told = json.loads(past.report(*words, f"{iso(0)}..{iso(MOVED)}").stdout)
    (version,) = told["versions"]
    assert (version["compared_with"], version["reference_rows"]) == ("range", 200 * MOVED)
    assert column(told, "wind")["psi"] > 0.2
    before = past.told()
    parts = {name: sum(bin_["events"] for bin_ in column(before, name)["bins"]) for name in ("wind", "rain")}
    assert set(parts.values()) == {200 * TICKS}
    # the traffic that moved is as before when it is compared with itself
    same = json.loads(past.report(*words, f"{iso(MOVED)}..{iso(TICKS)}").stdout)
    assert [each["psi"] for each in same["versions"][0]["columns"]] == [0.0] * 4
    # and a range without profiles leaves the training data
    none = json.loads(past.report(*words, f"{iso(-7200)}..{iso(-3600)}").stdout)
    assert none["versions"][0]["compared_with"] == "training"


def test_a_range_without_anything_makes_a_page_that_says_so(past: Past, tmp_path: Path) -> None:
    assert past.report("--since", "1m").exit_code == 0
    assert "No profile of this range was found" in (tmp_path / "report.html").read_text()


def test_what_cannot_be_reported_is_refused_with_the_way_out(past: Past) -> None:
    assert "is no time" in past.report("--since", "soon").output
    assert "is no range" in past.report("--against", "before").output
    past.file.write_text(past.file.read_text().replace("monitor:", "#"))
    result = past.report()
    assert result.exit_code == 2
    assert "add `monitor: {}`" in result.output


def scored_and_reported(made: Rig, folder: Path, rows: Sequence[Sequence[float | None]]) -> Any:
    """Return the report of the last hour once a worker has scored events with these values of `a` and `b`."""
    encode = encoder()
    made.produce(encode({"id": at, "a": a, "b": b}) for at, (a, b) in enumerate(rows))
    worker = made.worker()
    made.wait_committed(len(rows))
    assert worker.stop() == 0
    words = ["--bootstrap-servers", made.servers, "--repository", str(folder / "models"), "--since", "1h", "--json"]
    result = CliRunner().invoke(main, ["report", str(made.file), *words])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_what_a_worker_profiled_is_reported(rig: Callable[..., Rig], tmp_path: Path) -> None:
    # Given a deployment whose worker scored 400 events a moment ago
    rng = np.random.default_rng(7)
    training = pl.DataFrame({"a": rng.normal(size=5000), "b": rng.normal(size=5000)})
    reference = Reference.from_frame(training, training.select(score=pl.col("a") + pl.col("b")))
    rows = rng.normal(size=(400, 2)).tolist()
    # When it is reported by its file
    told = scored_and_reported(
        rig(bundle={"reference": reference.to_bytes()}, monitor={}),
        tmp_path,
        [(a, b if at % 2 else None) for at, (a, b) in enumerate(rows)],
    )
    # Then every event is told, and that half of the values are missing now
    assert told["traffic"]["events"] == 400
    assert column(told, "b")["missing"] == {"reference": 0.0, "now": 0.5}
    assert told["versions"][0]["columns"][0]["name"] == "b"


def test_what_a_worker_counts_by_segment_and_how_unusual_events_are_is_reported(
    rig: Callable[..., Rig], tmp_path: Path
) -> None:
    # Given a reference that counts scores apart by ranges of `b`, and how unusual rows are
    rng = np.random.default_rng(7)
    training = pl.DataFrame({"a": rng.normal(size=9000), "b": rng.normal(size=9000)})
    scores = training.select(score=pl.col("a") + pl.col("b"))
    reference = Reference.from_frame(training, scores, ["b"], unusual=True)
    made = rig(bundle={"reference": reference.to_bytes()}, monitor={})
    # When a worker scores 300 usual events, 60 far out in both fields, and 40 whose `b` is missing
    usual, far = rng.normal(size=(300, 2)).clip(-1, 1).tolist(), [[9.0, -9.0]] * 60
    rows = [*usual, *far, *([0.0, None] for _ in range(40))]
    (version,) = scored_and_reported(made, tmp_path, rows)["versions"]
    # Then each event with a value of `b` is in one segment, and those far out are beyond what training rows were
    apart = {each["name"]: each["events"] for each in version["columns"] if each["segment"] == "b"}
    assert apart.keys() == {part.name for part in reference.slices if part.segment}
    assert sum(apart.values()) == 360
    assert version["unusual"]["reference"] == pytest.approx(0.001, abs=0.0005)
    assert version["unusual"]["now"] >= 60 / 400


@contextmanager
def published(servers: str, topics: dict[str, list[bytes]]) -> Iterator[None]:
    """Records in topics of one partition, which are removed in the end."""
    admin, producer = AdminClient({"bootstrap.servers": servers}), Producer({"bootstrap.servers": servers})
    for made in admin.create_topics([NewTopic(name, 1, 1) for name in topics]).values():
        made.result()
    for name, values in topics.items():
        for value in values:
            producer.produce(name, value)
    assert producer.flush(30) == 0
    try:
        yield
    finally:
        for deleted in admin.delete_topics([*topics]).values():
            deleted.exception()


def test_a_deployment_under_control_is_reported_by_its_name_with_quality_and_divergence(
    bootstrap_servers: str, topic: TopicFactory, tmp_path: Path
) -> None:
    # Given a deployment of control that declares labels, whose references only the repository knows
    events, labels = topic(4, "events"), topic(2, "labels")
    scene = Swapping(bootstrap_servers, tmp_path, f"named-{events[-8:]}", events)
    with scene.file.open("a") as file:
        file.write(f"labels: {{topic: {labels}, schema: label.avsc, value: late}}\n")
    (tmp_path / "label.avsc").write_text(json.dumps(LABEL))
    known, at = traffic.reference(), ["--repository", scene.url]
    version = scene.add(known)
    scene.type("model", "tag", f"{scene.model}@{version}", "production", *at)
    scene.type("apply", str(scene.file), *at)
    scene.file.unlink()  # by its name only
    begin = START // MINUTE
    judged = [b"poison", *parts(deployment=scene.name, begin=begin, rows=40)]
    span = ["--from", str(np.datetime64(begin, "m")) + "Z", "--to", str(np.datetime64(begin + 10, "m")) + "Z"]
    words = ["report", scene.name, "--bootstrap-servers", bootstrap_servers, *at, *span]
    with published(bootstrap_servers, {scene.profiles: [], f"{scene.name}.quality": judged}):
        scene.feed(version, known, 20, shift=0.0)
        # When it is reported
        result = CliRunner().invoke(main, [*words, "--json", "--out", str(tmp_path / "page.html")])
        half = CliRunner().invoke(main, [*words[:-1], str(np.datetime64(begin + 5, "m")) + "Z", "--json"])
    assert result.exit_code == 0, result.output
    # Then its traffic is, and how good it was, and how it differs from another arm; of a part of the range, that part
    told = json.loads(result.stdout)
    assert told["traffic"]["events"] == 20 * 200
    (quality,) = (each for each in told["quality"]["versions"] if not each["segment"])
    numbers = {each["metric"]: each for each in quality["metrics"]}
    assert numbers["labelled"]["number"] == 400
    assert numbers["accuracy"]["low"] < 0.7 < numbers["accuracy"]["high"]
    assert told["divergence"]["pairs"][0]["beside"] == OTHER
    (earlier,) = (each for each in json.loads(half.stdout)["quality"]["versions"] if not each["segment"])
    assert next(each["number"] for each in earlier["metrics"] if each["metric"] == "labelled") == 200
    read = Read.of((tmp_path / "page.html").read_text())
    check_alone(read)
    assert {"Quality", "Divergence"} <= set(read.texts)


def test_a_name_that_control_does_not_have_is_refused(bootstrap_servers: str) -> None:
    result = CliRunner().invoke(main, ["report", "nobody-here", "--bootstrap-servers", bootstrap_servers])
    assert result.exit_code == 2
    assert "nobody-here is neither a YAML file nor a deployment under control" in result.output
