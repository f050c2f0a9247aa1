"""Metrics of one's own: reckoned by column as Python would one by one, added up, told with intervals."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from monitoring import judging
from monitoring.cells import Group
from monitoring.formulas import Formula, told_of
from monitoring.totals import Totals
from schemas.expressions import Expression

NAN = math.nan


def reckoned(text: str, late: list[float], score: list[float], revenue: list[float] | None = None) -> list[float]:
    formula = Formula("m", Expression(text), "late", ("revenue",), ("score",))
    label = np.array([revenue or [0.0] * len(late)]).T
    return formula.values(np.array([score]).T, label, np.array(late)).tolist()


@pytest.mark.parametrize(
    "text",
    [
        "score",
        "2.5 * late - score / 3",
        "10 if late and score > 0.5 else -1",
        "0.2 < score <= 0.7",
        "abs(score - late) // 0.3 + score % 0.3",
        "max(score, 1 - score, late)",
        "min(late, revenue) + (revenue != 2)",
        "(not late) + (late or score > 0.5)",
        "-score + +late",
        "1 if score >= 0.5 else 2 if late else 3",
        "label.late - output.score",
    ],
)
def test_columns_are_reckoned_as_python_would(text: str) -> None:
    draw = random.Random(text)
    late, score = [float(draw.random() < 0.5) for _ in range(200)], [draw.random() for _ in range(200)]
    revenue = [draw.choice((0.0, 1.0, 2.0)) for _ in range(200)]
    plain = text.replace("label.", "").replace("output.", "")
    names = [{"late": a, "score": b, "revenue": c} for a, b, c in zip(late, score, revenue, strict=True)]
    expected = [float(eval(plain, {}, each)) for each in names]
    assert reckoned(text, late, score, revenue) == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("late + 1", [1.0, NAN]),
        ("score > 0.5", [0.0, NAN]),
        ("not score", [1.0, NAN]),
        ("late and score", [0.0, NAN]),
        ("1 if score else 2", [2.0, NAN]),
        ("1 if 1 > 0 else score", [1.0, 1.0]),  # what is not chosen may be missing
        ("max(score, 1)", [1.0, NAN]),
    ],
)
def test_what_is_made_of_something_missing_is_missing(text: str, found: list[float]) -> None:
    assert np.array_equal(reckoned(text, [0.0, NAN], [0.0, NAN]), found, equal_nan=True)


def test_what_divides_by_nothing_is_no_number() -> None:
    assert not any(map(math.isfinite, reckoned("1 / late", [0.0], [0.0]) + reckoned("1 % late", [0.0], [0.0])))


def test_a_formula_says_whether_outputs_are_in_it_and_has_its_bounds_in_its_name() -> None:
    held = Formula("gain", Expression("late * 9"), "late", (), (), -1.0, 2.5)
    assert held.of_labels
    assert not Formula("gain", Expression("late * score"), "late", (), ("score",)).of_labels
    assert told_of(held.told) == ("gain", -1.0, 2.5)
    assert told_of("gain") == ("gain", None, None)
    assert held.values(np.zeros((2, 0)), np.zeros((2, 0)), np.array([1.0, NAN])).tolist()[0] == 2.5


def totals_of(name: str, values: list[float]) -> Totals:
    totals = Totals()
    for value in values:
        fixed = round(value * judging.FIXED)
        group = Group("active", "late", "v1", "", "", "metric", name)
        totals.add({group: {judging.COUNT: 1, judging.SUM: fixed, judging.SUM_2: fixed * fixed}})
    return totals


def test_a_metric_with_bounds_has_an_interval_in_its_own_units() -> None:
    draw = random.Random(2)
    values = [draw.choice((-5.0, 0.0, 20.0)) for _ in range(2000)]
    told = {each.metric: each for each in totals_of("gain\x1f-5.0\x1f20.0", values).told()}
    mean = told["mean"]
    assert (mean.name, told["count"].number) == ("gain", 2000)
    assert mean.number == pytest.approx(sum(values) / 2000)
    assert told["sum"].number == pytest.approx(sum(values))
    assert mean.low is not None
    assert mean.high is not None
    assert -5 < mean.low < 5.0 < mean.high < 20
    assert mean.high - mean.low < 4
    assert told["sd"].low is None


def test_a_metric_without_bounds_has_none() -> None:
    told = {each.metric: each for each in totals_of("gain", [1.0, 3.0]).told()}
    assert (told["mean"].number, told["mean"].low) == (2.0, None)
