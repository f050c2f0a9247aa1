"""Real brokers to hurt: one node, or three combined KRaft nodes with replication 3 and two copies to acknowledge.

Clients of the harness use the brokers' own addresses. With `proxied`, workers get addresses that lead through
proxies, which the faults of the network live in. Ports lie below those that the kernel gives to outgoing connections:
one of those could take a broker's port while the broker is down.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from penstock import datafolder, readiness
from penstock.embedded import KAFKA, EmbeddedKafka
from tests.chaos.protocol import reassign
from tests.chaos.proxy import Proxy, ProxyLoop

PORTS = range(18_000, 28_000)
START_SECONDS = 90.0
THREE: Mapping[str, str | int] = {
    "default.replication.factor": 3,
    "min.insync.replicas": 2,
    "offsets.topic.replication.factor": 3,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
}
COMMON: Mapping[str, str | int] = {
    "broker.session.timeout.ms": 3_000,  # how long a killed leader stays the leader
    "broker.heartbeat.interval.ms": 500,
    "auto.leader.rebalance.enable": "false",  # leaders move when a fault says so
    "group.coordinator.rebalance.protocols": "classic,consumer",
    "log.retention.check.interval.ms": 5_000,
}


class Node(EmbeddedKafka):
    """One broker of a cluster: it is up when it listens, because alone it may not be able to serve."""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _wait_until_ready(self, servers: str, alive: Callable[[], bool]) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if not alive():
                raise readiness.Ended(f"the broker on {servers} ended before it listened")
            if _listens(int(servers.rsplit(":", 1)[1])):
                return
            time.sleep(0.05)
        raise readiness.Ended(f"the broker on {servers} did not listen within {START_SECONDS:.0f} s")


class Cluster:
    """`nodes` brokers in `folder`, numbered from 0. Enter it to start them; they end with SIGKILL."""

    def __init__(
        self, folder: Path, nodes: int = 1, *, proxied: bool = False, settings: Mapping[str, str | int] | None = None
    ) -> None:
        self.size, self.proxied = nodes, proxied
        self.one_away = threading.Lock()
        self._loop = ProxyLoop() if proxied else None
        ports = _ports(4 * nodes)
        self.direct = [next(ports) for _ in range(nodes)]
        controllers = [next(ports) for _ in range(nodes)]
        behind = [next(ports) for _ in range(nodes)]
        front = [next(ports) for _ in range(nodes)]
        voters = ",".join(f"{i + 1}@127.0.0.1:{port}" for i, port in enumerate(controllers))
        cluster_id = datafolder.new_cluster_id()
        self.proxies = [Proxy(self._loop, a, b) for a, b in zip(front, behind, strict=True)] if self._loop else []
        self.nodes: list[Node] = []
        for i in range(nodes):
            data = folder / f"broker-{i}"
            data.mkdir(parents=True)
            known = datafolder.Cluster(KAFKA, cluster_id, self.direct[i], controllers[i])
            (data / "penstock.json").write_text(json.dumps(asdict(known)))
            own: dict[str, str | int] = {"node.id": i + 1, "controller.quorum.voters": voters}
            if proxied:
                own |= _two_listeners(self.direct[i], controllers[i], behind[i], front[i])
            base = {**COMMON, **(THREE if nodes == 3 else {}), **own, **(settings or {})}
            self.nodes.append(Node(data, port=self.direct[i], heap_mb=320, settings=base))
        self._admin: AdminClient | None = None

    def __enter__(self) -> Cluster:
        try:
            for proxy in self.proxies:
                proxy.open()
            self.start(*range(self.size))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for node in self.nodes:
            with contextlib.suppress(Exception):
                node.kill()
        for proxy in self.proxies:
            proxy.close()
        if self._loop is not None:
            self._loop.close()

    # ---- addresses

    @property
    def servers(self) -> str:
        """The brokers' own addresses."""
        return ",".join(f"127.0.0.1:{port}" for port in self.direct)

    @property
    def worker_servers(self) -> str:
        """The addresses that workers are given."""
        return ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies) or self.servers

    @property
    def admin(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        return self._admin

    def topic(self, partitions: int, name: str, **config: str) -> str:
        """Make a topic with as many replicas as the cluster gives by default."""
        settings = {key.replace("_", "."): value for key, value in config.items()}
        new = NewTopic(name, num_partitions=partitions, replication_factor=-1, config=settings)
        self.admin.create_topics([new], request_timeout=30)[name].result()
        return name

    # ---- faults

    def kill(self, node: int) -> None:
        """End a broker as a crash would."""
        self.nodes[node].kill()

    def stop(self, node: int) -> None:
        """Stop a broker in order: it hands its partitions over first."""
        self.nodes[node].stop(25)

    def pause(self, node: int) -> None:
        """Freeze a broker (SIGSTOP); `resume` lets it go on."""
        os.kill(self.nodes[node].pid, signal.SIGSTOP)

    def resume(self, node: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.nodes[node].pid, signal.SIGCONT)

    def start(self, *nodes: int) -> None:
        """Start brokers side by side and block until all of them serve and every partition has a leader."""
        failures: list[BaseException] = []

        def start(node: Node) -> None:
            try:
                node.start()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=start, args=(self.nodes[i],)) for i in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        self._wait_for_leaders()

    def heal(self) -> None:
        """Let everything run that a fault may have left down."""
        for proxy in self.proxies:
            proxy.clear()
        for node in range(self.size):
            if self.nodes[node].running:
                self.resume(node)
        self.start(*range(self.size))

    def _wait_for_leaders(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(KafkaException):
                found = self.admin.list_topics(timeout=5)
                leaders = [p.leader for topic in found.topics.values() for p in topic.partitions.values()]
                if len(found.brokers) == self.running() and all(leader >= 0 for leader in leaders):
                    return
            time.sleep(0.1)
        raise TimeoutError(f"the cluster was not whole within {START_SECONDS:.0f} s")

    def running(self) -> int:
        """How many brokers run."""
        return sum(node.running for node in self.nodes)

    # ---- who leads what

    def leader(self, topic: str, partition: int) -> int:
        """Return the number of the node that leads a partition."""
        return int(self.admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader) - 1

    def coordinator(self, name: str, topic: str = "__consumer_offsets") -> tuple[int, int]:
        """Return the node and the internal topic's partition that coordinate a group or a transactional id."""
        partitions = len(self.admin.list_topics(topic, timeout=10).topics[topic].partitions)
        partition = abs(_java_hash(name)) % partitions
        return self.leader(topic, partition), partition

    def move_leaders(self, topic: str, partitions: list[int] | None = None) -> int:
        """Make another replica in sync the leader of each partition and block until it is; return how many moved.

        Raises TimeoutError.
        """
        wanted = self._next_leaders(topic, partitions)
        self._reassign(wanted)
        end = time.monotonic() + START_SECONDS
        while left := self._not_led_by(topic, wanted):
            if time.monotonic() > end:
                raise TimeoutError(f"leaders that did not move: {left}")
            self._elect(left)
            time.sleep(0.2)
        return len(wanted)

    def _not_led_by(self, topic: str, wanted: Mapping[tuple[str, int], list[int]]) -> list[tuple[str, int]]:
        found = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
        return [at for at, nodes in wanted.items() if found[at[1]].leader != nodes[0]]

    def _next_leaders(self, topic: str, partitions: list[int] | None) -> dict[tuple[str, int], list[int]]:
        """Return the replicas of each partition, another one that is in sync first; waits until there is one."""
        end = time.monotonic() + START_SECONDS
        while True:
            found = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
            numbers = sorted(found) if partitions is None else partitions
            ready = {n: [node for node in found[n].isrs if node != found[n].leader] for n in numbers}
            if all(ready.values()):
                return {(topic, n): [r[0], *(x for x in found[n].replicas if x != r[0])] for n, r in ready.items()}
            if time.monotonic() > end:
                raise TimeoutError(f"partitions of {topic} with a single replica in sync: {ready}")
            time.sleep(0.2)

    def _elect(self, wanted: list[tuple[str, int]]) -> None:
        from confluent_kafka import ElectionType, TopicPartition

        partitions = [TopicPartition(topic, number) for topic, number in wanted]
        with contextlib.suppress(KafkaException):  # asked again while a leader has not moved
            self.admin.elect_leaders(ElectionType.PREFERRED, partitions).result(15)

    def _reassign(self, wanted: Mapping[tuple[str, int], list[int]]) -> None:
        """Ask one broker after the other: one that was killed just now does not answer."""
        end = time.monotonic() + 15
        while True:
            for port in self.direct:
                with contextlib.suppress(OSError):
                    return reassign(f"127.0.0.1:{port}", wanted)
            if time.monotonic() > end:
                raise TimeoutError("no broker takes a reassignment")
            time.sleep(0.2)


def _two_listeners(direct: int, controller: int, behind: int, front: int) -> dict[str, str]:
    """Return the settings of a broker that tells its clients on `behind` to come through the proxy on `front`."""
    return {
        "listeners": f"PLAINTEXT://127.0.0.1:{direct},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{direct},PROXIED://127.0.0.1:{front}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
    }


def _ports(count: int) -> Iterator[int]:
    """Yield free ports, other ones in each process."""
    taken = 0
    choose = random.Random(os.getpid() ^ time.time_ns())
    while taken < count:
        port = choose.choice(PORTS)
        if datafolder.is_free(port):
            taken += 1
            yield port


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _java_hash(text: str) -> int:
    """Return String.hashCode, by which Kafka places groups and transactional ids."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
