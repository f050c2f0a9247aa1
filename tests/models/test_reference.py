"""The reference and the profiler: bins, integer merging, profile records."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.binning import Binner, Categories, Numbers, fit, number_edges
from models.errors import ReferenceInvalid
from models.profiler import HOUR_MS
from models.reference import Reference, Tally, tally_of
from schemas import records
from tests.one_arm import NOW, added_up, profiler_of

ROWS = 3000


def _frame(rows: int = ROWS, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "wind": rng.normal(10, 3, rows),
            "rain": np.where(rng.random(rows) < 0.9, 0.0, rng.exponential(1, rows)),
            "hour": rng.integers(0, 24, rows),
            "night": rng.random(rows) < 0.3,
            "carrier": rng.choice(["UA", "AA", "DL"], rows, p=[0.6, 0.3, 0.1]),
        }
    )


def _scores(rows: int = ROWS, seed: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"late": np.random.default_rng(seed).random(rows)})


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.from_frame(_frame(), _scores())


def test_a_reference_survives_its_bytes(reference: Reference) -> None:
    read = Reference.from_bytes(reference.to_bytes())
    assert read == reference
    assert read.digest == reference.digest
    assert read.names == ("wind", "rain", "hour", "night", "carrier")


def test_another_reference_has_another_digest(reference: Reference) -> None:
    assert Reference.from_frame(_frame(seed=1), _scores()).digest != reference.digest


def test_the_tally_of_the_training_rows_counts_every_row_once_in_every_column(reference: Reference) -> None:
    for part in reference.slices:
        assert reference.tally.cells[part.start : part.end].sum() == ROWS


def test_the_body_of_a_continuous_feature_is_split_evenly(reference: Reference) -> None:
    wind = reference.slices[0]
    counts = reference.tally.cells[wind.start : wind.end]
    assert wind.bins.size == 32 + 6 + 1
    assert counts[3:-4].min() > 0.9 * ROWS / 32
    assert counts[3:-4].max() < 1.1 * ROWS / 32


def test_a_value_that_fills_many_quantiles_has_a_bin_of_its_own(reference: Reference) -> None:
    rain = reference.slices[1]
    zero = (_frame()["rain"] == 0).sum()
    assert zero in reference.tally.cells[rain.start : rain.end].tolist()


def test_few_distinct_values_have_a_bin_each() -> None:
    edges = np.array(number_edges(np.array([0.0, 1.0, 5.0] * 10)))
    assert len(set(np.searchsorted(edges, [-1.0, 0.0, 1.0, 5.0, 6.0], side="right").tolist())) == 5


@pytest.mark.parametrize(
    "values", [[], [np.nan], [np.inf, -np.inf], [3.0], [-1e308, 1e308], [5e-324, 0.0], [1e308, 1.7e308]]
)
def test_edges_are_finite_and_rise_for_extreme_values(values: list[float]) -> None:
    edges = np.array(number_edges(np.array(values, np.float64)))
    assert len(edges)
    assert np.isfinite(edges).all()
    assert (np.diff(edges) > 0).all()


FLOATS = st.one_of(st.floats(allow_subnormal=True), st.floats(-5, 5), st.sampled_from([0.0, -0.0, 1.0, 1e300, -1e300]))


@settings(max_examples=300, deadline=None)
@given(st.lists(FLOATS, max_size=80), st.lists(FLOATS, min_size=1, max_size=80))
def test_the_lookup_table_gives_the_bin_that_counting_edges_gives(training: list[float], live: list[float]) -> None:
    edges = number_edges(np.array(training, np.float64))
    with np.errstate(over="ignore"):
        values = np.concatenate((np.array(live), edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)))
    frame = pl.DataFrame({"x": values})
    cells = Binner([Numbers("x", None, edges)]).cells(frame, pl.DataFrame(), 1)[0]
    expected = [len(edges) + 1 if np.isnan(v) else sum(edge <= v for edge in edges) for v in values.tolist()]
    assert cells.tolist() == expected


def test_columns_with_different_grids_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(5)
    values = {
        "even": rng.normal(size=2500),
        "skewed": np.exp(3 * rng.normal(size=2500)),
        "flag": rng.random(2500) < 0.5,
    }
    frame = pl.DataFrame(values)
    columns = [bins for name in frame.columns if (bins := fit(name, None, frame[name]))]
    binner = Binner(columns)
    for row, bins in enumerate(columns):
        alone = Binner([bins]).cells(frame, pl.DataFrame(), 1)[0]
        together = binner.cells(frame, pl.DataFrame(), 3)[row] - binner.starts[row]
        assert (alone == together).all()
        assert isinstance(bins, Numbers)
        assert (alone == np.searchsorted(bins.edges, frame[bins.name].cast(pl.Float64), side="right")).all()


def test_categories_are_ranked_by_frequency_with_bins_for_rare_new_and_missing() -> None:
    values = [f"c{n:02}" for n in range(40) for _ in range(41 - n)]
    bins = fit("code", None, pl.Series(values))
    assert isinstance(bins, Categories)
    live = pl.DataFrame({"code": ["c00", "c31", "c32", "c39", "never", None]})
    labels = [bins.label(cell) for cell in Binner([bins]).cells(live, pl.DataFrame(), 1)[0].tolist()]
    assert labels == ["c00", "c31", "rare", "rare", "new", "missing"]


@pytest.mark.parametrize("dtype", [pl.Enum(["UA", "AA", "DL", "ZZ"]), pl.Categorical])
def test_enums_and_categoricals_fall_into_the_bins_of_their_text(reference: Reference, dtype: pl.DataType) -> None:
    frame = _frame()
    cast = frame.with_columns(pl.col("carrier").cast(dtype))
    profiler = profiler_of(reference)
    times = np.full(ROWS, NOW)
    as_text = profiler.profiles(frame, _scores(), np.zeros(ROWS, np.int32), times)
    assert profiler.profiles(cast, _scores(), np.zeros(ROWS, np.int32), times) == as_text


def test_null_and_nan_are_missing_and_infinities_are_tails() -> None:
    reference = Reference.from_frame(pl.DataFrame({"x": np.arange(100.0)}))
    live = pl.DataFrame({"x": [None, float("nan"), float("inf"), float("-inf")]}, strict=False)
    encoded = profiler_of(reference).profiles(live, pl.DataFrame(), np.zeros(4, np.int32), np.full(4, NOW))
    cells = added_up(reference, encoded).cells
    assert (cells[-1], cells[-2], cells[0]) == (2, 1, 1)


def test_a_column_that_lacks_or_has_another_type_is_missing_not_an_error(reference: Reference) -> None:
    live = pl.DataFrame({"wind": ["calm"], "carrier": [7]})
    encoded = profiler_of(reference).profiles(live, pl.DataFrame(), np.zeros(1, np.int32), np.full(1, NOW))
    cells = added_up(reference, encoded).cells
    by_name = {part.name: cells[part.start : part.end] for part in reference.slices}
    assert by_name["wind"][-1] == by_name["hour"][-1] == by_name["late"][-1] == 1
    assert by_name["carrier"][-2] == 1


def test_every_place_of_a_probability_vector_is_profiled() -> None:
    scores = pl.DataFrame({"probabilities": [[0.1, 0.9], [0.4, 0.6]]})
    reference = Reference.from_frame(pl.DataFrame({"x": [1.0, 2.0]}), scores)
    assert [part.name for part in reference.slices] == ["x", "probabilities[0]", "probabilities[1]"]
    live = pl.DataFrame({"probabilities": [[0.1]]})
    encoded = profiler_of(reference).profiles(pl.DataFrame({"x": [1.0]}), live, np.zeros(1, np.int32), np.full(1, NOW))
    last = reference.slices[2]
    assert added_up(reference, encoded).cells[last.end - 1] == 1


def test_times_and_bytes_are_not_profiled() -> None:
    frame = pl.DataFrame({"at": [datetime(2013, 1, 1)], "raw": [b"x"], "x": [1.0]})
    assert Reference.from_frame(frame).names == ("x",)


def test_the_empty_tally_is_the_identity_of_merging(reference: Reference) -> None:
    empty = Tally.empty(len(reference.tally.cells))
    assert reference.tally + empty == reference.tally == empty + reference.tally
    assert reference.tally + reference.tally != reference.tally


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=6), st.integers(1, 5), st.integers(0, 2**32))
def test_however_events_are_spread_the_merged_counts_are_the_same(cuts: list[int], partitions: int, seed: int) -> None:
    reference = Reference.from_frame(_frame(), _scores())
    rows, rng = 400, np.random.default_rng(seed)
    frame, scores = _frame(rows, 9), _scores(rows, 9)
    times = NOW - rng.integers(0, 5000, rows)
    spread = rng.integers(0, partitions, rows).astype(np.int32)
    bounds = [0, *sorted(cuts), rows]
    profiler, encoded = profiler_of(reference), []
    for start, end in pairwise(bounds):
        part = slice(start, end)
        encoded += profiler.profiles(frame[part], scores[part], spread[part], times[part])
    once = profiler_of(reference).profiles(frame, scores, np.zeros(rows, np.int32), times)
    assert _by_tick(reference, encoded) == _by_tick(reference, once)


def _by_tick(reference: Reference, encoded: list[bytes]) -> dict[int, Tally]:
    size, merged = len(reference.tally.cells), {}
    for value in encoded:
        record = records.decode("profile", value)
        merged[record["tick"]] = merged.get(record["tick"], Tally.empty(size)) + tally_of(record, size)
    return merged


def test_a_record_names_its_partition_tick_lineage_and_progress(reference: Reference) -> None:
    times = np.array([NOW - 2000, NOW, NOW - 2000, NOW - 500])
    partitions = np.array([3, 3, 1, 3], np.int32)
    encoded = profiler_of(reference).profiles(_frame(4), _scores(4), partitions, times)
    found = [records.decode("profile", value) for value in encoded]
    assert [(r["partition"], r["tick"], r["rows"]) for r in found] == [
        (1, (NOW - 2000) // 1000, 1),
        (3, (NOW - 2000) // 1000, 1),
        (3, (NOW - 500) // 1000, 1),
        (3, NOW // 1000, 1),
    ]
    assert [r["watermark"] for r in found] == [NOW - 2000, 0, 0, NOW]  # only the last of a partition tells of progress
    assert {(r["deployment"], r["arm"], r["version"], r["reference"]) for r in found} == {
        ("flights", "active", "v1", reference.digest)
    }


def test_times_that_cannot_be_are_moved_and_counted(reference: Reference) -> None:
    times = np.array([NOW, NOW + 10 * HOUR_MS, NOW - 5 * HOUR_MS, -1])
    encoded = profiler_of(reference).profiles(_frame(4), _scores(4), np.zeros(4, np.int32), times)
    found = [records.decode("profile", value) for value in encoded]
    assert sum(r["clamped"] for r in found) == 3
    assert max(r["watermark"] for r in found) == NOW + 1000
    assert min(r["tick"] for r in found) == (NOW + 1000 - HOUR_MS) // 1000


def test_an_old_backlog_keeps_its_times(reference: Reference) -> None:
    times = np.full(2, NOW - 100 * HOUR_MS)
    encoded = profiler_of(reference).profiles(_frame(2), _scores(2), np.zeros(2, np.int32), times)
    record = records.decode("profile", encoded[0])
    assert (record["tick"], record["clamped"]) == ((NOW - 100 * HOUR_MS) // 1000, 0)


def test_progress_never_goes_back(reference: Reference) -> None:
    profiler = profiler_of(reference)
    profiler.profiles(_frame(1), _scores(1), np.zeros(1, np.int32), np.array([NOW]))
    found = [records.decode("profile", value) for value in profiler.progress([0, 1], NOW - 5000)]
    assert [(r["partition"], r["watermark"], r["rows"], r["cells"]) for r in found] == [
        (0, NOW, 0, b""),
        (1, NOW - 5000, 0, b""),
    ]


def test_after_forgetting_progress_starts_anew(reference: Reference) -> None:
    profiler = profiler_of(reference)
    profiler.profiles(_frame(1), _scores(1), np.zeros(1, np.int32), np.array([NOW]))
    profiler.forget()
    record = records.decode("profile", profiler.progress([0], NOW - 5000)[0])
    assert record["watermark"] == NOW - 5000


def test_an_empty_batch_has_no_profile(reference: Reference) -> None:
    assert profiler_of(reference).profiles(_frame(0), _scores(0), np.zeros(0, np.int32), np.zeros(0, np.int64)) == []


def test_features_and_scores_of_unequal_length_are_refused() -> None:
    with pytest.raises(ReferenceInvalid, match="one score per row"):
        Reference.from_frame(_frame(5), _scores(4))


def test_nothing_to_profile_is_refused() -> None:
    with pytest.raises(ReferenceInvalid, match="nothing to profile"):
        Reference.from_frame(pl.DataFrame({"raw": [b"x"]}))


def _damaged(reference: Reference, change: str) -> bytes:
    document = json.loads(reference.to_bytes())
    first = document["features"][0]
    if change == "edges":
        first["edges"][1] = first["edges"][0]
    elif change == "counts":
        first["counts"].pop()
    elif change == "negative":
        first["counts"][0] = -1
    elif change == "kind":
        first["kind"] = "colour"
    elif change == "twice":
        document["features"][-1]["values"] = ["UA", "UA", "DL"]
    else:
        document["format"] = 99
    return json.dumps(document).encode()


@pytest.mark.parametrize("change", ["edges", "counts", "negative", "kind", "twice", "format"])
def test_a_damaged_reference_is_refused(reference: Reference, change: str) -> None:
    with pytest.raises(ReferenceInvalid):
        Reference.from_bytes(_damaged(reference, change))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b'{"format": 1, "rows": "x", "features": [], "outputs": []}']
)
def test_bytes_that_are_no_reference_are_refused(data: bytes) -> None:
    with pytest.raises(ReferenceInvalid):
        Reference.from_bytes(data)


@pytest.mark.parametrize("cells", [b"\x80", b"\x01", b"\xff\x7f\x01", b"\x80" * 12 + b"\x01\x01"])
def test_counts_that_do_not_fit_are_refused(cells: bytes) -> None:
    with pytest.raises(ReferenceInvalid):
        tally_of({"cells": cells, "rows": 1}, 10)


def test_labels_name_every_bin_for_a_person(reference: Reference) -> None:
    hour = next(part for part in reference.slices if part.name == "hour")
    labels = [hour.bins.label(at) for at in range(hour.bins.size)]
    assert len(set(labels)) == len(labels)
    assert labels[0].startswith("< ")
    assert labels[-2].startswith(">= ")
    assert labels[-1] == "missing"
