"""The changes that the drift detector bets on: each an exponential tilt of a column's reference, as likelihood ratios.

A tilt moves the reference shares p to q = p exp(a f) / z along a direction f (the mean, the spread, a single bin, ...)
by an amplitude a. Its increment of a bin, log(q / p), is what one event there says for the change. Each tilt is lowered
until no distribution in the insensitive zone around the reference gains by it: exp(increment) is at most 1 on average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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

    names: of each tilt, for a person. weights: shape (tilts,), what the detector bets on each at first; they sum to 1.
    directions: shape (bins, directions), multiples of GRID. along, amplitudes: shape (tilts,), the direction of each
    tilt and how far it goes. shares: shape (bins,), the reference's. increments: shape (bins, tilts), natural
    logarithms, multiples of GRID. steepness: shape (tilts,), the largest increment of each tilt, at least 0.
    """

    names: tuple[str, ...]
    weights: Floats
    directions: Floats
    along: Counts
    amplitudes: Floats
    shares: Floats
    increments: Floats
    steepness: Floats

    def under(self, shares: Floats, radius: Floats, rare: float) -> Tilts:
        """Return the same tilts of another reference.

        shares: its, shape (bins,). radius: shape (directions,), standard deviations that the mean of each direction may
        be off by. rare: share of events that may lie anywhere. Increments are lowered until no such distribution gains.
        """
        powers = np.clip(self.directions[:, self.along] * self.amplitudes, -MOST, MOST)
        ratios = np.exp(powers)
        ratios /= shares @ ratios
        spread = np.sqrt(shares @ (ratios - 1) ** 2)
        most = 1 + radius[self.along] * spread + rare * np.maximum(ratios.max(axis=0) - 1, 0.0)
        increments = np.floor(np.log(ratios / most) / GRID) * GRID
        return replace(self, shares=shares, increments=increments, steepness=np.maximum(increments.max(axis=0), 0.0))

    @property
    def variances(self) -> Floats:
        """Of each direction, under the reference."""
        return np.asarray(self.shares @ (self.directions - self.shares @ self.directions) ** 2, np.float64)


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


@dataclass(frozen=True, slots=True)
class Zone:
    """What is not looked for; never less than what a reference of its size does not know.

    deviations: the mean of any direction may be off by so many of its standard deviations. shares: so many events may
    lie anywhere.
    """

    deviations: float = 0.0
    shares: float = 0.0

    def radius(self, rows: float) -> float:
        """Return the deviations that are not looked for with a reference of so many events."""
        return max(self.deviations, NOISE / float(np.sqrt(rows)))

    def rare(self, rows: float) -> float:
        """Return the share of events that may lie anywhere with a reference of so many events."""
        return max(self.shares, RARE / rows)


def tilts_of(bins: Bins, counts: Counts, zone: Zone | None = None) -> Tilts:
    """Return the tilts of a column. counts: the reference's events in each bin, missing in the last."""
    shares, rows, zone = shares_of(counts), max(int(counts.sum()), 1), zone or Zone()
    tilts = list(_tilts(bins, shares))
    directions, along = _directions(tilts)
    weights, nothing = np.array([tilt.weight for tilt in tilts]), np.zeros((0, 0))
    found = Tilts(
        names=tuple(tilt.name for tilt in tilts),
        weights=weights / weights.sum(),
        directions=directions,
        along=along,
        amplitudes=np.array([tilt.amplitude for tilt in tilts]),
        shares=shares,
        increments=nothing,
        steepness=nothing,
    )
    return found.under(shares, np.full(directions.shape[1], zone.radius(rows)), zone.rare(rows))


def _directions(tilts: Sequence[_Tilt]) -> tuple[Floats, Counts]:
    """Return the different directions, and which one each tilt is along."""
    places: dict[bytes, int] = {}
    kept: list[Floats] = []
    along = []
    for tilt in tilts:
        direction = np.round(tilt.direction / GRID) * GRID
        if direction.tobytes() not in places:
            places[direction.tobytes()] = len(kept)
            kept.append(direction)
        along.append(places[direction.tobytes()])
    return np.stack(kept, 1), np.array(along, np.int64)


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
