"""The environments of the peers: each made from its lock, once, and whole or not at all.

Their needs exclude each other, and exclude ours: what is measured must not be a version that a neighbour put up with.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.errors import EnvironmentFailed

PEERS = Path(__file__).resolve().parent / "peers"
PYTHON = "3.11"  # of the locks; Bytewax has no wheels for a newer one
LAST_LINES = 15  # of uv's output in an error


def python_of(peer: str, folder: Path, uv: str | None = None) -> Path:
    """Return the Python of a peer's environment below `folder`, which is made when it is not there.

    Processes that ask at the same time wait for the one that makes it. Raises EnvironmentFailed.
    """
    lock = PEERS / f"{peer}.lock"
    if not lock.exists():
        raise EnvironmentFailed(f"{peer} is no peer with an environment; there are {', '.join(peers())}")
    digest = hashlib.sha256(lock.read_bytes() + PYTHON.encode()).hexdigest()[:12]
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    home = folder / f"{peer}-{digest}"
    with (folder / f"{home.name}.making").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)  # released by the system however this process ends
        # Written last: an environment without it was left half-made.
        stamp = home / "complete"
        if not (stamp.exists() and (home / "bin" / "python").exists()):
            _make(peer, home, lock, uv or _uv(peer))
            stamp.touch()
    return home / "bin" / "python"


def peers() -> list[str]:
    """Every peer that has a lock."""
    return sorted(path.stem for path in PEERS.glob("*.lock"))


def _make(peer: str, home: Path, lock: Path, uv: str) -> None:
    python = sys.executable if sys.version.startswith(f"{PYTHON}.") else PYTHON
    # --clear also removes what a killed run left; --no-build: a build would fetch what no hash names.
    _run(peer, [uv, "venv", "--clear", "--python", python, str(home)])
    target = str(home / "bin" / "python")
    _run(peer, [uv, "pip", "sync", "--require-hashes", "--no-build", "--python", target, str(lock)])


def _run(peer: str, command: list[str]) -> None:
    # Not VIRTUAL_ENV: uv would rather use the environment that this runs in.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    except OSError as error:
        raise EnvironmentFailed(
            f"the environment of {peer} was not made: {command[0]} does not run: {error}"
        ) from error
    if done.returncode:
        told = "\n".join((done.stderr + done.stdout).strip().splitlines()[-LAST_LINES:])
        raise EnvironmentFailed(
            f"the environment of {peer} was not made: `{' '.join(command)}` ended with {done.returncode}:\n{told}\n"
            "Running it again continues. If the package index cannot be reached, or has nothing for this machine, "
            f"leave {peer} out; if a version is gone from it, lock newer ones with `scripts/lock-peers --upgrade`."
        )


def _uv(peer: str) -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise EnvironmentFailed(
            f"the environment of {peer} was not made: there is no uv; `scripts/setup` installs it into .venv"
        )
    return found
