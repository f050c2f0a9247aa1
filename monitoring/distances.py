"""How far apart two histograms are, as numbers to look at: PSI, Jensen-Shannon, Kolmogorov-Smirnov.

They say how large a difference is, not whether it is more than chance; no alarm depends on them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monitoring.drift import Counts, psi, shares


class Distances(NamedTuple):
    """psi: population stability index, natural logarithms. js: Jensen-Shannon distance, the root of the divergence in
    bits, 0 to 1. ks: largest difference of the distribution functions over the bins in order, missing last, 0 to 1.
    """

    psi: float
    js: float
    ks: float


def distances(expected: Counts, observed: Counts) -> Distances:
    """Return how far apart two histograms over the same bins are; the last bin is `missing`."""
    p, q = shares(expected), shares(observed)
    middle = (p + q) / 2
    divergence = float((p * np.log2(p / middle) + q * np.log2(q / middle)).sum()) / 2
    ks = float(np.abs(np.cumsum(p - q)).max())
    return Distances(psi(expected, observed), max(divergence, 0.0) ** 0.5, min(ks, 1.0))


def told_distances(expected: Counts, observed: Counts) -> str:
    """Return the distances for a person."""
    found = distances(expected, observed)
    return f"PSI {found.psi:.3f}, JS {found.js:.3f}, KS {found.ks:.3f}"
