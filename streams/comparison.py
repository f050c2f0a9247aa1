"""How inferences of the same events differ: a new version's beside what was published then. Pure, block by block."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models import frames
from streams.inferences import Output
from streams.quantiles import Quantiles

AT = ["partition", "offset"]
THEN = "_then"
Matrix = npt.NDArray[np.float64]
Maker = tuple[str, str, str]  # arm, model, version


class Moments:
    """Means, variances and the correlation of pairs, merged block by block without loss of digits."""

    def __init__(self) -> None:
        self.count = 0
        self.means = np.zeros(2)
        self._products = np.zeros((2, 2))

    def add(self, now: npt.NDArray[np.float64], then: npt.NDArray[np.float64]) -> None:
        """Count pairs of finite numbers; both of shape (n,)."""
        count = len(now)
        if not count:
            return
        pairs = np.stack([now, then])
        means = pairs.mean(axis=1)
        centred = pairs - means[:, None]
        delta, total = means - self.means, self.count + count
        self._products += centred @ centred.T + np.outer(delta, delta) * (self.count * count / total)
        self.means = self.means + delta * (count / total)
        self.count = total

    @property
    def correlation(self) -> float | None:
        """Pearson's; None where either side is always the same."""
        spread = self._products[0, 0] * self._products[1, 1]
        return float(self._products[0, 1] / math.sqrt(spread)) if spread > 0 else None


