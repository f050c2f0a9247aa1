"""The changes that the drift detector bets on: each an exponential tilt of a column's reference, as likelihood ratios.

A tilt moves the reference shares p to q = p exp(a f) / z along a direction f (the mean, the spread, a single bin, ...)
by an amplitude a. Its increment of a bin, log(q / p), is what one event there says for the change. Each tilt is lowered
until no distribution in the insensitive zone around the reference gains by it: exp(increment) is at most 1 on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from models.binning import Bins, Numbers

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

GRID = 2.0**-16  # increments are multiples of it: their sums over events are exact, in whatever order they are added
SMOOTHING = 0.5  # events added to every bin of the reference: an empty bin is unlikely, not impossible
NOISE = (
    4.0  # deviations by which a reference of N rows may be off in any direction: the zone is at least NOISE / sqrt(N)
)
RARE = 12.0  # events that a reference may have missed in any bin: -log of the chance that it missed more, 6e-6
MOST = 16.0  # a tilt multiplies no share by more than exp(16) = 9 million before shares are made to sum to 1

_MOVES = (0.03, 0.06, 0.1, 0.15, 0.25, 0.4, 0.7, 1.2)  # amplitudes along directions of mean 0 and variance 1
_SHAPES = (0.05, 0.1, 0.2, 0.4, 0.8)  # the same, of directions that are likely less often
_RATIOS = (1.25, 2.0, 5.0, 20.0, 200.0)  # by which a bin's share grows
_FALLS = (0.8, 0.5, 0.1)  # and falls


@dataclass(frozen=True, slots=True)
class Tilts:
    """The tilts of one column.

    names: of each tilt, for a person. increments: shape (bins, tilts), natural logarithms, multiples of GRID.
    weights: shape (tilts,), what the detector bets on each at first; they sum to 1. shares: shape (bins,), the
    reference's.
    """

    names: tuple[str, ...]
    increments: Floats
    weights: Floats
    shares: Floats


@dataclass(frozen=True, slots=True)
class _Tilt:
    name: str
    direction: Floats
    amplitude: float
    weight: float


def shares_of(counts: Counts) -> Floats:
    """Return the share of each bin, none of them 0."""
    smooth = counts + SMOOTHING
    return np.asarray(smooth / smooth.sum(), np.float64)


def tilts_of(bins: Bins, counts: Counts, zone: float = 0.0) -> Tilts:
    """Return the tilts of a column.

    counts: the reference's events in each bin, missing in the last. zone: radius of the insensitive zone, in standard
    deviations that any direction's mean may be off; never less than what a reference of this size does not know.
    """
    shares, rows = shares_of(counts), max(int(counts.sum()), 1)
    tilts = list(_tilts(bins, shares))
    radius = max(zone, NOISE / np.sqrt(rows))
    columns = [_increments(tilt, shares, radius, RARE / rows) for tilt in tilts]
    weights = np.array([tilt.weight for tilt in tilts])
    return Tilts(tuple(tilt.name for tilt in tilts), np.stack(columns, 1), weights / weights.sum(), shares)


def _increments(tilt: _Tilt, shares: Floats, radius: float, rare: float) -> Floats:
    """Return the log of q / p, less what the zone may gain by it.

    Of shares within the zone no direction's mean is off by more than `radius` of its standard deviations and, because
    few events tell little of a rare bin, another `rare` of its largest value.
    """
    ratios = np.exp(np.clip(tilt.amplitude * tilt.direction, -MOST, MOST))
    ratios /= (shares * ratios).sum()
    spread = np.sqrt((shares * (ratios - 1) ** 2).sum())
    most = 1 + radius * spread + rare * max(float(ratios.max()) - 1, 0.0)
    return np.asarray(np.floor(np.log(ratios / most) / GRID) * GRID, np.float64)


def _tilts(bins: Bins, shares: Floats) -> Iterator[_Tilt]:
    values = shares[:-1] / shares[:-1].sum()  # missing has no place among the values
    if isinstance(bins, Numbers) and len(values) > 1:
        ranks = np.cumsum(values) - values / 2
        normal = np.array([NormalDist().inv_cdf(rank) for rank in ranks])
        yield from _moves("mean", _standard(normal, values), _MOVES, 0.20)
        yield from _moves("spread", _standard(normal**2, values), _MOVES, 0.15)
        yield from _moves("skew", _standard(normal**3 - 3 * normal, values), _SHAPES, 0.05)
        yield from _moves("peaks", _standard(normal**4 - 6 * normal**2, values), _SHAPES, 0.05)
        for wave in range(2, 9):
            yield from _moves(f"wave {wave}", _standard(np.cos(wave * np.pi * ranks), values), _SHAPES, 0.015)
        yield from _steps(bins, shares, values, ranks)
    single = [(bins.label(at), [at]) for at in range(bins.size - 1)]
    for name, places in single:
        yield from _bets(name, places, shares, 0.35 / len(single))
    yield from _bets("missing", [bins.size - 1], shares, 0.10)


def _steps(bins: Numbers, shares: Floats, values: Floats, ranks: Floats) -> Iterator[_Tilt]:
    """Yield tilts of everything below and above the octiles, and of the tail bins together."""
    for octile in range(1, 8):
        step = (ranks > octile / 8).astype(np.float64)
        if 0 < (step * values).sum() < 1:
            yield from _moves(f"above {octile}/8", _standard(step, values), _SHAPES, 0.01)
    tails = min(3, len(values) // 3)
    low, high = list(range(tails)), list(range(len(values) - tails, len(values)))
    for name, places in (("low tail", low), ("high tail", high), ("tails", low + high)):
        if places:
            yield from _bets(name, places, shares, 0.04)


def _standard(direction: Floats, values: Floats) -> Floats:
    """Return the direction with mean 0 and variance 1 under the values' shares, and 0 for missing."""
    centred = direction - (direction * values).sum()
    spread = np.sqrt((centred**2 * values).sum())
    return np.append(centred / spread if spread > 0 else centred, 0.0)


def _moves(name: str, direction: Floats, amplitudes: Sequence[float], weight: float) -> Iterator[_Tilt]:
    """Yield tilts both ways."""
    if not direction.any():
        return
    each = weight / (2 * len(amplitudes))
    for amplitude in amplitudes:
        yield _Tilt(f"{name} +{amplitude:g}", direction, amplitude, each)
        yield _Tilt(f"{name} -{amplitude:g}", direction, -amplitude, each)


def _bets(name: str, places: Sequence[int], shares: Floats, weight: float) -> Iterator[_Tilt]:
    """Yield tilts that multiply the share of some bins; none that leaves less than a tenth for the others."""
    direction = np.zeros(len(shares))
    direction[list(places)] = 1.0
    share = float(shares[list(places)].sum())
    ratios = [ratio for ratio in (*_RATIOS, *_FALLS) if ratio * share <= 0.9 and (ratio > 1 or share > 0.001)]
    for ratio in ratios:
        odds = ratio * (1 - share) / (1 - ratio * share)
        yield _Tilt(f"{name} x{ratio:g}", direction, float(np.log(odds)), weight / len(ratios))
