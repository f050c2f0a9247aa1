"""Fairness: rates of groups and how far they are apart, with intervals that hold at all times and for all groups."""

from __future__ import annotations

import random
from typing import Any

import pytest

from monitoring import fairness, judging
from monitoring.cells import Group, Tables, add
from monitoring.fairness import ROWS, Rate
from monitoring.scores import THRESHOLD
from monitoring.totals import Told, Totals
from tests.monitoring import dict_judging
from tests.monitoring.test_quality import WHO, Joins, fold, read

Truth = dict[str, tuple[float, float, float]]  # value -> share of positives, and how often they, and others, are chosen
TRUTH: Truth = {"a": (0.5, 0.8, 0.3), "b": (0.3, 0.6, 0.1), "c": (0.4, 0.7, 0.3)}


def tick(draw: random.Random, truth: Truth, rows: int, task: judging.Task = "binary") -> tuple[Tables, Any]:
    """A tick of events, and what they were: (value, said, real)."""
    tables: Tables = {}
    seen = []
    for value in draw.choices(list(truth), k=rows):
        share, found, taken = truth[value]
        real = draw.random() < share
        said = draw.random() < (found if real else taken)
        seen.append((value, said, real))
        score: Any = 0.75 if said else 0.25
        score = (1 - score, score) if task == "multiclass" else score
        for what, name, cell, by in [*dict_judging.scored(task, score), *dict_judging.judged(task, score, int(real))]:
            for place in (("", ""), ("gender", value)):
                add(tables, Group(*WHO, *place, what, name), [(cell, by)])
    return tables, seen


def totals(seed: int = 0, ticks: int = 20, rows: int = 200, truth: Truth = TRUTH, **more: Any) -> tuple[Totals, Any]:
    draw, kept, seen = random.Random(seed), Totals(groups=("gender",)), []
    for _ in range(ticks):
        tables, events = tick(draw, truth, rows, **more)
        kept.add(tables)
        seen += events
    return kept, seen


def told(kept: Totals, threshold: int = THRESHOLD) -> dict[str, Told]:
    return {each.metric: each for each in kept.told(threshold) if each.name == "gender"}


def rates(seen: Any) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"selection_rate": [], "true_positive_rate": [], "false_positive_rate": []}
    for value in sorted({value for value, _, _ in seen}):
        mine = [(said, real) for each, said, real in seen if each == value]
        found["selection_rate"].append(sum(said for said, _ in mine) / len(mine))
        for name, wanted in (("true_positive_rate", True), ("false_positive_rate", False)):
            among = [said for said, real in mine if real == wanted]
            found[name].append(sum(among) / len(among))
    return found


def test_the_numbers_are_those_of_the_events() -> None:
    kept, seen = totals()
    found = told(kept)
    assert len(found) == 6
    for name, each in rates(seen).items():
        assert found[f"{name}_difference"].number == pytest.approx(max(each) - min(each))
        assert found[f"{name}_ratio"].number == pytest.approx(min(each) / max(each))
        for number in (found[f"{name}_difference"], found[f"{name}_ratio"]):
            assert number.low is not None
            assert number.high is not None
            assert number.low <= number.number <= number.high
    # each group has its own, and the whole version the one of all
    values = {each.value: each.number for each in kept.told() if each.metric == "selection_rate" and each.segment}
    assert list(values.values()) == pytest.approx(rates(seen)["selection_rate"])
    (whole,) = (each for each in kept.told() if each.metric == "selection_rate" and not each.segment)
    assert whole.number == sum(said for _, said, _ in seen) / len(seen)
    assert whole.low < whole.number < whole.high  # type: ignore[operator]


def true_gaps(truth: Truth) -> dict[str, float]:
    chosen = [share * found + (1 - share) * taken for share, found, taken in truth.values()]
    by = {"selection_rate": chosen, "true_positive_rate": [each[1] for each in truth.values()]}
    by["false_positive_rate"] = [each[2] for each in truth.values()]
    gaps = {f"{name}_difference": max(each) - min(each) for name, each in by.items()}
    return gaps | {f"{name}_ratio": min(each) / max(each) for name, each in by.items()}


