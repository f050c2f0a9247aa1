"""A quick start for the embedded broker: its classes, loaded and linked once per machine, kept in the user's cache.

The JVM writes such an archive (JDK 25's AOT cache) at the end of a training run, and ignores it by itself when the
Java runtime or the jars are not those of the training run, or its checksum is wrong. Without it the broker takes
more than twice as long to start.
"""

from __future__ import annotations

import fcntl
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from penstock import jvm, maven
from penstock.errors import PenstockError

CHECKED = "-XX:+VerifySharedSpaces"  # at both ends: a damaged archive is ignored instead of crashing the JVM


def options(jars: Sequence[Path], train: Callable[[list[str]], None], stream: TextIO | None = None) -> list[str]:
    """Return the JVM options of a quick start on these jars; the first time, make the archive by a training run.

    `train` runs the program once with the JVM options it is given. A training run that fails is not tried again: the
    program then starts slowly, and that is all.
    """
    folder = maven.cache_folder() / "archives"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_key(jars)}.aot"
    failed = path.with_suffix(".failed")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists() and not failed.exists():
            _make(path, failed, train, stream or sys.stderr)
    return [f"-XX:AOTCache={path}", CHECKED, "-Xlog:aot*=off", "-Xlog:cds*=off"] if path.exists() else []


def _key(jars: Sequence[Path]) -> str:
    release = Path(jvm.java()).parents[1] / "release"
    parts = [CHECKED, release.read_text() if release.exists() else jvm.java(), *(str(jar) for jar in jars)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _make(path: Path, failed: Path, train: Callable[[list[str]], None], stream: TextIO) -> None:
    for old in path.parent.glob("*.aot*"):
        old.unlink()
    stream.write("Preparing quick starts of the broker (once, some 20 s)\n")
    stream.flush()
    scratch = path.with_suffix(".aot.new")
    try:
        train([f"-XX:AOTCacheOutput={scratch}", CHECKED])
        scratch.replace(path)
    except (PenstockError, OSError) as error:
        failed.write_text(f"{error}\n")
        stream.write(f"  no archive was made ({error}); the broker starts without it\n")
