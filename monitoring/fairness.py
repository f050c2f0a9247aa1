"""How alike a version treats groups of people: rates of each value of a declared group, how far they are apart.

The interval of a difference or ratio holds at all times, as those of the rates do: each rate has an interval that is
wrong with a chance of LEVEL divided by the number of groups, so with a chance of LEVEL none of them ever is, and what
follows from all of them holds as well. It covers whichever groups turn out to be the highest and the lowest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from monitoring import scores
from monitoring.cells import Cells, Group
from monitoring.intervals import LEVEL
from monitoring.intervals import Sequence as Confidence

ROWS = 100  # events that a rate needs, or its group is left out: a handful would always be the highest or the lowest
RATES = {  # name -> the table that has it, and what it is called there
    "selection_rate": ("scored", "selection_rate"),
    "true_positive_rate": ("binary", "recall"),
    "false_positive_rate": ("binary", "false_positive_rate"),
}
Tables = Mapping[Group, Cells]
Sequences = Mapping[Group, Mapping[str, Confidence]]


class Gap(NamedTuple):
    """One number about all values of a group together. low, high: its interval, None where there is none."""

    metric: str
    number: float
    low: float | None = None
    high: float | None = None


class Rate(NamedTuple):
    """A rate of one value, and what its interval follows from."""

    number: float
    confidence: Confidence | None


def gaps(places: Sequence[Group], tables: Tables, sequences: Sequences, threshold: int) -> Iterator[Gap]:
    """Yield how far each rate is apart between the highest and the lowest of the values of a group.

    places: of one version, a value each, without `what`. threshold: in 64ths; intervals are for scores.THRESHOLD.
    """
    for name, (what, called) in RATES.items():
        found = [_rate(place._replace(what=what), called, tables, sequences, threshold) for place in places]
        rates = [rate for rate in found if rate is not None]
        if len(rates) < 2:
            continue
        numbers = [rate.number for rate in rates]
        low, high = min(numbers), max(numbers)
        (least, most), (less, more) = _bounds(rates)
        yield Gap(f"{name}_difference", high - low, least, most)
        if high > 0:
            yield Gap(f"{name}_ratio", low / high, less, more)


def _rate(place: Group, called: str, tables: Tables, sequences: Sequences, threshold: int) -> Rate | None:
    cells = tables.get(place, {})
    rows, hits = scores.rate_of(place.what, called, cells, threshold)
    if rows < ROWS:
        return None
    own = sequences.get(place, {}).get(called) if threshold == scores.THRESHOLD else None
    return Rate(hits / rows, own)


def _bounds(rates: Sequence[Rate]) -> tuple[tuple[float | None, float | None], tuple[float | None, float | None]]:
    """Return the bounds of the difference between the highest and the lowest rate, and of lowest over highest."""
    intervals = [rate.confidence.interval(LEVEL / len(rates)) for rate in rates if rate.confidence is not None]
    known = [each for each in intervals if each is not None]
    if len(known) < len(rates):
        return (None, None), (None, None)
    lows, highs = zip(*known, strict=True)
    difference = max(0.0, max(lows) - min(highs)), max(highs) - min(lows)
    ratio = min(lows) / max(highs), min(1.0, min(highs) / max(lows)) if max(lows) > 0 else 1.0
    return difference, ratio
