"""Files from Maven repositories, without Maven: what a lock names is downloaded once and checked at every use.

A lock (penstock/jars/*.toml, written by scripts/lock-jars) lists coordinates with size and sha256. Files lie in a cache
that all clones of one user share; one gets there only whole and after its sha256 matched, so that an interrupted
download leaves nothing behind that a later start would trust.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from penstock.errors import DownloadFailed, FileAltered, MissingExtra

DOWNLOADS = 4  # at a time
PARTIAL = "partial-"

Announce = Callable[[str, int], contextlib.AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One file of a Maven repository; size in bytes."""

    group: str
    artifact: str
    version: str
    size: int
    sha256: str
    packaging: str = "jar"
    classifier: str = ""

    @property
    def name(self) -> str:
        middle = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{middle}.{self.packaging}"


@dataclass(frozen=True, slots=True)
class Lock:
    """A set of files that belong together, such as the class path of a program."""

    title: str
    files: tuple[LockedFile, ...]

    @classmethod
    def read(cls, path: Path) -> Lock:
        content = tomllib.loads(path.read_text())
        return cls(content["title"], tuple(LockedFile(**entry) for entry in content["file"]))


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the user's cache folder for Penstock: PENSTOCK_CACHE, else where the platform keeps caches."""
    if chosen := environ.get("PENSTOCK_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "penstock"
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock"


def fetch(lock: Lock, cache: Path | None = None, stream: TextIO | None = None) -> list[Path]:
    """Return the paths of the lock's files, in its order, downloading what the cache lacks.

    Progress goes to `stream` (standard error); nothing is written when every file is there.
    Raises DownloadFailed, FileAltered (a cached or downloaded file is not the locked one) and MissingExtra.
    """
    folder = (cache or cache_folder()) / "jars"
    paths = [folder / file.name for file in lock.files]
    if not all(path.exists() for path in paths):
        with _only_one(folder):
            _download_missing(lock, folder, stream or sys.stderr)
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        list(pool.map(check, lock.files, paths))
    return paths


def check(file: LockedFile, path: Path) -> None:
    """Raise FileAltered unless the file at `path` is the locked one, byte for byte."""
    with path.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.sha256:
        raise FileAltered(
            f"{path}: its sha256 is {found[:16]}…, but {file.sha256[:16]}… is locked: the file was altered or damaged. "
            "Delete it and start again to download it anew"
        )


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _download_missing(lock: Lock, folder: Path, stream: TextIO) -> None:
    for left_behind in folder.glob(f"{PARTIAL}*"):  # of a killed download: we hold the lock, so nobody is writing it
        shutil.rmtree(left_behind)
    missing = [file for file in lock.files if not (folder / file.name).exists()]
    if not missing:
        return
    progress = Progress(lock.title, missing, folder, stream)
    with (
        tempfile.TemporaryDirectory(prefix=PARTIAL, dir=folder) as staging,
        ThreadPoolExecutor(DOWNLOADS) as pool,
    ):
        download = _downloader(Path(staging), progress.announce)
        futures = [pool.submit(_download, download, file, folder) for file in missing]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    progress.done()


def _download(download: Callable[[LockedFile], Path], file: LockedFile, folder: Path) -> None:
    try:
        staged = download(file)
    except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
        raise DownloadFailed(
            f"{file.group}:{file.artifact}:{file.version} could not be downloaded ({type(error).__name__}: {error}). "
            "Nothing incomplete was kept. Check the network (or name a mirror under [repositories] in jgo's "
            "configuration file) and start again; files that are already here are not downloaded twice"
        ) from None
    check(file, staged)
    staged.replace(folder / file.name)


def _downloader(staging: Path, announce: Announce) -> Callable[[LockedFile], Path]:
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext, PythonResolver
    except ImportError:
        raise MissingExtra("the embedded broker needs the library jgo: pip install 'penstock[broker]'") from None
    repositories = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    resolver = PythonResolver(progress_callback=announce)
    context = MavenContext(repo_cache=staging, remote_repos=repositories, resolver=resolver)

    def download(file: LockedFile) -> Path:
        component = context.project(file.group, file.artifact).at_version(file.version)
        artifact: Any = component.artifact(file.classifier, file.packaging)
        return Path(resolver.download(artifact) or artifact.cached_path)

    return download


class Progress:
    """What is downloaded and how far it is: one line that is rewritten on a terminal, a line per tenth elsewhere."""

    def __init__(self, title: str, files: Sequence[LockedFile], folder: Path, stream: TextIO) -> None:
        self._title = title
        self._total = sum(file.size for file in files)
        self._stream = stream
        self._received = 0
        self._shown = 0
        count = f"{len(files)} file{'s' * (len(files) > 1)}"
        self._write(f"Downloading {title}: {count}, {self._total / 1e6:.1f} MB, once, into {folder}\n")

    @contextlib.contextmanager
    def announce(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        """Count the bytes of one file; the form that jgo asks for."""
        yield self._advance

    def done(self) -> None:
        self._write(f"{self._title}: downloaded and checked against the lock\n")

    def _advance(self, size: int) -> None:
        self._received += size
        steps = 100 if self._stream.isatty() else 10
        step = min(self._received * steps // max(self._total, 1), steps)
        if step > self._shown:
            self._shown = step
            end = "\r" if self._stream.isatty() and step < steps else "\n"
            self._write(f"  {self._received / 1e6:.1f} of {self._total / 1e6:.1f} MB ({100 * step // steps} %){end}")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
