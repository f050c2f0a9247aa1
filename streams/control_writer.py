"""Changes of control, each in one transaction with its entry of the audit, by writers that take turns.

Kafka has no conditional append. Writers share one transactional id instead: `init_transactions` decides what the one
before left open and fences it, then both topics are read to their end, then the change is decided on what was read. A
writer that another one fenced meanwhile cannot commit; it reads again and decides again.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from schemas.chain import chained, head_of
from schemas.control import HEAD_KEY, Entry, Head, State
from schemas.errors import Explained
from streams import control
from streams.clients import quiet
from streams.codes import DENIED_TRANSACTION, PRODUCER_FENCED, REFUSED_RECORD
from streams.control import RECORD_BYTES, ControlLog, ControlTopics
from streams.errors import ChangeRefused, ControlUnavailable, Refused
from streams.rollout import Change, World

log = logging.getLogger(__name__)

SECONDS = 90.0  # in which a change is tried again
LONGEST_WAIT = 8.0
STEP_SECONDS = 10.0
TRANSACTION_TIMEOUT_MS = 10_000  # for so long a killed writer's transaction holds back readers, unless another comes
QUICK = {"reconnect.backoff.ms": "20"}  # librdkafka waits for half of it before a client's first connection
LOOK = "look with `penstock history` whether it was changed"
Decide = Callable[[World], Change | None]


@dataclass(frozen=True, slots=True)
class Written:
    """What a transaction wrote: entries of the audit, states, and the change that they came from."""

    change: Change
    entries: tuple[Entry, ...]
    states: tuple[State, ...]

    @property
    def head(self) -> Head:
        return head_of(self.entries[-1])


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes, from where and why, as the audit tells it."""

    who: str
    host: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A try that wrote nothing, or of which that is not known: then `doubtful` is what it may have written."""

    error: KafkaError
    doubtful: Written | None


class Writer:
    """Changes what the control topic holds. kafka: librdkafka settings. seconds: how long a change is tried.

    clock: seconds since 1970. connect: makes a producer of its settings.
    """

    def __init__(
        self,
        kafka: Mapping[str, str],
        topics: ControlTopics | None = None,
        *,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
        connect: Callable[[dict[str, Any]], Producer] = Producer,
    ) -> None:
        self._kafka, self._topics = {**QUICK, **kafka}, topics or control.TOPICS
        self._seconds, self._clock, self._sleep, self._connect = seconds, clock, sleep, connect

    def change(self, decide: Decide, author: Author, *, whole: bool = False, rehearse: bool = False) -> Written | None:
        """Write what `decide` makes of what both topics hold; None where that is nothing. Makes the topics.

        decide: a pure function; it is asked again when another writer came first. whole: it needs the whole audit.
        rehearse: ask it before others are fenced, too: it takes its time the first time, or may refuse.
        Raises what `decide` raises, ChainBroken, ChangeRefused where a record is too large, Refused where Kafka does
        not let us, and ControlUnavailable when no try succeeded: its text says whether the outcome is unknown.
        """
        found = ControlLog(self._kafka, self._topics, whole=whole, made=True)
        try:
            found.reach()
            with ThreadPoolExecutor(3) as beside:  # most of a change is waiting for answers: of four clients at once
                names = self._topics.control, self._topics.audit
                ensured = beside.submit(self._topics.ensure, self._kafka, *names)
                connected, joined = beside.submit(self._connected), beside.submit(found.connect)
                _peek(found, ensured)  # before others are fenced, so that they are fenced for a short time only
                if rehearse:
                    _rehearse(found, decide)
                joined.result()
                return self._until_written(found, decide, author, connected)
        finally:
            found.close()

    def _until_written(
        self, found: ControlLog, decide: Decide, author: Author, connected: Future[Producer]
    ) -> Written | None:
        deadline, doubtful, attempt = time.monotonic() + self._seconds, None, 0
        while True:
            producer = self._connected() if attempt else connected.result()
            try:
                tried = self._try(producer, found, decide, author, doubtful)
            except Refused as error:
                if doubtful is None:
                    raise
                raise ControlUnavailable(f"{error}; {LOOK}") from error
            if not isinstance(tried, Failed):
                return tried
            doubtful = tried.doubtful
            if time.monotonic() > deadline:
                raise ControlUnavailable(
                    f"{self._topics.control} could not be changed within {self._seconds:g} s: {tried.error.str()}; "
                    + (LOOK if doubtful else "nothing was changed")
                )
            log.info("a change of control did not go through: %s; trying again", tried.error.str())
            self._sleep(random.uniform(0, min(LONGEST_WAIT, 0.2 * 2**attempt)))
            attempt += 1

    def _try(
        self, producer: Producer, found: ControlLog, decide: Decide, author: Author, doubtful: Written | None
    ) -> Written | Failed | None:
        written, failure = None, None
        try:
            _patiently(partial(producer.init_transactions, STEP_SECONDS))
            world = found.settle()
            if doubtful is not None and found.has(doubtful.entries[0].id):
                return doubtful
            found.check()
            doubtful = None  # what was left open is decided: it is not there, and never will be
            change = decide(world)
            if change is None:
                return None
            written = self._composed(change, world, author)
            self._publish(producer, written)
            return written
        except KafkaException as error:
            failure = error.args[0]
        self._abandon(producer, failure)  # out here: see streams/clients.py
        self._raise_final(failure)
        return Failed(failure, written or doubtful)

    def _settings(self) -> dict[str, Any]:
        return {
            **self._kafka,
            **quiet(),
            "transactional.id": self._topics.transactional_id,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "acks": "all",
            "linger.ms": 0,
            "message.max.bytes": RECORD_BYTES,
        }

    def _connected(self) -> Producer:
        """Return a producer that is connected: else librdkafka waits half a second to fence, see `streams.sink`.

        It names no topic: brokers that make topics when asked for them would make ours with other settings.
        """
        producer = self._connect(self._settings())
        with contextlib.suppress(KafkaException):  # what is wrong is said by what is asked next
            for _ in range(2):
                producer.list_topics(timeout=5)
        return producer

    def _composed(self, change: Change, world: World, author: Author) -> Written:
        """Return the entries, tied to the chain, and the states that name them."""
        head, entries, states = world.head, [], []
        at_ms = int(self._clock() * 1000)
        for step in change.steps:
            entry = chained(
                head,
                id=str(uuid.uuid4()),
                at_ms=at_ms,
                who=author.who,
                host=author.host,
                action=step.action,
                why=author.why or step.why,
                subject_kind=step.subject_kind,
                subject=step.subject,
                revision_before=step.old.revision if step.old else None,
                revision_after=step.new.revision if step.new else None,
                before=step.before,
                after=step.after,
            )
            head = head_of(entry)
            entries.append(entry)
            if step.new is not None:
                tied = replace(step.new, changed_ms=at_ms, audit_sequence=entry.sequence, audit_hash=entry.hash)
                states.append(replace(tied, signature=None, signer=None))
        return Written(change, tuple(entries), tuple(states))

    def _publish(self, producer: Producer, written: Written) -> None:
        producer.begin_transaction()
        for entry in written.entries:
            producer.produce(self._topics.audit, entry.encode(), entry.subject.encode())
        for state in written.states:
            producer.produce(self._topics.control, state.encode(), state.deployment.encode())
        for name in written.change.removed:
            producer.produce(self._topics.control, None, name.encode())
        producer.produce(self._topics.control, written.head.encode(), HEAD_KEY)
        _patiently(partial(producer.commit_transaction, STEP_SECONDS))

    def _abandon(self, producer: Producer, failure: KafkaError) -> None:
        """Leave no transaction open where that can be helped; else the next writer ends it."""
        with contextlib.suppress(KafkaException):
            if failure.txn_requires_abort():
                producer.abort_transaction(STEP_SECONDS)
        with contextlib.suppress(KafkaException):
            producer.purge(in_queue=True, in_flight=True)
            producer.flush(1)

    def _raise_final(self, failure: KafkaError) -> None:
        """Raise what trying again does not mend."""
        if failure.code() in PRODUCER_FENCED:
            return
        if failure.code() in DENIED_TRANSACTION:
            raise Refused(
                f"no permission to change control: {failure.str()}; grant WRITE and DESCRIBE on the topics "
                f"{self._topics.control} and {self._topics.audit} and on the transactional id "
                f"{self._topics.transactional_id}"
            )
        if failure.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
            raise Refused(
                f"the brokers take no transactions of {TRANSACTION_TIMEOUT_MS} ms: raise their "
                "transaction.max.timeout.ms"
            )
        if failure.code() in REFUSED_RECORD:
            raise ChangeRefused(
                f"the change does not fit into a record: {failure.str()}; make the event schema smaller, or raise "
                f"max.message.bytes of {self._topics.control} and {self._topics.audit} up to {RECORD_BYTES}"
            )


def _peek(found: ControlLog, ensured: Future[None]) -> None:
    """Read what is decided. Where that is refused, the topics are wrong, which is said first, or were just made."""
    refused = False
    try:
        found.peek()
    except Refused:
        refused = True
    ensured.result()
    if refused:
        found.peek()


def _rehearse(found: ControlLog, decide: Decide) -> None:
    """Decide on what is committed; where that is refused, on what is committed once open transactions have ended."""
    refused = False
    try:
        decide(found.world())
    except Explained:
        refused = True
    if refused:
        decide(found.settle())


def _patiently(step: Callable[[], object]) -> None:
    """Run one step of a transaction, again while its failure is called retriable, for STEP_SECONDS at most."""
    deadline = time.monotonic() + STEP_SECONDS
    while True:
        failure = None
        try:
            step()
        except KafkaException as error:
            failure = error
        if failure is None:
            return
        if not failure.args[0].retriable() or time.monotonic() > deadline:
            raise failure
