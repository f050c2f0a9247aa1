"""Where a monitor reads and writes, and the topics that must exist before it does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

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
_QUALITY = {"retention.ms": str(400 * 86_400_000), "max.message.bytes": str(SNAPSHOT_BYTES)}  # a year and a month
_KEPT = {"retention.ms": str(400 * 86_400_000)}
_COMPACT = {"cleanup.policy": "compact,delete", "max.message.bytes": str(SNAPSHOT_BYTES)}


@dataclass(frozen=True, slots=True)
class Quality:
    """The topics of quality. labels, letters, rewards: empty where no labels are declared."""

    samples: str
    quality: str
    labels: str = ""
    letters: str = ""
    rewards: str = ""

    @property
    def read(self) -> list[str]:
        """The topics that others create."""
        return [topic for topic in (self.labels, self.samples) if topic]


@dataclass(frozen=True, slots=True)
class Wiring:
    """One monitor of one deployment. kafka: librdkafka settings that reach the cluster."""

    deployment: str
    profiles: str  # topic
    input: str  # topic whose partitions the profiles tell of
    kafka: Mapping[str, str] = field(repr=False)
    slot: str = "0"
    quality: Quality | None = None  # where labels or samples are declared
    alerts: str = alerts.TOPIC
    comparisons: str = ""  # topics of what is told when a version takes over, ...
    retraining: str = ""  # ... and of requests for a new one; empty for none
    snapshots: str = SNAPSHOTS
    snapshot_seconds: float = 1.0
    data: str = ".penstock/monitor"  # folder that Faust insists on; nothing is kept there
    commit_seconds: float = 2.8  # group offsets, for the display of lag only

    @property
    def group(self) -> str:
        return f"penstock.{self.deployment}.monitor"

    def snapshot_key(self, partition: int, role: str = "profiles") -> bytes:
        """Return the key of the snapshots of a partition of a source; several deployments share the topic."""
        return f"{self.deployment}/{partition}".encode() + (b"" if role == "profiles" else f"/{role}".encode())


@dataclass(frozen=True, slots=True)
class Topics:
    """What was found: numbers of partitions."""

    sources: int  # of the input topic
    profiles: int
    snapshots: int
    read: Mapping[str, int] = field(default_factory=dict)  # of samples and labels


def prepare(
    wiring: Wiring, sleep: Callable[[float], object] = time.sleep, clock: Callable[[], float] = time.monotonic
) -> Topics:
    """Wait for the topics that others create and create ours.

    Blocks while the broker or the profiles topic is not there, and says so.
    Raises KafkaUnavailable when the cluster refuses.
    """
    admin = AdminClient(dict(wiring.kafka), logger=log)
    others = wiring.quality.read if wiring.quality else []
    waiting = _Waiting(wiring, clock)
    while True:
        found = _partitions(admin, waiting)
        lacking = [name for name in (wiring.input, wiring.profiles, *others) if name not in found]
        if found and not lacking:
            break
        if found:
            whose = f"a worker of {wiring.deployment} creates it when it scores"
            if wiring.quality and lacking[0] == wiring.quality.labels:
                whose = "whoever writes the labels must create it"
            waiting.say(f"waiting for the topic {lacking[0]}: {whose}")
        sleep(0.5)
    create(admin, wiring.alerts, 1)
    for topic in (wiring.comparisons, wiring.retraining):
        if topic and topic not in found:  # who may not create topics can still write into one that is there
            create(admin, topic, 1, _KEPT)
    if wiring.quality:
        create(admin, wiring.quality.quality, 1, _QUALITY)
        if wiring.quality.rewards:
            create(admin, wiring.quality.rewards, 1, _QUALITY)
        if wiring.quality.letters:
            create(admin, wiring.quality.letters, found[wiring.quality.labels], {})
    create(admin, wiring.snapshots, found[wiring.profiles])
    snapshots = found.get(wiring.snapshots, found[wiring.profiles])
    return Topics(found[wiring.input], found[wiring.profiles], snapshots, {name: found[name] for name in others})


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


def reading(kafka: Mapping[str, str], group: str, missing: str = "earliest") -> dict[str, Any]:
    """Return the settings of a consumer that reads committed records from given offsets to the end of partitions.

    group: the client asks for one; nothing is committed under it. missing: what is done where an offset is not there.
    """
    return {
        **kafka,
        "group.id": group,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": missing,
    }


def create(admin: AdminClient, topic: str, partitions: int, config: Mapping[str, str] = _COMPACT) -> None:
    """Create a topic unless it exists. Raises KafkaUnavailable when the cluster refuses."""
    new = NewTopic(topic, num_partitions=partitions, replication_factor=-1, config=dict(config))
    try:
        admin.create_topics([new])[topic].result(30)
        log.info("created the topic %s", topic)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise KafkaUnavailable(f"cannot create the topic {topic}: {error.args[0].str()}") from error
