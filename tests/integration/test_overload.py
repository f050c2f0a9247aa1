"""Large events and a backlog: the worker's memory has a bound, and its metrics say how far behind it is."""

from __future__ import annotations

import math
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig import FIELDS, SCHEMA, Rig, Worker, encoder

LARGE = {**SCHEMA, "fields": [*FIELDS, {"name": "blob", "type": "bytes"}]}
BLOB = 990_000
MOST_MB = 420  # of memory: what a worker has at its start, and the bounds on queues and batches


def peak_mb(worker: Worker) -> int:
    """Return the most memory that the worker had at any time."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) // 1024


def test_large_events_are_scored_in_bounded_memory(rig: Callable[..., Rig]) -> None:
    stand, encode = rig(schema=LARGE), encoder(LARGE)
    blob = random.Random(1).randbytes(BLOB)
    for _ in range(10):
        stand.produce([encode({"id": i, "a": 1.0, "b": None, "blob": blob}) for i in range(40)])
    worker = stand.worker()
    stand.wait_committed(400, 120)
    assert len(stand.places(400)) == 400
    assert peak_mb(worker) < MOST_MB


def test_large_dead_letters_are_published_in_bounded_memory(rig: Callable[..., Rig]) -> None:
    stand = rig(limits={"dead_letters_per_minute": 0})
    noise = random.Random(1)
    for _ in range(5):
        stand.produce([noise.randbytes(BLOB) for _ in range(40)])
    worker = stand.worker()
    stand.wait_committed(200, 120)
    assert len(stand.read(stand.dead_letters, 200)) == 200
    assert peak_mb(worker) < MOST_MB


def test_the_metrics_of_a_backlog_rise_and_fall(rig: Callable[..., Rig]) -> None:
    stand, encode = rig(limits={"dead_letters_per_minute": 5}), encoder()
    stand.produce([encode({"id": 1, "a": 1.0, "b": None})] * 40)
    worker = stand.worker("--metrics-port", "0")
    stand.wait_committed(40)
    until(lambda: worker.metric("penstock_oldest_unscored_seconds") == 0)
    assert worker.metric("penstock_drain_seconds") == 0
    produced = time.time()
    stand.produce([b"no event"] * 400)  # the limit on dead letters holds them back
    worker.wait_for("scoring is paused")
    until(lambda: worker.metric("penstock_oldest_unscored_seconds") > 7)
    assert worker.metric("penstock_oldest_unscored_seconds") <= time.time() - produced + 1
    assert worker.metric("penstock_drain_seconds") == math.inf

    def go_on() -> bool:
        worker.process.send_signal(signal.SIGUSR1)
        return worker.metric("penstock_oldest_unscored_seconds") == 0

    until(go_on)
    assert worker.metric("penstock_drain_seconds") == 0


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


pytestmark = pytest.mark.timeout(200)
