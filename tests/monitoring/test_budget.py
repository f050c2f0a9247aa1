"""The budget of false alarms is that of a column, or that of the deployment split over columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from monitoring.budget import budget_of
from monitoring.settings import Settings

WEEK = 7 * 24 * 3600  # ticks of a second
NAMES = ["wind", "rain", "late"]


def _budget(**settings: Any) -> Any:
    return budget_of(NAMES, 1000, Settings(**settings))


def test_each_column_has_a_false_alarm_a_week_by_default() -> None:
    found = _budget()
    assert found.columns.tolist() == [WEEK] * 3
    assert found.together is None


def test_a_weight_multiplies_what_a_column_of_its_own_is_allowed_and_0_is_not_tested() -> None:
    assert _budget(weights={"wind": 2.0, "rain": 0.0}).columns.tolist() == [WEEK / 2, np.inf, WEEK]


def test_what_a_deployment_is_allowed_is_split_over_arms_and_columns() -> None:
    found = _budget(budget="deployment", arms=2, false_alarms=0.5)
    whole = 4 * WEEK
    assert found.together == whole
    assert found.columns == pytest.approx([3 * whole] * 3)
    assert found.shares.sum() == pytest.approx(1)


def test_weights_say_how_it_is_split() -> None:
    found = _budget(budget="deployment", weights={"wind": 2.0, "rain": 0.0})
    assert found.columns == pytest.approx([WEEK * 3 / 2, np.inf, WEEK * 3])
    assert found.shares == pytest.approx([2 / 3, 0, 1 / 3])


@pytest.mark.parametrize("budget", ["column", "deployment"])
def test_no_alarm_needs_less_than_some_evidence(budget: str) -> None:
    assert _budget(budget=budget, false_alarms=1e9).columns.min() >= 2


def test_where_nothing_is_tested_nothing_alarms() -> None:
    found = _budget(budget="deployment", weights=dict.fromkeys(NAMES, 0.0))
    assert np.isinf(found.columns).all()
    assert found.together is None
