"""The processes that are measured, and what they cost with all their children."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent


def cpu_seconds(pid: int) -> float:
    """Return user and system seconds of a process, its threads and its children."""
    return cpu_seconds_of(family(pid))


def cpu_seconds_of(processes: Sequence[psutil.Process]) -> float:
    """Return user and system seconds of processes, with their children that have ended."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process and its children in MiB."""
    total = 0
    for process in family(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / (1 << 20)


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that it has started."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


class Process:
    """A command as a subprocess whose output goes to a file; ended on exit, with what it started.

    told: what it reads on its standard input.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        told: bytes = b"",
    ) -> None:
        self._log = log.open("ab")
        self.log = log
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if told else subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT)} | dict(env or {}),
            start_new_session=True,  # so that all of it can be ended
        )
        self.pid = self._process.pid
        if self._process.stdin is not None:
            self._process.stdin.write(told)
            self._process.stdin.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raise when the process has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(
                f"a measured process ended with {self._process.returncode}:\n{self.log.read_text()[-3000:]}"
            )

    def end(self, seconds: float = 20) -> None:
        """Ask the process to end, then make it and what it started."""
        started = family(self.pid) if self._process.poll() is None else []
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in started[1:]:
            if process.is_running():
                process.kill()
        self._log.close()


def wait_until(true: Callable[[], object], seconds: float, what: str, process: Process | None = None) -> None:
    """Block until a callable returns a true value; raises RuntimeError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if process is not None:
            process.check()
        if time.monotonic() > deadline:
            log = process.log.read_text()[-2000:] if process is not None else ""
            raise RuntimeError(f"not within {seconds} s: {what}\n{log}")
        time.sleep(0.02)
