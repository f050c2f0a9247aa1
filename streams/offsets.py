"""A range of offsets of one partition, as people write it: `TOPIC/PARTITION@FIRST-LAST`, both included."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Spans = Mapping[int, tuple[int, int]]  # per partition: the first offset, and the one behind the last


@dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """Offsets `first` to `next` - 1 of a partition of a topic."""

    topic: str
    partition: int
    first: int
    next: int

    @classmethod
    def parse(cls, text: str) -> OffsetRange:
        """Read `flights.events/3@1007-1010` or `flights.events/3@1007`. Raises ValueError that says how to write it."""
        match = re.fullmatch(r"([A-Za-z0-9._-]{1,249})/(\d{1,9})@(\d{1,18})(?:-(\d{1,18}))?", text)
        if match is None:
            raise ValueError(
                f"{text!r} is no range of offsets; write TOPIC/PARTITION@FIRST-LAST or TOPIC/PARTITION@OFFSET"
            )
        first, last = int(match[3]), int(match[4] or match[3])
        if last < first:
            raise ValueError(f"{text!r} ends before it begins; write the smaller offset first")
        return cls(match[1], int(match[2]), first, last + 1)

    def __str__(self) -> str:
        last = self.next - 1
        return f"{self.topic}/{self.partition}@{self.first}" + (f"-{last}" if last > self.first else "")


def ranges_of(topic: str, spans: Spans) -> list[OffsetRange]:
    """Return the spans of a topic's partitions as ranges, in the order of partitions."""
    return [OffsetRange(topic, partition, first, past) for partition, (first, past) in sorted(spans.items())]


def common(one: Spans, other: Spans) -> dict[int, tuple[int, int]]:
    """Return the offsets that both hold; a partition without any is left out."""
    both = {p: (max(one[p][0], other[p][0]), min(one[p][1], other[p][1])) for p in one.keys() & other.keys()}
    return {p: span for p, span in both.items() if span[0] < span[1]}
