"""The record that compares two versions of an arm: what the one said last with what the other one said first."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.binning import Bins, Numbers
from models.reference import Counts, Reference, Tally
from monitoring.cells import Cells, Group, Tables
from monitoring.folds import Out, identity
from monitoring.succession import Takeover, Window
from monitoring.tilts import Floats
from monitoring.totals import Told, Totals
from schemas import records

TOPIC = "penstock.comparisons"
OUTPUT = "output"
SEEN = 1e-3  # chance that a distance is larger than `chance` though nothing differs
QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}
CLASSES = 5  # whose shares are told, the most frequent ones
MAIN = ("accuracy", "mae")  # numbers that the summary of quality tells
Number = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparing:
    """Whose comparisons, and where they go."""

    deployment: str
    topic: str = TOPIC

    def outputs(
        self, arm: str, found: Takeover, references: tuple[Reference | None, Reference | None]
    ) -> Iterator[Out]:
        """Yield the record of outputs; none where a reference has gone, whose bins say what was counted."""
        earlier, later = (None if each is None else _bins(each) for each in references)
        if earlier is None or later is None:
            return
        numbers = [
            number
            for name in sorted(earlier.keys() & later.keys())
            for number in _numbers(
                name, (earlier[name], _cells(found.last, name)), (later[name], _cells(found.first, name))
            )
        ]
        yield self._record("outputs", arm, found, numbers)

    def quality(self, arm: str, found: Takeover) -> Iterator[Out]:
        """Yield the record of quality."""
        before, after = (_told(window.tables) for window in (found.last, found.first))
        numbers = [
            _number(name, metric, _values(before.get((name, metric))), _values(after.get((name, metric))))
            for name, metric in sorted(before.keys() | after.keys())
        ]
        yield self._record("quality", arm, found, numbers)

    def _record(self, what: str, arm: str, found: Takeover, numbers: list[Number]) -> Out:
        before, after = _window(found.before, found.last), _window(found.after, found.first)
        key = identity(json.dumps([self.deployment, arm, what, before, after], sort_keys=True, separators=(",", ":")))
        record = {
            "id": key,
            "what": what,
            "deployment": self.deployment,
            "arm": arm,
            "at": found.first.until,
            "before": before,
            "after": after,
            "numbers": numbers,
            "summary": _summary(what, numbers),
        }
        return Out(self.topic, key.encode(), records.encode("comparison", record))


def outputs_of(reference: Reference, tally: Tally) -> Tables:
    """Return what a tick counted of outputs, by their names."""
    found: Tables = {}
    for part in reference.slices:
        if part.kind == OUTPUT and not part.segment:
            cells = tally.cells[part.start : part.end]
            hit = {int(at): int(cells[at]) for at in np.flatnonzero(cells)}
            if hit:
                found[Group("", "", "", "", "", OUTPUT, part.name)] = hit
    return found


def _bins(reference: Reference) -> dict[str, Bins]:
    return {part.name: part.bins for part in reference.slices if part.kind == OUTPUT and not part.segment}


def _cells(window: Window, name: str) -> Cells:
    return window.tables.get(Group("", "", "", "", "", OUTPUT, name), {})


def _window(who: tuple[str, ...], window: Window) -> dict[str, Any]:
    return {
        "model": who[0],
        "version": who[1],
        "since": window.since,
        "until": window.until,
        "rows": window.rows,
    }


def _number(
    of: str, metric: str, before: tuple[float | None, ...], after: tuple[float | None, ...] = (None, None, None)
) -> Number:
    names = ("", "_low", "_high")
    pairs = (("before", before), ("after", after))
    return {"of": of, "metric": metric} | {
        side + name: None if value is None else round(value, 9)
        for side, values in pairs
        for name, value in zip(names, values, strict=True)
    }


def _plain(of: str, metric: str, before: float | None, after: float | None) -> Number:
    return _number(of, metric, (before, None, None), (after, None, None))


def _numbers(name: str, earlier: tuple[Bins, Cells], later: tuple[Bins, Cells]) -> Iterator[Number]:
    """Yield what two histograms of an output say, whose bins need not be the same."""
    one, other = (_counts(*each) for each in (earlier, later))
    rows = [int(each.sum()) for each in (one, other)]
    if not all(rows):
        return
    yield _plain(name, "missing", one[-1] / rows[0], other[-1] / rows[1])
    chance = math.sqrt(math.log(2 / SEEN) / 2 * (1 / rows[0] + 1 / rows[1]))
    numeric = [isinstance(bins, Numbers) for bins, _ in (earlier, later)]
    if all(numeric):
        edges = [np.array(bins.edges) for bins, _ in (earlier, later)]  # type: ignore[union-attr]
        for metric, share in QUANTILES.items():
            yield _plain(name, metric, _quantile(edges[0], one, share), _quantile(edges[1], other, share))
        both = np.union1d(*edges)
        apart = np.abs(_below(edges[0], one, both) - _below(edges[1], other, both))
        yield _plain(name, "distance", None, float(apart.max(initial=0.0)))
    elif not any(numeric):
        shares = [_shares(bins, counts) for (bins, _), counts in ((earlier, one), (later, other))]
        told = sorted(
            shares[0].keys() | shares[1].keys(), key=lambda each: (-max(s.get(each, 0.0) for s in shares), each)
        )
        for label in told[:CLASSES]:
            yield _plain(name, f"share of {label}", shares[0].get(label, 0.0), shares[1].get(label, 0.0))
        largest = max(abs(shares[0].get(label, 0.0) - shares[1].get(label, 0.0)) for label in told)
        yield _plain(name, "distance", None, largest)
        chance *= 2  # a share is a difference of two values of the distribution function
    else:
        return
    yield _plain(name, "chance", None, chance)


def _counts(bins: Bins, cells: Cells) -> Counts:
    found = np.zeros(bins.size, np.int64)
    for at, count in cells.items():
        found[at] = count
    return found


def _shares(bins: Bins, counts: Counts) -> dict[str, float]:
    total = int(counts.sum())
    return {bins.label(at): int(count) / total for at, count in enumerate(counts.tolist()) if count}


def _quantile(edges: Floats, counts: Counts, share: float) -> float | None:
    """Return a quantile of what is not missing, within its bin by a straight line; at the outer edges where beyond."""
    values = counts[:-1]
    if not values.sum():
        return None
    below = np.cumsum(values) / values.sum()
    at = int(np.searchsorted(below, share))
    if at == 0 or at >= len(edges):
        return float(edges[0] if at == 0 else edges[-1])
    start = float(below[at - 1])
    within = (share - start) / (float(below[at]) - start)
    return float(edges[at - 1] + within * (edges[at] - edges[at - 1]))


def _below(edges: Floats, counts: Counts, points: Floats) -> Floats:
    """Return the share of events below each point: exact at the histogram's own edges."""
    share = np.cumsum(counts[:-1])[:-1] / max(int(counts.sum()), 1)
    return np.asarray(np.interp(points, edges, share))


