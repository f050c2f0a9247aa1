"""A real Apache Kafka for development, tests and the demo: one node on loopback, without Java on the machine.

Its data folder holds everything it needs to come back: data, ports, cluster id. Whoever runs on a data folder holds
the lock of its file `lock`, and the JVM inherits it, so "is it running?" has one answer even after a kill -9.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from penstock import jvm, maven
from penstock.errors import BrokerFailed

KAFKA = "4.3.1"
JARS = Path(__file__).with_name("jars")
READY_TOPIC = "penstock.ready"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
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
    "broker.session.timeout.ms": 4000,  # after a kill -9 the next start waits this long for the last one to be given up
    "broker.heartbeat.interval.ms": 1000,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "log.cleaner.dedupe.buffer.size": 16 << 20,
    "num.network.threads": 2,
    "num.io.threads": 4,
}


class EmbeddedKafka:
    """A Kafka broker that runs while the context is entered, and never longer than this process.

    `data`: its folder, kept afterwards; None: a temporary one. `port`: None lets it find a free one, and keep it over
    restarts. `settings` are added to the broker's. A `detached` broker outlives this process.
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
    ) -> None:
        self.data = Path(data or tempfile.mkdtemp(prefix="penstock-kafka-")).absolute()
        self._temporary = data is None
        self._wanted_port = port
        self._heap_mb = heap_mb
        self._settings = dict(settings or {})
        self._detached = detached
        self._state: dict[str, Any] = {}
        self._process: jvm.JavaProcess | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients; known once it was started."""
        return f"127.0.0.1:{self._state['port']}"

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
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._temporary:
            shutil.rmtree(self.data, ignore_errors=True)

    def start(self) -> None:
        """Start it and block until a record that was produced has been read back."""
        jars = maven.fetch(maven.Lock.read(JARS / "kafka.toml"))
        self.data.mkdir(parents=True, exist_ok=True)
        with _locked(self.data) as lock:
            self._state = _read_state(self.data)
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self._start_on(jars, lock)
                    return
                except _PortLost:
                    if attempt == ATTEMPTS or self._wanted_port:
                        raise

    def _start_on(self, jars: list[Path], lock: int) -> None:
        self._choose_ports()
        properties = self._write_properties()
        if not (self.data / "log" / "meta.properties").exists():
            self._format(jars, properties)
        written = self.log.stat().st_size if self.log.exists() else 0
        arguments = jvm.command(jars, "kafka.Kafka", str(properties), options=self._options())
        self._process = jvm.JavaProcess(arguments, self._output, detached=self._detached, inherit=[lock])
        try:
            _wait_until_ready(self.bootstrap_servers, self._process)
        except BaseException as error:
            self.kill()
            if isinstance(error, _Ended):
                raise self._failure(written) from None
            raise

    def stop(self) -> None:
        """Stop it in order, so that the next start need not recover; block until it is gone."""
        if self._process is not None:
            self._process.stop(STOP_SECONDS)
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

    @property
    def _output(self) -> Path:
        return self.data / "broker.out"

    def _options(self) -> list[str]:
        return [
            f"-Xmx{self._heap_mb}m",
            "-XX:+UseSerialGC",
            f"-Dlog4j2.configurationFile={(JARS / 'log4j2.properties').as_uri()}",
            f"-Dpenstock.log={self.log}",
        ]

    def _choose_ports(self) -> None:
        wanted = self._wanted_port or self._state.get("port")
        if self._wanted_port and not _is_free(self._wanted_port):
            raise BrokerFailed(
                f"port {self._wanted_port} is taken by another program: choose another, or none to have a free one found"
            )
        port = wanted if wanted and _is_free(wanted) else _free_port()
        controller = self._state.get("controller_port")
        if not controller or controller == port or not _is_free(controller):
            controller = _free_port(other_than=port)
        self._state = {
            "kafka": KAFKA,
            "cluster_id": self._state.get("cluster_id") or urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="),
            "port": port,
            "controller_port": controller,
        }
        (self.data / "penstock.json").write_text(json.dumps(self._state, indent=1) + "\n")

    def _write_properties(self) -> Path:
        broker, controller = (f"127.0.0.1:{self._state[name]}" for name in ("port", "controller_port"))
        own = {
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker}",
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": self.data / "log",
        }
        lines = [f"{key}={value}" for key, value in {**SETTINGS, **own, **self._settings}.items()]
        path = self.data / "server.properties"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _format(self, jars: list[Path], properties: Path) -> None:
        arguments = ["format", "-t", self._state["cluster_id"], "-c", str(properties)]
        options = [*self._options(), "-XX:TieredStopAtLevel=1"]
        done = subprocess.run(
            jvm.command(jars, "kafka.tools.StorageTool", *arguments, options=options),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            shutil.rmtree(self.data / "log", ignore_errors=True)
            raise BrokerFailed(f"{self.data} could not be formatted for Kafka: {_tail(done.stderr + done.stdout)}")

    def _failure(self, written: int) -> BrokerFailed:
        """Explain from its log why the broker ended during its start."""
        with self.log.open("rb") if self.log.exists() else contextlib.nullcontext() as log:
            if log:
                log.seek(written)
            text = log.read().decode(errors="replace") if log else ""
        text += self._output.read_text(errors="replace")
        if "BindException" in text or "Address already in use" in text:
            return _PortLost(f"another program took port {self._state['port']} while the broker started; start again")
        return BrokerFailed(f"the broker ended during its start; {self.log} ends with:\n{_tail(text)}")


class _PortLost(BrokerFailed):
    """A port was free when we looked and taken when the broker started."""


class _Ended(BrokerFailed):
    """The broker's process ended before it was ready."""


