"""The embedded broker's data folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import datafolder


def test_no_cluster_id_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    ids: Iterator[uuid.UUID] = iter([uuid.UUID(int=0xF8 << 120), uuid.UUID(int=1)])  # the first one begins with "-"
    monkeypatch.setattr("penstock.datafolder.uuid.uuid4", lambda: next(ids))

    assert datafolder.new_cluster_id() == "AAAAAAAAAAAAAAAAAAAAAQ"


def test_a_cluster_keeps_its_id_and_ports(tmp_path: Path) -> None:
    first = datafolder.write(tmp_path, "4.3.1", None, None)

    assert datafolder.read(tmp_path) == first
    assert datafolder.write(tmp_path, "4.3.1", first, None) == first
    assert first.port != first.controller_port


def test_a_wanted_port_wins_over_the_known_one_and_the_controller_makes_way(tmp_path: Path) -> None:
    first = datafolder.write(tmp_path, "4.3.1", None, None)

    second = datafolder.write(tmp_path, "4.3.1", first, first.controller_port)

    assert second.port == first.controller_port
    assert second.controller_port not in (second.port, 0)
    assert second.cluster_id == first.cluster_id


def test_the_lock_tells_whether_a_broker_runs_whatever_stands_in_the_folder(tmp_path: Path) -> None:
    assert not datafolder.is_running(tmp_path)
    with datafolder.locked(tmp_path) as lock:
        assert datafolder.is_running(tmp_path)
        assert datafolder.running_pid(tmp_path) is None
        datafolder.note_pid(lock, 47110)
        datafolder.note_pid(lock, 4711)  # the first one lost its port
        assert datafolder.running_pid(tmp_path) == 4711
        with pytest.raises(datafolder.DataInUse, match="process 4711"), datafolder.locked(tmp_path):
            pass

    assert not datafolder.is_running(tmp_path)
    assert datafolder.running_pid(tmp_path) is None