def _told(tables: Tables) -> dict[tuple[str, str], Told]:
    totals = Totals()
    totals.add(tables)
    return {(told.name, told.metric): told for told in totals.told()}


def _values(told: Told | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if told is None else (told.number, told.low, told.high)


def _summary(what: str, numbers: list[Number]) -> str:
    known = {(each["of"], each["metric"]): each for each in numbers}
    if what == "quality":
        texts = [
            f"{metric} {each['before']:.4g} before, {each['after']:.4g} since"
            for metric in MAIN
            if (each := known.get(("", metric))) is not None and None not in (each["before"], each["after"])
        ]
        return "; ".join(texts) or "nothing that both were judged by"
    moved, others = list[str](), list[str]()
    for (of, metric), each in known.items():
        if metric == "distance":
            far = each["after"] > known[of, "chance"]["after"]
            (moved if far else others).append(f"{of} {_middle(known, of)}distance {each['after']:.3g}")
    told = [f"moved: {', '.join(moved)}"] if moved else []
    return "; ".join(told + ([f"as before: {', '.join(others)}"] if others else [])) or "no output that both have"


def _middle(known: Mapping[tuple[str, str], Number], of: str) -> str:
    each = known.get((of, "median"))
    if each is None or None in (each["before"], each["after"]):
        return ""
    return f"median {each['before']:.4g} before and {each['after']:.4g} since, "
