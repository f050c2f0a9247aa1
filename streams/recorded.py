"""What the output and dead-letter topics record of each source event, in dense arrays per source partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
from confluent_kafka import Message

from schemas.heads import read_lineage, read_position
from schemas.values import as_bytes
from streams.arms import made_of
from streams.batch import Batch, Headers
from streams.crew import BY_MODEL, Crew, Maker
from streams.deadletters import PREFIX
from streams.findings import Findings
from streams.reading import TopicReader, place_of

DIGEST = 16  # bytes of a record's digest
MOST_KINDS = 1 << 16  # makers and kinds of letters that one index tells apart


@dataclass(frozen=True, slots=True)
class Kind:
    """Why a dead letter was written; whole: the letter has all of its event."""

    reason: str
    whole: bool


def digest_of(key: bytes | None, value: bytes | None, headers: Headers | None = None) -> bytes:
    """Return 16 bytes that tell records apart; None and empty are not the same."""
    together = blake2b(digest_size=DIGEST)
    parts: list[bytes | None] = [key, value]
    for name, text in headers or []:
        parts += [name.encode(), as_bytes(text)]
    for part in parts:
        together.update(b"\xff" if part is None else len(part).to_bytes(8, "little"))
        together.update(part or b"")
    return together.digest()


class Ledger:
    """One source partition's range [first, last): per event what was found of it. 33 bytes an event.

    inferences, letters: how many, up to 255. kind: index of the first one's maker or, for a letter, of its kind.
    digests: of the first one, shape (n, 16). partitions, offsets: where it stands. seen: pass 2 met the event.
    """

    def __init__(self, first: int, last: int) -> None:
        count = last - first
        self.first, self.last = first, last
        self.inferences = np.zeros(count, np.uint8)
        self.letters = np.zeros(count, np.uint8)
        self.seen = np.zeros(count, np.bool_)
        self.kind = np.zeros(count, np.uint16)
        self.digests = np.zeros((count, DIGEST), np.uint8)
        self.partitions = np.zeros(count, np.int32)
        self.offsets = np.zeros(count, np.int64)
        self._flat = self.digests.reshape(-1).data

    def put(self, counts: npt.NDArray[np.uint8], offset: int, kind: int, digest: bytes, place: tuple[int, int]) -> bool:
        """Note a record of an event and count it in `counts`; False when the event has one already."""
        row = offset - self.first
        again = bool(self.inferences[row] or self.letters[row])
        counts[row] = min(255, int(counts[row]) + 1)
        if not again:
            self.kind[row] = kind
            self._flat[row * DIGEST : (row + 1) * DIGEST] = digest
            self.partitions[row], self.offsets[row] = place
        return not again


class Recorded:
    """Reads what one arm recorded of a range of its source topic, and judges what shows without the events.

    makers, kinds: what the ledgers' indexes mean. lowest: per output and source partition the first event whose
    inference is there. outputs: partitions of the output topic. truncated: those of them whose first records retention
    removed. beyond: per source partition the last event that any record names, with that record.
    """

    def __init__(self, deployment: str, findings: Findings, crew: Crew, *, whole: bool = False) -> None:
        """The ranges are those of `findings`; crew: whose records count; whole: they begin where retention left off."""
        ranges = findings.ranges
        self.ledgers = {partition: Ledger(first, last) for partition, (first, last) in ranges.items()}
        self.makers: list[Maker] = []
        self.kinds: list[Kind] = []
        self.lowest: dict[tuple[int, int], int] = {}
        self.beyond: dict[int, tuple[int, str, tuple[int, int]]] = {}
        self.outputs = 0
        self.truncated: set[int] = set()
        self.crew = crew
        self._excused = {partition: np.zeros(last - first, np.bool_) for partition, (first, last) in ranges.items()}
        self._deployment, self._findings, self._whole = deployment, findings, whole
        self._maker_of: dict[Maker, int] = {}
        self._kind_of: dict[Kind, int] = {}
        self._heads: dict[bytes, int] = {}
        self._head, self._known = b"", -1
        self._last: dict[tuple[str, int, int], int] = {}

    def read(self, reader: TopicReader) -> None:
        """Read both topics to what they hold now; a transaction that is open now is waited for."""
        output, letters = self._findings.output, self._findings.dead_letters
        ends = reader.ends(output)
        self.outputs, self.truncated = len(ends), {partition for partition, (low, _) in ends.items() if low > 0}
        for messages in reader.read(output, ends, 10_000):
            for message in messages:
                self.take_inference(message)
        if not reader.partitions(letters):
            self._findings.note(
                f"{letters} does not exist, though a worker makes it when it starts: an event that is missing may have "
                "been a dead letter there; was the topic deleted, or is this another cluster?"
            )
            return
        ends = reader.ends(letters)
        if any(low > 0 for low, _ in ends.values()):
            self._findings.note(
                f"retention removed records of {letters}: an event that is missing may have been a dead letter there"
            )
        for messages in reader.read(letters, ends):
            for message in messages:
                self.take_letter(message)
        common = self.crew.common_letters
        if common is not None and reader.partitions(common):
            for messages in reader.read(common, reader.ends(common)):
                for message in messages:
                    self.take_common_letter(message)

    def kept_from(self, partition: int, sources: int) -> int:
        """Return the first event of a source partition from which on retention cannot have removed an inference.

        sources: how many partitions the source topic has. Where the output has as many, an event's inference is in the
        partition of its number; else each may hold it. Of one whose first records are gone nothing is known before the
        first event that it still holds; where it holds none, nothing at all.
        """
        ledger = self.ledgers[partition]
        may_hold = self.truncated
        if sources == self.outputs:  # those that hold any beside: the topics once had other numbers of partitions
            may_hold = {place for place in may_hold if place == partition or (place, partition) in self.lowest}
        return max([ledger.first, *(self.lowest.get((place, partition), ledger.last) for place in may_hold)])

    def first_inferred(self, partition: int) -> int:
        """Return the first event of a source partition whose inference is there; the range's end where none is."""
        found = [offset for (_, source), offset in self.lowest.items() if source == partition]
        return min(found, default=self.ledgers[partition].last)

    # ---- inferences

    def take_inference(self, message: Message) -> None:
        """Note one record of the output topic."""
        topic, place, value = self._findings.output, place_of(message), message.value() or b""
        try:
            maker, partition, offset = self._parse(value)
        except (IndexError, UnicodeDecodeError, ValueError) as error:
            if self.crew.alone:  # told of the others
                return
            detail = f"is no inference ({type(error).__name__})"
            self._findings.found("unreadable", record=named(topic, place), detail=detail)
            return
        if maker < 0:  # of another deployment or source
            return
        way = (place[0], partition)
        self.lowest[way] = min(offset, self.lowest.get(way, offset))
        if (ledger := self._ledger(topic, partition, offset, place)) is not None:
            digest = digest_of(message.key(), value)
            if ledger.put(ledger.inferences, offset, maker, digest, place):
                self._findings.counts["inferences"] += 1
                known = self.makers[maker]
                self._findings.versions[f"{known.made.model}@{known.made.version}"] += 1
                self._findings.arms[known.made.arm] += 1
                self._in_order(topic, partition, offset, place)
            else:
                self._twice(ledger, partition, offset, named(topic, place))

    def _parse(self, value: bytes) -> tuple[int, int, int]:
        """Return the maker's index (-1: not ours), and partition and offset of the event.

        What precedes these two is the same bytes in record after record: it is parsed when it changes.
        """
        if self._head and value.startswith(self._head):
            maker, at = self._known, len(self._head)
        else:
            maker, at = self._parse_head(value)
        return maker, *read_position(value, at)

    def _parse_head(self, value: bytes) -> tuple[int, int]:
        lineage, at = read_lineage(value)
        maker = Maker(lineage.deployment, lineage.revision, lineage.source_topic, made_of(lineage))
        ours = (maker.deployment, maker.source) == (self._deployment, self._findings.source) and self.crew.has(maker)
        if ours and maker not in self._maker_of:
            if len(self.makers) == MOST_KINDS:
                raise ValueError(f"more than {MOST_KINDS} makers")
            self._maker_of[maker] = len(self.makers)
            self.makers.append(maker)
        self._head, self._known = value[:at], self._maker_of[maker] if ours else -1
        return self._known, at

    # ---- dead letters

    def take_letter(self, message: Message) -> None:
        """Note one record of the dead-letter topic."""
        topic, place = self._findings.dead_letters, place_of(message)
        headers = headers_of(message)
        own = {name: _said(text) for name, text in headers[_own(headers) :]}
        deployment = own.get(f"{PREFIX}deployment")
        if deployment is None:
            self._findings.found("unreadable", record=named(topic, place), detail="is no dead letter of a worker")
            return
        if deployment != self._deployment:
            return
        try:
            source = own[f"{PREFIX}source.topic"]
            partition, offset = int(own[f"{PREFIX}source.partition"]), int(own[f"{PREFIX}source.offset"])
        except (KeyError, ValueError):
            self._findings.found("unreadable", record=named(topic, place), detail="does not name its event")
            return
        ledger = self._ledger(topic, partition, offset, place) if source == self._findings.source else None
        if ledger is None:
            return
        kind = self._kind(Kind(own.get(f"{PREFIX}reason", ""), f"{PREFIX}left_out" not in own))
        digest = digest_of(message.key(), message.value(), headers[: _own(headers)])
        if ledger.put(ledger.letters, offset, kind, digest, place):
            self._findings.counts["dead_letters"] += 1
            self._in_order(topic, partition, offset, place)
        else:
            self._twice(ledger, partition, offset, named(topic, place))

    def take_common_letter(self, message: Message) -> None:
        """Note an event that nobody can score, of which only the others have a dead letter."""
        headers = headers_of(message)
        own = {name: _said(text) for name, text in headers[_own(headers) :]}
        if own.get(f"{PREFIX}deployment") != self._deployment or own.get(f"{PREFIX}reason") in BY_MODEL:
            return
        try:
            partition, offset = int(own[f"{PREFIX}source.partition"]), int(own[f"{PREFIX}source.offset"])
        except (KeyError, ValueError):
            return
        ledger = self.ledgers.get(partition)
        if ledger is None or own.get(f"{PREFIX}source.topic") != self._findings.source:
            return
        if ledger.first <= offset < ledger.last:
            self._excused[partition][offset - ledger.first] = True

    def excused(self, batch: Batch) -> npt.NDArray[np.bool_]:
        """Say of each event whether nobody could score it; shape (n,)."""
        found = np.zeros(len(batch), np.bool_)
        if not self.crew.alone:
            return found
        for partition in batch.positions:
            rows = batch.partitions == partition
            found[rows] = self._excused[partition][batch.offsets[rows] - self.ledgers[partition].first]
        return found

    def _kind(self, kind: Kind) -> int:
        if kind not in self._kind_of:
            self._kind_of[kind] = len(self.kinds)
            self.kinds.append(kind)
        return self._kind_of[kind]

    # ---- both

    def _ledger(self, topic: str, partition: int, offset: int, place: tuple[int, int]) -> Ledger | None:
        """Return where an event of the range is noted; None for one beside it, which counts when it is gone."""
        if offset >= self.beyond.get(partition, (-1,))[0]:
            self.beyond[partition] = (offset, topic, place)
        ledger = self.ledgers.get(partition)
        if ledger is None or offset >= ledger.last:
            return None
        if offset < ledger.first:
            self._findings.counts["gone"] += self._whole
            return None
        return ledger

    def _in_order(self, topic: str, partition: int, offset: int, place: tuple[int, int]) -> None:
        way = (topic, place[0], partition)
        last = self._last.get(way, -1)
        if offset > last:
            self._last[way] = offset
            return
        self._findings.found(
            "out_of_order",
            event=self.event(partition, offset),
            record=named(topic, place),
            detail=f"stands behind that of offset {last}",
        )

    def _twice(self, ledger: Ledger, partition: int, offset: int, record: str) -> None:
        row = offset - ledger.first
        first = (int(ledger.partitions[row]), int(ledger.offsets[row]))
        others = int(ledger.inferences[row]) + int(ledger.letters[row])
        self._findings.found(
            "twice",
            event=self.event(partition, offset),
            record=record,
            detail=f"has {others} records by now, the first at {first[0]}@{first[1]}",
        )

    def place(self, batch: Batch, row: int) -> tuple[int, int]:
        """Return where what was recorded of an event stands."""
        ledger = self.ledgers[int(batch.partitions[row])]
        at = int(batch.offsets[row]) - ledger.first
        return int(ledger.partitions[at]), int(ledger.offsets[at])

    def places(self, batch: Batch, row: int) -> tuple[str, str]:
        """Return names of an event and of what was recorded of it."""
        partition, offset = int(batch.partitions[row]), int(batch.offsets[row])
        ledger = self.ledgers[partition]
        topic = self._findings.output if ledger.inferences[offset - ledger.first] else self._findings.dead_letters
        return self.event(partition, offset), named(topic, self.place(batch, row))

    def event(self, partition: int, offset: int) -> str:
        """Return the name of an event."""
        return named(self._findings.source, (partition, offset))


def headers_of(message: Message) -> Headers:
    """Return a record's headers; where a name is not UTF-8 none can be read."""
    try:
        found = message.headers() or []
    except (SystemError, UnicodeDecodeError):
        return []
    return list(found.items()) if isinstance(found, dict) else list(found)


def _own(headers: Sequence[tuple[str, object]]) -> int:
    """Return where Penstock's own headers begin; an event that was replayed may carry headers with such names too."""
    names = [name for name, _ in headers]
    reason = f"{PREFIX}reason"
    return len(names) - 1 - names[::-1].index(reason) if reason in names else len(names)


def _said(text: str | bytes | None) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else text or ""


def named(topic: str, place: tuple[int, int]) -> str:
    """Return TOPIC/PARTITION@OFFSET."""
    return f"{topic}/{place[0]}@{place[1]}"
