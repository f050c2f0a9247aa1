"""What a slot says of its load: put together, written where its supervisor looks, and read back or not at all."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from schemas.deployment import Quotas
from schemas.errors import RecordInvalid
from schemas.vitals import Vitals, Wait
from streams import vitals as module
from streams.arms import Made
from streams.metrics import WorkerMetrics
from streams.pace import Pace, Slowdown
from streams.pulse import Pulse
from streams.signs import Signs
from streams.vitals import VitalsFile, read, vitals_path

VITALS = Vitals(10_000, 1, 4, 8, 100, 50.0, 40.0, 400.0, 1.5, 1e-6, 0.5, 1 << 20, ("quota",), 30.0, 0.1)


def test_vitals_are_read_back_as_they_were_written() -> None:
    empty = Vitals(1, 2, 0, 8, 0)
    counting = replace(VITALS, counts={"events": 5}, circuits=("canary",), waits=(Wait(3, 70, 9, 1.5),))
    counting = replace(counting, resources={"cpu": 0.5, "sent": 1e6})
    for each in (VITALS, empty, counting):
        assert Vitals.parse(each.to_line()) == each
    assert VITALS.utilization == pytest.approx(0.1)
    assert empty.utilization is None
    assert replace(VITALS, scored=500.0).utilization == 1.0


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b'{"at_ms": 1}', VITALS.to_line()[:-9], b'{"held": [], "more": 1}']
)
def test_what_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(RecordInvalid, match="no vitals"):
        Vitals.parse(line)


def test_they_are_written_again_and_again_and_gone_with_the_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.01)
    path, asked = vitals_path(tmp_path, "penstock.d.0"), list[int]()

    def now() -> Vitals:
        asked.append(len(asked))
        return replace(VITALS, process=os.getpid(), lag=asked[-1])

    file = VitalsFile(path, now)
    file.start()
    deadline = time.monotonic() + 10
    while (found := read(path)) is None or found.lag < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    file.close()
    assert read(path) is None
    assert list(tmp_path.iterdir()) == []


def test_those_of_another_process_stay(tmp_path: Path) -> None:
    path = vitals_path(tmp_path, "penstock.d.0")
    path.write_bytes(VITALS.to_line())
    file = VitalsFile(path, lambda: VITALS)
    file.start()
    file.close()
    assert read(path) == VITALS


def test_a_folder_that_cannot_be_written_stops_nothing_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = VitalsFile(tmp_path / "gone" / "x.vitals", lambda: VITALS)
    for _ in range(3):
        file._write()
    assert caplog.text.count("the slot's load is not noted") == 1


def test_a_slot_tells_what_its_parts_noted_and_metrics_say_the_same() -> None:
    now = [100.0]
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry, deployment="d", arm="active", slot="0")
    pulse = Pulse(1_000, lambda: now[0], lambda: 0.0)
    slowdown = Slowdown(Pace((100,), (0.01,)), lambda: now[0])
    slowdown.ran(100, 0.03)
    pulse.changed(Quotas(), {"active": slowdown})
    for _ in range(8):
        pulse.batch(500, 0.5)
    metrics.held("quota", True)
    swapping = [False]
    clocks = {"monotonic": lambda: now[0], "cpu": lambda: now[0] / 2}
    signs = Signs(metrics, pulse, "active", lambda: 8, lambda: swapping[0], **clocks)
    metrics.load.follow(signs)
    signs()
    now[0] += 4
    told = signs()
    assert (told.topic_partitions, told.partitions, told.lag, told.process) == (8, 0, 0, os.getpid())
    assert (told.capacity, told.cpu, told.held) == (1_000.0, 0.5, ("quota",))
    assert (told.slowdown, told.row_seconds) == (pytest.approx(3.0), pytest.approx(1e-4))
    assert (told.turned, told.joined) == (4.0, False)
    metrics.backlog.assigned({3: 7}, [3])
    assert (signs().partitions, signs().joined) == (1, True)
    labels = {"deployment": "d", "arm": "active", "slot": "0"}
    assert registry.get_sample_value("penstock_capacity_events_per_second", labels) == 1_000.0
    assert registry.get_sample_value("penstock_slowdown", labels) == pytest.approx(3.0)
    metrics.events.inc(9)
    metrics.inferred(Made("canary", "active", 1.0, "failed", "m", "v"), 4)
    metrics.inferred(Made("active", "active", 1.0, "", "m", "v"), 3)
    metrics.dead_letters("undecodable", 1)
    metrics.dead_letters("refused", 1)
    metrics.lost(3, 20)
    metrics.circuit("canary", True)
    metrics.circuit("active", False)
    told = signs()
    assert told.counts == {"events": 9, "inferences": 7, "fallbacks": 4, "dead_letters": 2, "late": 0, "lost": 20}
    metrics.arm_dead_letters({("tryout", "model_failed"): 3, ("tryout", "missing_value"): 2, ("other", "refused"): 1})
    beside = {name: count for name, count in signs().counts.items() if "." in name}
    assert beside == {"dead_letters.tryout": 5, "dead_letters.other": 1}
    assert (told.circuits, told.waits) == (("canary",), (Wait(3, 7, 0, 0.0),))
    metrics.changed({})
    assert signs().circuits == ()
    metrics.held("quota", False)
    swapping[0] = True
    assert (signs().held, signs().settled) == ((), 0.0)


def test_metrics_of_what_is_not_known_are_no_numbers() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry, deployment="d", arm="active", slot="0")
    labels = {"deployment": "d", "arm": "active", "slot": "0"}
    found = registry.get_sample_value("penstock_utilization", labels)
    assert found is not None
    assert found != found
    metrics.changed({"active": ("m", "v")}, row_seconds={"active": 2e-6})
    told = {**labels, "scored_by": "active"}
    assert registry.get_sample_value("penstock_row_seconds", told) == 2e-6
    metrics.changed({"active": ("m", "w")})
    assert registry.get_sample_value("penstock_row_seconds", told) is None
