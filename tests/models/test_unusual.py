"""How unusual events are: the sum of surprises by hand, alike in chunks and spread over workers; what is beyond."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest

from models.binning import Binner, Categories
from models.building import build
from models.errors import ReferenceInvalid
from models.reference import Reference, Tally
from models.unusual import NAME, ROWS, UNIT, beyond
from tests.models.test_building import chunks
from tests.one_arm import spread

COUNT = 20_000


def frame(rows: int = COUNT, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "wind": np.where(rng.random(rows) < 0.02, np.nan, rng.normal(10, 3, rows)),
            "rain": rng.exponential(1, rows),
            "carrier": rng.choice(["UA", "AA", "DL"], rows, p=[0.6, 0.3, 0.1]),
        }
    )


def scores(rows: int = COUNT, seed: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"late": np.random.default_rng(seed + 1).random(rows)})


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.from_frame(frame(), scores(), ["carrier"], unusual=True)


def counts(reference: Reference, rows: pl.DataFrame, said: pl.DataFrame) -> list[int]:
    part = reference.slices[-1]
    return reference.counter.count(rows, said)[0][part.start : part.end].tolist()


def surprise(reference: Reference, row: pl.DataFrame) -> float:
    """The surprise of one row, by the definition."""
    total = 0
    for part in reference.slices[: len(reference.features)]:
        cell = int(Binner([part.bins]).cells(row, pl.DataFrame(), 1)[0, 0])
        shares = [(count + 0.5) for count in reference.tally.cells[part.start : part.end].tolist()]
        shares = [share / sum(shares) for share in shares]
        if isinstance(part.bins, Categories):
            out = sum(share for share in shares if share <= shares[cell] + 1e-15)
        elif cell == len(shares) - 1:
            out = shares[-1]
        else:
            out = min(1.0, 2 * min(sum(shares[: cell + 1]), sum(shares[cell:-1])))
        total += round(-math.log2(out) * UNIT)
    return total


def test_each_row_falls_into_the_bin_of_the_sum_of_its_surprises(reference: Reference) -> None:
    part, rows = reference.slices[-1], frame(60, 7)
    assert (part.kind, part.name, reference.unusual) == ("group", NAME, part.bins)
    expected = [0] * part.bins.size
    for at in range(len(rows)):
        place = np.searchsorted(reference.unusual.edges, surprise(reference, rows[at]), side="right")  # type: ignore[union-attr]
        expected[int(place)] += 1
    assert counts(reference, rows, scores(60, 7)) == expected


def test_one_training_row_in_a_thousand_is_beyond_and_many_of_what_is_rare_together(reference: Reference) -> None:
    part = reference.slices[-1]
    assert beyond(reference.tally.cells[part.start : part.end]) == pytest.approx(0.001, abs=0.0003)
    # a value that one row in fifty has, one of 400, and one that was never seen: all at once is as rare as can be
    odd = pl.DataFrame({"wind": [np.nan] * 100, "rain": [6.0] * 100, "carrier": ["ZZ"] * 100})
    assert beyond(counts(reference, odd, scores(100))) == 1.0
    usual = pl.DataFrame({"wind": [10.0] * 100, "rain": [0.5] * 100, "carrier": ["UA"] * 100})
    assert beyond(counts(reference, usual, scores(100))) == 0.0


def test_the_other_columns_are_counted_as_without_it_and_so_are_those_apart(reference: Reference) -> None:
    plain = Reference.from_frame(frame(), scores(), ["carrier"])
    assert plain.slices == reference.slices[:-1]
    size = len(plain.tally.cells)
    assert reference.tally.cells[:size].tolist() == plain.tally.cells.tolist()
    rows, said = frame(3_000, 9), scores(3_000, 9)
    codes = np.random.default_rng(1).integers(0, 3, 3_000)
    found = reference.counter.count(rows, said, codes, 3)
    assert found[:, :size].tolist() == plain.counter.count(rows, said, codes, 3).tolist()
    assert found[:, size:].sum(axis=1).tolist() == np.bincount(codes).tolist()


def test_what_workers_publish_adds_up_however_events_were_spread(reference: Reference) -> None:
    rows, said = frame(2_500, 5), scores(2_500, 5)
    assert spread(reference, rows, said) == Tally(2_500, reference.counter.count(rows, said)[0])


def test_it_survives_its_bytes_and_is_the_same_when_built_in_chunks(reference: Reference) -> None:
    read = Reference.from_bytes(reference.to_bytes())
    assert read == reference
    assert read.counter.size == reference.counter.size

    made = build(chunks(frame(), 3_001), chunks(scores(), 999), ["carrier"], unusual=True)
    assert made.to_bytes() == reference.to_bytes()


@pytest.mark.parametrize("change", [{"edges": []}, {"edges": [2.0, 1.0]}, {"counts": [1]}])
def test_damaged_bins_are_refused(reference: Reference, change: dict[str, list[float]]) -> None:
    document = json.loads(reference.to_bytes())
    document["unusual"] |= change
    with pytest.raises(ReferenceInvalid, match="damaged"):
        Reference.from_bytes(json.dumps(document).encode())


@pytest.mark.parametrize("rows", [frame(ROWS - 1), frame().select("wind")], ids=["few rows", "one feature"])
def test_of_few_rows_or_one_feature_it_is_not_counted(rows: pl.DataFrame) -> None:
    made = Reference.from_frame(rows, unusual=True)
    assert made.unusual is None
    assert made.to_bytes() == Reference.from_frame(rows).to_bytes()
    assert build(lambda: iter([rows]), unusual=True).to_bytes() == made.to_bytes()
