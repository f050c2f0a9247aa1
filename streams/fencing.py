"""Whether another worker really has this slot, when Kafka says that a static member was fenced.

librdkafka forgets its member id when the group's coordinator was silent for a session timeout, and goes on sending
heartbeats without one. The coordinator, back again, takes that for a second member under the same `group.instance.id`
and fences it, which librdkafka holds for fatal (its issue 3437). Then the group still knows our own member, or soon
none: nobody took the slot, and new clients go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.clients import quiet

log = logging.getLogger(__name__)

ASK_SECONDS = 5.0
PAUSE_SECONDS = 0.5


def owner_of(kafka: Mapping[str, str], group: str, instance: str) -> Callable[[], str | None]:
    """Return a function that asks which member id a `group.instance.id` has now; None: nobody has it.

    The function raises KafkaException when the group cannot be asked.
    """
    settings: dict[str, Any] = {**kafka, **quiet()}
    admin: list[AdminClient] = []

    def ask() -> str | None:
        if not admin:
            admin.append(AdminClient(settings, logger=log))
        described = admin[0].describe_consumer_groups([group], request_timeout=ASK_SECONDS)[group].result()
        found = [member.member_id for member in described.members if member.group_instance_id == instance]
        return str(found[0]) if found else None

    return ask


def was_taken(
    ask: Callable[[], str | None],
    mine: str,
    seconds: float,
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Say whether another member has the slot; `mine` is the member id that we had last.

    A member that is neither us nor gone after `seconds` (a session timeout and some) lives: it took the slot. It may
    have been us, had the answer to our joining been lost, and then it is gone by then. Unasked it counts as taken:
    starting over would fence a worker that may be there.
    """
    deadline = now() + seconds
    while True:
        try:
            owner = ask()
            if owner is None or owner == mine:
                return False
        except KafkaException as error:
            log.info("cannot ask who has this slot: %s", error)
        if now() >= deadline:
            return True
        sleep(PAUSE_SECONDS)
