"""Has a column moved? Two detectors over merged histograms, pure and deterministic: PSI and river's PageHinkley."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from river.drift import PageHinkley

Counts = npt.NDArray[np.int64]
SMOOTHING = 0.5  # added to every bin: an empty bin is unlikely, not impossible
EVIDENCE = 5  # bins shown in an alert


def psi(expected: Counts, observed: Counts) -> float:
    """Return the population stability index of two histograms over the same bins; 0 is equal, above 0.2 has moved."""
    p, q = shares(expected), shares(observed)
    return float(((q - p) * np.log(q / p)).sum())


def noise(expected: Counts, observed: Counts) -> float:
    """Return the PSI that chance alone seldom exceeds: four deviations above the mean, for samples of these sizes.

    Under equal distributions PSI / (1/n + 1/m) follows about a chi-squared law with one degree less than bins in use.
    """
    degrees = max(int(((expected > 0) | (observed > 0)).sum()) - 1, 1)
    scale = 1 / max(int(expected.sum()), 1) + 1 / max(int(observed.sum()), 1)
    return float(scale * (degrees + 4 * np.sqrt(2 * degrees)))


def moved_bins(expected: Counts, observed: Counts, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the bins that carry most of the difference, the largest first: label, share expected, share observed."""
    p, q = shares(expected), shares(observed)
    weight = np.abs((q - p) * np.log(q / p))
    return [
        {"bin": labels[at], "expected": round(float(p[at]), 6), "observed": round(float(q[at]), 6)}
        for at in np.argsort(-weight, kind="stable")[:EVIDENCE].tolist()
    ]


def mean_rank(expected: Counts, observed: Counts) -> float | None:
    """Return the mean rank (0 to 1) of the observed rows among the expected ones; None when nothing was observed.

    A row's rank is the share of expected rows in lower bins plus half of its own bin's. Equal distributions give 0.5.
    """
    total = int(observed.sum())
    if not total:
        return None
    share = shares(expected)
    ranks = np.cumsum(share) - share / 2
    return float((ranks * observed).sum() / total)


def shares(counts: Counts) -> npt.NDArray[np.float64]:
    """Return the share of each bin, none of them 0."""
    smooth = counts + SMOOTHING
    return np.asarray(smooth / smooth.sum(), np.float64)


@dataclass(frozen=True, slots=True)
class Shift:
    """How a PageHinkley detector is tuned: for values from 0 to 1, one a window."""

    settle: int = 10  # windows from which it learns the level
    slack: float = 0.02  # a change of the level up to this is ignored
    threshold: float = 0.2  # sum of changes beyond the slack that counts as a shift


class LevelShift:
    """river's PageHinkley with a state that can be written down, so that a restart goes on where the last run was."""

    _FIELDS = ("_sum_increase", "_sum_decrease", "_min_increase", "_max_decrease", "_drift_detected")

    def __init__(self, tuning: Shift, state: dict[str, Any] | None = None) -> None:
        self._detector: Any = PageHinkley(min_instances=tuning.settle, delta=tuning.slack, threshold=tuning.threshold)
        if state is not None:
            self._detector._x_mean.n, self._detector._x_mean._mean = state["n"], state["mean"]
            for field in self._FIELDS:
                setattr(self._detector, field, state[field])

    def update(self, value: float) -> bool:
        """Take the next value; return whether the level has shifted, after which it learns the new level."""
        self._detector.update(value)
        return bool(self._detector.drift_detected)

    @property
    def mean(self) -> float:
        """The level learned so far."""
        return float(self._detector._x_mean.get())

    def dump(self) -> dict[str, Any]:
        """Return the state as plain numbers."""
        mean = self._detector._x_mean
        return {"n": mean.n, "mean": mean._mean, **{field: getattr(self._detector, field) for field in self._FIELDS}}
