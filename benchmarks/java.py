"""The Java contestants: compiled with the machine's JDK, run on the Java that the `broker` extra installs."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.errors import NoCompiler
from penstock import jvm, maven

HERE = Path(__file__).with_name("java")
LOCK = HERE / "jars.toml"
RELEASE = ("--release", "17")  # the oldest JDK that compiles them
# What an expert chooses for throughput on two cores. Nearly all garbage dies with its batch: the parallel collector
# copies next to nothing, its write barriers are cheaper than G1's, and no thread of it runs beside the program.
OPTIONS = ("-Xmx1g", "-XX:+UseParallelGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error")


def build(folder: Path) -> list[Path]:
    """Return the class path of the contestants, compiled into `folder` unless the same sources were before.

    Raises NoCompiler, the errors of penstock.maven.fetch, and RuntimeError with what the compiler says.
    """
    classes = folder / f"classes-{_digest()}"
    compiler = None if classes.is_dir() else javac()  # before the download: it would be for nothing
    jars = maven.fetch(maven.Lock.read(LOCK))
    if compiler is not None:
        _compile(compiler, jars, classes)
    return [classes, *jars]


def command(classpath: Sequence[Path], main: str, arguments: Sequence[str], temporary: Path | None = None) -> list[str]:
    """Return the command line of one contestant.

    main: HandTuned or StreamsApp. temporary: an existing folder for what the program unpacks (onnxruntime's native
    library, 28 MB), which stays behind when it is killed.
    """
    place = [f"-Djava.io.tmpdir={temporary}"] if temporary else []
    return jvm.command(classpath, main, *arguments, options=[*OPTIONS, *place])


def javac(environ: Mapping[str, str] = os.environ) -> str:
    """Return the path of `javac`: that of JAVA_HOME, else the first on the PATH. Raises NoCompiler."""
    found = None
    if home := environ.get("JAVA_HOME"):
        found = shutil.which("javac", path=str(Path(home) / "bin"))
    found = found or shutil.which("javac", path=environ.get("PATH", ""))
    if found is None:
        raise NoCompiler(
            "the Java contestants are left out: no JDK is present (no javac in JAVA_HOME or on the PATH). Install a "
            "JDK of version 17 or newer, such as the package openjdk-17-jdk-headless, or point JAVA_HOME at one"
        )
    return found


def _sources() -> list[Path]:
    return sorted(HERE.glob("*.java"))


def _digest() -> str:
    """Of everything that decides what the compiler writes."""
    digest = hashlib.sha256(LOCK.read_bytes())
    for source in _sources():
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def _compile(compiler: str, jars: Sequence[Path], classes: Path) -> None:
    """Compile into a folder that has its name only once it is whole."""
    classes.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=classes.parent) as temporary:
        made = Path(temporary) / "classes"
        path = os.pathsep.join(map(str, jars))
        line = [compiler, *RELEASE, "-encoding", "UTF-8", "-proc:none", "-cp", path, "-d", str(made)]
        done = subprocess.run([*line, *map(str, _sources())], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{compiler} did not compile the Java contestants:\n{done.stdout}{done.stderr}")
        made.rename(classes)
