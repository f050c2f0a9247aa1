"""Labels are copied once, in order, to where the samples of their keys are; what is no label is a dead letter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
from xxhash import xxh64_intdigest

from models.samples import LabelCopies
from monitoring.copying import CopyFold, Copying
from monitoring.errors import Hole, SnapshotInvalid
from monitoring.folds import Folding, Out, Record
from monitoring.ledger import Ledger, Snapshot
from schemas.decode import EventDecoder

LABEL = {
    "type": "record",
    "name": "Label",
    "fields": [{"name": "late", "type": ["null", "boolean"]}, {"name": "revenue", "type": "double", "default": 0.0}],
}
COPYING = Copying("flights", "labels", "samples", "letters", "late", ("revenue",), 1.0, 3)
START = 1_700_000_000_000


def fold(copying: Copying = COPYING) -> CopyFold:
    decoder = EventDecoder(LABEL, writers=SimpleNamespace(), framing="json")  # type: ignore[arg-type]
    return CopyFold(copying, decoder.decode)


def label(at: int, key: bytes | None = None, value: object = True) -> Record:
    body = json.dumps({"late": value, "revenue": float(at)}).encode()
    return Record(1, at, b"key %d" % at if key is None else key, body, START + 1000 * at)


def copies(outs: list[Out]) -> Iterator[tuple[int, LabelCopies]]:
    for out in outs:
        if out.topic == "samples":
            assert out.partition is not None
            yield out.partition, LabelCopies.decode(out.value or b"")


def test_each_label_is_copied_once_to_the_partition_of_its_key_in_order() -> None:
    folding = Folding(fold(), 1, 0)
    outs = [out for at in range(50) for out in folding.apply(label(at))]
    assert outs == []  # they wait for each other
    found = list(copies(folding.flush()))
    for place, copied in found:
        assert {xxh64_intdigest(key) % 3 for key in copied.keys} == {place}
        assert copied.offsets.tolist() == sorted(copied.offsets.tolist())
        assert (copied.follows, copied.position, copied.watermark) == (-1, 50, START + 49_000)
        assert copied.numbers["revenue"].to_list() == [float(at) for at in copied.offsets.tolist()]
        assert copied.times.tolist() == [START + 1000 * at for at in copied.offsets.tolist()]
    assert sorted(at for _, copied in found for at in copied.offsets.tolist()) == list(range(50))
    assert folding.flush() == []


def test_copies_of_a_partition_are_a_chain_also_over_a_restart() -> None:
    kept, last = fold(), dict.fromkeys(range(3), -1)
    folding = Folding(kept, 1, 0)
    for at in range(60):
        outs = folding.apply(label(at, b"one"))
        if at % 7 == 6:
            outs = folding.flush()
            folding = Folding(kept, 1, folding.position, folding.dump())
        for place, copied in copies(outs):
            assert copied.follows == last[place]
            last[place] = copied.position
    assert max(last.values()) == 56


def test_partitions_without_labels_are_told_now_and_then_how_far_labels_are() -> None:
    folding = Folding(fold(), 1, 0)
    told = []
    for at in range(30):
        folding.apply(label(at, b"one"))
        told += [(place, copied) for place, copied in copies(folding.flush()) if not len(copied.keys)]
    assert 2 * 5 <= len(told) <= 2 * 7
    assert {place for place, _ in told} == {0, 1, 2} - {xxh64_intdigest(b"one") % 3}


def test_another_topic_of_labels_is_refused_with_the_way_out() -> None:
    state = fold().dump(fold().new(0))
    with pytest.raises(SnapshotInvalid, match="give the deployment another name"):
        fold(replace(COPYING, labels="others")).load(state)


def test_what_is_no_label_becomes_a_dead_letter_byte_for_byte() -> None:
    folding = Folding(fold(), 1, 0)
    for record in (
        label(0),
        Record(1, 1, b"k", b"{", START),
        Record(1, 2, None, label(0).value, START),
        Record(1, 3, b"k", None, START),
        Record(1, 4, b"k", b'{"late": "perhaps"}', START),
    ):
        folding.apply(record)
    outs = folding.flush()
    letters = [out for out in outs if out.topic == "letters"]
    assert sorted((dict(out.headers)["penstock.source.offset"], out.value) for out in letters) == [
        (b"1", b"{"),
        (b"2", label(0).value),
        (b"3", None),
        (b"4", b'{"late": "perhaps"}'),
    ]
    reasons = {dict(out.headers)["penstock.reason"] for out in letters}
    assert reasons == {b"not_json", b"missing_key", b"tombstone", b"wrong_type"}
    assert [copied.offsets.tolist() for _, copied in copies(outs) if len(copied.keys)] == [[0]]
    assert fold().facts(folding.state) == {"records": 5, "dead_letters": 4, "labels": 1, "watermark": START}


def test_keys_outside_of_the_share_are_counted_only() -> None:
    few = fold(replace(COPYING, share=0.1))
    folding = Folding(few, 1, 0)
    for at in range(500):
        folding.apply(label(at))
    found = sum(len(copied.keys) for _, copied in copies(folding.flush()))
    assert 20 < found < 90
    assert few.facts(folding.state)["outside_share"] == 500 - found


def test_many_labels_do_not_wait_for_a_snapshot() -> None:
    folding = Folding(fold(), 1, 0)
    outs = [out for at in range(1000) for out in folding.apply(label(at))]
    assert sum(len(copied.keys) for _, copied in copies(outs)) == 1000


def test_a_label_without_a_value_keeps_its_place() -> None:
    folding = Folding(fold(), 1, 0)
    folding.apply(label(0, b"one", None))
    folding.apply(label(1, b"one"))
    (found,) = (copied for _, copied in copies(folding.flush()) if len(copied.keys))
    assert [value if value == value else None for value in found.value.to_list()] == [None, 1.0]


def test_a_ledger_puts_out_what_waits_before_it_writes_a_snapshot() -> None:
    ledger = Ledger(fold())
    ledger.own([1])
    ledger.restore(1, None, 0)
    ledger.accept(label(0), 0)
    cut = ledger.cut()
    assert sum(len(copied.keys) for _, copied in copies(cut.outs)) == 1
    assert json.loads(Snapshot.decode(cut.snapshots[1]).state)["position"] == 1


def test_a_partition_that_was_read_to_its_end_says_so_unless_it_was_read_on_since() -> None:
    ledger = Ledger(fold())
    ledger.own([1])
    ledger.restore(1, None, 0)
    ledger.idle(1, 0, START)
    found = list(copies(ledger.cut().outs))
    assert [(copied.follows, copied.position, copied.watermark) for _, copied in found] == [(-1, 0, START)] * 3
    ledger.accept(label(0), 0)
    ledger.cut()
    ledger.idle(1, 0, START + 100_000)  # somebody looked before the label came
    ledger.idle(2, 0, START + 100_000)  # and at a partition of another process
    assert ledger.cut().outs == []
    with pytest.raises(Hole):
        ledger.accept(label(5), 3)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"format": 2, "sent": [1]}', fold().dump(fold().new(0))[:-9]])
def test_a_damaged_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotInvalid):
        fold().load(data)
