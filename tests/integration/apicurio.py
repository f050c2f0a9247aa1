"""A real Confluent-compatible schema registry for tests: Apicurio Registry on the JRE of the `broker` extra."""

from __future__ import annotations

import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from penstock import jvm, maven
from penstock.datafolder import free_port

LOCK = Path(__file__).with_name("jars") / "apicurio.toml"
START_SECONDS = 90.0


class Apicurio:
    """A registry on loopback; what was registered survives kill() and start(), and so does its address."""

    def __init__(self, folder: Path) -> None:
        [archive] = maven.fetch(maven.Lock.read(LOCK))
        self._folder = folder
        with tarfile.open(archive) as content:
            content.extractall(folder, filter="data")
        [self._jar] = folder.rglob("quarkus-run.jar")
        self._port, self._management_port = free_port(), free_port()
        self._process: jvm.JavaProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    def start(self) -> None:
        """Start it and block until its API answers."""
        options = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": self._port,
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": self._management_port,
            "apicurio.datasource.url": f"jdbc:h2:file:{self._folder / 'registry'}",
        }
        properties = [f"-D{key}={value}" for key, value in options.items()]
        quick = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        log = self._folder / "apicurio.log"
        arguments = [jvm.java(), *jvm.QUIET, *quick, *properties, "-jar", str(self._jar)]
        self._process = jvm.JavaProcess(arguments, log)
        give_up = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"Apicurio did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop(20)
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:  # it listens before it answers
            error.close()
            return False
        except OSError:
            return False
