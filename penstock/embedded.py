"""A real Apache Kafka for development, tests and the demo: one node on loopback, without Java on the machine."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TextIO

from penstock import archive, datafolder, jvm, maven, readiness
from penstock.errors import BrokerFailed

KAFKA = "4.3.1"
JARS = Path(__file__).with_name("jars")
STOP_SECONDS = 20.0
TRAINING_SECONDS = 120.0
FENCE_SECONDS = 20.0
KNOWN_SECONDS = 5.0  # after which a controller that is up would have given the broker up, unless it had before
# What the controller's log says of a broker that it gives up: that it will, and that it has.
GIVEN_UP = b"Fencing broker 1 at epoch"
KEPT = b"Replayed BrokerRegistrationChangeRecord modifying the registration for broker 1"
UP = b"Our registration has been persisted to the metadata log"  # ... of itself
KEPT_SECONDS = 0.3  # until that is in the metadata log, too: some ms, plus what a busy machine adds
ATTEMPTS = 3  # when another program takes a port between our look and the broker's start

# One node, small internal topics, quick aborts and group joins: a restarted worker scores again at once.
SETTINGS: Mapping[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",  # as in production: a misspelt topic is an error, not a new topic
    "num.partitions": 4,
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "broker.session.timeout.ms": 4000,
    "broker.heartbeat.interval.ms": 1000,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "log.cleaner.dedupe.buffer.size": 16 << 20,
    "metadata.max.idle.interval.ms": 5000,  # its default costs an idle broker a percent of a core
    "num.network.threads": 2,
    "num.io.threads": 4,
}


class EmbeddedKafka:
    """A Kafka broker that runs while the context is entered, and never longer than this process.

    `data`: its folder, kept afterwards; None: a temporary one. `port`: None lets it find a free one, and keep it over
    restarts. `settings` are added to the broker's. A `detached` broker outlives this process. `jvm_options` replace
    those of a quick start.
    Raises BrokerFailed, and what `penstock.maven.fetch` raises the first time on a machine.
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        port: int | None = None,
        heap_mb: int = 512,
        settings: Mapping[str, str | int] | None = None,
        detached: bool = False,
        jvm_options: Sequence[str] | None = None,
    ) -> None:
        self.data = Path(data or tempfile.mkdtemp(prefix="penstock-kafka-")).absolute()
        self._temporary = data is None
        self._port = port
        self._heap_mb = heap_mb
        self._settings = dict(settings or {})
        self._detached = detached
        self._jvm_options = jvm_options
        self._cluster: datafolder.Cluster | None = None
        self._process: jvm.JavaProcess | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients; known once it was started."""
        if self._cluster is None:
            raise BrokerFailed("the embedded broker has no address yet: call start() first")
        return self._cluster.bootstrap_servers

    @property
    def pid(self) -> int:
        """The process id of the JVM."""
        if self._process is None:
            raise BrokerFailed("the embedded broker is not running: call start() first")
        return self._process.pid

    @property
    def log(self) -> Path:
        """The broker's log file."""
        return self.data / "broker.log"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._remove()

    def start(self) -> None:
        """Start it and block until a record that was produced has been read back. Running already: do nothing."""
        if self._process is not None and self._process.poll() is None:
            return
        jars = maven.fetch(maven.Lock.read(JARS / "kafka.toml"))
        if self._jvm_options is None:
            self._jvm_options = archive.options(jars, _train)
        self.data.mkdir(parents=True, exist_ok=True)
        with datafolder.locked(self.data) as lock:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return self._start_on(jars, lock)
                except _PortLost:
                    if attempt == ATTEMPTS or self._port:
                        raise

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop it in order, so that the next start need not recover; block until it is gone, killed after `seconds`."""
        if self._process is not None:
            self._process.stop(seconds)
            self._process = None

    def kill(self) -> None:
        """End it as a crash would (kill -9); start() brings it back on the same port with what it had stored."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def leave(self) -> None:
        """Let a detached broker run on without this object."""
        if self._process is not None:
            self._process.forget()
            self._process = None

    def _start_on(self, jars: list[Path], lock: TextIO) -> None:
        self._cluster = datafolder.write(self.data, KAFKA, datafolder.read(self.data), self._port)
        properties = self._write_properties(self._cluster)
        if not (self.data / "log" / "meta.properties").exists():
            self._format(jars, properties, self._cluster)
        if self.log.exists():
            self.log.replace(self.data / "previous.log")  # what it said before it ended
        self._output.unlink(missing_ok=True)
        if self._alone and self._ran:
            self._fence(jars, self._cluster)
        arguments = jvm.command(jars, "kafka.Kafka", str(properties), options=self._options())
        self._process = process = jvm.JavaProcess(
            arguments, self._output, detached=self._detached, inherit=[lock.fileno()]
        )
        try:
            datafolder.note_pid(lock, process.pid)
            self._wait_until_ready(self._cluster.bootstrap_servers, lambda: process.poll() is None)
        except readiness.Ended:
            self.kill()
            raise self._failure(self._cluster) from None
        except BaseException:
            self.kill()
            raise

    @property
    def _alone(self) -> bool:
        """Whether it is the only broker of its cluster."""
        return "," not in str(self._settings.get("controller.quorum.voters", ""))

    @property
    def _ran(self) -> bool:
        return (self.data / "log" / "recovery-point-offset-checkpoint").exists()

    def _fence(self, jars: list[Path], cluster: datafolder.Cluster) -> None:
        """Let a controller alone give up the broker that ended, before the broker starts again.

        Kafka 4.3.1 takes a partition that has no leader at the moment for one that was deleted, and then skips the
        markers of a decided transaction ("Couldn't find leader endpoint ... likely deleted already"): readers, and the
        group whose offsets it committed, stand still for ever. A lone broker's partitions have none while it stops in
        Kafka's controlled way, which is therefore off, and when it starts while its former self still counts as alive.
        """
        alone: dict[str, str | int | None] = {
            "process.roles": "controller",
            "listeners": f"CONTROLLER://127.0.0.1:{cluster.controller_port}",
            "advertised.listeners": None,
            "broker.session.timeout.ms": 500,
            "broker.heartbeat.interval.ms": 100,
        }
        properties = self._write_properties(cluster, alone, "controller.properties")
        arguments = jvm.command(jars, "kafka.Kafka", str(properties), options=self._options())
        controller = jvm.JavaProcess(arguments, self._output)
        deadline, up = time.monotonic() + FENCE_SECONDS, False
        try:
            while time.monotonic() < deadline and controller.poll() is None:
                said = self.log.read_bytes() if self.log.exists() else b""
                if KEPT in said.partition(GIVEN_UP)[2]:
                    time.sleep(KEPT_SECONDS)
                    return
                if not up and UP in said:
                    deadline, up = min(deadline, time.monotonic() + KNOWN_SECONDS), True
                time.sleep(0.02)
        finally:
            controller.stop(STOP_SECONDS)
            if self.log.exists():
                self.log.replace(self.data / "controller.log")

    def _wait_until_ready(self, servers: str, alive: Callable[[], bool]) -> None:
        """Block until the broker serves; a node of a cluster, which cannot serve alone, waits for less."""
        readiness.wait_until_ready(servers, alive)

    def _remove(self) -> None:
        if self._temporary:
            shutil.rmtree(self.data, ignore_errors=True)

    @property
    def _output(self) -> Path:
        return self.data / "broker.out"  # what Java says outside of the log

    def _options(self) -> list[str]:
        return [
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseSerialGC",
            f"-Dlog4j2.configurationFile={(JARS / 'log4j2.properties').as_uri()}",
            f"-Dpenstock.log={self.log}",
            f"-XX:ErrorFile={self.data / 'crash-%p.log'}",
            *(self._jvm_options or ()),
        ]

    def _write_properties(
        self,
        cluster: datafolder.Cluster,
        more: Mapping[str, str | int | None] | None = None,
        name: str = "server.properties",
    ) -> Path:
        controller = f"127.0.0.1:{cluster.controller_port}"
        own = {
            "listeners": f"PLAINTEXT://{cluster.bootstrap_servers},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{cluster.bootstrap_servers}",
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": self.data / "log",
            **({"controlled.shutdown.enable": "false"} if self._alone else {}),  # see _fence
        }
        settings = {**SETTINGS, **own, **self._settings, **(more or {})}
        lines = [f"{key}={value}" for key, value in settings.items() if value is not None]
        path = self.data / name
        path.write_text("\n".join(lines) + "\n")
        return path

    def _format(self, jars: list[Path], properties: Path, cluster: datafolder.Cluster) -> None:
        arguments = ["format", "-t", cluster.cluster_id, "-c", str(properties)]
        options = [option for option in self._options() if "AOTCacheOutput" not in option]
        done = subprocess.run(
            jvm.command(jars, "kafka.tools.StorageTool", *arguments, options=options),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise BrokerFailed(f"{self.data} could not be formatted for Kafka: {_tail(done.stderr + done.stdout)}")

    def _failure(self, cluster: datafolder.Cluster) -> BrokerFailed:
        """Explain from its log why the broker ended during its start."""
        said = [path.read_text(errors="replace") for path in (self._output, self.log) if path.exists()]
        text = "\n".join(said)
        if "BindException" in text or "Address already in use" in text:
            return _PortLost(f"another program took port {cluster.port} while the broker started: start again")
        return BrokerFailed(f"the broker ended during its start; {self.log} ends with:\n{_tail(text)}")


class _PortLost(BrokerFailed):
    """A port was free when we looked and taken when the broker started."""


def _train(options: list[str]) -> None:
    with EmbeddedKafka(jvm_options=options) as kafka:
        kafka.stop(TRAINING_SECONDS)  # the archive is written at the end


def _tail(text: str, lines: int = 8) -> str:
    """The last lines of a log without the stack traces' frames."""
    return "\n".join([line for line in text.strip().splitlines() if not line.startswith("\tat ")][-lines:])
