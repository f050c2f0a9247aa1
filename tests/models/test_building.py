"""A reference built in chunks is that of the whole frame, or as near as is said, with exact counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.building import Source, build
from models.errors import ReferenceInvalid
from models.reference import Reference
from models.sketch import VALUES


def rows(count: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    wind = rng.normal(size=count)
    wind[::17] = np.nan
    return pl.DataFrame(
        {
            "wind": wind,
            "hour": rng.integers(0, 24, count),
            "late": rng.random(count) < 0.2,
            "carrier": rng.choice(["UA", "AA", "DL", "WN"], count, p=[0.5, 0.3, 0.1, 0.1]),
            "at": pl.Series([None] * count, dtype=pl.Datetime),
            "vector": rng.random((count, 2)).tolist(),
        }
    )


def chunks(frame: pl.DataFrame, size: int) -> Source:
    def frames() -> Iterator[pl.DataFrame]:
        return (frame[start : start + size] for start in range(0, frame.height, size))

    return frames


@pytest.mark.parametrize("size", [1, 97, 10_000])
def test_in_any_chunks_it_is_the_reference_of_the_whole_frame(size: int) -> None:
    frame = rows(800)
    scores = frame.select(score=pl.col("hour") / 24)
    whole = Reference.from_frame(frame, scores)
    assert build(chunks(frame, size), chunks(scores, size)).to_bytes() == whole.to_bytes()


def test_of_more_rows_than_are_kept_the_bins_hold_what_they_should_and_counts_are_exact() -> None:
    frame = pl.DataFrame({"x": np.random.default_rng(2).normal(size=4 * VALUES)})
    made = build(chunks(frame, 30_000))
    (part,) = made.slices
    counted = np.bincount(
        np.searchsorted(made.features[0].edges, frame["x"].to_numpy(), side="right"),  # type: ignore[union-attr]
        minlength=part.bins.size,
    )
    assert made.tally.cells.tolist() == counted.tolist()
    body = counted[3:-4] / frame.height
    assert len(body) == 32
    assert np.abs(body - 0.998 / 32).max() < 2 * 3 / VALUES  # both ends of a bin, three levels


def test_a_list_that_is_longer_in_a_later_chunk_is_missing_before() -> None:
    frame = pl.DataFrame({"v": [[1.0], [2.0], [3.0, 4.0]]})
    assert build(chunks(frame, 1)).to_bytes() == Reference.from_frame(frame).to_bytes()


def test_a_column_that_is_text_in_one_chunk_and_a_number_in_another_is_refused() -> None:
    with pytest.raises(ReferenceInvalid, match="column x is text in some rows"):
        build(lambda: iter([pl.DataFrame({"x": [1.0]}), pl.DataFrame({"x": ["a"]})]))


@pytest.mark.parametrize("frame", [pl.DataFrame({"raw": [b"x"]}), pl.DataFrame({"x": pl.Series([], dtype=pl.Float64)})])
def test_nothing_to_profile_is_refused(frame: pl.DataFrame) -> None:
    with pytest.raises(ReferenceInvalid, match="nothing to profile"):
        build(lambda: iter([frame]))


def test_outputs_of_another_number_of_rows_are_refused() -> None:
    with pytest.raises(ReferenceInvalid, match="10 rows of features, but 9 of outputs"):
        build(chunks(rows(10), 5), chunks(rows(9), 5))


def test_a_source_that_changes_between_the_passes_is_found() -> None:
    calls: list[int] = []

    def growing() -> Iterator[pl.DataFrame]:
        calls.append(1)
        return iter([rows(10 * len(calls))])

    with pytest.raises(ReferenceInvalid, match="10 rows when read first and 20 when read again"):
        build(growing)


def test_an_empty_chunk_changes_nothing() -> None:
    frame = rows(10)

    def with_an_empty_one() -> Iterator[Any]:
        return iter([frame[:0], frame, frame[:0]])

    assert build(with_an_empty_one).to_bytes() == Reference.from_frame(frame).to_bytes()
