"""How much evidence an alarm needs: the budget of false alarms, split over the columns that are watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitoring.settings import Settings
from monitoring.tilts import Floats

WEEK_MS = 7 * 24 * 3_600_000
LEAST = 2.0  # evidence that an alarm needs, however many false ones are allowed


@dataclass(frozen=True, slots=True)
class Budget:
    """Evidence that alarms need.

    columns: shape (columns,), of each alone; infinite for one that is not tested. together: of the sum of all columns'
    evidence, each weighted by its share; None where columns have budgets of their own. shares: shape (columns,).
    """

    columns: Floats
    together: float | None
    shares: Floats


def budget_of(names: Sequence[str], tick_ms: int, settings: Settings) -> Budget:
    """Return what the settings allow columns of these names."""
    ticks = WEEK_MS / tick_ms / settings.false_alarms
    weights = np.array([settings.weights.get(name, 1.0) for name in names])
    if settings.budget == "column" or not weights.any():
        return Budget(_split(ticks, weights), None, np.zeros(len(names)))
    whole, shares = ticks * settings.arms, weights / weights.sum()
    return Budget(_split(whole, shares), max(whole, LEAST), shares)


def _split(ticks: float, shares: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(ticks / shares, LEAST), np.float64)
