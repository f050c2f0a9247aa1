"""Whether every partition of the topic has a reader in its group.

A cooperative rebalance takes two rounds: what one member gives back in the first is given out in the second, for which
that member asks. One that is killed in between, or makes new clients, comes back as the same static member, to which
the group's coordinator hands what it had, without a second round: what it gave back is read by nobody until the next
rebalance, for whatever reason that comes. Seen on Kafka 4.3.1. The slots look for it, and one of them joins anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
PATIENCE = 8.0  # without a reader; between the two rounds of a rebalance it is as a rule less than one
ASK_SECONDS = 5.0


class Described(Protocol):
    """What the group's description will be."""

    def done(self) -> bool: ...

    def result(self) -> Any: ...


class Coverage:
    """Looks whether partitions 0 to `partitions` - 1 of a topic are all read; blocks nowhere.

    slot_id: the `group.instance.id` of this member. ask: begins to ask for the group's description.
    """

    def __init__(
        self,
        ask: Callable[[], Described],
        topic: str,
        partitions: int,
        slot_id: str,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._now = ask, now
        self._topic, self._partitions, self._slot_id = topic, partitions, slot_id
        self._asked: Described | None = None
        self._due = now() + LOOK_SECONDS
        self._since: float | None = None  # when partitions were first seen without a reader

    def orphans(self) -> Sequence[int]:
        """Return the partitions that have had no reader for PATIENCE seconds, to the one slot that is to join anew."""
        if self._asked is None:
            if self._now() >= self._due:
                self._asked = self._ask()
            return []
        if not self._asked.done():
            return []
        asked, self._asked, self._due = self._asked, None, self._now() + LOOK_SECONDS
        try:
            return self._judge(asked.result())
        except KafkaException as error:
            log.debug("cannot ask which partitions the group reads: %s", error)
            self._since = None
            return []

    def _judge(self, group: Any) -> Sequence[int]:
        read = {
            place.partition
            for member in group.members
            for place in member.assignment.topic_partitions
            if place.topic == self._topic
        }
        orphans = sorted(set(range(self._partitions)) - read)
        if group.state != ConsumerGroupState.STABLE or not orphans:
            self._since = None
            return []
        self._since = self._now() if self._since is None else self._since
        first = min((str(member.group_instance_id or "") for member in group.members), default="")
        if self._now() - self._since < PATIENCE or first != self._slot_id:
            return []
        self._since = None
        return orphans


def asking(admin: AdminClient, group: str) -> Callable[[], Described]:
    """Return what begins to ask for a group's description."""

    def ask() -> Described:
        described: Described = admin.describe_consumer_groups([group], request_timeout=ASK_SECONDS)[group]
        return described

    return ask
