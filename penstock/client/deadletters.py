"""Dead letters: read them, and feed them in again byte for byte, each at most once.

How far a replay came is remembered per reason, in the topic `penstock.replays` (see penstock.client.replays) and,
where Kafka's own tools show it, as the committed offsets of the consumer group `penstock.replay.<topic>.<reason>`,
which Kafka forgets in the end; letters, records and offsets are written in one transaction. So a replay of one reason
leaves the others where they are, and a replay that was killed, or started twice, repeats nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaException, Message, TopicPartition

from penstock.client import cluster
from penstock.client.errors import ClientError
from penstock.client.inference import Position
from penstock.client.records import RecordReader, position
from penstock.client.replays import TOPIC, Replays
from schemas.values import as_bytes

HEADER = "penstock."  # what the worker adds; the event's own headers have other names
REPLAYED_FROM = "penstock.replayed-from"
_TRANSACTION, _SECONDS = 500, 30.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that could not be scored, byte for byte, and why."""

    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]  # the event's own
    about: Mapping[str, str]  # reason, detail, exception, deployment, source.topic, source.partition, ..., time
    position: Position

    @property
    def reason(self) -> str:
        return self.about.get("reason", "unknown")

    @property
    def incomplete(self) -> bool:
        """Something of the event was too large for the letter's topic; the event is at `source`."""
        return "left_out" in self.about

    @property
    def source(self) -> str:
        """topic/partition/offset of the event."""
        return "/".join(self.about.get(f"source.{part}", "?") for part in ("topic", "partition", "offset"))

    @classmethod
    def of(cls, message: Message) -> DeadLetter:
        headers = [(name, as_bytes(value)) for name, value in _headers(message)]
        return cls(
            value=as_bytes(message.value()),
            headers=tuple((name, value) for name, value in headers if not name.startswith(HEADER)),
            about={
                name.removeprefix(HEADER): (value or b"").decode(errors="replace")
                for name, value in headers
                if name.startswith(HEADER)
            },
            position=position(message),
        )


