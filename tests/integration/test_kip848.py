"""A group of the new protocol (KIP-848), asked for as an operator would: slots come, go, die and return."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from streams.membership import group_settings
from tests.rig import Rig, account, encoder

encode = encoder()
NOTHING_WRONG = {"lost": 0, "duplicated": 0, "out_of_order": 0, "unknown": 0}


@pytest.fixture
def stand(rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("PENSTOCK_KAFKA_GROUP_PROTOCOL", "consumer")
    monkeypatch.setenv("PENSTOCK_KAFKA_SESSION_TIMEOUT_MS", "9000")  # a consumer of this protocol refuses it
    return rig()


def events(count: int) -> list[bytes | None]:
    return [encode({"id": i, "a": 0.5 * i, "b": None}) for i in range(count)]


def test_the_group_has_the_new_protocol_and_our_session_timeout(stand: Rig) -> None:
    stand.produce(events(40))
    worker = stand.worker()
    stand.wait_committed(40)
    admin, group = AdminClient({"bootstrap.servers": stand.servers}), f"penstock.{stand.name}"
    assert admin.describe_consumer_groups([group])[group].result(20).type.name == "CONSUMER"
    assert group_settings(admin, group)["consumer.session.timeout.ms"] == "6000"
    assert "CONFWARN" not in worker.text()
    assert worker.stop() == 0


def test_slots_share_and_a_killed_one_comes_back_within_the_session_timeout(stand: Rig) -> None:
    flow = threading.Thread(target=lambda: [(stand.produce(events(400)), time.sleep(0.2)) for _ in range(60)])
    flow.start()
    first = stand.worker("--slot", "0")
    stand.wait_committed(400)
    second = stand.worker("--slot", "1")
    second.wait_for(r"reads partitions \[\d, \d\]")
    time.sleep(1)
    first.kill()
    killed = time.monotonic()
    again = stand.worker("--slot", "0")
    again.wait_for(r"reads partitions \[\d")
    assert time.monotonic() - killed < 12
    assert second.stop() == 0  # it leaves: its partitions go to the other at once
    left = time.monotonic()
    again.wait_for(r"reads partitions \[0, 1, 2, 3\]")
    assert time.monotonic() - left < 5
    flow.join()
    stand.wait_committed(24_000)
    places = stand.places(24_000)
    assert account(places, dict.fromkeys(range(4), 6_000)) == NOTHING_WRONG
    for partition in range(4):
        assert all(a < b for a, b in pairwise(o for p, o in places if p == partition))


def test_a_twin_on_another_machine_takes_the_slot_and_the_first_ends(stand: Rig, tmp_path: Path) -> None:
    first = stand.worker()
    stand.produce(events(40))
    stand.wait_committed(40)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stand.folder, here = elsewhere, stand.folder
    (elsewhere / "models").symlink_to(here / "models")
    second = stand.worker()
    deadline = time.monotonic() + 60
    sent = 40
    while first.process.poll() is None:
        assert time.monotonic() < deadline, first.text()
        stand.produce(events(40))
        sent += 40
        time.sleep(0.2)
    assert first.process.returncode == 3, first.text()
    assert "another worker took over this slot" in first.text()
    stand.wait_committed(sent)
    assert second.process.poll() is None
    assert account(stand.places(sent), dict.fromkeys(range(4), sent // 4)) == NOTHING_WRONG
