"""Whether another worker really has this slot, when Kafka says that a static member or a producer was fenced.

librdkafka forgets its member id when the group's coordinator was silent for a session timeout, and goes on sending
heartbeats without one. The coordinator, back again, takes that for a second member under the same `group.instance.id`
and fences it, which librdkafka holds for fatal (its issue 3437). Then the group still knows our own member, or soon
none: nobody took the slot, and new clients go on.

A producer is fenced by a worker under the same slot, but also when its transaction took too long. Static members of one
slot fence each other too; those of KIP-848 are not static, and are known by the client id, which is the slot's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

ASK_SECONDS = 5.0
PAUSE_SECONDS = 0.5
HEAR_SECONDS = 3.0  # in which a group says that a member was replaced


def owners_of(admin: Callable[[], AdminClient], group: str, slot_id: str) -> Callable[[], Collection[str]]:
    """Return a function that asks which member ids a slot has now; more than one only where members are not static.

    The function raises KafkaException when the group cannot be asked.
    """

    def ask() -> Collection[str]:
        described = admin().describe_consumer_groups([group], request_timeout=ASK_SECONDS)[group].result()
        return [
            str(each.member_id) for each in described.members if slot_id in (each.group_instance_id, each.client_id)
        ]

    return ask


def was_taken(
    ask: Callable[[], Collection[str]],
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
            if not set(ask()) - {mine}:
                return False
        except KafkaException as error:
            log.info("cannot ask who has this slot: %s", error)
        if now() >= deadline:
            return True
        sleep(PAUSE_SECONDS)


def what_the_group_says(hold: Callable[[float], object]) -> BaseException | None:
    """Ask the group for a while; return what it says: Fenced when another worker joined under this slot's name.

    hold: stays a member for so many seconds.
    """
    deadline = time.monotonic() + HEAR_SECONDS
    try:
        while time.monotonic() < deadline:
            hold(0.1)
    except BaseException as error:
        return error
    return None
