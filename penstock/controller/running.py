"""The controller at work: reads the topics in the order of time, folds them, and writes what is decided.

Several may run: each decides the same, and the first that writes a decision has done it for all.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from monitoring.decision import Decision
from monitoring.errors import PartInvalid
from monitoring.evidence import Fact
from penstock.controller import facts, keeping, training
from penstock.controller.acting import Resolve, change_of, nobody, ruled
from penstock.controller.keeping import Kept
from penstock.controller.order import Order, Place
from penstock.errors import TopicUnreadable
from schemas.control import Entry, State
from schemas.errors import Explained, RecordInvalid
from schemas.policy import Policy
from schemas.values import as_bytes
from streams import control
from streams.codes import DENIED
from streams.control import COMPACTED, ControlTopics, read, state_of
from streams.control_writer import Author, Writer
from streams.errors import ControlUnavailable, Refused
from streams.following import Follower
from streams.topics import Topics

log = logging.getLogger(__name__)
WHO = "penstock controller"
RETRAINING = "penstock.retraining"
SNAPSHOT_SECONDS = 10.0
LOOK_SECONDS = 5.0  # for topics that were not there
POLL_SECONDS = 0.2
MOST = 2_000  # records at once

Said = Callable[[str], object]
Report = Callable[[Decision, str], object]  # what became of a decision, in words


@dataclass(frozen=True, slots=True)
class Reads:
    """The topics that are read. rewards: by deployment."""

    control: ControlTopics
    alerts: str
    retraining: str
    rewards: Mapping[str, str]

    @property
    def topics(self) -> list[str]:
        shared = [self.control.audit, self.control.status, self.alerts, self.retraining]
        return [*shared, *dict.fromkeys(self.rewards.values())]


@dataclass(slots=True)
class Controller:
    """kafka: librdkafka settings. dry_run: nothing is written. resolve: returns the version that a reference means.

    clock: s since 1970; monotonic: of any origin. todo: by deployment and fold, what is to be written.
    """

    kafka: Mapping[str, str]
    policies: Sequence[Policy]
    reads: Reads
    report: Report
    dry_run: bool = False
    resolve: Resolve = nobody
    snapshots: str = keeping.TOPIC
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    known: dict[str, Kept] = field(default_factory=dict)
    todo: dict[tuple[str, str], Decision] = field(default_factory=dict)

    def rule(self) -> None:
        """Write into the audit by which policies is decided, where that is new."""
        for policy in self.policies:
            self._writer().change(partial(ruled, policy=policy), self._author("from now on decided by"), whole=True)

    def run(self, snapshots: Mapping[str, bytes], stopping: Callable[[], bool]) -> None:
        """Decide until `stopping` says so. snapshots: by deployment, as they were kept."""
        for policy in self.policies:
            kept = self.known[policy.deployment] = keeping.kept_of(policy, snapshots.get(policy.deployment))
            for fold, each in kept.folds.items():
                if each.pending is not None:
                    self.todo[policy.deployment, fold] = each.pending
        reader = Reader(self.kafka, self.reads.topics, self._beginnings(), self.clock)
        producer = Producer(dict(self.kafka), logger=log)
        try:
            due = self.monotonic() + SNAPSHOT_SECONDS
            while not stopping():
                for place, message in reader.due():
                    self._take(place, message)
                self._do()
                if self.monotonic() >= due and not self.dry_run:
                    self._keep(producer)
                    due = self.monotonic() + SNAPSHOT_SECONDS
            if not self.dry_run:
                self._keep(producer)
                producer.flush(5)
        finally:
            reader.close()

    def _beginnings(self) -> dict[str, int]:
        """Return, by topic, the first offset that somebody has not taken; none where all of it is needed."""
        found = {}
        for topic in self.reads.topics:
            places = [kept.positions.get(topic) for name, kept in self.known.items() if self._reads(name, topic)]
            if places and all(place is not None for place in places):
                found[topic] = min(place for place in places if place is not None)
        return found

    def _reads(self, deployment: str, topic: str) -> bool:
        return topic not in self.reads.rewards.values() or self.reads.rewards.get(deployment) == topic

    def _take(self, place: Place, message: Message) -> None:
        """Give a record to those that have not taken it."""
        for name, kept in self.known.items():
            if not self._reads(name, place.topic) or place.offset < kept.positions.get(place.topic, 0):
                continue
            kept.positions[place.topic] = place.offset + 1
            try:
                for deployment, fact in self._facts(kept, place, message):
                    for fold, each in kept.folds.items() if deployment in ("", name) else ():
                        if (decision := each.take(fact)) is not None:
                            self.todo[name, fold] = decision
            except (PartInvalid, RecordInvalid) as error:  # of another release, or nobody's
                log.debug("%s@%d is passed over: %s", place.topic, place.offset, error)
            except (ValueError, KeyError, TypeError) as error:
                log.warning("%s@%d is passed over: %s: %s", place.topic, place.offset, type(error).__name__, error)

    def _facts(self, kept: Kept, place: Place, message: Message) -> Iterator[tuple[str, Fact]]:
        value = as_bytes(message.value()) or b""
        if place.topic == self.reads.control.audit:
            yield from kept.standings.take(Entry.decode(value))
        elif place.topic == self.reads.control.status:
            if (status := facts.status_of(value)) is not None:
                for load in kept.loads.take(place.at, status):
                    yield status.deployment, load
        elif place.topic == self.reads.alerts:
            yield facts.alarm_of(place.at, value)
        elif place.topic == self.reads.retraining:
            yield facts.asked_of(place.at, value)
        else:
            yield facts.seen_of(place.at, value)

    def _do(self) -> None:
        """Write what was decided; what cannot be written now is tried again."""
        for (name, fold), decision in list(self.todo.items()):
            if self.known[name].folds[fold].pending != decision:
                del self.todo[name, fold]  # the deployment was changed, or somebody answered
            elif self.dry_run:
                del self.todo[name, fold]
                self.report(decision, "would be done" if decision.due else "would be proposed")
            elif self._written(decision):
                del self.todo[name, fold]

    def _written(self, decision: Decision) -> bool:
        """Write a decision; say whether that is settled, one way or another."""
        decide = partial(change_of, decision=decision, resolve=self.resolve)
        try:
            written = self._writer().change(decide, self._author(decision.why), whole=True)
        except ControlUnavailable as error:
            log.warning("%s: %s cannot be written now: %s", decision.deployment, decision.kind, error)
            return False
        except Explained as error:
            log.warning("%s: %s is void: %s", decision.deployment, decision.kind, error)
            return True
        if written is not None:
            self.report(decision, "done" if decision.due else "proposed")
            rule = self.known[decision.deployment].policy.retraining
            if decision.kind == "retrain" and decision.due and rule is not None:
                training.start(rule, decision, self._trained)
        return True

    def _trained(self, decision: Decision, how: str, said: str) -> None:
        """Tell how a training ended; from its thread."""
        try:
            self._writer().change(lambda world: training.told(decision, how, said), self._author(how))
        except Explained as error:
            log.warning("%s: how its training ended is not told: %s", decision.deployment, error)

    def _keep(self, producer: Producer) -> None:
        for name, kept in self.known.items():
            producer.produce(self.snapshots, kept.dump(), name.encode())
        producer.poll(0)

    def _writer(self) -> Writer:
        return Writer(dict(self.kafka), self.reads.control)

    def _author(self, why: str) -> Author:
        return Author(WHO, socket.gethostname(), why)


def started(
    kafka: Mapping[str, str], policies: Sequence[Policy], alerts: str, *, dry_run: bool, resolve: Resolve, report: Said
) -> tuple[Controller, dict[str, bytes]]:
    """Return the controller of these policies, which now stand in the audit, and what was kept of it.

    Raises Refused for policies of deployments that are not there, or have no labels to decide by.
    """
    states = read(kafka).world().states
    rewards = {policy.deployment: _rewards(policy, states) for policy in policies}

    def tell(decision: Decision, became: str) -> None:
        report(
            f"{decision.deployment}: {decision.kind} of {decision.arm} to {decision.to:g} % {became}: {decision.why}"
        )

    reads = Reads(control.TOPICS, alerts, RETRAINING, rewards)
    controller = Controller(kafka, policies, reads, tell, dry_run, resolve)
    if not dry_run:
        Topics(kafka).ensure(controller.snapshots, 1, COMPACTED)
        controller.rule()
    return controller, snapshots_of(kafka, controller.snapshots)


def _rewards(policy: Policy, states: Mapping[str, State]) -> str:
    """Return where the outcomes of a deployment are told. Raises Refused."""
    name = policy.deployment
    declared = state_of(states, name).content()[0]
    asks = policy.promotion.labels > 0 or policy.steps[0] < 100
    if declared.labels is None and asks:
        raise Refused(
            f"{name} declares no labels, so no outcome tells whether a candidate is better: declare `labels` in its "
            "YAML file and apply it (docs/quality.md)"
        )
    return declared.rewards_topic


def snapshots_of(kafka: Mapping[str, str], topic: str) -> dict[str, bytes]:
    """Return what was kept, by deployment."""
    follower, found = Follower(kafka, "penstock.controller"), dict[str, bytes]()
    try:
        if follower.exists(topic):
            low, high = follower.end(topic)
            follower.begin(topic, low)
            for message in follower.follow(topic, high):
                found[(as_bytes(message.key()) or b"").decode()] = as_bytes(message.value()) or b""
    finally:
        follower.close()
    return found


class Reader:
    """Reads topics of one partition in the order of time. A topic that is not there yet is looked for."""

    def __init__(
        self,
        kafka: Mapping[str, str],
        topics: Sequence[str],
        beginnings: Mapping[str, int],
        clock: Callable[[], float],
    ) -> None:
        settings: dict[str, Any] = {
            **kafka,
            "group.id": "penstock.controller",  # the client asks for one; nothing is committed under it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
        }
        self._consumer = Consumer(settings, logger=log)
        self._order = Order[Message].of(topics)
        self._beginnings, self._clock = beginnings, clock
        self._missing, self._looked = list(topics), -LOOK_SECONDS
        self._ended: set[str] = set()

    def due(self) -> Iterator[tuple[Place, Message]]:
        """Yield what can be taken, after reading for POLL_SECONDS at most."""
        self._look()
        for message in self._consumer.consume(MOST, POLL_SECONDS):
            topic, offset, error = message.topic() or "", message.offset() or 0, message.error()
            if error is None:
                self._ended.discard(topic)
                self._order.add(Place(message.timestamp()[1], topic, offset), message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._ended.add(topic)
            elif error.code() in DENIED:
                raise TopicUnreadable(f"{topic} cannot be read: {error.str()}; grant READ on it")
            else:
                log.info("%s cannot be read now: %s", topic or "a topic", error.str())
        now = int(self._clock() * 1000)
        for topic in (*self._ended, *self._missing):
            self._order.ended(topic, now)
        yield from self._order.due()

    def close(self) -> None:
        """Let go of Kafka."""
        self._consumer.close()

    def _look(self) -> None:
        """Read the topics that have come to be there."""
        if not self._missing or time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            known = self._consumer.list_topics(timeout=5).topics
        except KafkaException as error:
            log.warning("the topics cannot be listed now: %s", error.args[0].str())
            return
        there = [topic for topic in self._missing if topic in known and known[topic].error is None]
        places = [TopicPartition(topic, 0, self._beginnings.get(topic, 0)) for topic in there]
        if places:
            self._consumer.incremental_assign(places)
        self._missing = [topic for topic in self._missing if topic not in there]
