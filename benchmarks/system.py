"""What a process costs, read from /proc, and the processes that are measured."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return user and system seconds of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Process:
    """A Python module or command as a subprocess whose output goes to a file; ended on exit."""

    def __init__(
        self, arguments: list[str], log: Path, cwd: Path | None = None, env: dict[str, str] | None = None
    ) -> None:
        self._log = log.open("ab")
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=self._log,
            stderr=self._log,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent), **(env or {})},
        )
        self.pid = self._process.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def check(self) -> None:
        """Raise when the process has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(
                f"a measured process ended with {self._process.returncode}:\n{self.log.read_text()[-3000:]}"
            )

    def end(self, seconds: float = 20) -> None:
        """Ask the process to end, then make it."""
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def wait_until(true: object, seconds: float, what: str, process: Process | None = None) -> None:
    """Block until a callable returns a true value; raises after `seconds`."""
    deadline = time.monotonic() + seconds
    assert callable(true)
    while not true():
        if process is not None:
            process.check()
        if time.monotonic() > deadline:
            log = process.log.read_text()[-2000:] if process is not None else ""
            raise RuntimeError(f"not within {seconds} s: {what}\n{log}")
        time.sleep(0.05)
