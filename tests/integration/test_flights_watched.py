"""Flights, watched by default: quiet while they are like the training months, then the blizzard, then the summer."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from examples.flights import data
from examples.flights.demo import FOLDER
from examples.flights.stage import Service, Stage
from monitoring.quality_reader import parts
from monitoring.totals import totals_of
from penstock import client
from schemas import records
from tests.conftest import TopicFactory
from tests.rig import read_committed

pytestmark = [pytest.mark.timeout(400), pytest.mark.usefixtures("unmeasured")]
LABELS = 4  # partitions; events are in one, for a backlog of several is read one after the other, not second by second
A_SECOND = 15  # flights, of record time
MONTH, AFTER, SUMMER_EVERY = 9_000, 6_000, 8
WEATHER = {"visib", "precip", "humid", "wind_speed", "wind_gust"}
SLACK = 5_000  # ms by which an onset may be told too early, or half of the time that it took
CLOSING = 400  # flights without labels that end every window


@dataclass(frozen=True)
class Scene:
    """Rows of the year in the order in which they fly, and the ms at which each part of them begins."""

    rows: np.ndarray
    times: np.ndarray
    blizzard: int
    after: int
    summer: int
    end: int
    labelled: int


def _between(year: data.Year, first: datetime, last: datetime) -> np.ndarray:
    found = year.events["scheduled_departure"].is_between(first, last, closed="left")
    return found.arg_true().to_numpy()


def _scene(year: data.Year) -> Scene:
    """A month drawn like the reference, 8 and 9 February, some days more like the reference, June and July."""
    chance = np.random.default_rng(2013)
    winter = _between(year, datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 4, 1, 4, tzinfo=UTC))
    blizzard = _between(year, datetime(2013, 2, 8, 5, tzinfo=UTC), datetime(2013, 2, 10, 5, tzinfo=UTC))
    summer = _between(year, datetime(2013, 6, 1, 4, tzinfo=UTC), datetime(2013, 8, 1, 4, tzinfo=UTC))[::SUMMER_EVERY]
    phases = [chance.choice(winter, MONTH), blizzard, chance.choice(winter, AFTER), summer]
    labelled = sum(map(len, phases))
    rows = np.concatenate([*phases, chance.choice(winter, CLOSING)])
    seconds = np.arange(len(rows)) // A_SECOND
    seconds[labelled:] += 700
    base = time.time_ns() // 1_000_000 - 1000 * int(seconds[-1]) - 180_000
    times = base + 1000 * seconds
    marks = [int(times[at]) for at in np.cumsum([len(each) for each in phases])]
    return Scene(rows, times, *marks[:3], int(times[labelled - 1]), labelled)


@dataclass
class Watched:
    """A deployment of the example's, with its topics."""

    servers: str
    folder: Path
    events: str
    labels: str
    alerts: str
    snapshots: str

    def declare(self) -> Path:
        declared = yaml.safe_load((FOLDER / "deployment.yaml").read_text())
        declared["name"] = self.events
        declared["input"]["topic"], declared["output"]["topic"] = self.events, f"{self.events}.inferences"
        declared["arms"] = declared["arms"][:1]
        declared["monitor"] = {"segments": ["origin"]}
        declared["labels"] |= {"topic": self.labels, "share": 1.0}
        path = self.folder / "deployment.yaml"
        path.write_text(yaml.safe_dump(declared))
        for schema in ("event.avsc", "label.avsc"):
            shutil.copy(FOLDER / schema, self.folder)
        return path

    def publish(self, year: data.Year, scene: Scene) -> None:
        """Publish flights at their record times, and the label of each an hour of the year's clock later."""
        ids = [f"flight {at}" for at in range(len(scene.rows))]
        flights = year.events[scene.rows].with_columns(flight_id=pl.Series(ids))
        outcomes = year.outcomes[scene.rows].select("late").with_columns(flight_id=pl.Series(ids))
        outcomes = outcomes.select("flight_id", "late")[: scene.labelled]
        self._send(self.events, 1, "event.avsc", flights, ids, scene.times)
        self._send(self.labels, LABELS, "label.avsc", outcomes, ids, scene.times + 10_000)

    def _send(
        self, topic: str, partitions: int, schema: str, frame: pl.DataFrame, keys: list[str], times: np.ndarray
    ) -> None:
        with client.Producer(self.servers, topic, self.folder / schema, key="flight_id") as encoding:
            values = encoding.encoder.encode_frame(frame)
        producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 5})
        for at, (value, key) in enumerate(zip(values, keys, strict=False)):
            producer.produce(topic, value, key, partition=at % partitions, timestamp=int(times[at]))
            if not at % 1000:
                producer.poll(0)
        assert producer.flush(60) == 0

    def counts(self) -> dict[str, int]:
        """What the joins counted."""
        topic = f"{self.events}.quality"
        return totals_of(parts({"bootstrap.servers": self.servers}, topic))[1]

    def told(self) -> list[dict[str, Any]]:
        """The alerts about features and outputs."""
        found = [records.decode("alert", m.value() or b"") for m in read_committed(self.servers, self.alerts, 0)]
        return [alert for alert in found if alert["kind"] in ("feature", "output", "group")]


