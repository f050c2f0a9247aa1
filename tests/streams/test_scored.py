"""Which offsets of a range were met: each once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streams.scored import Seen


@given(st.lists(st.lists(st.integers(0, 60), max_size=30), max_size=5))
def test_each_offset_of_the_range_is_fresh_once(batches: list[list[int]]) -> None:
    seen, truth = Seen({3: (10, 50)}), set[int]()
    for batch in batches:
        fresh = seen.take(3, np.array(batch, np.int64))
        taken = np.array(batch, np.int64)[fresh].tolist()
        assert sorted(taken) == sorted({offset for offset in batch if 10 <= offset < 50} - truth)
        truth.update(taken)
    every = np.arange(10, 50)
    assert seen.met(3, every).tolist() == [offset in truth for offset in every.tolist()]


def test_partitions_outside_the_range_are_never_fresh() -> None:
    assert not Seen({0: (0, 8)}).take(1, np.array([1, 2])).any()
