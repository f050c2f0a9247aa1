"""How far the records of an arm had got, read from the ends of its output and dead-letter topics.

Asked only for partitions whose committed offset no worker committed. Each topic is read backwards, a little further
each time, until it shows the last record of every partition asked for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Message

from schemas.heads import read_lineage, read_position
from streams.deadletters import PREFIX
from streams.errors import Refused
from streams.reading import Ends, TopicReader, place_of

log = logging.getLogger(__name__)

DEPTHS = (64, 1_024, 16_384, 262_144, 4_194_304)  # records from a partition's end that are read, until it is enough
SLACK_MS = 60_000  # how much later a record may stand than one of another partition that has an older time
SECONDS = 30.0  # the group waits for this worker meanwhile

Origin = tuple[str, str, int, int]  # deployment, source topic, partition, offset


@dataclass(frozen=True, slots=True)
class Target:
    """A topic that takes an arm's records.

    count: the partitions by which a source partition is placed (partition % count), None where keys decide.
    origin: says of a record which event it is of; None when it is none of ours.
    """

    topic: str
    count: int | None
    origin: Callable[[Message], Origin | None]


class Progress:
    """Says for partitions of the source topic which offset is behind the last event that has a record; see `Reached`.

    targets: the topics that the workers of one consumer group write to, and no other group of the deployment.
    """

    def __init__(
        self, kafka: Mapping[str, str], group: str, deployment: str, source: str, targets: Sequence[Target]
    ) -> None:
        self._kafka, self._group, self._targets = kafka, group, targets
        self._names = (deployment, source)

    def __call__(self, partitions: Collection[int]) -> dict[int, int | None]:
        """Read the topics' ends; blocks for about SECONDS at most. Says so where that is not enough, or not allowed."""
        began = time.monotonic()
        reader = TopicReader(self._kafka, self._group)
        found: dict[int, tuple[int, int]] = {}
        try:
            searches = [self._search(reader, target, partitions, found, began) for target in self._targets]
        except Refused as error:
            log.warning(
                "offsets of partitions %s were not committed by a worker, and how far it had got cannot be told: %s; "
                "grant READ and DESCRIBE on %s",
                sorted(partitions),
                error,
                " and ".join(target.topic for target in self._targets),
            )
            return {}
        finally:
            reader.close()
        told: dict[int, int | None] = {partition: reached for partition, (reached, _) in found.items()}
        if all(searches):
            told |= {partition: None for partition in partitions if partition not in found}
        if found:
            log.info("offsets that no worker committed: the records had got to %s", told)
        return told

    def _search(
        self,
        reader: TopicReader,
        target: Target,
        partitions: Collection[int],
        found: dict[int, tuple[int, int]],
        began: float,
    ) -> bool:
        """Read a topic backwards; False when the time was up before it was certain that nothing later stands there."""
        ends = reader.ends(target.topic)
        tail = _Tail(self._names, target, partitions, ends, found)
        for depth in DEPTHS:
            stretch = tail.stretch(depth)
            if not stretch:
                return True
            for messages in reader.read(target.topic, stretch, 10_000):
                tail.take(messages)
                if time.monotonic() - began > SECONDS:
                    log.warning("%s: looking for the last records takes too long; given up", target.topic)
                    return False
        return not tail.stretch(DEPTHS[-1])


class _Tail:
    """What is known of the end of one topic. found: per source partition the offset behind its last event, its time."""

    def __init__(
        self,
        names: tuple[str, str],
        target: Target,
        partitions: Collection[int],
        ends: Ends,
        found: dict[int, tuple[int, int]],
    ) -> None:
        self._names, self._target, self._ends, self._found = names, target, ends, found
        self._read_from = {place: last for place, (_, last) in ends.items()}
        self._oldest: dict[int, int] = {}  # per partition of the topic the record time that was read back to
        self._seen: set[int] = set()  # source partitions of which a record stands here
        self._asked = frozenset(partitions)
        self._wanted: dict[int, list[int]] = {place: [] for place in ends}
        for partition in partitions:
            places = list(ends) if target.count is None else [partition % target.count]
            for place in places:
                self._wanted.setdefault(place, []).append(partition)

    def stretch(self, depth: int) -> Ends:
        """Return what to read next so that `depth` records are read, without partitions that show all that matters."""
        unread = {}
        for place, wanted in self._wanted.items():
            low, high = self._ends.get(place, (0, 0))
            last = self._read_from.get(place, 0)
            first = max(low, high - depth)
            if wanted and low < last and not self._enough(place, wanted):
                unread[place] = (min(first, last), last)
                self._read_from[place] = min(first, last)
        return {place: (first, last) for place, (first, last) in unread.items() if first < last}

    def take(self, messages: Sequence[Message]) -> None:
        """Note the records that are of an event of ours."""
        for message in messages:
            place, when = place_of(message)[0], message.timestamp()[1]
            self._oldest[place] = min(when, self._oldest.get(place, when))
            origin = self._target.origin(message)
            if origin is None or origin[:2] != self._names or origin[2] not in self._asked:
                continue
            partition, offset = origin[2:]
            self._seen.add(partition)
            if offset >= self._found.get(partition, (0, 0))[0]:
                self._found[partition] = (offset + 1, when)

    def _enough(self, place: int, wanted: Sequence[int]) -> bool:
        """Say whether nothing that was not read there can be of a later event of the partitions wanted."""
        if self._target.count is not None and self._seen.issuperset(wanted):
            return True  # in one partition a source partition's records stand in order
        if not all(partition in self._found for partition in wanted) or place not in self._oldest:
            return False
        return self._oldest[place] < min(self._found[partition][1] for partition in wanted) - SLACK_MS


def inference_origin(message: Message) -> Origin | None:
    """Return which event an inference is of."""
    value = message.value() or b""
    try:
        lineage, at = read_lineage(value)
        return lineage.deployment, lineage.source_topic, *read_position(value, at)
    except (IndexError, ValueError):
        return None


def letter_origin(message: Message) -> Origin | None:
    """Return which event a dead letter is of."""
    try:
        headers: dict[str, Any] = dict(message.headers() or [])  # of names that stand twice the last, ours, counts
        deployment, source = (headers[f"{PREFIX}{name}"].decode() for name in ("deployment", "source.topic"))
        partition, offset = (int(headers[f"{PREFIX}source.{name}"]) for name in ("partition", "offset"))
    except (AttributeError, KeyError, SystemError, TypeError, ValueError):
        return None
    return deployment, source, partition, offset