@pytest.fixture
def watched(bootstrap_servers: str, topic: TopicFactory, tmp_path: Path) -> Iterator[Watched]:
    events, labels = topic(1, "events"), topic(LABELS, "labels")
    yield Watched(bootstrap_servers, tmp_path, events, labels, topic(1, "alerts"), topic(1, "snapshots"))
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    mine = [name for name in admin.list_topics(timeout=10).topics if name.startswith(f"{events}.")]
    for deleted in admin.delete_topics(mine).values():
        deleted.exception()


def _wait(what: str, condition: Callable[[], bool], services: list[Service]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        failures = [service.failure for service in services if service.failure]
        assert not failures, failures[0]
        assert time.monotonic() < deadline, f"{what} did not come to pass"
        time.sleep(0.5)


def test_a_month_like_the_training_is_quiet_the_blizzard_and_the_summer_are_found_and_every_label_is_joined(
    watched: Watched,
) -> None:
    # Given the flights and their labels
    year = data.load()
    scene, path = _scene(year), watched.declare()
    watched.publish(year, scene)
    models = f"--repository={watched.folder / 'models'}"
    with Stage(watched.folder, watched.servers) as stage:
        bundle = str(FOLDER / "production.zip")
        stage.run("model", "add", bundle, "--tag", "production", "--repository-only", models)
        # When a worker scores them and a monitor watches as it does by default
        topics = ("--alerts-topic", watched.alerts, "--snapshots-topic", watched.snapshots)
        services = [stage.start("worker", "worker", str(path), "--slot", "0", models)]
        services[0].wait_until_ready("ready")
        services.append(stage.start("monitor", "monitor", str(path), models, *topics))
        services[1].wait_until_ready("metrics")
        _wait("every pair", lambda: watched.counts().get("pairs", 0) >= scene.labelled, services)
        _wait("summer", lambda: any(ms(each["onset"]) >= scene.summer for each in watched.told()), services)
        codes = stage.stop()
    assert not any(codes.values()), codes
    # Then every label that exists is joined, once
    counts = watched.counts()
    assert (counts["pairs"], counts["labels"]) == (scene.labelled, scene.labelled)
    assert not {"unmatched", "duplicates", "corrections", "late_labels", "expired_labels"} & counts.keys()
    _holds(scene, watched.told())


def _holds(scene: Scene, told: list[dict[str, Any]]) -> None:
    def opened(begin: int, end: int) -> set[str]:
        found = [each for each in told if each["state"] == "opened" and begin <= ms(each["at"]) < end]
        early = {
            each["name"]: (begin - ms(each["onset"]), ms(each["at"]) - begin)
            for each in found
            if begin and ms(each["onset"]) < begin - max(SLACK, (ms(each["at"]) - begin) / 2)
        }
        assert not early, early
        return {each["name"] for each in found}

    assert opened(0, scene.blizzard) == set()
    assert opened(scene.blizzard, scene.after) >= WEATHER
    assert opened(scene.summer, scene.end) >= {"temp", "dewp", "recent_delay", "late_probability"}
    late = [each["summary"] for each in told if each["name"] == "recent_delay" and ms(each["onset"]) >= scene.summer]
    assert any(re.search(r"recent_delay: (mean|above \d/8) \+", text) for text in late), late


def ms(at: Any) -> int:
    return int(at.timestamp() * 1000) if isinstance(at, datetime) else int(at)
