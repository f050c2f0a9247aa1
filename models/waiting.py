"""The process of a sandbox, started before it is needed: what it imports, it imports beside us."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

_ready: Waiting | None = None


class Waiting:
    """`python -m models.sandboxed`, which waits for its question, in a folder of its own that goes with it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="penstock-sandbox-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "models.sandboxed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._folder.name,
            env=_environment(),
        )

    def ask(self, question: bytes, seconds: float) -> subprocess.CompletedProcess[bytes]:
        """Return what it answered, and end it. Raises subprocess.TimeoutExpired when that takes longer."""
        with self._folder, self._process as process:
            try:
                answer, said = process.communicate(question, seconds)
            except BaseException:
                process.kill()
                raise
            return subprocess.CompletedProcess(process.args, process.returncode, answer, said)


def prepare() -> None:
    """Start the process that the next question is put to."""
    global _ready
    _ready = _ready or Waiting()


def take() -> Waiting:
    """Return a process for one question: the one that waits, else a new one."""
    global _ready
    found, _ready = _ready, None
    return found or Waiting()


def _environment() -> dict[str, str]:
    """Nothing of ours but where the packages are; what a coverage measurement needs passes too."""
    kept = {key: value for key, value in os.environ.items() if key.startswith(("COV_", "COVERAGE_"))}
    here = str(Path(__file__).resolve().parent.parent)
    paths = [path for path in dict.fromkeys([here, *sys.path]) if path]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"}
