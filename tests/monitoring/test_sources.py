"""Several topics, each with its fold: whose records go where, and folds that are read back."""

from __future__ import annotations

import pytest

from monitoring.errors import Hole
from monitoring.folds import Out, Record
from monitoring.ledger import Ledger, Snapshot
from monitoring.sources import Ledgers, Source
from tests.monitoring.test_copying import fold as copy_fold
from tests.monitoring.test_ledger import Sum


class Window(Sum):
    """Adds up numbers, and remembers the last three of them, which no snapshot holds."""

    def __init__(self) -> None:
        self.last: list[int] = []

    def new(self, partition: int) -> list[int]:
        self.last = []
        return [0]

    def load(self, data: bytes) -> list[int]:
        self.last = []
        return super().load(data)

    def apply(self, state: list[int], record: Record) -> list[Out]:
        self.rewind(state, record)
        return super().apply(state, record)

    def low(self, state: list[int], position: int) -> int:
        return max(position - 3, 0)

    def rewind(self, state: list[int], record: Record) -> None:
        self.last = [*self.last, int(record.value or b"0")][-3:]


def _record(offset: int) -> Record:
    return Record(0, offset, None, b"%d" % (offset + 1))


def test_what_a_snapshot_leaves_out_is_read_back_without_being_counted_again() -> None:
    ledger = Ledger(Window())
    ledger.own([0])
    ledger.restore(0, None, 0)
    for offset in range(5):
        ledger.accept(_record(offset), offset)
    snapshot = Snapshot.decode(ledger.cut().snapshots[0])
    assert (snapshot.next, snapshot.low, snapshot.state) == (5, 2, b"15")
    # When another process takes over
    fold = Window()
    other = Ledger(fold)
    other.own([0])
    assert other.restore(0, snapshot, 0) == 2
    for offset in range(2, 5):
        other.accept(_record(offset), offset)
        assert other.cut().outs == []
        assert other.cut().snapshots == {}  # none while what was left out is not there again
    assert fold.last == [3, 4, 5]
    assert other.facts() == {0: {"sum": 15}}
    other.accept(_record(5), 5)
    assert [out.value for out in other.cut().outs] == [b"21"]


def test_a_process_that_reads_back_is_not_set_back_by_the_same_snapshot_and_notices_holes() -> None:
    ledger = Ledger(Window())
    ledger.own([0])
    ledger.restore(0, Snapshot(5, b"15", 2), 0)
    ledger.accept(_record(2), 2)
    assert ledger.restore(0, Snapshot(5, b"15", 2), 0) == 3
    with pytest.raises(Hole):
        ledger.accept(_record(4), 4)


def test_records_that_retention_removed_before_they_were_read_back_are_counted() -> None:
    ledger = Ledger(Window())
    ledger.own([0])
    assert ledger.restore(0, Snapshot(5, b"15", 2), 4) == 4
    assert ledger.lost == 2


def test_each_record_goes_to_the_fold_of_its_topic() -> None:
    ledgers = Ledgers([Source("one", "a", Sum(), 2), Source("two", "b", Sum(), 1)])
    assert ledgers.places == [("a", 0), ("a", 1), ("b", 0)]
    ledgers.own([("a", 1), ("b", 0)])
    for topic, partition in ledgers.places:
        ledgers[topic].restore(partition, None, 0)
    ledgers.accept("a", Record(1, 0, None, b"5"), 0)
    ledgers.accept("b", Record(0, 0, None, b"7"), 0)
    ledgers.accept("a", Record(0, 0, None, b"9"), 0)  # of a partition that another process owns now
    assert ledgers.pending == 3
    found = {source.role: cut for source, cut in ledgers.cut()}
    assert [out.value for out in found["two"].outs] == [b"7"]
    assert {role: set(cut.snapshots) for role, cut in found.items()} == {"one": {1}, "two": {0}}
    assert ledgers.waiting() == {}


def test_only_folds_that_want_to_know_are_told_that_nothing_comes() -> None:
    ledgers = Ledgers([Source("sums", "a", Sum(), 1), Source("labels", "b", copy_fold(), 1)])
    ledgers.own(ledgers.places)
    for topic, partition in ledgers.places:
        ledgers[topic].restore(partition, None, 3)
    assert ledgers.waiting() == {("b", 0): 3}
    ledgers["a"].idle(0, 3, 100_000)
    assert ledgers.pending == 0
