"""What every Kafka client of a worker shares: its own log is for emergencies, trouble is said once in a while.

Call no client while an exception is being handled: where confluent-kafka 2.16 raises then, it keeps that exception for
ever, and with its traceback every frame and client in it, with their threads and files
(`tests/streams/test_clients.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

SAY_AGAIN_SECONDS = 10.0


class Trouble:
    """Called with the errors of a client; says the first, and then one in SAY_AGAIN_SECONDS."""

    def __init__(self) -> None:
        self._said = float("-inf")

    def __call__(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now - self._said > SAY_AGAIN_SECONDS:
            self._said = now
            log.warning("Kafka: %s; the client goes on trying, nothing is lost", error.str())


def quiet(level: int = 2) -> dict[str, Any]:
    """Return settings that keep librdkafka from logging each refused connection of each client each second.

    A producer's errors come as the failure of a transaction: nobody polls it for callbacks, so it gets none.
    """
    return {"log_level": level}


def admin_of(kafka: Mapping[str, str]) -> Callable[[], AdminClient]:
    """Return what gives an admin client, always the same; it is made when first asked for, which is rare."""

    @cache
    def admin() -> AdminClient:
        return AdminClient({**kafka, **quiet()}, logger=log)

    return admin


def talkative() -> dict[str, Any]:
    """Return the settings of a client that is polled and so can say that brokers are away."""
    return {**quiet(), "error_cb": Trouble()}
