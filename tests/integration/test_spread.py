"""The same events over 1, 4 or 12 partitions and 1 or 3 real workers give the same alerts, byte for byte."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from models.reference import Reference
from monitoring.profiles import ProfileFold
from monitoring.settings import Settings
from schemas import records
from tests.conftest import TopicFactory
from tests.monitoring.traffic import fold_all, told
from tests.rig import Rig, encoder, read_committed

SECONDS, ROWS = 60, 200
SHIFTED = range(20, 30)
VERSION = "00000000-0000-4000-8000-000000000001"  # of all deployments here: their alerts name it


def _values() -> np.ndarray:
    values = np.random.default_rng(5).normal(size=(SECONDS, ROWS, 2))
    values[list(SHIFTED), :, 0] += 1.0
    return values


def _reference() -> Reference:
    rng = np.random.default_rng(7)
    training = pl.DataFrame({"a": rng.normal(size=20_000), "b": rng.normal(size=20_000)})
    return Reference.from_frame(training, training.select(score=pl.col("a") + pl.col("b")))


@dataclass
class Spread:
    """Makes deployments that differ in how many partitions and workers they have."""

    servers: str
    folder: Path
    topic: TopicFactory
    begin: int
    made: list[Rig]

    def profiles(self, partitions: int, workers: int) -> list[dict[str, Any]]:
        """Score all events with so many workers and return the profiles that they wrote."""
        folder = self.folder / f"{partitions}-{workers}"
        folder.mkdir()
        bundle = {"reference": _reference().to_bytes(), "version": VERSION}
        rig = Rig(self.servers, folder, self.topic, partitions=partitions, bundle=bundle, monitor={})
        self.made.append(rig)
        self._publish(rig.events, partitions)
        for slot in range(workers):
            rig.worker("--slot", str(slot), "--batch-events", "500")
        rig.wait_committed(SECONDS * ROWS)
        found = read_committed(self.servers, f"{rig.name}.profiles", 1)
        return [records.decode("profile", message.value() or b"") for message in found]

    def _publish(self, topic: str, partitions: int) -> None:
        encode, producer = encoder(), Producer({"bootstrap.servers": self.servers, "linger.ms": 5})
        for second, rows in enumerate(_values().tolist()):
            for row, (a, b) in enumerate(rows):
                value, at = encode({"id": row, "a": a, "b": b}), self.begin + 1000 * second
                producer.produce(topic, value, b"k%d" % row, row % partitions, timestamp=at)
            producer.poll(0)
        assert producer.flush(60) == 0


@pytest.fixture
def spread(bootstrap_servers: str, topic: TopicFactory, tmp_path: Path) -> Iterator[Spread]:
    begin = time.time_ns() // 1_000_000_000 * 1000 - 1000 * (SECONDS + 60)
    made = Spread(bootstrap_servers, tmp_path, topic, begin, [])
    yield made
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    for rig in made.made:
        rig.close()
        for deleted in admin.delete_topics([f"{rig.name}.profiles", rig.dead_letters]).values():
            deleted.exception()


def _alerts(profiles: list[dict[str, Any]], partitions: int) -> list[Any]:
    reference = _reference()
    fold = ProfileFold("spread", {reference.digest: reference}, partitions, Settings(design_effect=1.0))
    return fold_all(fold, [records.encode("profile", {**each, "deployment": "spread"}) for each in profiles])


@pytest.mark.timeout(200)
def test_partitions_and_workers_change_no_byte_of_an_alert(spread: Spread) -> None:
    layouts = {(1, 1): [], (4, 3): [], (12, 1): [], (12, 3): []}  # type: ignore[var-annotated]
    for partitions, workers in layouts:
        profiles = spread.profiles(partitions, workers)
        assert sum(each["rows"] for each in profiles) == SECONDS * ROWS
        assert {each["partition"] for each in profiles} == set(range(partitions))
        layouts[partitions, workers] = _alerts(profiles, partitions)
    first, *others = layouts.values()
    assert {("opened", "e_detector", "a"), ("closed", "e_detector", "a")} <= set(told(first))
    assert all(other == first for other in others)
    # and the comparison sees one profile that is missing
    lost = next(
        at for at, each in enumerate(profiles) if each["rows"] and (each["tick"] * 1000) == spread.begin + 20_000
    )
    assert _alerts(profiles[:lost] + profiles[lost + 1 :], 12) != first
