"""Has a version become worse? The e-detector on right and wrong, against the version's own first labelled events.

It bets only on more wrong predictions. A number is wrong where its error is larger than four of five were at first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from models.binning import Numbers
from models.reference import Reference, Tally
from monitoring import judging, scores
from monitoring.alerts import Finding
from monitoring.settings import Settings
from monitoring.tilts import Tilts, tilts_of
from monitoring.watch import Watch

FIRST = 2000  # labelled events that say how good a version is
QUANTILE = 0.8
NAME = "wrong predictions"


@dataclass(slots=True)
class Outcomes:
    """The state of one version, of all its events or one value of a segment. first: counts by outcome or size."""

    tick_ms: int
    settings: Settings
    what: str = ""
    first: dict[str, int] = field(default_factory=dict)
    bound: float = 0.0  # the largest error of a number that counts as right
    reference: tuple[int, int] | None = None  # right, wrong at first
    watch: Watch | None = None

    def update(self, tick: int, what: str, cells: Mapping[int, int]) -> Iterator[Finding]:
        """Take a tick's cells; yield what is found. Corrections that take away more than came are left out."""
        sizes = {size: count for size, count in _sizes(what, cells).items() if count > 0}
        if self.what not in ("", what) or not sizes:
            return
        self.what = what
        if self.watch is None:
            for size, count in sizes.items():
                self.first[repr(size)] = self.first.get(repr(size), 0) + count
            self._begin()
            return
        right = sum(count for size, count in sizes.items() if size <= self.bound)
        wrong = sum(sizes.values()) - right
        for verdict in self.watch.update(tick, Tally(right + wrong, np.array([right, wrong, 0], np.int64))):
            yield verdict.finding

    def _begin(self) -> None:
        sizes = sorted((float(size), count) for size, count in self.first.items())
        total = sum(count for _, count in sizes)
        if total < FIRST:
            return
        if self.what == "regression":
            below = np.cumsum([count for _, count in sizes])
            self.bound = sizes[int(np.searchsorted(below, QUANTILE * total))][0]
        right = sum(count for size, count in sizes if size <= self.bound)
        self.reference, self.first = (right, total - right), {}
        self._watch()

    def _watch(self) -> None:
        assert self.reference is not None
        right, wrong = self.reference
        bins = Numbers(NAME, None, (0.5,))
        reference = Reference((), (bins,), Tally(right + wrong, np.array([right, wrong, 0], np.int64)))
        column = _worse(tilts_of(bins, reference.tally.cells))
        self.watch = Watch(reference, (column,), self.tick_ms, self.settings)

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "what": self.what,
            "first": self.first,
            "bound": self.bound,
            "reference": self.reference,
            "watch": None if self.watch is None else self.watch.dump(),
        }

    @classmethod
    def load(cls, tick_ms: int, settings: Settings, document: Mapping[str, Any]) -> Outcomes:
        """Return what was dumped. Raises SnapshotInvalid."""
        found = cls(tick_ms, settings, document["what"], document["first"], document["bound"])
        if document["reference"] is not None:
            right, wrong = document["reference"]
            found.reference = right, wrong
            found._watch()
            assert found.watch is not None
            found.watch.load(document["watch"])
        return found


def _worse(tilts: Tilts) -> Tilts:
    """Return the tilts under which more is wrong."""
    chosen = np.flatnonzero((tilts.increments[1] > tilts.increments[0]) & (tilts.increments[1] > 0))
    weights = tilts.weights[chosen]
    return replace(
        tilts,
        names=tuple(tilts.names[at] for at in chosen.tolist()),
        weights=weights / weights.sum(),
        along=tilts.along[chosen],
        amplitudes=tilts.amplitudes[chosen],
        increments=tilts.increments[:, chosen],
        steepness=tilts.steepness[chosen],
    )


def _sizes(what: str, cells: Mapping[int, int]) -> dict[float, int]:
    """Return counts by how wrong: 0 and 1, or the size of a number's error."""
    if what == "regression":
        found: dict[float, int] = {}
        for cell, count in cells.items():
            if cell >= judging.ERRORS:
                size = judging.error_size(cell)
                found[size] = found.get(size, 0) + count
        return found
    share = scores.shares_of(what, cells).get("accuracy")
    return {} if share is None else {0.0: int(share.total), 1.0: share.rows - int(share.total)}
