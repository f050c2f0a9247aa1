"""Which past events a person means by two ends, as offsets of each partition, and where retention was quicker."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streams.errors import Refused
from streams.offsets import OffsetRange, ranges_of
from streams.reading import Ends, Point, TopicReader

SLACK_MS = 3_600_000  # how much older than its event an inference may seem: clocks differ
HEAD = 100  # offsets of a partition that are looked at for the time of its first event


@dataclass(frozen=True, slots=True)
class Stretch:
    """A range of one topic.

    ranges: what was asked for, per partition with any. cut: of partitions whose first events retention removed, or may
    have removed, the first offset that is left. beyond: of partitions that end before the offset that was asked for,
    that offset. future: the end is a time that is not over.
    """

    topic: str
    ranges: Ends
    cut: Mapping[int, int]
    beyond: Mapping[int, int] = field(default_factory=dict)
    future: bool = False

    @property
    def offsets(self) -> int:
        """How many offsets it spans; transactions' markers have some, too."""
        return sum(last - first for first, last in self.ranges.values())

    def told(self) -> list[OffsetRange]:
        """Return the ranges as people write them."""
        return ranges_of(self.topic, self.ranges)

    def notes(self) -> list[str]:
        """Return what is told of an end that nothing was recorded up to."""
        found = [
            f"--to names offset {asked} of {self.topic}/{partition}, which does not reach so far: what comes later is "
            "left out"
            for partition, asked in sorted(self.beyond.items())
        ]
        return found + ["--to is a time to come: what comes until then is left out"] * self.future

    def options(self) -> str:
        """Return the options that name just this range, whenever they are typed."""
        begin, end = (",".join(f"{p}:{span[at]}" for p, span in sorted(self.ranges.items())) for at in (0, 1))
        return f"--from {begin} --to {end}"


def stretch_of(
    reader: TopicReader, topic: str, begin: Point, end: Point, clock: Callable[[], float] = time.time
) -> Stretch:
    """Return the offsets that lie between two ends. Where one names offsets, only the partitions named are meant.

    Raises Refused for a range without events, for two ends in different partitions, and without the topic.
    """
    ends = reader.ends(topic)
    if begin.offsets and end.offsets and begin.offsets.keys() != end.offsets.keys():
        raise Refused("--from and --to name offsets of different partitions: name the same ones in both")
    named = {partition for point in (begin, end) if point.offsets for partition in point.offsets}
    if absent := sorted(named - ends.keys()):
        raise Refused(f"{topic} has no partition {absent[0]}; it has {', '.join(map(str, sorted(ends)))}")
    ends = {partition: ends[partition] for partition in sorted(named or ends)}
    firsts = _places(reader, topic, begin, ends, 0)
    lasts = _places(reader, topic, end, ends, 1)
    ranges = {p: (firsts[p], min(lasts[p], high)) for p, (_, high) in ends.items()}
    cut = {p: low for p, (low, _) in ends.items() if low and _is_cut(begin, firsts[p], low)}
    ranges = {p: span for p, span in ranges.items() if span[0] < span[1]}
    if not any(last > ends[p][0] for p, (_, last) in ranges.items()):
        held = ", ".join(map(str, ranges_of(topic, {p: span for p, span in ends.items() if span[0] < span[1]})))
        raise Refused(
            f"{topic} has no events between these ends; it has {held or 'none at all'}: name others with --from and "
            "--to"
        )
    beyond = {p: asked for p, asked in (end.offsets or {}).items() if asked > ends[p][1]}
    return Stretch(topic, ranges, cut, beyond, end.ms is not None and end.ms > clock() * 1000)


def answers_to(reader: TopicReader, topic: str, stretch: Stretch) -> Ends:
    """Return the part of a topic of inferences that can hold those of the stretch: what came since its first event.

    Raises Refused without the topic.
    """
    ends = reader.ends(topic)
    heads = {p: (first, min(first + HEAD, last)) for p, (first, last) in stretch.ranges.items()}
    times = [message.timestamp()[1] for found in reader.read(stretch.topic, heads) for message in found]
    if not times or min(times) < SLACK_MS:
        return ends
    begins = reader.at(topic, min(times) - SLACK_MS, ends)
    return {partition: (max(low, begins[partition]), high) for partition, (low, high) in ends.items()}


def _is_cut(begin: Point, first: int, low: int) -> bool:
    """Say whether retention removed events behind the beginning; of a time that cannot be known, and counts as so."""
    return first < low if begin.offsets is not None else first == low


def _places(reader: TopicReader, topic: str, point: Point, ends: Ends, otherwise: int) -> dict[int, int]:
    """Return what a point means in each partition. otherwise: which end is meant of one that it does not name."""
    if point.ms is not None:
        return reader.at(topic, point.ms, ends)
    return {p: (point.offsets or {}).get(p, span[otherwise]) for p, span in ends.items()}
