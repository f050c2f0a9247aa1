"""The processes of the demo: the real command line, each with its log, and none left behind whatever happens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from penstock import guard

ROOT = Path(__file__).parents[2]
METRICS = re.compile(r"metrics at (http://\S+)/metrics")  # what a worker and a monitor log
READY_SECONDS = 90.0
STOP_SECONDS = 25.0  # a worker drains within 20


class StageFailed(Exception):
    """A part of the demo did not start or did not stay; the text names its log and quotes its end."""


class Service:
    """A `penstock` command that runs beside the demo.

    The guard between us ends it when we are gone, even by kill -9. A session of its own keeps Ctrl-C from it, so that
    the demo stops its parts in order.
    """

    def __init__(self, name: str, arguments: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._asked = False
        command = [*penstock(), *arguments, "--metrics-port", "0"]  # a free one; the log says which
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(guard.__file__), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=folder,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def failure(self) -> str | None:
        """Why it is not running, with the end of its log; None while it runs."""
        code = self._process.poll()
        return None if code is None else f"{self.name} ended with code {code}; {self.log} ends with:\n{tail(self.log)}"

    def url(self, path: str) -> str | None:
        """Where it serves /metrics and the like; None while its log does not say."""
        said = METRICS.search(self.log.read_text(errors="replace"))
        return f"{said[1]}/{path}" if said else None

    def wait_until_ready(self, path: str = "ready", seconds: float = READY_SECONDS) -> None:
        """Block until `path` answers with 200; raises StageFailed when it ends first or takes too long."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            if self.failure:
                raise StageFailed(self.failure)
            url = self.url(path)
            if url and _get(url):
                return
            time.sleep(0.1)
        raise StageFailed(f"{self.name} was not ready after {seconds:.0f} s; {self.log} ends with:\n{tail(self.log)}")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric that it serves, of the series with these labels; 0 while it does not answer."""
        text = _get(self.url("metrics") or "")
        families = text_string_to_metric_families(text.decode())
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def ask_to_stop(self) -> None:
        """Send SIGTERM, once, and return at once: a second one could meet an interpreter that is already closing."""
        if not self._asked and self._process.poll() is None:
            self._asked = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Stop it, by force after STOP_SECONDS, and return its exit code."""
        self.ask_to_stop()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            return self._process.wait()


class Stage:
    """The demo's folder and the services in it. Leaving the context stops them all, the first one last."""

    def __init__(self, folder: Path, servers: str) -> None:
        self.folder = folder
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._environment = {**os.environ, "PENSTOCK_BOOTSTRAP_SERVERS": servers, "PYTHONPATH": path}
        self.services: list[Service] = []

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def run(self, *arguments: str) -> str:
        """Run a `penstock` command to its end and return what it said; raises StageFailed with that when it fails."""
        done = subprocess.run(
            [*penstock(), *arguments], cwd=self.folder, env=self._environment, capture_output=True, text=True
        )
        if done.returncode:
            raise StageFailed(f"penstock {' '.join(arguments)} failed: {(done.stderr + done.stdout).strip()}")
        return done.stdout

    def start(self, name: str, *arguments: str) -> Service:
        """Start a `penstock` command that stays."""
        service = Service(name, list(arguments), self.folder, self._environment)
        self.services.append(service)
        return service

    def stop(self) -> dict[str, int]:
        """Stop what still runs, all at the same time; return the exit codes by name. Again: nothing happens."""
        services, self.services = self.services, []
        return stop_all(services)


def stop_all(services: list[Service]) -> dict[str, int]:
    """Stop them all, and all of them even when one will not or Ctrl-C comes meanwhile."""
    codes: dict[str, int] = {}
    for service in services:
        service.ask_to_stop()
    interrupted: BaseException | None = None
    for service in reversed(services):
        try:
            codes[service.name] = service.stop()
        except KeyboardInterrupt as error:
            interrupted = error
            codes[service.name] = service.stop()
    if interrupted is not None:
        raise interrupted
    return codes


def penstock() -> list[str]:
    """The command line's first words."""
    return [sys.executable, "-m", "penstock.cli"]


def tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    """Whether it happened within so many seconds."""
    give_up = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.05)
    return True


def _get(url: str) -> bytes:
    """What it answers; nothing where that is an error or no answer."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bytes(answer.read()) if answer.status == 200 else b""
    except (ValueError, urllib.error.URLError, OSError):
        return b""
