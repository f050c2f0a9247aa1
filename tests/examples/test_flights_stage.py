"""The demo's processes: a failure names its log, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from examples.flights import stage
from examples.flights.stage import ROOT, Stage, StageFailed

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
QUICK = "import time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """`penstock CODE` runs Python code."""
    monkeypatch.setattr(stage, "penstock", lambda: [sys.executable, "-c"])


def up(service: stage.Service) -> bool:
    return "up" in service.log.read_text()


def test_a_command_that_fails_is_quoted(tmp_path: Path) -> None:
    with (
        Stage(tmp_path, "127.0.0.1:1") as found,
        pytest.raises(StageFailed, match=r"(?s)model add nothing.*does not exist"),
    ):
        found.run("model", "add", "nothing")


@pytest.mark.usefixtures("scripted")
def test_a_service_that_ends_names_its_log_and_quotes_it(tmp_path: Path) -> None:
    with Stage(tmp_path, "127.0.0.1:1") as found:
        service = found.start("worker", "import sys; sys.exit('no such topic')")
        with pytest.raises(StageFailed, match=r"(?s)worker ended with code 1; .*worker.log ends with:\nno such topic"):
            service.wait_until_ready()


@pytest.mark.usefixtures("scripted")
def test_a_service_that_is_not_ready_in_time_says_so(tmp_path: Path) -> None:
    with Stage(tmp_path, "127.0.0.1:1") as found, pytest.raises(StageFailed, match="worker was not ready after 0 s"):
        found.start("worker", QUICK).wait_until_ready(seconds=0.2)


@pytest.mark.usefixtures("scripted")
def test_leaving_the_stage_stops_even_what_will_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "STOP_SECONDS", 1.0)
    others = psutil.Process().children(recursive=True)  # such as the session's broker
    with Stage(tmp_path, "127.0.0.1:1") as found:
        services = [found.start("quick", QUICK), found.start("stubborn", STUBBORN)]
        assert stage.wait_until(lambda: all(map(up, services)), 20)
        children = [child for child in psutil.Process().children(recursive=True) if child not in others]
    assert all(service.failure for service in services)
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_nothing_survives_a_demo_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from examples.flights import stage\n"
        "stage.penstock = lambda: [sys.executable, '-c']\n"
        f"started = stage.Stage(Path({str(tmp_path)!r}), '127.0.0.1:1').start('worker', {QUICK!r})\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    log = tmp_path / "worker.log"
    assert stage.wait_until(lambda: log.exists() and "up" in log.read_text(), 20)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert children
    assert not psutil.wait_procs(children, timeout=15)[1]


def test_waiting_ends_with_what_was_waited_for_or_with_the_time() -> None:
    began = time.monotonic()
    assert stage.wait_until(lambda: True, 0)
    assert not stage.wait_until(lambda: False, 0.1)
    assert time.monotonic() - began >= 0.1


@pytest.mark.usefixtures("scripted")
def test_a_service_is_ready_when_the_address_in_its_log_answers(tmp_path: Path) -> None:
    code = (
        "import http.server as h, sys\n"
        "server = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)\n"
        "print(f'metrics at http://127.0.0.1:{server.server_port}/metrics', flush=True)\n"
        "server.serve_forever()"
    )
    (tmp_path / "ready").write_text("ready")  # served from there
    with Stage(tmp_path, "127.0.0.1:1") as found:
        service = found.start("worker", code)
        service.wait_until_ready(seconds=30)
        assert str(service.url("metrics")).endswith("/metrics")
