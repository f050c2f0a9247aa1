"""What of the cluster's settings the promises rest on: refused where they cannot hold, said where they are weakened.

The settings are read once, when a worker starts. Each warning names the topic and the command to type.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from streams.errors import Refused
from streams.membership import SESSION_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS, set_group_timeouts
from streams.topics import OVERHEAD

log = logging.getLogger(__name__)

TIMEOUT = 10.0
INTERNAL = ("__consumer_offsets", "__transaction_state")
ENOUGH_BROKERS = 3  # from this number on a topic with one copy is a choice that somebody did not make


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as the brokers have it. replication: of its partition with the fewest copies."""

    name: str
    replication: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Facts:
    """brokers: how many there are. broker: settings of one of them, empty where they may not be read."""

    brokers: int
    broker: Mapping[str, str]
    topics: Mapping[str, TopicFacts]


@dataclass(frozen=True, slots=True)
class Promise:
    """What a worker needs of the cluster.

    servers: its address, for commands to type. classic: the group's protocol. outputs: topics that it writes. letters:
    the one of them for dead letters. kept: topics, and for how many ms their records are needed.
    """

    servers: str
    group: str
    classic: bool
    exactly_once: bool
    source: str
    outputs: Sequence[str]
    letters: str
    kept: Mapping[str, int] = field(default_factory=dict)

    @property
    def topics(self) -> list[str]:
        internal = INTERNAL if self.exactly_once else INTERNAL[:1]
        return [self.source, *self.outputs, *(name for name in self.kept if name not in self.outputs), *internal]


def uphold(admin: AdminClient, promise: Promise) -> None:
    """Check the cluster's settings, and set the one that is the group's own: the session timeout of KIP-848.

    Warns, and raises Refused where a promise cannot hold; what may not be read is passed over.
    """
    _check(admin, promise)
    if not promise.classic:
        set_group_timeouts(admin, promise.group)


def _check(admin: AdminClient, promise: Promise) -> None:
    try:
        facts = read(admin, promise.topics)
    except KafkaException as error:
        log.info("the cluster's settings cannot be read (%s): they are not checked", error.args[0].str())
        return
    if problems := refusals(facts, promise):
        raise Refused("; ".join(problems))
    for text in warnings(facts, promise):
        log.warning("%s", text)


def read(admin: AdminClient, topics: Collection[str], *, broker: bool = True) -> Facts:
    """Return what the cluster says of itself and of those of the topics that exist. broker: with a broker's settings.

    Raises KafkaException; settings alone may be missing without permission, which is said.
    """
    metadata = admin.list_topics(timeout=TIMEOUT)
    present = [name for name in topics if name in metadata.topics and metadata.topics[name].partitions]
    resources = {name: ConfigResource(ResourceType.TOPIC, name) for name in present}
    if broker:
        asked = min(metadata.brokers, default=-1)  # orig_broker_id is -1 when librdkafka does not yet know who answered
        resources[""] = ConfigResource(ResourceType.BROKER, str(asked))
    settings = _settings(admin, resources)
    found = {
        name: TopicFacts(
            name,
            min(len(partition.replicas) for partition in metadata.topics[name].partitions.values()),
            settings[name],
        )
        for name in present
    }
    return Facts(len(metadata.brokers), settings.get("", {}), found)


def _settings(admin: AdminClient, resources: Mapping[str, ConfigResource]) -> dict[str, dict[str, str]]:
    asked = admin.describe_configs(list(resources.values()), request_timeout=TIMEOUT)
    found: dict[str, dict[str, str]] = {}
    denied = []
    for name, resource in resources.items():
        try:
            entries = asked[resource].result().items()
            found[name] = {key: entry.value for key, entry in entries if entry.value is not None}
        except KafkaException as error:
            found[name] = {}
            denied.append(f"{name or 'the brokers'} ({error.args[0].str()})")
    if denied:
        log.info("the settings of %s cannot be read: they are not checked", ", ".join(denied))
    return found


