"""The demo as a newcomer runs it, with a sample of the year: it balances or says why not, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from examples.flights import report
from examples.flights.stage import ROOT

pytestmark = pytest.mark.timeout(240)
SAMPLE = ["--sample", "200", "--rate", "300", "--corrupt", "3"]
FLIGHTS = 1684  # every 200th of 336,776


class Run:
    """A demo beside the test; its output goes to a file."""

    def __init__(self, folder: Path, servers: str | None, *options: str) -> None:
        self.folder, self.output = folder / "demo", folder / "output"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PENSTOCK_BOOTSTRAP_SERVERS": servers or ""}
        command = [sys.executable, "-m", "examples.flights.demo", *SAMPLE, *options, "--folder", str(self.folder)]
        with self.output.open("wb") as output:
            self.process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        self.children: list[psutil.Process] = []

    @property
    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, happened: Callable[[str], bool]) -> None:
        """Wait until the output satisfies, and remember the processes that run then."""
        while not happened(self.text):
            assert self.process.poll() is None, self.text
            time.sleep(0.1)
        self.children = self.process.children(recursive=True)
        assert self.children

    def kill_worker(self, *, shadow: bool) -> None:
        """kill -9 the worker of one of the arms."""
        workers = [child for child in self.children if is_command(child, "worker")]
        (found,) = (worker for worker in workers if ("--arm" in worker.cmdline()) == shadow)
        found.kill()

    def end(self) -> int:
        """Wait for its end and for that of all it had started; return the exit code."""
        code = int(self.process.wait(200))
        assert not psutil.wait_procs(self.children, timeout=30)[1], "processes are left behind"
        return code


def is_command(process: psutil.Process, name: str = "") -> bool:
    """Whether it is a `penstock` command (of this name), and not the guard in front of it."""
    words = process.cmdline()
    return "penstock.cli" in words and "-I" not in words and (not name or name in words)


def replaying(text: str) -> bool:
    """Inferences are seen."""
    return "late with probability" in text


def account(text: str, arm: str) -> list[int]:
    """The arm's line of the account: events, inferences, dead letters, duplicates, lost."""
    after = text[text.index("The account") :].splitlines()
    line = next(line for line in after if line.split()[:1] == [arm])
    return [int(number.replace(",", "")) for number in line.split()[1:]]


def test_a_sample_of_the_year_balances_on_a_kafka_of_its_own(tmp_path: Path) -> None:
    run = Run(tmp_path, None)
    run.wait_for(replaying)
    assert run.end() == report.OK, run.text
    text = run.text
    events, inferences, letters, duplicates, lost = account(text, "active")
    assert account(text, "shadow") == [events, inferences, letters, duplicates, lost]
    assert (inferences, duplicates, lost) == (FLIGHTS, 0, 0)
    assert letters == events - FLIGHTS > 0
    assert "alert opened: " in text
    for part in ("Dec", "predictions/s", "p95", "Next:", "The account balances", "truncated"):
        assert part in text
    assert "FAIL|rdkafka" not in text
    assert {path.name for path in run.folder.glob("*.log")} == {"worker.log", "shadow.log", "monitor.log"}
    assert not (run.folder / "kafka" / "log").exists()


@pytest.mark.usefixtures("unmeasured")
def test_a_worker_that_is_killed_fails_the_account_and_is_named(tmp_path: Path, bootstrap_servers: str) -> None:
    run = Run(tmp_path, bootstrap_servers)
    run.wait_for(replaying)
    run.kill_worker(shadow=False)
    assert run.end() == report.NOT_BALANCED, run.text
    assert "WRONG: worker ended with code 137" in run.text
    assert "worker.log" in run.text


@pytest.mark.usefixtures("unmeasured")
def test_a_shadow_that_is_killed_is_named_and_the_rest_balances(tmp_path: Path, bootstrap_servers: str) -> None:
    run = Run(tmp_path, bootstrap_servers)
    run.wait_for(replaying)
    run.kill_worker(shadow=True)
    assert run.end() == report.SHADOW_FAILED, run.text
    assert "WRONG: shadow ended with code 137" in run.text
    events, inferences, letters, duplicates, lost = account(run.text, "active")
    assert (inferences, events - letters, duplicates, lost) == (FLIGHTS, FLIGHTS, 0, 0)


@pytest.mark.usefixtures("unmeasured")
def test_ctrl_c_stops_everything(tmp_path: Path, bootstrap_servers: str) -> None:
    run = Run(tmp_path, bootstrap_servers)
    run.wait_for(replaying)
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130, run.text
    assert "Traceback" not in run.text
    assert f"Logs: {run.folder}" in run.text


@pytest.mark.usefixtures("unmeasured")
def test_it_stays_up_on_request_until_it_is_told_to_stop(tmp_path: Path, bootstrap_servers: str) -> None:
    run = Run(tmp_path, bootstrap_servers, "--keep")
    run.wait_for(lambda text: "Ctrl-C here stops it all" in text)
    assert sum(is_command(child) for child in run.children) == 3
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == report.OK, run.text


def test_without_a_broker_it_says_so(tmp_path: Path) -> None:
    run = Run(tmp_path, "127.0.0.1:1")
    assert run.end() == report.NOT_STARTED
    assert "The demo could not go on" in run.text
    assert "127.0.0.1:1" in run.text
    assert "Traceback" not in run.text
