"""What gets into the jar cache: only whole files whose sha256 is locked."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from penstock import embedded, maven
from penstock.errors import DownloadFailed, FileAltered

# jgo never closes the answer about a file that a repository lacks: its socket goes when it is collected
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]

CONTENT = b"a jar" * 100_000


class Repository(SimpleHTTPRequestHandler):
    """A Maven repository in a folder; with `cut`, connections break off after that many bytes of a jar."""

    cut: int | None = None

    def copyfile(self, source: object, outputfile: object) -> None:
        content = source.read()  # type: ignore[attr-defined]
        outputfile.write(content[: self.cut])  # type: ignore[attr-defined]
        if self.cut is not None:
            self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a Maven repository on loopback, the only one that is asked."""
    folder = tmp_path / "repository"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Repository, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr("jgo.constants.MAVEN_CENTRAL_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(tmp_path / "none.conf"))
    monkeypatch.setattr(Repository, "cut", None)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def published(repository: Path, name: str = "valve", content: bytes = CONTENT) -> maven.LockedFile:
    file = maven.LockedFile("org.example", name, "1.2", len(content), hashlib.sha256(content).hexdigest())
    path = repository / "org/example" / name / "1.2" / file.name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return file


def cached(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "jars").iterdir() if path.name != "lock")


def test_a_download_says_what_and_how_much_and_a_cached_file_says_nothing(repository: Path, tmp_path: Path) -> None:
    lock = maven.Lock("A valve", (published(repository), published(repository, "pipe")))
    first, second = io.StringIO(), io.StringIO()

    paths = maven.fetch(lock, tmp_path / "cache", first)

    assert [path.name for path in paths] == ["valve-1.2.jar", "pipe-1.2.jar"]
    assert [path.read_bytes() for path in paths] == [CONTENT, CONTENT]
    assert "Downloading A valve: 2 files, 1.0 MB" in first.getvalue()
    assert "1.0 of 1.0 MB (100 %)" in first.getvalue()
    assert maven.fetch(lock, tmp_path / "cache", second) == paths
    assert second.getvalue() == ""


def test_a_connection_that_breaks_off_leaves_nothing_and_the_next_try_succeeds(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = maven.Lock("A valve", (published(repository),))
    monkeypatch.setattr(Repository, "cut", 1000)

    with pytest.raises(DownloadFailed, match=r"org\.example:valve:1\.2 could not be downloaded.*start again"):
        maven.fetch(lock, tmp_path / "cache", io.StringIO())

    assert cached(tmp_path / "cache") == []
    monkeypatch.setattr(Repository, "cut", None)
    assert maven.fetch(lock, tmp_path / "cache", io.StringIO())[0].read_bytes() == CONTENT


def test_a_file_that_the_repository_lacks_is_named_and_the_others_are_kept(repository: Path, tmp_path: Path) -> None:
    there = published(repository)
    lock = maven.Lock("A valve", (there, maven.LockedFile("org.example", "lost", "9", 1, "0" * 64)))

    with pytest.raises(DownloadFailed, match=r"org\.example:lost:9"):
        maven.fetch(lock, tmp_path / "cache", io.StringIO())

    assert cached(tmp_path / "cache") == ["valve-1.2.jar"]


def test_a_download_with_another_sha256_is_refused_and_not_kept(repository: Path, tmp_path: Path) -> None:
    file = published(repository)
    (repository / "org/example/valve/1.2/valve-1.2.jar").write_bytes(CONTENT[:-1] + b"!")

    with pytest.raises(FileAltered, match=r"valve-1\.2\.jar"):
        maven.fetch(maven.Lock("A valve", (file,)), tmp_path / "cache", io.StringIO())

    assert cached(tmp_path / "cache") == []


def test_a_jar_that_was_altered_in_the_cache_is_refused_by_name(repository: Path, tmp_path: Path) -> None:
    lock = maven.Lock("A valve", (published(repository),))
    [path] = maven.fetch(lock, tmp_path / "cache", io.StringIO())
    path.write_bytes(CONTENT[:-1] + b"!")

    with pytest.raises(FileAltered, match=r"valve-1\.2\.jar: its sha256 is .* Delete it and start again"):
        maven.fetch(lock, tmp_path / "cache", io.StringIO())


def test_what_a_killed_download_left_behind_is_removed_by_the_next(repository: Path, tmp_path: Path) -> None:
    left_behind = tmp_path / "cache/jars" / f"{maven.PARTIAL}xyz"
    left_behind.mkdir(parents=True)
    (left_behind / "half.jar").write_bytes(b"half")

    maven.fetch(maven.Lock("A valve", (published(repository),)), tmp_path / "cache", io.StringIO())

    assert cached(tmp_path / "cache") == ["valve-1.2.jar"]


def test_a_terminal_gets_one_line_that_is_rewritten(repository: Path, tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    maven.fetch(maven.Lock("A valve", (published(repository),)), tmp_path / "cache", stream)

    assert stream.getvalue().count("\n") == 3
    assert "%)\r" in stream.getvalue()


def test_the_cache_lies_where_the_platform_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert maven.cache_folder({"PENSTOCK_CACHE": "/somewhere"}) == Path("/somewhere")
    monkeypatch.setattr("sys.platform", "linux")
    assert maven.cache_folder({}) == tmp_path / ".cache" / "penstock"
    assert maven.cache_folder({"XDG_CACHE_HOME": "/caches"}) == Path("/caches/penstock")
    monkeypatch.setattr("sys.platform", "darwin")
    assert maven.cache_folder({}) == tmp_path / "Library" / "Caches" / "penstock"


def test_the_brokers_lock_names_every_jar_with_its_sha256_and_one_kafka_only() -> None:
    lock = maven.Lock.read(embedded.JARS / "kafka.toml")

    assert len({file.name for file in lock.files}) == len(lock.files) == 46
    assert all(len(bytes.fromhex(file.sha256)) == 32 and file.size > 0 for file in lock.files)
    assert {file.version for file in lock.files if file.group == "org.apache.kafka"} == {embedded.KAFKA}