class Difference:
    """How one output differs. Of a list, an event's difference is the largest of its places.

    pairs: events of which both have the output, in forms that can be compared. changed: those that differ by more than
    the tolerance, or decide otherwise where the output has no numbers. incomparable: one has no number there, or
    another number of places. agreed: events for which both decide the same.
    """

    def __init__(self, output: Output, tolerance: float) -> None:
        self.output, self._tolerance = output, tolerance
        self.pairs = self.changed = self.incomparable = self.agreed = 0
        self.moments, self.sizes = Moments(), Quantiles()
        self._signed = self._absolute = 0.0

    def add(self, now: pl.Series, then: pl.Series) -> npt.NDArray[np.float64]:
        """Compare pairs; return by how much each differs, shape (n,): nan where that cannot be said."""
        here, there = now.is_not_null().to_numpy(), then.is_not_null().to_numpy()
        if self.output.kind == "label":
            both = here & there
            same = now.eq(then).fill_null(False).to_numpy()
            self._decide(same[both])
            self.incomparable += int((here ^ there).sum())
            self.changed += int((both & ~same).sum())
            return np.where(both, (~same).astype(np.float64), np.nan)
        sizes = np.full(len(now), np.nan)
        for rows, one, other in _matrices(now, then, here & there):
            sizes[rows] = self._compare(one, other)
        self.incomparable += int((np.isnan(sizes) & (here | there)).sum())
        return sizes

    def _decide(self, same: npt.NDArray[np.bool_]) -> None:
        self.pairs += len(same)
        self.agreed += int(same.sum())

    def _compare(self, now: Matrix, then: Matrix) -> npt.NDArray[np.float64]:
        """Compare rows of as many places; shape (n, places)."""
        with np.errstate(invalid="ignore"):
            equal = (now == then) | (np.isnan(now) & np.isnan(then))
            gaps = np.where(equal, 0.0, now - then)
        known = np.isfinite(gaps).all(axis=1)
        gaps = gaps[known]
        largest = np.abs(gaps).max(axis=1, initial=0.0)
        self.pairs += len(gaps)
        self.sizes.add(largest)
        self.changed += int((largest > self._tolerance).sum())
        self._signed += float(gaps.mean(axis=1).sum()) if gaps.size else 0.0
        self._absolute += float(np.abs(gaps).mean(axis=1).sum()) if gaps.size else 0.0
        finite = np.isfinite(now).all(axis=1) & np.isfinite(then).all(axis=1)
        self.moments.add(now[finite].reshape(-1), then[finite].reshape(-1))
        if self.output.classes and now.size:
            self.agreed += int((now[known].argmax(axis=1) == then[known].argmax(axis=1)).sum())
        found = np.full(len(now), np.nan)
        found[known] = largest
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the figures; without any pair, those that need one are None."""
        some = self.pairs or None
        found: dict[str, Any] = {
            "pairs": self.pairs,
            "incomparable": self.incomparable,
            "changed": self.changed,
            "changed_share": some and self.changed / some,
        }
        if self.output.decides:
            found |= {"agreed": self.agreed, "agreed_share": some and self.agreed / some}
        if self.output.kind != "label":
            counted = bool(self.moments.count)
            found |= {
                "mean": float(self.moments.means[0]) if counted else None,
                "mean_then": float(self.moments.means[1]) if counted else None,
                "mean_difference": some and self._signed / some,
                "mean_absolute_difference": some and self._absolute / some,
                "p50": some and self.sizes.quantile(0.5),
                "p95": some and self.sizes.quantile(0.95),
                "max": some and self.sizes.max,
                "correlation": self.moments.correlation,
            }
        return found


@dataclass(slots=True)
class Beside:
    """What was published by one maker then. paired: events that both have; only_then: that the new version has not.

    twice: inferences of events that the same maker had scored before, which are not compared.
    """

    differences: list[Difference]
    paired: int = 0
    only_then: int = 0
    twice: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Worst:
    """An event that differs much. size: its largest difference in any output."""

    size: float
    partition: int
    offset: int
    key: bytes | None = field(compare=False)
    maker: Maker = field(compare=False)
    now: Mapping[str, Any] = field(compare=False)
    then: Mapping[str, Any] = field(compare=False)


class Comparison:
    """Of new inferences with those of then, by maker.

    tolerance: differences up to it are none. most: how many of the events that differ most are kept. paired, only_now,
    only_then: events. twice: new inferences of events that have one already, which is never right.
    """

    def __init__(self, outputs: Sequence[Output], tolerance: float = 0.0, most: int = 10) -> None:
        self.outputs, self.tolerance, self._most = list(outputs), tolerance, most
        self.paired = self.only_now = self.only_then = self.twice = 0
        self.beside: dict[Maker, Beside] = {}
        self._worst: list[Worst] = []

    def add(self, now: pl.DataFrame | None, then: pl.DataFrame | None) -> None:
        """Compare a block of events: frames as `streams.inferences.InferenceReader` gives them."""
        if now is not None:
            once = now.unique(AT, keep="first", maintain_order=True)
            self.twice += len(now) - len(once)
            now = once
        if then is None:
            self.only_now += 0 if now is None else len(now)
            return
        events = then.select(AT).unique()
        if now is None:
            self.only_then += len(events)
        else:
            both = len(now.join(events, on=AT, how="semi"))
            self.paired += both
            self.only_now += len(now) - both
            self.only_then += len(events) - both
        for key, rows in then.partition_by(["arm", "model", "version"], as_dict=True).items():
            self._add_maker((str(key[0]), str(key[1]), str(key[2])), now, rows)

    def _add_maker(self, maker: Maker, now: pl.DataFrame | None, then: pl.DataFrame) -> None:
        if maker not in self.beside:
            self.beside[maker] = Beside([Difference(output, self.tolerance) for output in self.outputs])
        beside = self.beside[maker]
        once = then.unique(AT, keep="first", maintain_order=True)
        beside.twice += len(then) - len(once)
        pairs = None if now is None else now.join(once, on=AT, how="inner", suffix=THEN)
        count = 0 if pairs is None else len(pairs)
        beside.paired += count
        beside.only_then += len(once) - count
        if pairs is None or not count:
            return
        sizes = np.zeros(count)
        for difference in beside.differences:
            column = difference.output.column
            found = difference.add(pairs[column], pairs[column + THEN])
            sizes = np.fmax(sizes, found)
        self._keep(maker, pairs, sizes)

    def _keep(self, maker: Maker, pairs: pl.DataFrame, sizes: npt.NDArray[np.float64]) -> None:
        """Keep those that differ most."""
        if not self._most:
            return
        first = max(0, len(sizes) - self._most)
        rows = np.argpartition(sizes, first)[first:] if first else np.arange(len(sizes))
        for row in rows[sizes[rows] > self.tolerance].tolist():
            cells = pairs.row(row, named=True)
            now = {each.name: cells[each.column] for each in self.outputs}
            then = {each.name: cells[each.column + THEN] for each in self.outputs}
            one = Worst(float(sizes[row]), cells["partition"], cells["offset"], cells["key"], maker, now, then)
            heapq.heappush(self._worst, one)
            if len(self._worst) > self._most:
                heapq.heappop(self._worst)

    @property
    def worst(self) -> list[Worst]:
        """The events that differ most, the most different first."""
        return sorted(self._worst, reverse=True)


def _matrices(
    now: pl.Series, then: pl.Series, rows: npt.NDArray[np.bool_]
) -> list[tuple[npt.NDArray[np.int64], Matrix, Matrix]]:
    """Return the chosen rows as numbers of shape (n, places), for each number of places that both have."""
    chosen = np.flatnonzero(rows)
    if now.dtype == pl.Float64():
        return [(chosen, _numbers(now, chosen, 1), _numbers(then, chosen, 1))]
    lengths, others = (frames.chosen(series, chosen).list.len().to_numpy() for series in (now, then))
    found = []
    for places in np.unique(lengths[lengths == others]).tolist():
        some = chosen[(lengths == places) & (others == places)]
        if places:
            found.append((some, _numbers(now, some, places), _numbers(then, some, places)))
    return found


def _numbers(series: pl.Series, rows: npt.NDArray[np.int64], places: int) -> Matrix:
    some = frames.chosen(series, rows)
    flat = some if series.dtype == pl.Float64() else some.explode()
    numbers: Matrix = flat.fill_null(math.nan).to_numpy().astype(np.float64).reshape(len(rows), places)
    return numbers
