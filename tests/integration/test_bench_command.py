"""`penstock bench` measures a deployment with the real worker, and leaves nothing behind on the cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.rig import Rig

ROOT = Path(__file__).resolve().parent.parent.parent


def bench(stand: Rig, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock.cli", "bench", str(stand.file), "--bootstrap-servers", stand.servers]
    return subprocess.run(
        [*command, "--repository", str(stand.folder / "models"), *arguments],
        cwd=stand.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_slot_is_measured_and_its_topics_are_gone(rig: Callable[..., Rig]) -> None:
    stand = rig()
    admin = AdminClient({"bootstrap.servers": stand.servers})
    done = bench(stand, "--runs", "1", "--rate", "1000000", "--core-hour", "0.05", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rate"] > 1_000
    assert 0 < found["cpu"] < 1e-3
    assert 10 < found["network"] < 5_000
    assert found["letters"] == 0
    assert found["latencies"]
    assert not [topic for topic in admin.list_topics(timeout=10).topics if topic.startswith("penstock-bench")]
    assert stand.committed() == 0


def test_events_that_do_not_fit_are_said(rig: Callable[..., Rig], tmp_path: Path) -> None:
    stand = rig()
    (tmp_path / "none.jsonl").write_text("")
    done = bench(stand, "--events", str(tmp_path / "none.jsonl"))
    assert done.returncode == 2
    assert "no events in" in done.stderr


def test_a_topic_without_events_has_none_to_measure_with(rig: Callable[..., Rig]) -> None:
    stand = rig()
    done = bench(stand, "--recorded", "100")
    assert done.returncode == 2
    assert "holds no events" in done.stderr


def test_the_events_of_a_deployment_that_begins_at_the_latest_are_read(rig: Callable[..., Rig]) -> None:
    stand = rig(input={"start": "latest"})
    done = bench(stand, "--runs", "1", "--rate", "10", "--latency-ms", "60000")
    assert done.returncode == 0, done.stderr
    assert "for 10/s at p95 60,000 ms    1 slot with" in done.stdout


def test_brokers_that_do_not_answer_are_named(rig: Callable[..., Rig]) -> None:
    done = bench(rig(), "--bootstrap-servers", "127.0.0.1:1")
    assert done.returncode == 2
    assert "no Kafka broker answers at 127.0.0.1:1" in done.stderr
    assert done.stderr.count("\n") < 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--recorded", "5", "--events", "x.csv"], "not both")],
)
def test_what_excludes_each_other_is_refused(rig: Callable[..., Rig], arguments: list[str], words: str) -> None:
    done = bench(rig(), *arguments)
    assert done.returncode == 2
    assert words in done.stderr
