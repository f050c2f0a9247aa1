"""Tilts bet on changes, and gain nothing on average while a column is within the insensitive zone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from models.binning import Bins
from models.reference import Reference
from monitoring.tilts import GRID, MOST, Floats, Tilts, Zone, shares_of, tilts_of

ROWS = 20_000
MAKERS: dict[str, Callable[[np.random.Generator], pl.Series]] = {
    "normal": lambda rng: pl.Series("x", rng.normal(size=ROWS)),
    "heavy": lambda rng: pl.Series("x", rng.standard_cauchy(ROWS)),
    "few": lambda rng: pl.Series("x", rng.integers(0, 3, ROWS)),
    "constant": lambda rng: pl.Series("x", [1.5] * ROWS),
    "flag": lambda rng: pl.Series("x", rng.random(ROWS) < 0.01),
    "half missing": lambda rng: pl.Series("x", [None if u < 0.5 else u for u in rng.random(ROWS).tolist()]),
    "all missing": lambda rng: pl.Series("x", [None] * ROWS, pl.Float64),
    "category": lambda rng: pl.Series("x", rng.choice(["a", "b", "c"], ROWS, p=[0.7, 0.299, 0.001])),
    "many categories": lambda rng: pl.Series("x", [f"c{each}" for each in rng.zipf(1.3, ROWS) % 500]),
}


def _column(kind: str) -> tuple[Bins, np.ndarray]:
    rng = np.random.default_rng(7)
    frame = pl.DataFrame([MAKERS[kind](rng)]).with_columns(pl.lit(1.0).alias("other"))
    reference = Reference.from_frame(frame)
    part = reference.slices[0]
    return part.bins, reference.tally.cells[part.start : part.end]


def _gain(increments: Floats, shares: Floats) -> float:
    """The largest mean of exp(increment) over the tilts."""
    return float((shares[:, None] * np.exp(increments)).sum(axis=0).max())


def _edge_of_zone(tilts: Tilts, radius: float, rng: np.random.Generator) -> Floats:
    """Shares at a distance of `radius` standard deviations from the reference, in a direction of a tilt's gain."""
    at = int(rng.integers(len(tilts.names)))
    gain = np.exp(tilts.increments[:, at])
    centred = gain - (tilts.shares * gain).sum()
    spread = np.sqrt((tilts.shares * centred**2).sum())
    return np.clip(tilts.shares * (1 + radius * centred / spread), 0, None)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("zone", [0.0, 0.1])
def test_no_tilt_gains_on_average_within_the_zone(kind: str, zone: float) -> None:
    tilts, rng = tilts_of(*_column(kind), Zone(zone)), np.random.default_rng(1)
    radius = max(zone, 4 / np.sqrt(ROWS))
    assert _gain(tilts.increments, tilts.shares) <= 1
    for _ in range(200):
        shares = _edge_of_zone(tilts, radius, rng)
        if abs(shares.sum() - 1) < 1e-9:  # else a share would have to be negative
            assert _gain(tilts.increments, shares) <= 1


def test_the_check_fails_outside_the_zone_and_without_it() -> None:
    bins, counts = _column("normal")
    tilts, rng = tilts_of(bins, counts), np.random.default_rng(1)
    far = [_gain(tilts.increments, _edge_of_zone(tilts, 0.1, rng)) for _ in range(200)]
    assert max(far) > 1
    certain = tilts_of(bins, counts * 10**9)
    near = [_gain(certain.increments, _edge_of_zone(tilts, 4 / np.sqrt(ROWS), rng)) for _ in range(200)]
    assert max(near) > 1


@pytest.mark.parametrize("kind", MAKERS)
def test_a_reference_that_was_drawn_from_the_truth_is_within_its_own_zone(kind: str) -> None:
    bins, counts = _column(kind)
    truth, rng = shares_of(counts), np.random.default_rng(3)
    for _ in range(20):
        tilts = tilts_of(bins, rng.multinomial(5_000, truth / truth.sum()).astype(np.int64))
        assert _gain(tilts.increments, truth) <= 1


@pytest.mark.parametrize("kind", MAKERS)
def test_increments_are_exact_and_bounded_and_weights_sum_to_one(kind: str) -> None:
    bins, counts = _column(kind)
    tilts = tilts_of(bins, counts)
    assert tilts.increments.shape == (bins.size, len(tilts.names))
    assert (tilts.increments / GRID == np.round(tilts.increments / GRID)).all()
    assert np.abs(tilts.increments).max() <= 32
    assert len(set(tilts.names)) == len(tilts.names)
    assert tilts.weights.sum() == pytest.approx(1)
    assert (tilts.weights > 0).all()


@pytest.mark.parametrize("kind", MAKERS)
def test_no_tilt_gains_where_some_events_may_lie_anywhere(kind: str) -> None:
    tilts, rng = tilts_of(*_column(kind), Zone(shares=0.02)), np.random.default_rng(1)
    assert _gain(tilts.increments, tilts.shares) <= 1
    for _ in range(50):
        anywhere = rng.dirichlet(np.full(len(tilts.shares), 0.05))
        assert _gain(tilts.increments, 0.98 * tilts.shares + 0.02 * anywhere) <= 1
    without = tilts_of(*_column(kind))
    worst = np.eye(len(tilts.shares))
    assert max(_gain(without.increments, 0.98 * tilts.shares + 0.02 * each) for each in worst) > 1


def test_a_direction_may_have_a_zone_of_its_own() -> None:
    tilts = tilts_of(*_column("normal"))
    radius = np.full(tilts.directions.shape[1], 0.01)
    radius[tilts.along[tilts.names.index("mean +0.1")]] = 0.3
    wide, narrow = (tilts.under(tilts.shares, each, 0.0).increments for each in (radius, radius * 0 + 0.01))
    mean, spread = (tilts.along == tilts.along[tilts.names.index(name)] for name in ("mean +0.1", "spread +0.1"))
    assert (wide[:, mean] < narrow[:, mean]).all()
    assert (wide[:, spread] == narrow[:, spread]).all()


def test_tilts_of_one_direction_share_it_and_differ_by_amplitude_only() -> None:
    tilts = tilts_of(*_column("normal"))
    for at in range(tilts.directions.shape[1]):
        steps = np.abs(tilts.directions[:, [at]] * tilts.amplitudes)
        own = np.flatnonzero((tilts.along == at) & (steps.max(axis=0) < MOST))
        assert (tilts.along == at).any()
        centred = tilts.increments[:, own] - tilts.increments[:, own].mean(axis=0)
        direction = tilts.directions[:, at] - tilts.directions[:, at].mean()
        assert np.allclose(centred, direction[:, None] * tilts.amplitudes[own], atol=1e-3)
