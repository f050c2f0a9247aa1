"""Has a version become worse, or do two arms differ more? The e-detector on how wrong predictions are, tick by tick.

Right and wrong of a class, the size of a number's error, the distance of two arms' predictions of one event: each is
compared with what is usual, which is declared or learned from the first ones. Only towards more is looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from models.binning import Numbers
from models.reference import Reference, Tally
from monitoring import judging, scores
from monitoring.alerts import Explanation, Finding
from monitoring.settings import Settings
from monitoring.tilts import Tilts, Zone, tilts_of
from monitoring.watch import Watch

FIRST = 2000  # labelled events that say how good a version is
QUANTILES = (0.5, 0.8, 0.95, 0.99)  # of sizes at first, above each of which there may come to be more
DECLARED = 10_000_000  # events as which a declared share counts: it is known, not seen
NAME = "wrong predictions"
ACCURACY, SCORES, ERRORS = "accuracy", "scores", "errors"
AGREEMENT, DIFFERENCES = "agreement", "differences"
CLASSES = (ACCURACY, AGREEMENT)  # measures of which every event is right or wrong
BETWEEN = (AGREEMENT, DIFFERENCES)  # measures of two arms
Sizes = dict[float, int]  # how many predictions are so wrong


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual. errors: share of predictions that are wrong, where that is declared. first: events that else say
    so. worse: by how much any share may be larger without an alarm.
    """

    errors: float | None = None
    first: int = FIRST
    worse: float = 0.0

    def zone(self, share: float) -> Zone:
        """Return what is not looked for: so many events may lie anywhere that a share below this grows by `worse`."""
        return Zone(shares=min(self.worse / (1 - share), 0.5) if share < 1 else 0.5)


