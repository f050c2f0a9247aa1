"""The control topic and its audit as they stand in Kafka: made, read whole, and checked to belong together.

Both have one partition. Every transaction on them writes an entry of the audit, the head that names it, and the states
that it is about; see `streams.control_writer`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message

from schemas.chain import Finding, verify_chain, verify_end
from schemas.control import HEAD_KEY, NO_HEAD, Entry, Head, State
from schemas.errors import RecordInvalid
from schemas.values import as_bytes
from streams import guarantees
from streams.codes import DENIED
from streams.errors import ChainBroken, ControlUnavailable, Refused
from streams.following import Follower
from streams.rollout import World
from streams.topics import Topics

log = logging.getLogger(__name__)

RECORD_BYTES = 4 << 20  # an entry holds a declaration and its event schema twice
KEPT: Final = {  # for ever, and no unclean leader may lose the end
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": str(RECORD_BYTES),
    "unclean.leader.election.enable": "false",
}
COMPACTED: Final = {
    "cleanup.policy": "compact",
    "max.message.bytes": str(RECORD_BYTES),
    "unclean.leader.election.enable": "false",
    "segment.ms": "86400000",
    "delete.retention.ms": str(30 * 86_400_000),  # who is cut off for so long still hears of a removal
}
LAST_WORDS: Final = {  # cleaned often: every slot says something every few seconds, and who looks reads all of it
    "cleanup.policy": "compact",
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.1",
}
YEARS: Final = {"cleanup.policy": "delete", "retention.ms": str(10 * 366 * 86_400_000), "retention.bytes": "-1"}
CHECKED = ("cleanup.policy", "retention.ms", "retention.bytes")
REACH_SECONDS = 10.0
LAST_ENTRIES = 64  # what a writer looks at, instead of an audit of years
LACKING = ("missing", "cut_end", "state")  # what is found where an entry is not there
SPAN = 4 * LAST_ENTRIES  # offsets in which they are: markers and what was rolled back have some, too


@dataclass(frozen=True, slots=True)
class ControlTopics:
    """The topics of one control plane, and the transactional id that its writers share."""

    prefix: str = "penstock"

    @classmethod
    def beside(cls, audit: str) -> ControlTopics | None:
        """Return the control plane whose audit has this name; None for the name of none."""
        prefix = audit.removesuffix(".audit")
        return cls(prefix) if prefix and prefix != audit else None

    @property
    def control(self) -> str:
        return f"{self.prefix}.control"

    @property
    def audit(self) -> str:
        return f"{self.prefix}.audit"

    @property
    def swaps(self) -> str:
        return f"{self.prefix}.swaps"

    @property
    def status(self) -> str:
        return f"{self.prefix}.status"

    @property
    def transactional_id(self) -> str:
        return f"{self.prefix}.control"

    def settings(self) -> dict[str, Mapping[str, str]]:
        """Return the settings that each topic is made with."""
        return {self.control: COMPACTED, self.audit: KEPT, self.swaps: YEARS, self.status: LAST_WORDS}

    def ensure(self, kafka: Mapping[str, str], *names: str) -> None:
        """Make those of the topics that are missing.

        Raises Refused where one may not be made, or is there with settings under which records would vanish.
        """
        topics, settings = Topics(kafka), self.settings()
        known = topics.partitions()  # the usual answer, in one request
        for name in names:
            count = known.get(name) or topics.ensure(name, 1, settings[name]).partitions
            if count != 1:
                raise Refused(
                    f"topic {name} has {count} partitions, but its order needs one: delete it, if it is not "
                    "in use, and it is made again as it must be"
                )
        try:
            facts = guarantees.read(topics.admin, names, broker=False)
        except KafkaException as error:
            log.info("the settings of %s cannot be read: %s", ", ".join(names), error.args[0].str())
            return
        for name, topic in facts.topics.items():
            for key in CHECKED:
                _check(kafka["bootstrap.servers"], name, key, topic.settings.get(key), settings[name].get(key))


def _check(servers: str, topic: str, key: str, found: str | None, wanted: str | None) -> None:
    """Raise Refused where a setting that may be read lets records vanish."""
    if found is None or wanted is None or found == wanted or (key != "cleanup.policy" and wanted != "-1"):
        return
    raise Refused(
        f"topic {topic}: its {key} is {found}, so that records of it would vanish; type: kafka-configs.sh "
        f"--bootstrap-server {servers} --alter --topic {topic} --add-config {key}={wanted}"
    )


TOPICS = ControlTopics()


class ControlLog:
    """What both topics hold, read committed; goes on where it stopped when it is asked again.

    states, head, entries: as in `streams.rollout.World`.
    Methods raise Refused when a topic may not be read or a broker does not answer.
    """

    def __init__(
        self, kafka: Mapping[str, str], topics: ControlTopics = TOPICS, *, whole: bool = False, made: bool = False
    ) -> None:
        """whole: all of the audit, not only its last entries. made: both topics are there, also where a broker has
        not heard of them yet.
        """
        self.states: dict[str, State] = {}
        self.head = NO_HEAD
        self.entries: list[Entry] = []
        self._strange: list[tuple[int, Finding]] = []  # in the audit, behind so many entries
        self._spoilt: dict[bytes, Finding] = {}  # in the control topic, by key
        self._kafka, self._topics, self._whole, self._made = kafka, topics, whole, made
        self._there: list[str] = []
        self._reader = Follower(kafka, f"{topics.control}.readers")

    def settle(self) -> World:
        """Read to where the topics end now, and on until both tell of the same transaction.

        They are two topics: a transaction that is committed meanwhile is seen in one first.
        """
        self._read(self._topics.control)
        while True:
            head = self.head
            self._read(self._topics.audit)
            self._read(self._topics.control)
            if self.head == head:
                return self.world()

    def reach(self, seconds: float = REACH_SECONDS) -> None:
        """Connect to a broker, and see which topics are there.

        Raises ControlUnavailable when no broker answers, Refused when it does not let us.
        """
        _reached(self._kafka, lambda: self._reader.connect(self._topics.control, seconds))
        self._there = [name for name in (self._topics.control, self._topics.audit) if self._reader.exists(name)]

    def connect(self) -> None:
        """Connect what asks for the topics' ends as well, which `settle` would otherwise wait for."""
        with contextlib.suppress(KafkaException):  # what is wrong is said by what is asked next
            self._reader.connect_whole(self._topics.control, REACH_SECONDS)

    def peek(self) -> None:
        """Read what is decided already of topics that were there when a broker was reached, so that `settle` has less
        to read; open transactions are not waited for.

        All ends are asked for before anything is read: a broker answers one after the other, and an answer to who reads
        may wait for records.
        """
        ends = {name: self._reader.end(name, decided=True) for name in self._there}
        for name, (low, high) in ends.items():
            if not self._reader.follows(name):
                self._begin(name, low, high)
        for name, (low, high) in ends.items():
            self._take(name, high)
            if name == self._topics.audit and not self._whole and not self.entries and high - SPAN > low:
                self._begin_at_the_end(low, high)

    def world(self) -> World:
        return World(dict(self.states), self.head, tuple(self.entries))

    def has(self, identity: str) -> bool:
        """Say whether the entry of this id was committed; entries that came after the first reading are all known."""
        return any(entry.id == identity for entry in self.entries)

    def findings(self) -> list[Finding]:
        """Return what is wrong with the whole audit and the states that the control topic holds."""
        strange = [*self._spoilt.values(), *(finding for _, finding in self._strange)]
        return [*strange, *verify_chain(self.entries, self.head, self.states.values())]

    def check(self) -> None:
        """Raise ChainBroken where nothing may be written: the ends of both topics do not belong together.

        Records among the last entries that cannot be read are passed over with a warning, and with each one entry that
        is missing: a newer release wrote it, and the head tells its hash.
        """
        last = self.entries[-LAST_ENTRIES:]
        known = {entry.sequence for entry in last}
        unread = [finding for behind, finding in self._strange if behind >= len(self.entries) - len(last)]
        found = [*self._spoilt.values(), *verify_end(last, self.head)]
        found += [
            Finding(state.audit_sequence, "state", f"{state.deployment}: its entry {state.audit_sequence} is missing")
            for state in self.states.values()
            if state.audit_sequence > max(known, default=0)
        ]
        lacking = {*range(min(known, default=1), self.head.sequence + 1)} - known
        if len(lacking) <= len(unread):
            found = [each for each in found if each.kind not in LACKING or each.sequence not in lacking]
        if not found:
            for each in unread:
                log.warning("%s; it is passed over, and `penstock audit verify` tells of it", each.text)
        else:
            strange = f" ({self._strange[-1][1].text})" if self._strange else ""
            raise ChainBroken(
                f"nothing is written onto {self._topics.audit}, which is not whole: {found[0].text}{strange}; run "
                "`penstock audit verify`, which tells all of it, and see docs/rollout.md for what to do then"
            )

    def close(self) -> None:
        """Let go of Kafka."""
        self._reader.close()

    def _begin(self, topic: str, low: int, high: int) -> None:
        last = topic == self._topics.audit and not self._whole
        self._reader.begin(topic, max(low, high - SPAN) if last else low)

    def _read(self, topic: str) -> None:
        if not self._reader.follows(topic) and not self._is_there(topic):
            return
        low, high = self._reader.end(topic)
        if not self._reader.follows(topic):
            if topic == self._topics.audit and not self._whole:
                self._begin_at_the_end(low, high)
                return
            self._reader.begin(topic, low)
        self._take(topic, high)

    def _is_there(self, topic: str) -> bool:
        """Say whether a topic is there. A writer must not take one that a broker does not show for an empty one."""
        deadline = time.monotonic() + REACH_SECONDS
        while not self._reader.partitions(topic):
            if not self._made:
                return False
            if time.monotonic() > deadline:
                raise ControlUnavailable(f"{topic} exists, but a broker does not show it to us; nothing was changed")
            time.sleep(0.05)
        return True

    def _begin_at_the_end(self, low: int, high: int) -> None:
        """Read the audit's last entries."""
        span = SPAN
        while True:
            first = max(low, high - span)
            self._reader.begin(self._topics.audit, first)
            self._take(self._topics.audit, high)
            if self.entries or first == low:
                return
            span *= 8

    def _take(self, topic: str, high: int) -> None:
        for message in self._reader.follow(topic, high):
            if message.topic() == self._topics.audit:
                self._take_audit(message)
            else:
                self._take_control(message)

    def _take_control(self, message: Message) -> None:
        key, value = as_bytes(message.key()) or b"", as_bytes(message.value())
        self._spoilt.pop(key, None)
        try:
            if key == HEAD_KEY:
                self.head = Head.decode(value) if value else NO_HEAD
            elif not value:
                self.states.pop(key.decode(errors="replace"), None)
            elif (state := State.decode(value)).deployment.encode() == key:
                self.states[state.deployment] = state
            else:
                raise RecordInvalid(f"it is about {state.deployment}")
        except RecordInvalid as error:
            self._spoilt[key] = _strange(message, f"under the key {key!r:.100}: {error}")

    def _take_audit(self, message: Message) -> None:
        try:
            self.entries.append(Entry.decode(as_bytes(message.value()) or b""))
        except RecordInvalid as error:
            self._strange.append((len(self.entries), _strange(message, str(error))))


