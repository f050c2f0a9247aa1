"""Where a monitor reads and writes, and the topics that must exist before it does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from monitoring import alerts
from monitoring.errors import KafkaUnavailable

log = logging.getLogger(__name__)
SNAPSHOTS = "penstock.monitor"
SNAPSHOT_BYTES = 8 << 20
_REMIND = 30.0  # seconds between two lines about what is waited for
_DENIED = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})
_COMPACT = {"cleanup.policy": "compact,delete", "max.message.bytes": str(SNAPSHOT_BYTES)}


@dataclass(frozen=True, slots=True)
class Wiring:
    """One monitor of one deployment. kafka: librdkafka settings that reach the cluster."""

    deployment: str
    profiles: str  # topic
    input: str  # topic whose partitions the profiles tell of
    kafka: Mapping[str, str] = field(repr=False)
    slot: str = "0"
    alerts: str = alerts.TOPIC
    snapshots: str = SNAPSHOTS
    snapshot_seconds: float = 1.0
    data: str = ".penstock/monitor"  # folder that Faust insists on; nothing is kept there
    commit_seconds: float = 2.8  # group offsets, for the display of lag only

    @property
    def group(self) -> str:
        return f"penstock.{self.deployment}.monitor"

    def snapshot_key(self, partition: int) -> bytes:
        """Return the key of a partition's snapshots; several deployments share the topic."""
        return f"{self.deployment}/{partition}".encode()


@dataclass(frozen=True, slots=True)
class Topics:
    """What was found: numbers of partitions."""

    sources: int  # of the input topic
    profiles: int
    snapshots: int


def prepare(
    wiring: Wiring, sleep: Callable[[float], object] = time.sleep, clock: Callable[[], float] = time.monotonic
) -> Topics:
    """Wait for the topics that others create and create ours.

    Blocks while the broker or the profiles topic is not there, and says so.
    Raises KafkaUnavailable when the cluster refuses.
    """
    admin = AdminClient(dict(wiring.kafka), logger=log)
    waiting = _Waiting(wiring, clock)
    while True:
        found = _partitions(admin, waiting)
        lacking = [name for name in (wiring.input, wiring.profiles) if name not in found]
        if found and not lacking:
            break
        if found:
            waiting.say(
                f"waiting for the topic {lacking[0]}: a worker of {wiring.deployment} creates it when it scores"
            )
        sleep(0.5)
    create(admin, wiring.alerts, 1)
    create(admin, wiring.snapshots, found[wiring.profiles])
    snapshots = found.get(wiring.snapshots, found[wiring.profiles])
    return Topics(found[wiring.input], found[wiring.profiles], snapshots)


class _Waiting:
    """Says what is waited for, now and then."""

    def __init__(self, wiring: Wiring, clock: Callable[[], float]) -> None:
        self.wiring, self._clock = wiring, clock
        self._last: tuple[str, float] | None = None

    def say(self, text: str) -> None:
        now = self._clock()
        if self._last is None or self._last[0] != text or now - self._last[1] >= _REMIND:
            self._last = (text, now)
            log.warning(text)


def _partitions(admin: AdminClient, waiting: _Waiting) -> dict[str, int]:
    try:
        topics = admin.list_topics(timeout=5).topics
    except KafkaException as error:
        if error.args[0].code() in _DENIED:
            raise KafkaUnavailable(f"the cluster refuses to list topics: {error.args[0].str()}") from error
        servers = waiting.wiring.kafka["bootstrap.servers"]
        waiting.say(f"no broker answers at {servers}; waiting, nothing is lost ({error.args[0].str()})")
        return {}
    return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None} or {"": 0}


def create(admin: AdminClient, topic: str, partitions: int) -> None:
    """Create a compacted topic unless it exists. Raises KafkaUnavailable when the cluster refuses."""
    new = NewTopic(topic, num_partitions=partitions, replication_factor=-1, config=_COMPACT)
    try:
        admin.create_topics([new])[topic].result(30)
        log.info("created the topic %s", topic)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise KafkaUnavailable(f"cannot create the topic {topic}: {error.args[0].str()}") from error
