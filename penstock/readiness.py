"""When a broker is ready: a record that was produced to it has been read back."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any

from penstock.errors import BrokerFailed

TOPIC = "penstock.ready"
SECONDS = 60.0


class Ended(BrokerFailed):
    """The broker's process ended before it was ready."""


class Watch:
    """How long it is worth waiting: the broker lives and the time is not over."""

    def __init__(self, servers: str, alive: Callable[[], bool], seconds: float) -> None:
        self._servers = servers
        self._alive = alive
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Raise Ended, or BrokerFailed when the time is over."""
        if not self._alive():
            raise Ended(f"the broker on {self._servers} ended before it was ready")
        if time.monotonic() > self._end:
            raise BrokerFailed(f"the broker on {self._servers} was not ready within {self._seconds:.0f} s")


def wait_until_ready(servers: str, alive: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Block until a record was produced to `servers` and read back.

    Raises Ended as soon as `alive` says no, BrokerFailed after `seconds`.
    """
    watch = Watch(servers, alive, seconds)
    host, port = servers.rsplit(":", 1)
    while True:  # before it listens, librdkafka would back off and come back late
        watch.check()
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            break
        time.sleep(0.02)
    settings: dict[str, Any] = {"bootstrap.servers": servers, "log_level": 0, "error_cb": lambda _: None}
    _create_topic(settings, watch)
    nonce = secrets.token_bytes(8)
    _read_back(settings, nonce, _produce(settings, nonce, watch), watch)


def _create_topic(settings: dict[str, Any], watch: Watch) -> None:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient(settings)  # kept: its futures fail when it is collected
    wanted = NewTopic(TOPIC, 1, 1, config={"retention.ms": "3600000"})
    while True:
        try:
            admin.create_topics([wanted], request_timeout=5)[TOPIC].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return
            watch.check()
            time.sleep(0.1)
        else:
            return


def _produce(settings: dict[str, Any], nonce: bytes, watch: Watch) -> int:
    from confluent_kafka import Producer

    offsets: list[int] = []
    producer = Producer(settings)
    producer.produce(TOPIC, nonce, on_delivery=lambda error, message: offsets.append(message.offset() or 0))
    while not offsets:
        watch.check()
        producer.poll(0.05)
    return offsets[0]


def _read_back(settings: dict[str, Any], nonce: bytes, offset: int, watch: Watch) -> None:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({**settings, "group.id": TOPIC, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(TOPIC, 0, max(offset, 0))])
        while True:
            watch.check()
            message = consumer.poll(0.05)
            if message is not None and message.value() == nonce:
                return
    finally:
        consumer.close()