def read(kafka: Mapping[str, str], topics: ControlTopics | None = None, *, whole: bool = False) -> ControlLog:
    """Return what both topics hold now; nothing where they do not exist. Raises Refused, ControlUnavailable."""
    log = ControlLog(kafka, topics or TOPICS, whole=whole)
    try:
        log.reach()
        log.settle()
    finally:
        log.close()
    return log


def state_of(states: Mapping[str, State], name: str) -> State:
    """Return what control asks for of a deployment. Raises Refused where it has none of this name."""
    if name not in states:
        there = ", ".join(sorted(states)) or "none"
        raise Refused(f"control has no deployment {name} (it has {there}): `penstock apply FILE` makes it one")
    return states[name]


def states_of(kafka: Mapping[str, str], deployment: str) -> list[State]:
    """Return every state that a deployment ever had, the newest first, as the audit tells them.

    One that this release cannot read is left out, and that is said.
    """
    states: dict[int, State] = {}
    for entry in read(kafka, whole=True).entries:
        if entry.changes_state and entry.subject == deployment and entry.after:
            try:
                state = State.of_told(entry.after)
            except RecordInvalid as error:
                log.warning("entry %d is passed over: %s", entry.sequence, error)
                continue
            states[state.revision] = state
    return [states[revision] for revision in sorted(states, reverse=True)]


def _reached(kafka: Mapping[str, str], ask: Callable[[], object]) -> None:
    """Return when a broker answers. Raises ControlUnavailable when none does, Refused when it does not let us."""
    servers = kafka["bootstrap.servers"]
    failure: KafkaError | None = None
    try:
        ask()
    except KafkaException as error:
        failure = error.args[0]
    if failure is None:
        return
    if failure.code() in DENIED:
        raise Refused(f"{servers} refuses us: {failure.str()}; check PENSTOCK_KAFKA_ settings")
    raise ControlUnavailable(
        f"no Kafka broker answers at {servers} ({failure.str()}); is it running, and is the address right?"
    )


def _strange(message: Message, text: str) -> Finding:
    place = f"{message.topic()}/{message.partition()} at offset {message.offset()}"
    return Finding(0, "unreadable", f"{place} is no record of control, or one of a newer release: {text}")
