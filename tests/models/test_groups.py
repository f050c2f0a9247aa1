"""Rows are grouped by model without loss, and padded as a single model's rows are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.runtimes import groups as module
from models.runtimes.groups import Groups, chunks, groups_of
from models.runtimes.session import padded


def grouped(models: list[int], ready: set[int] | None = None) -> Groups:
    return groups_of(np.array(models, np.int64), ready or set())


def test_models_that_are_ready_come_first_and_rows_keep_their_order() -> None:
    groups = grouped([5, 2, 5, 9, 2], {9, 5})
    assert groups.models.tolist() == [5, 9, 2]
    assert [groups.of(group).tolist() for group in range(3)] == [[0, 2], [3], [1, 4]]
    assert groups.chosen([0, 2]).tolist() == [0, 2, 1, 4]
    assert groups.chosen([0, 1, 2]).tolist() == [0, 2, 3, 1, 4]
    assert groups.chosen([]).tolist() == []


def test_many_rows_of_a_model_are_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_ROWS", 32)
    groups = grouped([3] * 70 + [1] * 32 + [3])
    assert groups.models.tolist() == [1, 3, 3, 3]
    assert groups.counts.tolist() == [32, 32, 32, 7]
    assert groups.rows.tolist() == [*range(70, 102), *range(70), 102]
    assert [groups.of(group).tolist() for group in (1, 3)] == [[*range(32)], [*range(64, 70), 102]]
    assert groups.chosen([0, 3]).tolist() == [*range(70, 102), *range(64, 70), 102]


def test_no_rows_are_no_groups() -> None:
    assert len(grouped([])) == 0
    assert list(chunks(grouped([]), {"x": np.zeros((0, 2))})) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 8), max_size=120), st.sets(st.integers(0, 8)), st.integers(1, 64))
def test_every_row_is_in_one_piece_which_is_padded_as_by_itself(models: list[int], ready: set[int], size: int) -> None:
    groups = grouped(models, ready)
    rng = np.random.default_rng(0)
    tensors = {"x": rng.normal(size=(len(models), 3)), "s": np.array([str(i) for i in range(len(models))], object)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_ROWS", size)
        made = list(chunks(groups, tensors))
    pieces = [(chunk, piece) for chunk in made for piece in chunk.pieces]
    assert [piece[0] for _, piece in pieces] == groups.models.tolist()
    for group, (chunk, (_, begin, end, count)) in enumerate(pieces):
        rows = groups.of(group)
        assert count == len(rows)
        alone = padded({name: array[rows] for name, array in tensors.items()}, count)
        for name, array in alone.items():
            np.testing.assert_array_equal(chunk.tensors[name][begin:end], array)
    taken = [row for group in range(len(groups)) for row in groups.of(group).tolist()]
    assert sorted(taken) == list(range(len(models)))
    for chunk in made:
        assert len(chunk.pieces) == 1 or sum(end - begin for _, begin, end, _ in chunk.pieces) <= size
