"""Events that kill: kept from the model in quarantine, read in small batches, held back, let go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import SourceUnavailable
from streams.batch import Batch
from streams.inflight import Marker, read
from streams.memory import MemoryKafka, MemorySource
from streams.offsets import OffsetRange
from streams.orders import Caution
from streams.quarantine import Quarantine, score_around
from streams.safeguard import LOOK_SECONDS, Safeguard
from streams.scorer import Scorer
from tests.streams.fakes import CODEC, NumberDecoder, scorer


class Deadly(NumberDecoder):
    """Says what it was given; an event `666` ends the test as it would end the process."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes | None] = []

    def decode(self, values: Sequence[bytes | None]) -> Any:
        assert b"666" not in values, "the worker is dead"
        self.seen += values
        return super().decode(values)


def source_of(*values: bytes, partitions: int = 1) -> MemorySource:
    kafka = MemoryKafka({"in": partitions})
    for i, value in enumerate(values):
        kafka.append("in", value, None, i % partitions)
    source = MemorySource(kafka, "in")
    source.begin()
    return source


def batch_of(*values: bytes) -> Batch:
    batch = source_of(*values).poll(1_000, 0)
    assert batch is not None
    return batch


def quarantine(*texts: str) -> Quarantine:
    return Quarantine(map(OffsetRange.parse, texts))


def test_a_quarantined_event_meets_neither_decoder_nor_model_and_the_rest_is_scored() -> None:
    batch = batch_of(b"1", b"666", b"junk", b"13", b"2")
    rows = quarantine("in/0@1").rows(batch)
    assert rows is not None
    decoder = Deadly()
    scored = score_around(scorer(decoder), batch, rows)
    assert decoder.seen == [b"1", b"junk", b"13", b"2"]
    assert [CODEC.decode(value)["double"] for value in scored.inferences] == [2, 4]
    assert scored.rows is not None
    assert scored.rows.tolist() == [0, 4]
    assert {each.row: each.reason for each in scored.rejected} == {1: "quarantined", 2: "malformed", 3: "model_failed"}
    with pytest.raises(AssertionError, match="dead"):  # the negative control
        scorer(Deadly()).score(batch)


def test_a_batch_that_is_in_quarantine_whole_is_rejected_whole() -> None:
    batch = batch_of(b"666", b"666")
    rows = quarantine("in/0@0-5").rows(batch)
    assert rows is not None
    scored = score_around(scorer(Deadly()), batch, rows)
    assert scored.inferences == []
    assert [each.row for each in scored.rejected] == [0, 1]


def test_only_offsets_in_quarantine_are_picked() -> None:
    batch = source_of(*[b"1"] * 12, partitions=3).poll(100, 0)
    assert batch is not None
    assert quarantine("in/0@9", "in/7@0").rows(batch) is None
    rows = quarantine("in/1@1-2", "in/2@3", "in/1@2-2").rows(batch)
    assert rows is not None
    assert {(int(batch.partitions[i]), int(batch.offsets[i])) for i in np.flatnonzero(rows)} == {(1, 1), (1, 2), (2, 3)}


def test_several_ranges_cover_what_they_cover_together() -> None:
    ranges = quarantine("in/0@5-9", "in/0@0-4", "in/0@12")
    assert ranges.covers(0, 0, 10)
    assert ranges.covers(0, 3, 7)
    assert not ranges.covers(0, 8, 13)
    assert not ranges.covers(1, 0, 1)
    assert not Quarantine().covers(0, 0, 1)


def test_what_is_scored_is_noted_while_it_is_scored_and_not_while_it_waits(tmp_path: Path) -> None:
    seen = []

    class Looking(NumberDecoder):
        def decode(self, values: Sequence[bytes | None]) -> Any:
            seen.append(read(tmp_path / "m").spans)
            return super().decode(values)

    guard = Safeguard("in", marker=Marker(tmp_path / "m", "in"))
    looking: Scorer = scorer(Looking(down=1))
    batch = batch_of(b"1", b"2", b"3")
    with pytest.raises(SourceUnavailable):
        guard.score(looking, batch)
    assert read(tmp_path / "m").spans == {}
    guard.score(looking, batch)
    assert seen == [{0: (0, 3)}] * 2
    assert read(tmp_path / "m").spans == {}


