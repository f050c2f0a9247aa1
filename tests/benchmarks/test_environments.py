"""The environments of the peers, made by a stand-in for uv: once, whole or not at all, and explained when not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import environments
from benchmarks.environments import python_of
from benchmarks.errors import EnvironmentFailed

# Notes how it was called; `venv` makes a folder as uv does, `pip` does what a test says.
STAND_IN = """#!/bin/sh
echo "$@" >> "{log}"
for last; do :; done
case $1 in
    venv) rm -rf "$last" && mkdir -p "$last/bin" && touch "$last/bin/python" ;;
    pip) {sync} ;;
esac
"""

Uv = Callable[..., str]


@pytest.fixture
def uv(tmp_path: Path) -> Uv:
    def made(sync: str = "true") -> str:
        path = tmp_path / "uv"
        path.write_text(STAND_IN.format(log=tmp_path / "calls", sync=sync))
        path.chmod(0o755)
        return str(path)

    return made


def calls(folder: Path) -> list[str]:
    return [" ".join(line.split()[:2]) for line in (folder / "calls").read_text().splitlines()]


def test_an_environment_is_made_once(uv: Uv, tmp_path: Path) -> None:
    first = python_of("naive", tmp_path / "made", uv())
    assert python_of("naive", tmp_path / "made", uv()) == first
    assert first.exists()
    assert calls(tmp_path) == ["venv --clear", "pip sync"]


def test_what_is_installed_is_held_to_the_hashes_of_the_lock(uv: Uv, tmp_path: Path) -> None:
    python = python_of("naive", tmp_path / "made", uv())
    sync = (tmp_path / "calls").read_text().splitlines()[1]
    assert "--require-hashes --no-build" in sync
    assert f"--python {python}" in sync
    assert sync.endswith("peers/naive.lock")


def test_an_environment_that_a_killed_run_left_half_made_is_made_again(uv: Uv, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed):
        python_of("naive", tmp_path / "made", uv("kill -9 $$"))
    [left] = (tmp_path / "made").glob("naive-*/bin/python")
    (left.parent / "half").touch()

    assert python_of("naive", tmp_path / "made", uv()) == left
    assert not (left.parent / "half").exists()
    assert calls(tmp_path) == ["venv --clear", "pip sync"] * 2


def test_another_lock_is_another_environment(uv: Uv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "PEERS", tmp_path)
    (tmp_path / "peer.lock").write_text("one==1")
    first = python_of("peer", tmp_path / "made", uv())
    (tmp_path / "peer.lock").write_text("one==2")
    assert python_of("peer", tmp_path / "made", uv()) != first


def test_a_failure_tells_the_last_lines_and_what_to_do(uv: Uv, tmp_path: Path) -> None:
    failing = uv('for i in $(seq 40); do echo "line $i." >&2; done; exit 2')
    with pytest.raises(EnvironmentFailed) as failed:
        python_of("quix", tmp_path / "made", failing)
    told = str(failed.value)
    assert told.startswith("the environment of quix was not made")
    assert "ended with 2" in told
    assert "line 40." in told
    assert "line 20." not in told
    assert "leave quix out" in told


def test_a_uv_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="no-uv does not run"):
        python_of("naive", tmp_path / "made", str(tmp_path / "no-uv"))


def test_without_uv_the_set_up_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFailed, match="scripts/setup"):
        python_of("naive", tmp_path / "made")


def test_an_unknown_peer_is_told_the_others(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match="bytewax, faust, mlserver, naive, pathway, quix"):
        python_of("storm", tmp_path / "made")


@pytest.mark.parametrize("peer", environments.peers())
def test_every_lock_pins_what_its_peer_asks_for(peer: str) -> None:
    lock = (environments.PEERS / f"{peer}.lock").read_text()
    pins = re.findall(r"(?m)^([a-z0-9-]+)==\S+(?: ;.*?)? \\\n    --hash=sha256:", lock)
    assert set((environments.PEERS / f"{peer}.in").read_text().split()) <= set(pins)
    assert len(pins) == len(re.findall(r"(?m)^[a-z0-9]", lock))
    assert "://" not in lock
