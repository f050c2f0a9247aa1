"""How a slot is a member of its consumer group: by the classic protocol, or by KIP-848 (`group.protocol=consumer`).

Classic members are static (`group.instance.id`): a killed slot that comes back goes on at once. A static member of
KIP-848 that was killed cannot come back before its session timeout, and librdkafka takes that for fatal, so there the
members are dynamic: the partitions of a killed slot wait for the session timeout, which is a setting of the group.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from streams.clients import talkative

log = logging.getLogger(__name__)

SESSION_TIMEOUT_MS = 6_000
TRANSACTION_TIMEOUT_MS = SESSION_TIMEOUT_MS  # when a lost slot's partitions are others', readers go on too
HEARTBEAT_MS = 1_500
ANSWER_BYTES = 4 << 20  # of one answer to a fetch: what comes in beside a full queue stays small
STATISTICS_MS = 2_000  # how soon the markers of a producer's transactions are told from events that wait
TIMEOUT = 10.0
CLASSIC_ONLY = {  # librdkafka refuses them with KIP-848, but for the instance's id
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "group.protocol.type",
    "group.instance.id",
}


def is_classic(kafka: Mapping[str, str]) -> bool:
    """Say whether the settings ask for the classic protocol, which is the default."""
    return kafka.get("group.protocol", "classic").lower() != "consumer"


def consumer_settings(kafka: Mapping[str, str], group: str, slot: str) -> dict[str, Any]:
    """Return the settings that the promises rest on, over those that reach the cluster."""
    classic = is_classic(kafka)
    return {
        **{name: value for name, value in kafka.items() if classic or name not in CLASSIC_ONLY},
        **talkative(),
        "group.id": group,
        "client.id": f"{group}.{slot}",
        **(_classic(group, slot) if classic else {}),
        "auto.offset.reset": "error",  # where to start is decided in streams.starts, and said
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "fetch.message.max.bytes": 1 << 20,
        "fetch.max.bytes": max(ANSWER_BYTES, int(kafka.get("message.max.bytes", 0))),
        "queued.min.messages": 100_000,
        "queued.max.messages.kbytes": 8_192,  # of prefetched events: memory stays flat whatever the backlog
        "fetch.wait.max.ms": 500,  # data is sent when there is some; at 50 ms an idle consumer costs 4 % of a core
        "fetch.queue.backoff.ms": 2,
        "topic.metadata.refresh.interval.ms": 10_000,  # how soon partitions added later are found
        "statistics.interval.ms": STATISTICS_MS,
    }


def _classic(group: str, slot: str) -> dict[str, Any]:
    """Return the settings that KIP-848 leaves to the brokers or, static membership, that do not suit us there."""
    return {
        "group.instance.id": f"{group}.{slot}",
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "heartbeat.interval.ms": HEARTBEAT_MS,
        "partition.assignment.strategy": "cooperative-sticky",
    }


def set_group_timeouts(admin: AdminClient, group: str) -> None:
    """Give a group of KIP-848 our session timeout; where that is not allowed, say which one the brokers have."""
    wanted = {
        "consumer.session.timeout.ms": str(SESSION_TIMEOUT_MS),
        "consumer.heartbeat.interval.ms": str(HEARTBEAT_MS),
    }
    try:
        found = group_settings(admin, group)
        if all(found.get(name) == value for name, value in wanted.items()):
            return
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in wanted.items()
        ]
        resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=entries)
        admin.incremental_alter_configs([resource], request_timeout=TIMEOUT)[resource].result()
        log.info("set the session timeout of group %s to %d ms", group, SESSION_TIMEOUT_MS)
    except KafkaException as error:
        _say_what_stays(admin, group, error.args[0].str())


def _say_what_stays(admin: AdminClient, group: str, why: str) -> None:
    try:
        stays = group_settings(admin, group).get("consumer.session.timeout.ms", "unknown")
    except KafkaException:
        stays = "unknown"
    log.warning(
        "the session timeout of group %s cannot be set to %d ms (%s); it stays %s ms: the partitions of a slot that "
        "died wait so long. Allow ALTER_CONFIGS on the group, lower group.consumer.min.session.timeout.ms and "
        "group.consumer.min.heartbeat.interval.ms on the brokers, or use the classic protocol",
        group,
        SESSION_TIMEOUT_MS,
        why,
        stays,
    )


def group_settings(admin: AdminClient, group: str) -> dict[str, str]:
    """Return what the brokers have set for a group. Raises KafkaException."""
    resource = ConfigResource(ResourceType.GROUP, group)
    entries = admin.describe_configs([resource], request_timeout=TIMEOUT)[resource].result()
    return {name: entry.value for name, entry in entries.items() if entry.value is not None}
