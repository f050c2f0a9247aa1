"""Positions, holes, cuts and snapshots."""

from __future__ import annotations

import pytest

from monitoring.errors import Hole, SnapshotInvalid
from monitoring.folds import Anew, Out, Record, check_format
from monitoring.ledger import Ledger, Snapshot


class Sum:
    """A fold that adds numbers and puts out every sum."""

    def new(self, partition: int) -> list[int]:
        return [0]

    def apply(self, state: list[int], record: Record) -> list[Out]:
        state[0] += int(record.value or b"0")
        return [Out("sums", b"k", str(state[0]).encode())]

    def dump(self, state: list[int]) -> bytes:
        return str(state[0]).encode()

    def load(self, data: bytes) -> list[int]:
        return [int(data)]

    def facts(self, state: list[int]) -> dict[str, int]:
        return {"sum": state[0]}


def _ledger(snapshot: Snapshot | None = None, beginning: int = 0) -> Ledger[list[int]]:
    ledger = Ledger(Sum())
    ledger.own([0])
    ledger.restore(0, snapshot, beginning)
    return ledger


def _record(offset: int, value: bytes = b"1") -> Record:
    return Record(0, offset, None, value)


def test_outputs_and_states_are_cut_together() -> None:
    ledger = _ledger()
    ledger.accept(_record(0), 0)
    ledger.accept(_record(1), 1)
    cut = ledger.cut()
    assert [out.value for out in cut.outs] == [b"1", b"2"]
    assert Snapshot.decode(cut.snapshots[0]) == Snapshot(2, b"2")
    assert ledger.cut().outs == []
    assert ledger.cut().snapshots == {}


def test_a_record_below_the_position_is_dropped() -> None:
    ledger = _ledger(Snapshot(10, b"5"))
    ledger.accept(_record(9), 9)
    assert ledger.repeated == 1
    assert ledger.facts() == {0: {"sum": 5}}


def test_offsets_that_readers_never_see_are_no_hole() -> None:
    ledger = _ledger()
    ledger.accept(_record(0), 0)
    ledger.accept(_record(7), 1)  # 1 to 6: aborted records and markers
    assert ledger.positions() == {0: 8}


@pytest.mark.parametrize("follows", [None, 3])
def test_a_record_that_follows_something_never_folded_is_a_hole(follows: int | None) -> None:
    ledger = _ledger()
    ledger.accept(_record(0), 0)
    with pytest.raises(Hole, match="record 3"):
        ledger.accept(_record(3), follows)


def test_a_record_of_a_partition_that_nobody_restored_is_a_hole() -> None:
    with pytest.raises(Hole, match="partition 0: record 3 was read before the state was restored"):
        Ledger(Sum()).accept(_record(3), 3)


def test_the_newer_of_memory_and_snapshot_is_kept() -> None:
    ledger = _ledger()
    ledger.accept(_record(0), 0)
    assert ledger.restore(0, Snapshot(1, b"100"), 0) == 1
    assert ledger.facts() == {0: {"sum": 1}}
    assert ledger.restore(0, Snapshot(9, b"100"), 0) == 9
    assert ledger.facts() == {0: {"sum": 100}}


def test_without_a_snapshot_reading_begins_at_the_beginning() -> None:
    assert _ledger(None, 42).positions() == {0: 42}


def test_records_that_retention_removed_are_counted() -> None:
    ledger = _ledger(Snapshot(10, b"5"), 15)
    assert ledger.lost == 5
    assert ledger.positions() == {0: 15}


def test_partitions_that_are_not_owned_publish_no_snapshot() -> None:
    ledger = _ledger()
    ledger.accept(_record(0), 0)
    ledger.own([1])
    assert ledger.cut().snapshots == {}
    assert ledger.positions() == {}


@pytest.mark.parametrize("value", [b"", b"{}\nx", b'{"next": 5}', b'{"next": -1}\nx', b"[1]\nx"])
def test_bytes_that_are_no_snapshot_are_refused(value: bytes) -> None:
    with pytest.raises(SnapshotInvalid):
        Snapshot.decode(value)


class Later(Sum):
    """A release whose snapshots have another format."""

    def load(self, data: bytes) -> list[int]:
        check_format({"format": 1}, 2)
        raise AssertionError


@pytest.mark.parametrize(("anew", "beginning"), [("whole", 0), ("always", 0), ("always", 7)])
def test_where_the_log_says_it_all_a_snapshot_of_another_release_is_made_anew(anew: Anew, beginning: int) -> None:
    ledger = Ledger(Later(), "profiles", anew)
    ledger.own([0])
    assert ledger.restore(0, Snapshot(10, b"5"), beginning) == beginning
    ledger.accept(_record(beginning), beginning)
    assert ledger.facts() == {0: {"sum": 1}}
    assert ledger.lost == 0


@pytest.mark.parametrize(
    ("anew", "beginning", "why"),
    [("whole", 3, "lacks what came before offset 3"), ("never", 0, "under numbers, and would be counted twice")],
)
def test_else_it_is_said_what_to_do(anew: Anew, beginning: int, why: str) -> None:
    ledger = Ledger(Later(), "samples", anew)
    with pytest.raises(SnapshotInvalid, match=why) as refused:
        ledger.restore(2, Snapshot(10, b"5"), beginning)
    assert "the snapshot of samples, partition 2, is of another release: it has the format 1" in str(refused.value)
    assert "`penstock monitor ... --forget samples`" in str(refused.value)