@contextlib.contextmanager
def _locked(data: Path) -> Any:
    """Hold the data folder's lock; the broker that is started meanwhile inherits and keeps it."""
    with (data / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BrokerFailed(
                f"{data} is in use by a running broker: stop that one, or choose another folder"
            ) from None
        yield file.fileno()


def is_running(data: Path) -> bool:
    """Return whether a broker runs (or starts) on a data folder."""
    with contextlib.suppress(FileNotFoundError), (data / "lock").open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _read_state(data: Path) -> dict[str, Any]:
    """Return what is known of the cluster in a data folder; raise BrokerFailed when it is not one of ours."""
    others = {path.name for path in data.iterdir()} - {"lock", "penstock.json"}
    try:
        state = json.loads((data / "penstock.json").read_text())
        cluster = str(state["cluster_id"])
    except FileNotFoundError:
        if others:
            raise BrokerFailed(
                f"{data} is not empty and was not made by penstock (it holds {', '.join(sorted(others)[:3])}): "
                "choose another folder"
            ) from None
        return {}
    except (ValueError, KeyError, TypeError):
        raise BrokerFailed(f"{data / 'penstock.json'} is damaged: delete the folder {data} to start anew") from None
    _check_cluster(data, cluster)
    return dict(state)


def _check_cluster(data: Path, cluster: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        lines = (data / "log" / "meta.properties").read_text().splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        if found.get("cluster.id") != cluster:
            raise BrokerFailed(
                f"{data / 'log'} belongs to another cluster ({found.get('cluster.id')}, not {cluster}): "
                f"choose another folder, or delete {data} to start anew"
            )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port(other_than: int | None = None) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port != other_than:
            return port


def _wait_until_ready(servers: str, process: jvm.JavaProcess) -> None:
    """Block until a produced record was read back; raise _Ended when the process ends first."""
    give_up = time.monotonic() + START_SECONDS
    host, port = servers.split(":")
    while True:
        if process.poll() is not None:
            raise _Ended(f"the broker ended with code {process.poll()}")
        if time.monotonic() > give_up:
            raise BrokerFailed(f"the broker did not answer on {servers} within {START_SECONDS:.0f} s")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            break
        time.sleep(0.02)
    _read_back(servers, process, give_up)


def _read_back(servers: str, process: jvm.JavaProcess, give_up: float) -> None:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    quiet: dict[str, Any] = {"bootstrap.servers": servers, "log_level": 0, "error_cb": lambda _: None}
    admin = AdminClient(quiet)
    retention = {"retention.ms": "3600000"}
    created = admin.create_topics([NewTopic(READY_TOPIC, 1, 1, config=retention)], operation_timeout=30)[READY_TOPIC]
    try:
        created.result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise BrokerFailed(f"the broker on {servers} refused to create a topic: {error.args[0].str()}") from None
    nonce = secrets.token_bytes(8)
    offsets: list[int | None] = []
    producer = Producer(quiet)
    producer.produce(READY_TOPIC, nonce, on_delivery=lambda error, message: offsets.append(message.offset()))
    while not offsets and process.poll() is None and time.monotonic() < give_up:
        producer.poll(0.05)
    consumer = Consumer({**quiet, "group.id": "penstock.ready", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(READY_TOPIC, 0, (offsets or [0])[0] or 0)])
        while process.poll() is None and time.monotonic() < give_up:
            message = consumer.poll(0.05)
            if message is not None and message.value() == nonce:
                return
    finally:
        consumer.close()
    if process.poll() is not None:
        raise _Ended(f"the broker ended with code {process.poll()}")
    raise BrokerFailed(f"the broker on {servers} did not give back a record within {START_SECONDS:.0f} s")


def _tail(text: str, lines: int = 8) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
