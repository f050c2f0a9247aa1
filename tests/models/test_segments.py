"""Columns apart: what a reference and a worker count for each value of a segment is what a filter would count."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import binning, counting
from models import segments as of_segments
from models.binning import Binner, Bins, Numbers
from models.building import build
from models.counting import Counter
from models.errors import ReferenceInvalid
from models.reference import Reference, Tally
from models.segments import RANGES, ROWS, VALUES
from tests.models.test_building import chunks
from tests.one_arm import spread

COUNT = 12_000


def frame(rows: int = COUNT, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "wind": np.where(rng.random(rows) < 0.05, np.nan, rng.normal(10, 3, rows)),
            "night": rng.random(rows) < 0.3,
            "carrier": rng.choice(["UA", "AA", "DL", "XX"], rows, p=[0.5, 0.3, 0.19, 0.01]),
        }
    ).with_columns(pl.when(pl.col("wind") > 17).then(None).otherwise(pl.col("carrier")).alias("carrier"))


def scores(rows: int = COUNT, seed: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"late": np.random.default_rng(seed + 1).random(rows)})


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.from_frame(frame(), scores(), ["carrier", "wind", "night"], ["wind"])


def names(made: Reference) -> list[str]:
    return [part.name for part in made.slices if part.segment]


def naive(bins: Bins, values: pl.Series) -> Any:
    """The bin of each value, without any table."""
    if isinstance(bins, Numbers):
        found = values.cast(pl.Float64).to_list()
        places = [
            np.searchsorted(bins.edges, value, "right") if value == value and value is not None else -1
            for value in found
        ]
        return np.array([bins.size - 1 if place == -1 else int(place) for place in places], np.int64)
    known = {value: min(at, bins.own) for at, value in enumerate(bins.values)}
    return np.array(
        [bins.own + 2 if value is None else known.get(value, bins.own + 1) for value in values.to_list()], np.int64
    )


def filtered(made: Reference, rows: pl.DataFrame, said: pl.DataFrame) -> dict[str, list[int]]:
    """The counts of every column apart, by filters."""
    columns, found = [*made.features, *made.outputs], {}
    both = {bins.name: naive(bins, (rows if bins in made.features else said)[bins.name]) for bins in columns}
    for part in made.slices:
        if part.segment:
            place = next(at for at, bins in enumerate(made.features) if bins.name == part.segment)
            segment = next(each for each in made.segments if each.place == place)
            labels = [segment.label(columns[place], at) for at in range(len(segment.groups))]
            first, end = segment.groups[labels.index(part.value)]
            mine = (both[part.segment] >= first) & (both[part.segment] < end)
            found[part.name] = np.bincount(both[part.bins.name][mine], minlength=part.bins.size).tolist()
    return found


def counts(made: Reference, tally: Tally) -> dict[str, list[int]]:
    return {part.name: tally.cells[part.start : part.end].tolist() for part in made.slices if part.segment}


def test_the_counts_apart_are_those_of_a_filter(reference: Reference) -> None:
    assert counts(reference, reference.tally) == filtered(reference, frame(), scores())
    assert {"late where carrier is UA", "late where night is < 0.5", "wind where carrier is DL"} <= set(
        names(reference)
    )
    assert not [name for name in names(reference) if "XX" in name]  # too few rows, and missing is no value
    assert "wind where wind" not in " ".join(names(reference))  # nothing is counted by itself


def test_counted_apart_and_not_the_columns_themselves_have_the_same_counts(reference: Reference) -> None:
    plain = Reference.from_frame(frame(), scores())
    assert reference.tally.cells[: len(plain.tally.cells)].tolist() == plain.tally.cells.tolist()
    assert [part for part in reference.slices if not part.segment] == list(plain.slices)


def test_ranges_of_a_number_have_about_equally_many_rows_and_say_what_they_are(reference: Reference) -> None:
    mine = [part for part in reference.slices if part.segment == "wind"]
    assert len(mine) == RANGES
    rows = [int(reference.tally.cells[part.start : part.end].sum()) for part in mine]
    assert sum(rows) == frame()["wind"].is_not_nan().sum()
    assert max(rows) < 1.5 * min(rows)
    assert mine[0].value.startswith("< ")
    assert mine[-1].value.startswith(">= ")
    assert mine[1].value.split(" .. ")[0] == mine[0].value[2:]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 25), st.integers(1, 4), st.integers(0, 1_000), st.sampled_from([0, 1 << 40]))
def test_any_frame_in_any_blocks_and_groups_is_counted_as_by_filters(
    reference: Reference, rows: int, groups: int, seed: int, whole: int
) -> None:
    rng = np.random.default_rng(seed)
    mine, said = frame(rows, seed), scores(rows, seed)
    codes = rng.integers(0, groups, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binning, "_ROWS", 7)
        patch.setattr(counting, "WHOLE", whole)
        found = reference.counter.count(mine, said, codes, groups)
    for group in range(groups):
        chosen = np.flatnonzero(codes == group)
        tally = Tally(len(chosen), found[group])
        assert counts(reference, tally) == filtered(reference, mine[chosen], said[chosen])
        for part in reference.slices:
            if not part.segment:
                values = (mine if part.kind == "feature" else said)[part.name][chosen]
                expected = np.bincount(naive(part.bins, values), minlength=part.bins.size)
                assert tally.cells[part.start : part.end].tolist() == expected.tolist()


def test_a_block_does_not_change_the_one_before_it() -> None:
    columns = Reference.from_frame(frame(), scores())
    binner = Binner(columns.features + columns.outputs)
    cells = binner.cells(frame(5000, 3), scores(5000, 3), 3)
    again = Binner(columns.features + columns.outputs)
    blocks = [block.copy() for block in again.blocks(frame(5000, 3), scores(5000, 3), 3)]
    assert [block.shape[1] for block in blocks] == [2000, 2000, 1000]
    assert np.concatenate(blocks, axis=1).tolist() == cells.tolist()
    # the control: without a copy every block is the last one
    kept = list(again.blocks(frame(5000, 3), scores(5000, 3), 3))
    assert np.concatenate(kept, axis=1).tolist() != cells.tolist()


def test_what_workers_publish_adds_up_however_events_were_spread(reference: Reference) -> None:
    rows, said = frame(3_000, 5), scores(3_000, 5)
    assert counts(reference, spread(reference, rows, said)) == filtered(reference, rows, said)


def test_a_reference_with_segments_survives_its_bytes_and_one_without_is_as_before(reference: Reference) -> None:
    read = Reference.from_bytes(reference.to_bytes())
    assert read == reference
    assert read.digest == reference.digest
    assert json.loads(reference.to_bytes())["format"] == 2
    plain = json.loads(Reference.from_frame(frame(), scores()).to_bytes())
    assert plain["format"] == 1
    assert "segments" not in plain


@pytest.mark.parametrize(
    "change",
    [
        {"feature": "gate"},
        {"groups": [[0, 99]]},
        {"groups": [[1, 2], [0, 1]]},
        {"groups": [[0, 0]]},
        {"columns": [17]},
        {"columns": [3, 3]},
        {"counts": [1]},
    ],
)
def test_damaged_segments_are_refused(reference: Reference, change: dict[str, Any]) -> None:
    document = json.loads(reference.to_bytes())
    document["segments"][0] |= change
    with pytest.raises(ReferenceInvalid, match="damaged"):
        Reference.from_bytes(json.dumps(document).encode())


def test_what_cannot_be_a_segment_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, said = frame(), scores()
    with pytest.raises(ReferenceInvalid, match="'gate' is no profiled feature; there are wind, night, carrier"):
        Reference.from_frame(rows, said, ["gate"])
    with pytest.raises(ReferenceInvalid, match="'late' is no profiled feature"):
        Reference.from_frame(rows, said, ["carrier"], ["late"])
    with pytest.raises(ReferenceInvalid, match="nothing to count by the segment carrier"):
        Reference.from_frame(rows, None, ["carrier"])
    with pytest.raises(ReferenceInvalid, match=f"no value of the segment carrier has {ROWS:,} training rows"):
        Reference.from_frame(rows[:900], said[:900], ["carrier"])
    monkeypatch.setattr(of_segments, "MOST", 4)
    with pytest.raises(ReferenceInvalid, match=r"6 columns would be counted apart.*and 4 is the most"):
        Reference.from_frame(rows, said, ["carrier"], ["wind"])


def test_of_many_categories_the_most_frequent_are_told_apart() -> None:
    values = [f"c{at:02}" for at in range(30) for _ in range(ROWS + 10 * at)]
    made = Reference.from_frame(pl.DataFrame({"c": values}), pl.DataFrame({"s": np.arange(float(len(values)))}), ["c"])
    assert [part.value for part in made.slices if part.segment] == [f"c{at:02}" for at in range(29, 29 - VALUES, -1)]


def test_built_in_chunks_that_are_cut_apart_it_is_the_reference_of_the_whole_frame(reference: Reference) -> None:
    made = build(chunks(frame(), 3_001), chunks(scores(), 999), ["carrier", "wind", "night"], ["wind"])
    assert made.to_bytes() == reference.to_bytes()


def test_a_counter_without_numbers_or_without_rows_counts_too() -> None:
    rows = pl.DataFrame({"c": ["a", "b", None]})
    made = Reference.from_frame(rows)
    assert Counter(made.features, ()).count(rows, pl.DataFrame())[0].tolist() == [1, 1, 0, 0, 1]
    assert Counter(made.features, ()).count(rows[:0], pl.DataFrame())[0].tolist() == [0] * 5