def _headers(message: Message) -> list[tuple[str, Any]]:
    found = message.headers() or []
    return list(found.items()) if isinstance(found, dict) else list(found)


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets first to last, both included, of one partition."""

    partition: int
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Range:
        """`2:100-200` or `2:100`. Raises ValueError."""
        match = re.fullmatch(r"(\d+):(\d+)(?:-(\d+))?", text)
        if match is None:
            raise ValueError(f"{text!r} is no range of offsets; write PARTITION:FIRST-LAST or PARTITION:OFFSET")
        return cls(int(match[1]), int(match[2]), int(match[3] or match[2]))

    def holds(self, letter: DeadLetter) -> bool:
        place = letter.position
        return place.partition == self.partition and self.first <= place.offset <= self.last


def read(
    settings: Mapping[str, Any], topic: str, reasons: Collection[str] = (), ranges: Sequence[Range] = ()
) -> Iterator[DeadLetter]:
    """The dead letters that the topic holds now, in the order of their partition; of any reason when none is given.

    Raises NoSuchTopic, ConnectionFailed.
    """
    kafka = dict(settings)
    begin = {each.partition: min(one.first for one in ranges if one.partition == each.partition) for each in ranges}
    ahead = {each.partition: max(one.last for one in ranges if one.partition == each.partition) for each in ranges}
    servers = kafka.pop("bootstrap.servers")
    with closing(RecordReader(servers, topic, start="earliest", begin=begin or None, **kafka)) as reader:
        while not reader.at_end and (ahead or not ranges):
            for message in reader.read(1000, 1.0):
                letter = DeadLetter.of(message)
                if (not reasons or letter.reason in reasons) and (
                    not ranges or any(each.holds(letter) for each in ranges)
                ):
                    yield letter
                if letter.position.offset >= ahead.get(letter.position.partition, 1 << 63):
                    del ahead[letter.position.partition]


def find(settings: Mapping[str, Any], topic: str, partition: int, offset: int) -> DeadLetter | None:
    """The letter at one position, or None."""
    return next(read(settings, topic, ranges=[Range(partition, offset, offset)]), None)


class Replay:
    """Feeds dead letters in again: value, key and own headers byte for byte, `penstock.replayed-from` added.

    Letters go to the topic that they came from, into the same partition, or to the topic `to`.
    With `ranges` exactly these letters are replayed, whether or not they were before, and nothing is remembered.
    A second replay of the same topic fences the first. Raises NoSuchTopic, ConnectionFailed.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        topic: str,
        *,
        reasons: Collection[str] = (),
        ranges: Sequence[Range] = (),
        to: str | None = None,
        limit: int | None = None,
    ) -> None:
        self._settings, self.topic, self._to = dict(settings), topic, to
        self._reasons, self._ranges, self._limit = reasons, ranges, limit
        self._replays = Replays(settings, topic)
        self._kept: dict[str, dict[int, int]] | None = None  # reason -> partition -> next offset
        self._progress: dict[str, dict[int, int]] = {}  # the same, and what this replay did
        self._unkept: dict[str, dict[int, int]] = {}  # what only groups remember, which Kafka will forget
        self._counts: dict[str, int] = {}  # partitions of the topics that letters go to
        self.incomplete: list[DeadLetter] = []  # passed over: their events are whole at their source only
        self._open = ExitStack()
        self._groups: dict[str, Any] = {}

    @property
    def notes(self) -> list[str]:
        """Sentences about progress of earlier replays that does not count, or hides letters."""
        return self._replays.notes

    def pending(self) -> Iterator[DeadLetter]:
        """What `run` would replay now, in its order."""
        found = 0
        for letter in read(self._settings, self.topic, self._reasons, self._ranges):
            if self._limit is not None and found >= self._limit:
                return
            if self._ranges or letter.position.offset >= self._next(letter.reason).get(letter.position.partition, 0):
                found += 1
                yield letter

    def run(self, progress: Callable[[int], None] = lambda count: None) -> int:
        """Replay what is pending; returns how many letters.

        Raises ClientError when another replay took over, or when Kafka refused: the last transaction was undone.
        """
        producer = confluent_kafka.Producer(
            {
                "compression.type": "lz4",
                "partitioner": "murmur2_random",
                **self._settings,
                "transactional.id": f"penstock.replay.{self.topic}",
            },
            logger=cluster.logger,
        )
        done = 0
        try:
            producer.init_transactions(_SECONDS)  # fences another replay, before the progress is read
            self._kept, self._progress, self._unkept = None, {}, {}
            batch: list[DeadLetter] = []
            for letter in self.pending():
                batch.append(letter)
                if len(batch) == _TRANSACTION:
                    done += self._transact(producer, batch)
                    progress(done)
                    batch = []
            done += self._transact(producer, batch) if batch or self._unkept else 0
        except KafkaException as error:
            reason = cluster.explain(error, self._servers, self._to or "")
            raise ClientError(f"{reason}; {done:,} letters were replayed before") from None
        finally:
            producer.purge()
            self.close()
        progress(done)
        return done

    def close(self) -> None:
        """Let go of Kafka."""
        self._open.close()

    @property
    def _servers(self) -> str:
        return str(self._settings["bootstrap.servers"])

    def _transact(self, producer: Any, letters: Sequence[DeadLetter]) -> int:
        if not self._ranges:
            self._replays.make()
        producer.begin_transaction()
        try:
            whole = [letter for letter in letters if not letter.incomplete]
            for letter in whole:
                self._produce(producer, letter)
            if not self._ranges:
                for reason in {letter.reason for letter in letters} | self._unkept.keys():
                    self._commit(producer, reason, letters)
            producer.commit_transaction(_SECONDS)
        except BaseException:
            self._abort(producer)
            raise
        self._unkept.clear()
        for letter in letters:
            self._progress.setdefault(letter.reason, {})[letter.position.partition] = letter.position.offset + 1
        self.incomplete += [letter for letter in letters if letter.incomplete]
        return len(whole)

    def _abort(self, producer: Any) -> None:
        try:
            producer.abort_transaction(_SECONDS)
        except KafkaException as error:  # fenced, or unreachable: the broker undoes it
            cluster.logger.info("replay of %s: %s", self.topic, error)

    def _produce(self, producer: Any, letter: DeadLetter) -> None:
        place = letter.position
        topic = self._to or letter.about.get("source.topic")
        if not topic:
            raise ClientError(
                f"{place.topic}/{place.partition}/{place.offset} names no source topic; say where with --to"
            )
        headers = [*letter.headers, (REPLAYED_FROM, f"{place.topic}/{place.partition}/{place.offset}".encode())]
        _send(producer, topic, letter.value, place.key, partition=self._partition(topic, letter), headers=headers)

    def _partition(self, topic: str, letter: DeadLetter) -> int:
        """The event's own partition in its own topic; by key (-1) elsewhere."""
        if topic not in self._counts:
            self._counts[topic] = len(cluster.partitions_of(self._settings, topic))
        source = letter.about.get("source.partition", "")
        if topic == letter.about.get("source.topic") and source.isdigit() and int(source) < self._counts[topic]:
            return int(source)
        return -1

    def _commit(self, producer: Any, reason: str, letters: Sequence[DeadLetter]) -> None:
        ends = {each.position.partition: each.position.offset + 1 for each in letters if each.reason == reason}
        for key, value in self._replays.records(reason, self._unkept.get(reason, {}) | ends):
            _send(producer, TOPIC, value, key)
        if not ends:
            return
        offsets = [TopicPartition(self.topic, partition, offset) for partition, offset in ends.items()]
        producer.send_offsets_to_transaction(offsets, self._group(reason).consumer_group_metadata(), _SECONDS)

    def _next(self, reason: str) -> dict[int, int]:
        """Per partition the offset behind the last letter of this reason that was replayed."""
        if self._kept is None:
            self._kept = self._replays.read()
        if reason not in self._progress:
            kept, committed = self._kept.get(reason, {}), self._committed(reason)
            further = {each: offset for each, offset in committed.items() if offset > kept.get(each, 0)}
            self._progress[reason] = kept | further
            if further:
                self._unkept[reason] = further
        return self._progress[reason]

    def _committed(self, reason: str) -> dict[int, int]:
        """What the reason's group says, which is older replays' only memory; not what is beyond the end of the log."""
        wanted = [TopicPartition(self.topic, partition) for partition in self._replays.partitions]
        try:
            found = self._group(reason).committed(wanted, _SECONDS)
        except KafkaException as error:
            raise cluster.explain(error, self._servers, self.topic) from None
        committed = {each.partition: each.offset for each in found if each.offset > 0}
        ends = self._replays.ends(committed)
        for partition in [each for each in committed if committed[each] > ends[each]]:
            self._replays.note(
                f"the {reason} letters of {self.topic}/{partition} were replayed up to offset {committed[partition]}, "
                f"and it ends at {ends[partition]}: was it made anew? That progress does not count"
            )
            del committed[partition]
        return committed

    def _group(self, reason: str) -> Any:
        """A consumer that never joins its group: it only reads the group's offsets and names it to a transaction."""
        if reason not in self._groups:
            configuration = {
                **self._settings,
                "group.id": f"penstock.replay.{self.topic}.{reason}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",  # `committed` waits for an open transaction to end
            }
            consumer = confluent_kafka.Consumer(configuration, logger=cluster.logger)
            self._groups[reason] = consumer
            self._open.callback(consumer.close)
        return self._groups[reason]


def _send(producer: Any, topic: str, value: bytes | None, key: bytes | None, **more: Any) -> None:
    """Hand a record over, and wait where the producer's queue is full."""
    while True:
        try:
            producer.produce(topic, value, key, **more)
            return
        except BufferError:
            producer.poll(0.05)
