"""Shares by Thompson sampling: each arm gets as much of the events as it is likely to be the best. Pure.

Outcomes are compared within revisions, for all arms of one score the same stream with the same shares:

    outcome of arm k under revision r = level of r + effect of k + noise

by weighted least squares on counts and sums, so a level that moves over the day does not count for whoever had more of
the events at the time (Kasy and Sautmann, "Adaptive treatment assignment", 2021, and Thompson 1933 for the shares).
Rewards may come late and in any order: what is not known yet is not in the sums, and takes nothing away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from monitoring.trials import Outcomes

Doubles = npt.NDArray[np.float64]
DRAWS = 8192  # of the posterior: a share is known to about half a percent
PRIOR = 1.0  # events as which the belief counts that an arm is as good as the others
Table = Mapping[int, Mapping[str, Outcomes]]  # by revision and arm


def effects(table: Table, arms: Sequence[str]) -> tuple[Doubles, Doubles]:
    """Return mean and covariance of the effects of arms, up to one level of all; shapes (k,), (k, k)."""
    size = len(arms)
    precision, pull = np.eye(size) * PRIOR, np.zeros(size)
    spread, events = 0.0, 0
    for _, found in sorted(table.items()):
        counts = np.array([found[arm].count if arm in found else 0 for arm in arms], np.float64)
        sums = np.array([found[arm].total if arm in found else 0.0 for arm in arms])
        whole = counts.sum()
        if whole <= 0:
            continue
        level = sums.sum() / whole
        precision += np.diag(counts) - np.outer(counts, counts) / whole
        pull += sums - counts * level
        spread += sum(found[arm].around(level)[1] for arm in arms if arm in found)
        events += int(whole)
    variance = (spread + 0.25) / (events + 1)
    covariance: Doubles = np.linalg.inv(precision).astype(np.float64)
    return covariance @ pull, covariance * variance


def chances(table: Table, arms: Sequence[str]) -> Doubles:
    """Return of each arm the chance that it is the best; shape (k,). The same table gives the same."""
    mean, covariance = effects(table, arms)
    noise = np.random.default_rng(0).standard_normal((DRAWS, len(arms)))
    values, vectors = np.linalg.eigh(covariance)
    drawn = mean + noise @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    return np.bincount(drawn.argmax(axis=1), minlength=len(arms)) / DRAWS


def shares(chance: Doubles, floor: float) -> list[int]:
    """Return whole percents that add up to 100: the chances, but for no arm less than a floor (percent)."""
    size = len(chance)
    wanted = floor + (100 - floor * size) * chance
    whole = np.floor(wanted).astype(int)
    left = 100 - int(whole.sum())
    order = np.argsort(-(wanted - whole), kind="stable")
    whole[order[:left]] += 1
    found: list[int] = np.maximum(whole, 1).tolist()
    found[int(np.argmax(found))] -= sum(found) - 100
    return found
