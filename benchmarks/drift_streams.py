"""What `scripts/bench drift` feeds detectors: columns with references of their own, streams without a change, stories.

A stream yields the values of a tick, shape (columns, events), NaN where one is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.binning import Numbers
from models.reference import Reference, Tally

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Level = Callable[[Floats], Floats]

MISSING = 0.01  # share of events without a value
BUMP = 0.9  # distance of two bumps from the mean of both, in standard deviations
DAY = 1440  # ticks of a minute
SWING = 0.5  # standard deviations by which a day moves the mean up and down
CORRELATION = 0.9  # of an event with the next one
BURST = 5.0  # events that are alike, on average


@dataclass(frozen=True, slots=True)
class Story:
    """A change of a standard normal column. target: events until half of the seeds have found it, at most."""

    change: Callable[[Floats, np.random.Generator], Floats]
    target: int
    missing: float = MISSING


def _bumps(x: Floats, rng: np.random.Generator) -> Floats:
    """Return two bumps with the mean and the variance of x."""
    return np.asarray(np.where(rng.random(x.shape) < 0.5, BUMP, -BUMP) + np.sqrt(1 - BUMP**2) * x)


STORIES = {
    "mean +0.1 sd": Story(lambda x, _: x + 0.1, 6_000),
    "mean +0.25 sd": Story(lambda x, _: x + 0.25, 1_000),
    "spread x1.2": Story(lambda x, _: x * 1.2, 1_000),
    "missing 1 to 2 %": Story(lambda x, _: x, 10_500, 0.02),
    "two bumps, same mean and variance": Story(_bumps, 1_300),
    "1 % of values x100": Story(lambda x, rng: np.where(rng.random(x.shape) < 0.01, x * 100, x), 1_400),
}


@dataclass(frozen=True)
class Columns:
    """Some columns, each with the reference of a seed of its own; `reference` holds them all."""

    reference: Reference
    edges: tuple[Floats, ...]

    @classmethod
    def drawn(
        cls, count: int, rows: int, first: int = 1_000, level: Callable[[Floats], Floats] | None = None
    ) -> Columns:
        """Return columns of seeds from `first` on. level: of the mean, by the time of a row as a share of the day."""
        parts, cells, edges = [], [], []
        for seed in range(first, first + count):
            rng = np.random.default_rng(seed)
            values = draw(rng, 1, rows)[0]
            if level is not None:
                values += level(rng.random(rows))
            one = Reference.from_frame(pl.Series(f"x{seed}", values).fill_nan(None).to_frame())
            (bins,) = one.features
            assert isinstance(bins, Numbers)
            parts.append(bins)
            cells.append(one.tally.cells)
            edges.append(np.array(bins.edges))
        return cls(Reference(tuple(parts), (), Tally(rows, np.concatenate(cells))), tuple(edges))

    def __len__(self) -> int:
        return len(self.edges)

    def tally(self, values: Floats) -> Tally:
        """Return how many values lie in each bin; NaN is missing."""
        counted = []
        for edges, own in zip(self.edges, values, strict=True):
            places = np.where(np.isnan(own), len(edges) + 1, np.searchsorted(edges, own, side="right"))
            counted.append(np.bincount(places, minlength=len(edges) + 2))
        return Tally(values.shape[1], np.concatenate(counted))


def draw(rng: np.random.Generator, columns: int, rows: int, story: Story | None = None) -> Floats:
    """Return independent values, shape (columns, rows), NaN where one is missing."""
    values = rng.normal(size=(columns, rows))
    if story is not None:
        values = story.change(values, rng)
    return _holes(values, rng, MISSING if story is None else story.missing)


def _holes(values: Floats, rng: np.random.Generator, share: float) -> Floats:
    values[rng.random(values.shape) < share] = np.nan
    return values


def independent(rng: np.random.Generator, columns: int, events: int) -> Iterator[Floats]:
    """Yield ticks of independent events."""
    while True:
        yield draw(rng, columns, events)


def autocorrelated(rng: np.random.Generator, columns: int, events: int) -> Iterator[Floats]:
    """Yield ticks of an autoregression of first order, which goes on from tick to tick."""
    level, fresh = rng.normal(size=columns), np.sqrt(1 - CORRELATION**2)
    while True:
        values = rng.normal(size=(columns, events)) * fresh
        for at in range(events):
            values[:, at] += CORRELATION * level
            level = values[:, at].copy()
        yield _holes(values, rng, MISSING)


def bursty(rng: np.random.Generator, columns: int, events: int) -> Iterator[Floats]:
    """Yield ticks of bursts of alike events, whose sizes are geometric."""
    rows = np.arange(columns)[:, None]
    while True:
        ends = np.cumsum(rng.geometric(1 / BURST, size=(columns, events)), axis=1)
        places = np.stack([np.searchsorted(own, np.arange(events), side="right") for own in ends])
        yield draw(rng, columns, events)[rows, places]


def level_of(time: Any) -> Any:
    """The mean at a time, as a share of the day."""
    return SWING * np.sin(2 * np.pi * time)


def seasonal(rng: np.random.Generator, columns: int, events: int) -> Iterator[Floats]:
    """Yield ticks of a minute whose mean moves with the time of the day; each day is a little higher or lower."""
    minute, other = 0, np.zeros((columns, 1))
    while True:
        if minute % DAY == 0:
            other = rng.normal(scale=0.01, size=(columns, 1))
        yield draw(rng, columns, events) + level_of(minute % DAY / DAY) + other
        minute += 1


Stream = Callable[[np.random.Generator, int, int], Iterator[Floats]]
NULLS: dict[str, Stream] = {
    "independent": independent,
    "autocorrelated": autocorrelated,
    "bursty": bursty,
    "seasonal": seasonal,
}
