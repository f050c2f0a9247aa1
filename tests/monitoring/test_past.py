"""What lies behind: nothing is lost before it is too old, and a moment is known to within a quarter of its age."""

from __future__ import annotations

import json

import numpy as np

from monitoring.past import BLOCKS, LENGTHS, Past


def _past(ticks: int) -> Past:
    past = Past()
    for tick in range(ticks):
        past.add(1000 + tick, np.array([1, tick]))
    return past


def test_every_tick_is_in_one_block_newest_first() -> None:
    for ticks in (1, 2, 7, 8, 9, 10, 100, 1000):
        blocks = list(_past(ticks))
        ends = [1000 + ticks, *(block.start for block in blocks)]
        assert [block.start + block.ticks for block in blocks] == ends[:-1]
        assert ends[-1] == 1000
        assert sum(int(block.cells[1]) for block in blocks) == ticks * (ticks - 1) // 2


def test_a_block_is_no_longer_than_a_quarter_of_its_age() -> None:
    past = _past(5000)
    assert all(block.ticks <= max((6000 - block.start) / 4, 1) for block in past)
    assert len(list(past)) < BLOCKS * 11


def test_memory_is_bounded() -> None:
    past = Past()
    longest = (2**LENGTHS) * BLOCKS
    for tick in range(0, 4000):
        past.add(tick, np.array([tick]))
    assert len(past.dump()) <= LENGTHS < longest


def test_what_was_seen_since_a_tick() -> None:
    past = _past(300)
    found = past.since(1295)
    assert found is not None
    assert found[0] == 5
    assert past.since(1300) is None
    everything = past.since(0)
    assert everything is not None
    assert everything[0] == 300
    older = past.since(1200)
    assert older is not None
    assert 100 <= older[0] <= 125


def test_the_onset_is_where_the_sum_is_largest() -> None:
    past = Past()
    for tick in range(100):
        past.add(tick, np.array([9, 10, 2] if tick < 93 else [9, 2, 10]))
    assert past.onset(1, 3, np.array([-1.0, 1.0])) == 93
    assert past.onset(1, 3, np.array([1.0, -1.0])) == 0


def test_a_dump_goes_through_json() -> None:
    past = _past(100)
    again = Past.load(json.loads(json.dumps(past.dump())))
    for each in (past, again):
        each.add(1100, np.array([5, 5]))
    assert again.dump() == past.dump()
