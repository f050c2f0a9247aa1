"""The few things that producers, subscribers and dead-letter readers ask of Kafka in the same words."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from penstock.client.errors import ClientError, ConnectionFailed, NoSuchTopic

logger = logging.getLogger("penstock.client")
NEW_SECONDS = 1.0
_OWN_NAMES = {"log_level", "error_cb", "stats_cb", "throttle_cb", "oauth_cb", "on_delivery", "logger"}


def settings(bootstrap_servers: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """librdkafka settings; keywords may be written with underscores: security_protocol="SASL_SSL"."""
    named = {name if name in _OWN_NAMES else name.replace("_", "."): value for name, value in extra.items()}
    return {"log_level": 4, "socket.keepalive.enable": True, **named, "bootstrap.servers": bootstrap_servers}


def common(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the settings that every kind of client understands: address, security, logging."""
    prefixes = (
        "bootstrap.",
        "security.",
        "sasl.",
        "ssl.",
        "socket.",
        "client.",
        "broker.address",
        "log_level",
        "oauth_cb",
    )
    return {name: value for name, value in configuration.items() if name.startswith(prefixes)}


def explain(error: BaseException, servers: str, topic: str = "") -> ClientError:
    """A Kafka exception as an error of this package that says what to do."""
    cause = error.args[0] if error.args else None
    if not isinstance(cause, KafkaError):
        return ConnectionFailed(f"Kafka at {servers}: {error}")
    code, about = cause.code(), f"topic {topic!r} " if topic else ""
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
        return NoSuchTopic(f"{about}does not exist on {servers}; check the name, or create it first")
    if code in (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    ):
        return ConnectionFailed(
            f"{about}on {servers}: no permission ({cause.str()}); ask for the rights, or set the login"
        )
    if code in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE):
        return ConnectionFailed(
            f"no Kafka broker answers at {servers} ({cause.str()}); is it running, is the address right?"
        )
    return ConnectionFailed(f"Kafka at {servers}: {about}{cause.str()}")


def reach(configuration: Mapping[str, Any], seconds: float = 10.0) -> None:
    """Raise ConnectionFailed when no broker answers within `seconds`."""
    try:
        AdminClient(common(configuration), logger=logger).list_topics(timeout=seconds)
    except KafkaException as error:
        raise explain(error, configuration["bootstrap.servers"]) from error


def partitions_of(
    configuration: Mapping[str, Any], topic: str, seconds: float = 10.0, patience: float = NEW_SECONDS
) -> list[int]:
    """The topic's partitions.

    Raises NoSuchTopic, or ConnectionFailed when nobody answers within `seconds`. Never creates a topic. Brokers hear
    of a new one a moment after who made it: one is missing only when it still is after `patience` seconds.
    """
    servers, deadline = configuration["bootstrap.servers"], time.monotonic() + patience
    admin = AdminClient(common(configuration), logger=logger)
    while True:
        try:
            future = admin.describe_topics(TopicCollection([topic]), request_timeout=seconds)[topic]
            return sorted(partition.id for partition in future.result(timeout=seconds + 1).partitions)
        except (KafkaException, TimeoutError) as error:
            found = explain(error, servers, topic)
        if not isinstance(found, NoSuchTopic) or time.monotonic() > deadline:
            raise found
        time.sleep(0.1)
