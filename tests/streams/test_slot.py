"""A slot's lock: it keeps a second process out, and a disk that does not let it stops nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams.errors import Fenced
from streams.slot import SlotLock
from tests.rig import ROOT


def lock_in_another_process(folder: Path, first: str = "") -> subprocess.Popen[str]:
    """Return a process that holds the slot's lock until its standard input ends."""
    script = (
        "import resource, sys; from pathlib import Path; from streams.slot import SlotLock\n"
        f"{first}\n"
        f"lock = SlotLock(Path({str(folder)!r}), 'group.0')\n"
        "print('has it', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "has it\n"
    return process


def test_a_slot_in_use_is_refused_and_its_process_named_until_that_ends(tmp_path: Path) -> None:
    folder = tmp_path / "slots"
    with lock_in_another_process(folder) as other:
        with pytest.raises(Fenced, match=rf"slot group.0 is running already on this machine \(process {other.pid}\)"):
            SlotLock(folder, "group.0")
        SlotLock(folder, "group.1").close()
        other.kill()
        other.wait()
        lock = SlotLock(folder, "group.0")
    assert int((folder / "group.0.lock").read_text()) == os.getpid()
    with pytest.raises(Fenced, match=f"process {os.getpid()}"):
        SlotLock(folder, "group.0")
    lock.close()
    SlotLock(folder, "group.0").close()


def test_a_disk_that_takes_no_process_id_is_no_reason_not_to_start_and_the_lock_is_held(tmp_path: Path) -> None:
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))"
    with lock_in_another_process(tmp_path, full) as other:
        with pytest.raises(Fenced, match="process unknown"):
            SlotLock(tmp_path, "group.0")
        other.kill()


def test_a_place_without_files_or_without_locks_is_said_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    SlotLock(tmp_path / "file", "group.0").close()
    assert caplog.text.count("only Kafka keeps a second worker out") == 1

    def flock(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    SlotLock(tmp_path, "group.0").close()
    assert caplog.text.count("only Kafka keeps a second worker out") == 2
    assert os.strerror(errno.ENOLCK) in caplog.text
