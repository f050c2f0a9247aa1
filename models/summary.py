"""A reference profile in words: what training data and scores looked like, column by column, for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.binning import Bins, Categories, Numbers, edge_told
from models.reference import Counts, Reference

BODY = (0.05, 0.95)
FREQUENT = 3  # categories that are named


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """kind: feature or output. type: number or category. missing: share of the rows, 0 to 1. values: in words."""

    kind: str
    name: str
    type: str
    missing: float
    values: str


def summary_of(reference: Reference) -> list[ColumnSummary]:
    """Return what the reference says of each column, features first."""
    found = []
    for part in reference.slices:
        counts = reference.tally.cells[part.start : part.end]
        kind = "category" if isinstance(part.bins, Categories) else "number"
        missing = int(counts[-1]) / max(reference.tally.rows, 1)
        found.append(ColumnSummary(part.kind, part.name, kind, missing, _values(part.bins, counts)))
    return found


def _values(bins: Bins, counts: Counts) -> str:
    present = int(counts[:-1].sum())
    if not present:
        return "none"
    if isinstance(bins, Numbers):
        low, middle, high = (_bin(counts[:-1], share) for share in (BODY[0], 0.5, BODY[1]))
        return f"90 % in {_from(bins, low)} .. {_to(bins, high)}, median in {bins.label(middle)}"
    return _frequent(bins, counts[:-1].tolist(), present)


def _bin(counts: Counts, share: float) -> int:
    """Return the bin in which this share of the values is reached."""
    return int(np.searchsorted(np.cumsum(counts), share * counts.sum()))


def _from(bins: Numbers, at: int) -> str:
    return edge_told(bins.edges[at - 1]) if at else f"below {edge_told(bins.edges[0])}"


def _to(bins: Numbers, at: int) -> str:
    return edge_told(bins.edges[at]) if at < len(bins.edges) else f"above {edge_told(bins.edges[-1])}"


def _frequent(bins: Categories, counts: Sequence[int], present: int) -> str:
    """Return the most frequent categories with their shares; bins stand in the order of frequency."""
    shown = min(bins.own, FREQUENT)
    said = [f"{bins.label(at)} {counts[at] / present:.1%}" for at in range(shown)]
    others = present - sum(counts[:shown])
    if others:
        said.append(f"{len(bins.values) - shown} others {others / present:.1%}")
    return ", ".join(said)
