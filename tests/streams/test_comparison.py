"""Differences between inferences of the same events, against what numpy says of all of them at once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from streams.comparison import Comparison
from streams.inferences import Output
from streams.quantiles import Quantiles
from streams.shelf import BLOCK, Shelf

SCORE, LABEL = Output("score", "number"), Output("label", "label")
CLASSES = Output("classes", "list", ("a", "b"))
ALL = [SCORE, LABEL, CLASSES]
EVENTS = 5_000


def frame(
    offsets: Any, *, arm: str = "active", version: str = "v1", partition: int = 0, **columns: Any
) -> pl.DataFrame:
    """Inferences as they are read back, of the outputs given."""
    count = len(offsets)
    told = {"score": np.zeros(count), "label": ["x"] * count, "classes": [[1.0, 0.0]] * count} | columns
    return pl.DataFrame(
        {
            "arm": pl.Series([arm] * count, dtype=pl.String),
            "model": pl.Series(["m"] * count, dtype=pl.String),
            "version": pl.Series([version] * count, dtype=pl.String),
            "partition": pl.Series([partition] * count, dtype=pl.Int32),
            "offset": pl.Series(list(offsets), dtype=pl.Int64),
            "output.score": pl.Series(told["score"], dtype=pl.Float64),
            "output.label": pl.Series(told["label"], dtype=pl.String),
            "output.classes": pl.Series(told["classes"], dtype=pl.List(pl.Float64)),
            "key": pl.Series([b"k%d" % offset for offset in offsets], dtype=pl.Binary),
        }
    )


def compared(now: pl.DataFrame, then: pl.DataFrame, **more: Any) -> Comparison:
    found = Comparison(ALL, **more)
    found.add(now, then)
    return found


def told(found: Comparison, name: str, place: int = 0) -> dict[str, Any]:
    beside = found.beside[sorted(found.beside)[place]]
    return {each.output.name: each for each in beside.differences}[name].to_dict()


def test_figures_are_those_of_all_pairs_at_once_however_they_come_in_blocks() -> None:
    rng = np.random.default_rng(7)
    then = rng.normal(1e6, 3.0, EVENTS)  # far from 0: sums of squares alone would lose the digits
    now = then + rng.normal(0.5, 1.0, EVENTS)
    found = Comparison(ALL, tolerance=0.25)
    for rows in np.array_split(rng.permutation(EVENTS), 7):
        found.add(frame(rows, score=now[rows]), frame(rows[::-1], score=then[rows[::-1]]))
    gaps = now - then
    figures = told(found, "score")
    assert figures["pairs"] == found.paired == EVENTS
    assert figures["mean_difference"] == pytest.approx(gaps.mean())
    assert figures["mean_absolute_difference"] == pytest.approx(np.abs(gaps).mean())
    assert figures["correlation"] == pytest.approx(np.corrcoef(now, then)[0, 1])
    assert figures["p50"] == pytest.approx(np.quantile(np.abs(gaps), 0.5), rel=0.01)
    assert figures["p95"] == pytest.approx(np.quantile(np.abs(gaps), 0.95), rel=0.01)
    assert figures["max"] == np.abs(gaps).max()
    assert figures["changed"] == (np.abs(gaps) > 0.25).sum()
    assert (figures["mean"], figures["mean_then"]) == (pytest.approx(now.mean()), pytest.approx(then.mean()))


def test_equal_inferences_have_no_difference_and_nothing_is_the_worst() -> None:
    rows = range(50)
    found = compared(frame(rows, score=np.arange(50.0)), frame(rows, score=np.arange(50.0)))
    figures = told(found, "score")
    assert (figures["max"], figures["changed"], figures["correlation"]) == (0.0, 0, pytest.approx(1.0))
    assert (told(found, "label")["agreed_share"], told(found, "classes")["agreed_share"]) == (1.0, 1.0)
    assert found.worst == []


def test_decisions_agree_by_label_and_by_the_most_probable_class() -> None:
    now = frame(range(4), label=["x", "y", "x", "x"], classes=[[0.6, 0.4], [0.4, 0.6], [0.1, 0.9], [0.9, 0.1]])
    then = frame(range(4), label=["x", "x", "x", "x"], classes=[[0.9, 0.1]] * 4)
    found = compared(now, then)
    assert (told(found, "label")["agreed"], told(found, "label")["changed"]) == (3, 1)
    classes = told(found, "classes")
    assert (classes["agreed"], classes["pairs"], classes["changed"]) == (2, 4, 3)
    assert classes["max"] == pytest.approx(0.8)


def test_events_that_only_one_side_has_are_counted_and_not_compared() -> None:
    found = compared(frame([0, 1, 2]), frame([1, 2, 3, 4]))
    assert (found.paired, found.only_now, found.only_then) == (2, 1, 2)
    found.add(frame([BLOCK]), None)
    found.add(None, frame([2 * BLOCK, 2 * BLOCK + 1]))
    assert (found.paired, found.only_now, found.only_then) == (2, 2, 4)
    assert next(iter(found.beside.values())).only_then == 4


def test_the_same_offset_of_another_partition_is_another_event() -> None:
    found = compared(frame([1], partition=0), frame([1], partition=1))
    assert (found.paired, found.only_now, found.only_then) == (0, 1, 1)


def test_each_arm_and_version_of_then_is_compared_by_itself() -> None:
    now = frame(range(4), score=[1.0, 1.0, 1.0, 1.0])
    then = pl.concat([frame([0, 1], score=[1.0, 1.0]), frame([2, 3], score=[3.0, 4.0], arm="canary", version="v2")])
    found = compared(now, then)
    assert sorted(found.beside) == [("active", "m", "v1"), ("canary", "m", "v2")]
    assert (told(found, "score", 0)["max"], told(found, "score", 1)["max"]) == (0.0, 3.0)
    assert found.paired == 4


def test_an_event_that_several_models_scored_then_is_one_pair_with_each() -> None:
    found = compared(frame([0, 1]), pl.concat([frame([0, 1]), frame([0, 1], arm="trees", version="v2")]))
    assert found.paired == 2
    assert [beside.paired for beside in found.beside.values()] == [2, 2]


def test_repeats_are_counted_on_both_sides_and_compared_once() -> None:
    found = compared(frame([0, 0, 1]), frame([0, 1, 1, 1]))
    assert (found.paired, found.twice) == (2, 1)
    assert next(iter(found.beside.values())).twice == 2


def test_numbers_that_are_none_are_not_compared_unless_both_are() -> None:
    nan, inf = math.nan, math.inf
    now = frame(range(5), score=[nan, nan, inf, 1.0, 2.0])
    then = frame(range(5), score=[nan, 1.0, inf, inf, 2.0])
    figures = told(compared(now, then), "score")
    assert (figures["pairs"], figures["incomparable"], figures["max"]) == (3, 2, 0.0)


def test_an_output_that_one_side_lacks_is_not_compared() -> None:
    nothing = pl.Series([None, None], dtype=pl.Float64)
    figures = told(compared(frame([0, 1]), frame([0, 1], score=nothing)), "score")
    assert (figures["pairs"], figures["incomparable"], figures["mean_difference"]) == (0, 2, None)


def test_lists_of_other_lengths_are_not_compared() -> None:
    now = frame(range(3), classes=[[1.0, 0.0], [1.0, 0.0, 0.0], []])
    figures = told(compared(now, frame(range(3))), "classes")
    assert (figures["pairs"], figures["incomparable"]) == (1, 2)


def test_the_events_that_differ_most_are_kept_with_both_inferences() -> None:
    gaps = np.random.default_rng(3).permutation(200).astype(float)
    found = Comparison([SCORE], tolerance=0.5, most=3)
    for rows in np.array_split(np.arange(200), 4):
        found.add(frame(rows, score=gaps[rows]), frame(rows))
    assert [each.size for each in found.worst] == [199.0, 198.0, 197.0]
    worst = found.worst[0]
    assert worst.key == b"k%d" % worst.offset
    assert (worst.now["score"], worst.then["score"]) == (199.0, 0.0)


def test_nobody_who_asks_for_none_gets_events_that_differ() -> None:
    found = Comparison([SCORE], most=0)
    found.add(frame(range(5), score=np.arange(5.0)), frame(range(5)))
    assert (found.worst, found.paired) == ([], 5)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.95, 1.0])
def test_a_quantile_is_near_the_true_one_over_many_magnitudes(share: float) -> None:
    numbers = 10 ** np.random.default_rng(1).uniform(-300, 300, 10_001)
    numbers[:1_000] = 0.0
    found = Quantiles()
    for part in np.array_split(numbers, 3):
        found.add(part)
    assert found.quantile(share) == pytest.approx(np.quantile(numbers, share, method="lower"), rel=0.011)


def test_there_is_no_quantile_of_nothing() -> None:
    assert math.isnan(Quantiles().quantile(0.5))


@pytest.mark.parametrize("held", [1, 50_000, 1 << 30])
def test_a_shelf_gives_back_every_row_once_whatever_goes_to_disk(tmp_path: Path, held: int) -> None:
    shelf = Shelf(tmp_path, held)
    offsets = np.random.default_rng(5).permutation(3 * BLOCK)
    for rows in np.array_split(offsets, 20):
        shelf.put(0, frame(rows))
        shelf.put(1, frame(rows[rows % 2 == 0], partition=0))
        shelf.put(1, frame(rows[:5], partition=1))
    assert bool(shelf.spilled) == (held < 1 << 30)
    blocks = list(shelf.blocks())
    now = pl.concat([one for one, _ in blocks if one is not None])
    then = pl.concat([other for _, other in blocks if other is not None])
    assert sorted(now["offset"].to_list()) == list(range(3 * BLOCK))
    assert sorted(then.filter(pl.col("partition") == 0)["offset"].to_list()) == list(range(0, 3 * BLOCK, 2))
    assert len(then) == 3 * BLOCK // 2 + 100
    for one, other in blocks:
        both = [each for each in (one, other) if each is not None]
        assert len({(p, o // BLOCK) for each in both for p, o in each.select("partition", "offset").rows()}) == 1
    assert list(tmp_path.iterdir()) == []