def test_only_what_reaches_the_scorer_is_noted(tmp_path: Path) -> None:
    seen = []

    class Looking(NumberDecoder):
        def decode(self, values: Sequence[bytes | None]) -> Any:
            seen.append(read(tmp_path / "m").spans)
            return super().decode(values)

    def note(*ranges: str) -> None:
        batch = source_of(*[b"1"] * 12, partitions=2).poll(100, 0)
        assert batch is not None
        guard = Safeguard("in", marker=Marker(tmp_path / "m", "in"), quarantine=quarantine(*ranges))
        guard.score(scorer(Looking()), batch)

    note("in/7@0")
    note("in/0@0-2", "in/1@5")
    note("in/0@3", "in/1@0-5")
    note("in/0@0-5", "in/1@0-5")
    assert seen == [{0: (0, 6), 1: (0, 6)}, {0: (3, 6), 1: (0, 5)}, {0: (0, 6)}]


def test_suspected_events_are_read_in_small_batches_until_they_are_behind() -> None:
    source = source_of(*[b"1"] * 100, partitions=2)
    guard = Safeguard("in", caution=Caution({0: (0, 20)}, 7))
    sizes = []
    for _ in range(4):
        sizes.append(guard.limit(50, source))
        source.park(0, source.positions()[0] + 7)
    assert sizes == [7, 7, 7, 50]
    assert Safeguard("in", caution=Caution({5: (0, 20)}, 7)).limit(50, source) == 50  # somebody else reads it


def test_a_batch_that_came_with_the_assignment_is_too_large_where_it_has_suspected_events() -> None:
    guard = Safeguard("in", caution=Caution({0: (2, 3)}, 2))
    assert guard.too_large(batch_of(b"1", b"2", b"3"))
    assert not guard.too_large(batch_of(b"1", b"2"))
    assert not Safeguard("in", caution=Caution({1: (2, 3)}, 2)).too_large(batch_of(b"1", b"2", b"3"))
    assert not Safeguard("in").too_large(batch_of(b"1", b"2", b"3"))


class Held:
    """A source of two partitions, and a safeguard that holds 0@3."""

    def __init__(self) -> None:
        self.now, self.ranges = 0.0, quarantine()
        self.source = source_of(*[b"%d" % i for i in range(20)], partitions=2)
        self.guard = Safeguard(
            "in", look=lambda: self.ranges, caution=Caution(held={0: (3, 4)}), clock=lambda: self.now
        )

    def poll(self) -> dict[int, list[int]]:
        batch = self.source.poll(100, 0)
        batch = batch and self.guard.admit(self.source, batch)
        if batch is None:
            return {}
        return {p: batch.offsets[batch.partitions == p].tolist() for p in batch.positions}


def test_a_held_event_stops_its_partition_and_no_other() -> None:
    held = Held()
    assert held.poll() == {0: [0, 1, 2], 1: list(range(10))}
    assert held.source.positions() == {0: 3, 1: 10}
    assert held.guard.parked == {0}
    assert held.poll() == {}
    assert not held.guard.tick(held.source, resumed=False)


def test_a_held_event_goes_on_once_it_is_in_quarantine() -> None:
    held = Held()
    held.poll()
    held.ranges = quarantine("in/0@3")
    assert not held.guard.tick(held.source, resumed=False)  # it looks now and then only
    held.now = LOOK_SECONDS
    assert held.guard.tick(held.source, resumed=False)
    assert held.poll() == {0: list(range(3, 10))}
    assert held.guard.parked == set()
    assert not held.guard.holds


def test_a_held_event_is_tried_again_when_somebody_says_so() -> None:
    held = Held()
    held.poll()
    assert held.guard.tick(held.source, resumed=True)
    assert held.poll() == {0: list(range(3, 10))}


def test_an_event_that_is_in_quarantine_from_the_start_is_not_held() -> None:
    guard = Safeguard("in", quarantine=quarantine("in/0@3"), caution=Caution(held={0: (3, 4)}))
    assert not guard.holds


def test_an_event_behind_a_held_one_that_somebody_decided_is_read() -> None:
    held = Held()
    held.source.park(0, 4)
    held.source.unpark()
    assert held.poll()[0] == list(range(4, 10))
    assert held.guard.parked == set()
