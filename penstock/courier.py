"""Carries the audit's events, or alerts, to one webhook: at least once, in order, as fast as this one takes them.

Every webhook has a consumer group of its own, so what one does not take holds nobody else back. The offset is committed
behind an event that was delivered or refused: who is killed in between posts the event again, under the same id. Of
several processes with the same webhook one delivers and the others stand by.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from penstock.cloudevents import Event
from penstock.errors import EventsRefused, Undelivered
from penstock.followers import ONCE_SECONDS, SECONDS, Wiring, commit, final, first_offset, offset_of, patiently
from penstock.pages import clean
from penstock.posting import post
from penstock.webhooks import LONGEST_ASKED, Answer, Webhook, pause

log = logging.getLogger(__name__)

REQUEST_SECONDS = 10.0
SESSION_TIMEOUT_MS = 6_000
KEPT = 5  # ids of refused events that the commit's metadata names
MOVED = {KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.UNKNOWN_MEMBER_ID}
Post = Callable[[Webhook, Event, float], Answer]
Telling = Callable[[Message], Event | None]


@dataclass(frozen=True, slots=True)
class Refusals:
    """What a webhook refused since its group began: how many events, and the ids of the last ones."""

    count: int = 0
    last: tuple[str, ...] = ()

    def add(self, identity: str) -> Refusals:
        """Return these with one more."""
        return Refusals(self.count + 1, (*self.last, identity)[-KEPT:])

    def metadata(self) -> str:
        """Return the text that stands in the metadata of the committed offset."""
        return json.dumps({"refused": self.count, "last": self.last}) if self.count else ""

    @classmethod
    def parse(cls, metadata: str | None) -> Refusals:
        """Read `metadata`; none for what is not ours."""
        try:
            found: Any = json.loads(metadata or "{}")
            return cls(int(found.get("refused", 0)), tuple(map(str, found.get("last", []))))
        except (ValueError, TypeError, AttributeError):
            return cls()


class Courier:
    """Delivers to one webhook until told to stop, or to the end of what is followed; see followers.Part.

    telling: the event of a record, None for one that is not told; without it that of an entry of the audit.
    seconds: the limit of a request. Raises Undelivered when with `once` it does not take an event within a minute.
    """

    def __init__(
        self,
        wiring: Wiring,
        webhook: Webhook,
        *,
        telling: Telling | None = None,
        seconds: float = REQUEST_SECONDS,
        post: Post = post,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wiring, self._webhook, self._seconds = wiring, webhook, seconds
        self._telling: Telling = telling or wiring.event
        self._post, self._chance, self._clock = post, chance, clock
        self._refusals = Refusals()
        self.delivered = self.refused = 0

    @property
    def group(self) -> str:
        return f"{self._wiring.events}.webhook.{self._webhook.key}"

    def run(self, stop: threading.Event, once: bool) -> None:
        """Raises EventsRefused; Undelivered with `once`."""
        try:
            patiently(partial(self._try, stop, once), stop, once, self._webhook.name)
        finally:
            log.info("%s: %d delivered, %d refused", self._webhook.name, self.delivered, self.refused)

    def _try(self, stop: threading.Event, once: bool) -> str | None:
        """Run one session with a consumer of its own and return what went wrong, if it may pass."""
        consumer = self._consumer()
        failure = None
        try:
            try:
                self._session(consumer, stop, once)
            except KafkaException as error:
                failure = error.args[0]
        finally:
            consumer.close()
        if failure is None:
            return None
        if (ending := final(failure, self._wiring)) is not None:
            raise ending
        return f"{failure.str()} ({failure.name()})"

    def _consumer(self) -> Consumer:
        member = self._wiring.member
        classic = member.get("group.protocol", "classic").lower() != "consumer"
        more = {"session.timeout.ms": SESSION_TIMEOUT_MS, "partition.assignment.strategy": "cooperative-sticky"}
        return self._wiring.consumer(
            self.group,
            **member,
            **(more if classic else {}),
            **{"max.poll.interval.ms": int(LONGEST_ASKED + 600) * 1000},  # it is not polled while an event is tried
        )

    def _session(self, consumer: Consumer, stop: threading.Event, once: bool) -> None:
        given: list[Exception | None] = []  # what came of each time that the partition was given to us

        def take(_: Consumer, places: list[TopicPartition]) -> None:
            try:
                consumer.incremental_assign([self._begin(consumer, place) for place in places])
                given.append(None)
            except (KafkaException, EventsRefused) as error:  # raised in here it would be the client's
                given.append(error)

        consumer.subscribe([self._wiring.audit], on_assign=take)
        heard = self._clock()
        while not stop.is_set():
            message = consumer.poll(0.5)
            for failure in filter(None, given):
                raise failure
            if message is None:
                if once and self._clock() - heard > ONCE_SECONDS:
                    why = (
                        "the brokers do not answer" if given else "another process delivers to it, or no broker answers"
                    )
                    raise Undelivered(f"{self._webhook.name}: {why}; the next run goes on from there")
                continue
            error = message.error()
            if error is None:
                event = self._telling(message)
                if event is None or self._deliver(event, stop, once):
                    self._commit(consumer, message)
                heard = self._clock()
            elif error.code() == KafkaError._PARTITION_EOF:
                if once:
                    return
            elif not error.retriable():
                raise KafkaException(error)

    def _begin(self, consumer: Consumer, place: TopicPartition) -> TopicPartition:
        (committed,) = consumer.committed([place], SECONDS)
        self._refusals = Refusals.parse(committed.metadata)
        first = first_offset(consumer, self._wiring, committed.offset)
        known = (
            f"{self._refusals.count} events were refused before" if committed.offset >= 0 else "nothing was sent yet"
        )
        log.info("%s: from offset %d of %s on; %s", self._webhook.name, first, self._wiring.audit, known)
        return TopicPartition(place.topic, place.partition, first)

    def _deliver(self, event: Event, stop: threading.Event, once: bool) -> bool:
        """Post until the event is delivered or refused; False when told to stop before."""
        tries, began = 0, self._clock()
        while not stop.is_set():
            answer = self._post(self._webhook, event, self._seconds)
            if answer.verdict == "delivered":
                self.delivered += 1
                log.info("%s: delivered %s %s", self._webhook.name, event.type, event.id)
                return True
            if answer.verdict == "refused":
                self._refuse(event, answer)
                return True
            tries += 1
            seconds = pause(tries, answer, self._chance())
            if once and self._clock() - began + seconds > ONCE_SECONDS:
                raise Undelivered(
                    f"{self._webhook.name} did not take {event.type} {event.id} in {tries} tries ({answer.said}); the "
                    "next run goes on with it"
                )
            log.warning(
                "%s: %s not taken (%s); try %d in %.1f s", self._webhook.name, event.id, answer.said, tries + 1, seconds
            )
            stop.wait(seconds)
        return False

    def _refuse(self, event: Event, answer: Answer) -> None:
        self.refused += 1
        self._refusals = self._refusals.add(event.id)
        log.error(
            "%s REFUSED %s %s about %s (%s): it is not sent again; %d refused up to now",
            *(self._webhook.name, event.type, event.id, clean(event.subject), answer.said, self._refusals.count),
        )

    def _commit(self, consumer: Consumer, message: Message) -> None:
        """Commit behind an event. Where the partition is another's by now, that one sends the event again."""
        try:
            commit(consumer, self._wiring.audit, offset_of(message) + 1, self._refusals.metadata())
        except KafkaException as error:
            if error.args[0].code() not in MOVED:
                raise
            log.info("%s: goes to another process (%s)", self._webhook.name, error.args[0].str())
