"""What an application sees: every inference and dead letter that a read_committed reader gets, and when it got it."""

from __future__ import annotations

import hashlib
import struct
import threading
import time
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from schemas.heads import read_lineage
from schemas.longs import read_long
from tests.places import place_of

INFERENCE, LETTER = 0, 1
NEVER = -1


class Results:
    """Results in the order in which a reader got them, in columns.

    kind; target: the output or dead-letter topic's partition; partition, offset: of the source; sequence: the event's
    own id as echoed by an inference, NEVER for a dead letter; score: NaN for one; version: index into `versions`;
    digest: 8 bytes of a dead letter's value and key, 0 for an inference; arrived: seconds since 1970.
    """

    def __init__(self) -> None:
        self.kind, self.target, self.partition = array("b"), array("h"), array("h")
        self.offset, self.sequence, self.digest = array("q"), array("q"), array("q")
        self.score, self.arrived, self.version = array("d"), array("d"), array("h")
        self.versions: list[str] = []
        self.reasons: dict[str, int] = {}
        self.highest: dict[int, int] = {}  # per source partition, the largest offset that has a result

    def __len__(self) -> int:
        return len(self.kind)

    def add(
        self,
        kind: int,
        target: int,
        partition: int,
        offset: int,
        *,
        sequence: int = NEVER,
        score: float = float("nan"),
        version: int = NEVER,
        digest: int = 0,
        arrived: float = 0.0,
    ) -> None:
        self.kind.append(kind)
        self.target.append(target)
        self.partition.append(partition)
        self.offset.append(offset)
        self.sequence.append(sequence)
        self.score.append(score)
        self.version.append(version)
        self.digest.append(digest)
        self.arrived.append(arrived)
        if offset > self.highest.get(partition, NEVER):
            self.highest[partition] = offset

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column as it is now."""
        values: array[Any] = getattr(self, name)
        return np.array(values)


def letter_digest(value: bytes | None, key: bytes | None) -> int:
    """Return 8 bytes of the digest by which a dead letter is compared with its event."""
    content = b"-" if value is None else b"+" + value
    digest = hashlib.blake2b(content + b"|" + (key or b""), digest_size=8).digest()
    return int(struct.unpack("<q", digest)[0])


class Decoder:
    """Messages to rows of `Results`. Inferences of one batch share their head: it is read once."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._heads: dict[bytes, int] = {}

    def inference(self, message: Message, arrived: float) -> None:
        value = message.value() or b""
        head, version = self._head(value)
        partition, at = read_long(value, head + 1)  # each field is a union of null and the type: a branch, then it
        offset, at = read_long(value, at + 1)
        at += 1  # event_time, which is null here
        score, at = _number(value, at)
        sequence, at = read_long(value, at + 1)
        self._results.add(
            INFERENCE,
            message.partition() or 0,
            partition,
            offset,
            sequence=sequence,
            score=score,
            version=version,
            arrived=arrived,
        )

    def letter(self, message: Message, arrived: float) -> None:
        headers = dict(message.headers() or [])
        reason = _text(headers["penstock.reason"])
        self._results.reasons[reason] = self._results.reasons.get(reason, 0) + 1
        self._results.add(
            LETTER,
            message.partition() or 0,
            int(_text(headers["penstock.source.partition"])),
            int(_text(headers["penstock.source.offset"])),
            digest=letter_digest(message.value(), _bytes(message.key())),
            arrived=arrived,
        )

    def _head(self, value: bytes) -> tuple[int, int]:
        """Return where the source partition's field begins, and the index of the model version."""
        for head, version in self._heads.items():
            if value.startswith(head):
                return len(head), version
        lineage, at = read_lineage(value)
        assert place_of(value) == (read_long(value, at + 1)[0], read_long(value, read_long(value, at + 1)[1] + 1)[0])
        versions = self._results.versions
        if lineage.version not in versions:
            versions.append(lineage.version)
        self._heads[value[:at]] = versions.index(lineage.version)
        return at, versions.index(lineage.version)


def _number(value: bytes, at: int) -> tuple[float, int]:
    if value[at] == 0:
        return float("nan"), at + 1
    return float(struct.unpack_from("<f", value, at + 1)[0]), at + 5


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _bytes(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


class Reader(threading.Thread):
    """Reads the output and dead-letter topics from their beginning, until `stop`.

    isolation: `read_committed`, or `read_uncommitted` for the control that shows what aborted transactions hold.
    """

    def __init__(self, servers: str, inferences: str, letters: str, *, isolation: str = "read_committed") -> None:
        super().__init__(name="reader", daemon=True)
        self.results = Results()
        self._topics = {inferences: True, letters: False}
        self._decoder = Decoder(self.results)
        self._halt = threading.Event()
        self.failure: BaseException | None = None
        self._known: set[tuple[str, int]] = set()
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": f"chaos.{time.time_ns()}",
                "isolation.level": isolation,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 2,
                "queued.min.messages": 20_000,
                "queued.max.messages.kbytes": 32_768,
                "reconnect.backoff.max.ms": 500,
                "log_level": 0,
            }
        )
        self.ended: set[tuple[str, int]] = set()

    def run(self) -> None:
        try:
            looked = 0.0
            while not self._halt.is_set():
                if time.monotonic() - looked > 2:  # a dead-letter topic is made by the first worker
                    looked = time.monotonic()
                    self.assign()
                self.read(0.1)
        except BaseException as error:
            self.failure = error
        finally:
            self._consumer.close()

    def stop(self) -> None:
        self._halt.set()
        self.join()
        if self.failure is not None:
            raise self.failure

    def assign(self) -> None:
        """Begin to read partitions that appeared."""
        try:
            topics = self._consumer.list_topics(timeout=2).topics
        except KafkaException:
            return
        found = {(topic, p) for topic in self._topics if topic in topics for p in topics[topic].partitions}
        new = sorted(found - self._known)
        if new:
            self._consumer.incremental_assign([TopicPartition(topic, p, 0) for topic, p in new])
            self._known |= found

    def read(self, seconds: float) -> None:
        """Take what is there."""
        if not self._known:
            time.sleep(seconds)
            return
        messages = self._consumer.consume(1, seconds)
        if messages:
            messages += self._consumer.consume(5_000, 0)
        now = time.time()
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            if message.error() is not None:
                if message.offset() is not None and (message.offset() or 0) >= 0:
                    self.ended.add(place)
                continue
            self.ended.discard(place)
            if self._topics[place[0]]:
                self._decoder.inference(message, now)
            else:
                self._decoder.letter(message, now)


def read_all(
    servers: str, inferences: str, letters: str, *, isolation: str = "read_committed", seconds: float
) -> Results:
    """Return what a new reader gets of the topics as they are now."""
    reader = Reader(servers, inferences, letters, isolation=isolation)
    deadline = time.monotonic() + seconds
    try:
        while not reader._known:
            reader.assign()
        while reader.ended < reader._known:
            reader.read(0.2)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{sorted(reader._known - reader.ended)} were not read to their end")
    finally:
        reader._consumer.close()
    return reader.results
