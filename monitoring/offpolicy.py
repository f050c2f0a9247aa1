"""What would have been if one arm had had all events: from outcomes under known shares. Pure.

Of n events with known outcomes let an arm have had those of its share p (its propensity). Inverse propensity scoring

    ips = 1/n sum over its events of y / p

is right on average whatever the shares were and however they changed. The doubly robust estimate takes from each
outcome what the arm's mean in the event's segment says, and adds that mean for all events:

    dr = 1/n ( sum over all events of m(segment) + sum over its events of (y - m(segment)) / p )

so what segments explain is no noise (Dudik, Langford and Li, "Doubly robust policy evaluation and learning", ICML
2011).
Intervals are normal ones, of 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from monitoring.rewards import Reward
from monitoring.trials import Outcomes

Z = 1.959964
Cells = Mapping[tuple[int, str], Mapping[str, Outcomes]]  # by revision and value of a segment, by arm


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of outcomes, as a share of their range, and its interval. events: of the arm that had known outcomes."""

    arm: str
    value: float
    low: float
    high: float
    events: int


def cells_of(rewards: Iterable[Reward], metric: str, segment: str = "") -> dict[tuple[int, str], dict[str, Outcomes]]:
    """Return outcomes by revision and value of the segment, and arm; of all events where no segment is named."""
    found: dict[tuple[int, str], dict[str, Outcomes]] = {}
    for each in rewards:
        if each.metric == metric and each.segment == segment:
            arms = found.setdefault((each.revision, each.value), {})
            arms[each.arm] = arms.get(each.arm, Outcomes()) + Outcomes(each.count, each.total, each.squares)
    return found


def ips(cells: Cells, propensities: Mapping[int, Mapping[str, float]], arm: str) -> Estimate | None:
    """Return the estimate without a model; None where the arm had no events. propensities: by revision and arm."""
    return _estimated(cells, propensities, arm, {})


def doubly_robust(cells: Cells, propensities: Mapping[int, Mapping[str, float]], arm: str) -> Estimate | None:
    """Return the estimate with the arm's means in segments as the model. cells: by the values of a segment."""
    means: dict[str, Outcomes] = {}
    for (_, value), arms in cells.items():
        means[value] = means.get(value, Outcomes()) + arms.get(arm, Outcomes())
    return _estimated(cells, propensities, arm, {value: of.total / of.count for value, of in means.items() if of.count})


def _estimated(
    cells: Cells, propensities: Mapping[int, Mapping[str, float]], arm: str, means: Mapping[str, float]
) -> Estimate | None:
    """Return what one arm would have had. means: that are taken from outcomes; 0 where there is none."""
    events = seen = 0
    total = squares = 0.0  # of what each event adds, and of its square
    for (revision, value), arms in sorted(cells.items()):
        share = propensities.get(revision, {}).get(arm, 0.0)
        if share <= 0:
            continue
        mean, own = means.get(value, 0.0), arms.get(arm, Outcomes())
        here = sum(each.count for each in arms.values())
        away, apart = own.around(mean)
        events, seen = events + here, seen + own.count
        total += here * mean + away / share
        squares += here * mean * mean + 2 * mean * away / share + apart / share**2
    if events < 2 or not seen:
        return None
    found = total / events
    radius = Z * math.sqrt(max(squares / events - found * found, 0.0) / (events - 1))
    return Estimate(arm, found, found - radius, found + radius, seen)
