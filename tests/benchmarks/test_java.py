"""The Java contestants as far as no JDK is needed: how they are found, locked and started."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from benchmarks import java
from benchmarks.errors import NoCompiler
from penstock import maven
from penstock.embedded import JARS


def test_without_a_jdk_the_contestants_are_left_out_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)

    with pytest.raises(NoCompiler, match=r"left out: no JDK is present.*Install a JDK"):
        java.build(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_compiler_of_java_home_comes_before_that_of_the_path(tmp_path: Path) -> None:
    for home in ("chosen", "other"):
        compiler = tmp_path / home / "bin" / "javac"
        compiler.parent.mkdir(parents=True)
        compiler.touch(0o755)
    path = str(tmp_path / "other" / "bin")

    assert java.javac({"JAVA_HOME": str(tmp_path / "chosen"), "PATH": path}) == str(tmp_path / "chosen/bin/javac")
    assert java.javac({"JAVA_HOME": str(tmp_path / "a JRE"), "PATH": path}) == str(tmp_path / "other/bin/javac")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A javac that writes where it is told to and counts its calls in a file; nothing is downloaded."""
    path = tmp_path / "jdk" / "bin" / "javac"
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nwhile [ "$1" != -d ]; do shift; done\nmkdir "$2"\n')
    path.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    monkeypatch.setattr(maven, "fetch", lambda lock: [Path(file.name) for file in lock.files])
    return path


def test_sources_are_compiled_once(compiler: Path, tmp_path: Path) -> None:
    first, again = java.build(tmp_path / "out"), java.build(tmp_path / "out")

    assert first == again
    assert first[0].is_dir()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [first[0].name]
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert "--release 17" in call
    assert all(str(java.HERE / name) in call for name in ("HandTuned.java", "StreamsApp.java", "Decoder.java"))


def test_what_the_compiler_says_is_told_and_nothing_is_kept(compiler: Path, tmp_path: Path) -> None:
    compiler.write_text("#!/bin/sh\necho 'error: a leak' >&2\nexit 1\n")

    with pytest.raises(RuntimeError, match="error: a leak"):
        java.build(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_command_runs_a_main_class_on_the_class_path(tmp_path: Path) -> None:
    line = java.command([Path("classes"), Path("a.jar")], "HandTuned", ["host:1", "job.json"], tmp_path)

    assert Path(line[0]).name == "java"
    at = line.index("-cp")
    assert line[at:] == ["-cp", os.pathsep.join(["classes", "a.jar"]), "HandTuned", "host:1", "job.json"]
    assert "-Xmx1g" in line[:at]
    assert f"-Djava.io.tmpdir={tmp_path}" in line[:at]


def test_the_clients_are_as_new_as_the_embedded_broker() -> None:
    def versions(path: Path) -> dict[str, str]:
        files = maven.Lock.read(path).files
        assert all(file.size > 0 and len(bytes.fromhex(file.sha256)) == 32 for file in files)
        assert len({file.name for file in files}) == len(files)
        return {file.artifact: file.version for file in files}

    ours, brokers = versions(java.LOCK), versions(JARS / "kafka.toml")

    assert ours["kafka-clients"] == ours["kafka-streams"] == brokers["kafka-clients"]
    endpoint = tomllib.loads(java.LOCK.read_text())["endpoint"]
    assert all(f":{ours[name]}" in endpoint for name in ("kafka-streams", "onnxruntime", "jackson-databind"))