def misses(seed: int, truth: Truth) -> bool:
    """Whether an interval is ever wrong, over 40 looks."""
    draw, kept, true = random.Random(seed), Totals(groups=("gender",)), true_gaps(truth)
    for _ in range(40):
        kept.add(tick(draw, truth, 60)[0])
        for metric, each in told(kept).items():
            if (
                each.low is not None
                and each.high is not None
                and not each.low - 1e-12 <= true[metric] <= each.high + 1e-12
            ):
                return True
    return False


SAME: Truth = dict.fromkeys("abc", (0.4, 0.7, 0.2))


@pytest.mark.parametrize("truth", [TRUTH, SAME], ids=["apart", "alike"])
def test_the_truth_is_inside_at_all_times_also_where_groups_are_alike(truth: Truth) -> None:
    assert sum(misses(seed, truth) for seed in range(20)) <= 1


def test_an_interval_of_the_two_that_lie_apart_most_made_for_one_look_would_miss_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def naive(rates: list[Rate]) -> Any:
        first, last = (extreme(rates, key=lambda rate: rate.number) for extreme in (min, max))
        spread = sum(r.number * (1 - r.number) / r.confidence.count for r in (first, last) if r.confidence) ** 0.5
        gap = last.number - first.number
        return (gap - 1.96 * spread, gap + 1.96 * spread), (0.0, 1.0)

    monkeypatch.setattr(fairness, "_bounds", naive)
    assert sum(misses(seed, SAME) for seed in range(20)) > 6


def test_groups_that_are_alike_allow_for_no_difference_and_those_that_are_not_do_not() -> None:
    alike, apart = (told(totals(ticks=60, truth=truth)[0]) for truth in (SAME, TRUTH))
    for name in ("selection_rate", "true_positive_rate"):
        assert alike[f"{name}_difference"].low == 0.0
        assert alike[f"{name}_ratio"].high == 1.0
        assert apart[f"{name}_difference"].low > 0.0  # type: ignore[operator]
        assert apart[f"{name}_ratio"].high < 1.0  # type: ignore[operator]


def test_a_group_with_few_events_is_left_out_and_one_alone_is_not_compared() -> None:
    draw, kept = random.Random(3), Totals(groups=("gender",))
    kept.add(tick(draw, {"a": TRUTH["a"]}, 5 * ROWS)[0])
    kept.add(tick(draw, {"b": TRUTH["b"]}, ROWS - 1)[0])
    assert not told(kept)
    kept.add(tick(draw, {"b": TRUTH["b"]}, 1)[0])
    assert set(told(kept)) == {"selection_rate_difference", "selection_rate_ratio"}  # it has few positives, and others


def test_at_another_threshold_there_are_numbers_without_intervals() -> None:
    found = told(totals()[0], THRESHOLD + 24)
    assert found["selection_rate_difference"] == (*WHO, "", "", "gender", "selection_rate_difference", 0.0, None, None)
    assert "selection_rate_ratio" not in found  # of nothing


def test_only_declared_groups_of_binary_versions_are_compared() -> None:
    assert not told(totals(task="multiclass")[0])
    kept, _ = totals()
    kept.groups = ()
    assert not told(kept)


def test_the_fold_of_the_monitor_tells_it_and_goes_on_after_a_restart() -> None:
    from dataclasses import replace

    joins, kept = Joins(), fold()
    kept._judging = replace(kept._judging, groups=("origin",))
    for _ in range(10):
        joins.minute(0.8, rows=100)
    folding, _ = read(joins.values, kept)
    first = {each.metric for each in folding.state.totals.told() if each.name == "origin"}
    assert "selection_rate_difference" in first
    again = kept.load(kept.dump(folding.state))
    assert list(again.totals.told()) == list(folding.state.totals.told())
