"""What a monitor folds: topics, each with its fold, and the one ledger that each has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.folds import Anew, Buffered, Fold, Record
from monitoring.ledger import Cut, Ledger

PROFILES = "profiles"
Place = tuple[str, int]  # topic, partition


@dataclass(frozen=True, slots=True)
class Source:
    """A topic and what folds it. role: its name in snapshots, metrics and logs. partitions: of the topic.

    anew: what is done where its snapshot is of another release.
    """

    role: str
    topic: str
    fold: Fold[Any]
    partitions: int
    anew: Anew = "whole"

    @property
    def places(self) -> list[Place]:
        return [(self.topic, partition) for partition in range(self.partitions)]


class Ledgers:
    """The ledgers of all sources, by topic."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = {source.topic: source for source in sources}
        self._ledgers = {source.topic: Ledger(source.fold, source.role, source.anew) for source in sources}

    def __getitem__(self, topic: str) -> Ledger[Any]:
        return self._ledgers[topic]

    def __iter__(self) -> Iterator[tuple[Source, Ledger[Any]]]:
        return ((source, self._ledgers[topic]) for topic, source in self.sources.items())

    @property
    def places(self) -> list[Place]:
        """Every partition of every source."""
        return [place for source in self.sources.values() for place in source.places]

    @property
    def pending(self) -> int:
        """Number of outputs that wait to be published."""
        return sum(ledger.pending for ledger in self._ledgers.values())

    def own(self, places: Iterable[Place]) -> None:
        """Say which partitions this process owns now."""
        mine = list(places)
        for topic, ledger in self._ledgers.items():
            ledger.own(partition for each, partition in mine if each == topic)

    def accept(self, topic: str, record: Record, follows: int | None) -> None:
        """Fold a record of a topic; see `Ledger.accept`."""
        self._ledgers[topic].accept(record, follows)

    def cut(self) -> list[tuple[Source, Cut]]:
        """Take outputs and changed states of all in one step; nothing may be folded in between."""
        return [(source, self._ledgers[topic].cut()) for topic, source in self.sources.items()]

    def waiting(self) -> dict[Place, int]:
        """Return the next offset of the partitions whose folds want to know that nothing comes."""
        return {
            (topic, partition): position
            for topic, source in self.sources.items()
            if isinstance(source.fold, Buffered)
            for partition, position in self._ledgers[topic].positions().items()
        }