@dataclass(slots=True)
class Outcomes:
    """The state of one measure of a version, of all its events or one value of a segment.

    first: counts by size until there are enough. bounds: sizes above which there may come to be more. reference: counts
    between these, as usual.
    """

    tick_ms: int
    settings: Settings
    measure: str
    usual: Usual = Usual()
    first: dict[str, int] = field(default_factory=dict)
    bounds: tuple[float, ...] = ()
    reference: tuple[int, ...] = ()
    watch: Watch | None = None

    def __post_init__(self) -> None:
        if self.measure == ACCURACY and self.usual.errors is not None and not self.reference:
            wrong = round(self.usual.errors * DECLARED)
            self.bounds, self.reference = (0.0,), (DECLARED - wrong, wrong)
        if self.reference:
            self._begin()

    def update(self, tick: int, sizes: Mapping[float, int]) -> Iterator[Finding]:
        """Take a tick's sizes; yield what is found. Corrections that take away more than came are left out."""
        sizes = {size: count for size, count in sizes.items() if count > 0}
        if not sizes:
            return
        if self.watch is None:
            for size, count in sizes.items():
                self.first[repr(size)] = self.first.get(repr(size), 0) + count
            self._learn()
            return
        cells = np.append(self._counted(sizes), 0)  # none is missing
        for verdict in self.watch.update(tick, Tally(int(cells.sum()), cells)):
            yield replace(verdict.finding, explain=self._explain(verdict.finding))

    def _learn(self) -> None:
        sizes = {float(size): count for size, count in self.first.items()}
        if sum(sizes.values()) < self.usual.first:
            return
        self.bounds = (0.0,) if self.measure in CLASSES else _quantiles(sizes)
        self.reference, self.first = tuple(self._counted(sizes).tolist()), {}
        self._begin()

    def _counted(self, sizes: Mapping[float, int]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return how many are up to the first bound, from there up to the second, ... and above the last."""
        places = np.searchsorted(self.bounds, list(sizes), side="left")
        found = np.zeros(len(self.bounds) + 1, np.int64)
        np.add.at(found, places, list(sizes.values()))
        return found

    def _begin(self) -> None:
        bins = Numbers(NAME, None, tuple(at + 0.5 for at in range(len(self.bounds))))
        cells = np.append(np.array(self.reference, np.int64), 0)
        reference = Reference((), (bins,), Tally(int(cells.sum()), cells))
        column = _worse(tilts_of(bins, cells, self.usual.zone(float(cells[1:].sum() / cells.sum()))))
        self.watch = Watch(reference, (column,), self.tick_ms, self.settings)

    def _explain(self, finding: Finding) -> Callable[[], Explanation]:
        def explain() -> Explanation:
            assert self.watch is not None
            expected, observed = self.watch.seen(0, finding.start // self.tick_ms)
            usual, now = (np.cumsum(each[-2::-1])[-2::-1] / max(int(each.sum()), 1) for each in (expected, observed))
            words = _words(self.measure, self.bounds)
            shares = sorted(
                zip(words, map(float, usual), map(float, now), strict=True), key=lambda each: each[1] - each[2]
            )
            evidence = [{"bin": w, "expected": round(p, 6), "observed": round(q, 6)} for w, p, q in shares]
            word, before, after = shares[0]
            return Explanation(f"{word} in {after:.2%} of events, {before:.2%} is usual", evidence)

        return explain

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {
            "measure": self.measure,
            "first": self.first,
            "bounds": list(self.bounds),
            "reference": list(self.reference),
            "watch": None if self.watch is None else self.watch.dump(),
        }

    @classmethod
    def load(cls, tick_ms: int, settings: Settings, usual: Usual, document: Mapping[str, Any]) -> Outcomes:
        """Return what was dumped. Raises SnapshotInvalid."""
        bounds, reference = tuple(document["bounds"]), tuple(document["reference"])
        found = cls(tick_ms, settings, document["measure"], usual, document["first"], bounds, reference)
        if document["watch"] is not None and found.watch is not None:
            found.watch.load(document["watch"])
        return found


def measured(what: str, cells: Mapping[int, int]) -> Iterator[tuple[str, Sizes]]:
    """Yield how wrong predictions of a tick are, or how far apart, by each measure of their cells."""
    if what in ("binary", "multiclass"):
        share = scores.shares_of(what, cells)["accuracy"]
        yield ACCURACY, {0.0: int(share.total), 1.0: share.rows - int(share.total)}
        if what == "binary":
            yield SCORES, _misses(cells)
    elif what == "regression":
        yield ERRORS, _errors(cells)
    elif what == "divergence":
        apart = {**_errors(cells), **_differences(cells)}
        if apart:
            yield DIFFERENCES, apart
        if judging.DISTANCE not in cells:
            yield AGREEMENT, {0.0: cells.get(judging.AGREES, 0), 1.0: cells.get(judging.DIFFERS, 0)}


def _misses(cells: Mapping[int, int]) -> Sizes:
    """Return how far scores of a binary task are from the truth, by the middles of their bins."""
    found: Sizes = {}
    for cell, count in cells.items():
        at, true = divmod(cell, 2)
        if at <= judging.TOP:
            score = 0.0 if at == 0 else 1.0 if at == judging.TOP else (at - 0.5) / judging.BINS
            found[abs(score - true)] = found.get(abs(score - true), 0) + count
    return found


def _errors(cells: Mapping[int, int]) -> Sizes:
    found: Sizes = {}
    for cell, count in cells.items():
        if cell >= judging.ERRORS:
            size = judging.error_size(cell) * 2**0.5  # the upper end of what the cell counts
            found[size] = found.get(size, 0) + count
    return found


def _differences(cells: Mapping[int, int]) -> Sizes:
    """Return the sizes of differences of scores, in multiples of the width of a bin of scores."""
    found: Sizes = {}
    for place in range(-judging.BINS, judging.BINS + 1):
        if count := cells.get(judging.DIFFERENCE + judging.BINS + place, 0):
            size = abs(place) / judging.BINS
            found[size] = found.get(size, 0) + count
    return found


def _quantiles(sizes: Mapping[float, int]) -> tuple[float, ...]:
    """Return the bounds: quantiles, and the largest size, above which there was none."""
    ordered = sorted(sizes)
    below = np.cumsum([sizes[size] for size in ordered])
    found = {ordered[int(np.searchsorted(below, share * below[-1]))] for share in QUANTILES}
    return tuple(sorted(found | {ordered[-1]}))


def _worse(tilts: Tilts) -> Tilts:
    """Return the tilts that grow with the size: what is nowhere larger than usual gains nothing on them."""
    values = tilts.increments[:-1]
    chosen = np.flatnonzero((np.diff(values, axis=0) >= 0).all(axis=0) & (values[-1] > np.maximum(values[0], 0)))
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


def _words(measure: str, bounds: tuple[float, ...]) -> list[str]:
    if measure in CLASSES:
        return ["wrong" if measure == ACCURACY else "another class"]
    what = {ERRORS: "error", SCORES: "distance of score and truth"}.get(measure, "difference")
    return [f"{what} above {bound:.4g}" for bound in bounds]