def refusals(facts: Facts, promise: Promise) -> list[str]:
    """Return why the worker could not work on this cluster, each with what to do."""
    problems = []
    longest = _number(facts.broker, "transaction.max.timeout.ms")
    if promise.exactly_once and longest is not None and longest < TRANSACTION_TIMEOUT_MS:
        problems.append(
            f"the brokers' transaction.max.timeout.ms is {longest}, a worker's transactions need "
            f"{TRANSACTION_TIMEOUT_MS}: raise it on the brokers"
        )
    problems += _compacted(facts, promise)
    if not promise.classic:
        protocols = facts.broker.get("group.coordinator.rebalance.protocols", "consumer")
        if "consumer" not in protocols.split(","):
            problems.append(
                f"the brokers offer the group protocols {protocols}: add consumer to their "
                "group.coordinator.rebalance.protocols, or unset PENSTOCK_KAFKA_GROUP_PROTOCOL"
            )
        return problems
    low = _number(facts.broker, "group.min.session.timeout.ms")
    high = _number(facts.broker, "group.max.session.timeout.ms")
    if (low is not None and low > SESSION_TIMEOUT_MS) or (high is not None and high < SESSION_TIMEOUT_MS):
        problems.append(
            f"the brokers take session timeouts from {low} to {high} ms, a worker has {SESSION_TIMEOUT_MS}: change "
            "group.min.session.timeout.ms or group.max.session.timeout.ms on the brokers"
        )
    return problems


def _compacted(facts: Facts, promise: Promise) -> list[str]:
    found = []
    for name in promise.outputs:
        topic = facts.topics.get(name)
        policy = topic.settings.get("cleanup.policy", "") if topic else ""
        if "compact" in policy:
            found.append(
                f"topic {name}: its cleanup.policy is {policy}, so records of a key would replace each other and "
                f"those of events without a key would be refused; type: {_alter(promise, name)} cleanup.policy=delete"
            )
    return found


def _alter(promise: Promise, name: str) -> str:
    return f"kafka-configs.sh --bootstrap-server {promise.servers} --alter --topic {name} --add-config"


def warnings(facts: Facts, promise: Promise) -> list[str]:
    """Return what weakens a promise, each with the command to type."""
    found = []
    for name in dict.fromkeys(promise.topics):
        topic = facts.topics.get(name)
        if topic is None:
            continue
        alter = _alter(promise, name)
        if topic.replication >= 2 and topic.settings.get("min.insync.replicas") == "1":
            found.append(
                f"topic {name}: min.insync.replicas is 1, so a record counts as safe with one copy and can be lost "
                f"with one broker; type: {alter} min.insync.replicas=2"
            )
        if topic.replication == 1 and facts.brokers >= ENOUGH_BROKERS and name != promise.source:
            found.append(
                f"topic {name}: one copy only, although there are {facts.brokers} brokers: it is gone with its broker; "
                f"give it three with kafka-reassign-partitions.sh --bootstrap-server {promise.servers}, then type: "
                f"{alter} min.insync.replicas=2"
            )
        if topic.settings.get("unclean.leader.election.enable") == "true":
            found.append(
                f"topic {name}: unclean.leader.election.enable is true, so a broker that was behind can become leader "
                f"and acknowledged records are lost; type: {alter} unclean.leader.election.enable=false"
            )
    return found + _small_letters(facts, promise) + _forgetful(facts, promise)


def _forgetful(facts: Facts, promise: Promise) -> list[str]:
    found = []
    for name, needed in promise.kept.items():
        kept = _number(facts.topics[name].settings, "retention.ms") if name in facts.topics else None
        if kept is not None and 0 <= kept < needed:
            found.append(
                f"topic {name}: retention.ms is {kept}, but a monitor that starts again reads the samples of twice "
                f"labels.within, {needed} ms, and what retention took is missing in quality; type: "
                f"{_alter(promise, name)} retention.ms={needed}"
            )
    return found


def _small_letters(facts: Facts, promise: Promise) -> list[str]:
    source, letters = facts.topics.get(promise.source), facts.topics.get(promise.letters)
    largest = _number(source.settings, "max.message.bytes") if source else None
    room = _number(letters.settings, "max.message.bytes") if letters else None
    if largest is None or room is None or room >= largest:
        return []
    return [
        f"topic {promise.letters}: takes records of {room} bytes, {promise.source} those of {largest}: a large dead "
        f"letter will lack its value; type: {_alter(promise, promise.letters)} max.message.bytes={largest + OVERHEAD}"
    ]


def _number(settings: Mapping[str, str], name: str) -> int | None:
    text = settings.get(name, "")
    return int(text) if text.lstrip("-").isdigit() else None
