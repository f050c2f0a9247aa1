"""What merged ticks say of each version and segment: the numbers, and intervals that may be looked at always."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from monitoring import cells, fairness, scores
from monitoring.cells import Group, Lineage, Tables
from monitoring.errors import PartInvalid
from monitoring.formulas import told_of
from monitoring.intervals import Sequence
from monitoring.ticks import dump_tables, load_tables
from schemas import records
from schemas.errors import RecordInvalid


class Part(NamedTuple):
    """One record of the quality topic; see schemas/avsc/quality.avsc."""

    deployment: str
    partition: int
    number: int
    tick_ms: int
    tick: int
    closed: int
    counts: Mapping[str, int]
    tables: Tables


def part_of(value: bytes) -> Part:
    """Return what a record of the quality topic holds. Raises PartInvalid."""
    try:
        record = records.decode("quality", value)
    except RecordInvalid as error:
        raise PartInvalid(f"not a part of quality: {error}") from error
    if record["tick_ms"] < 1:
        raise PartInvalid("a part with ticks of no length; the record was not written by a monitor of this release")
    tables = {Group(*(g[name] for name in Group._fields)): cells.unpack(g["cells"]) for g in record["groups"]}
    del record["groups"]
    return Part(**record, tables=tables)


class Told(NamedTuple):
    """One number. name: of what it is told, such as a label's number or who is compared; else empty.

    low, high: its interval, None where there is none.
    """

    arm: str
    model: str
    version: str
    segment: str
    value: str
    name: str
    metric: str
    number: float
    low: float | None = None
    high: float | None = None


@dataclass(slots=True)
class Totals:
    """Merged tables, and the sums of their confidence sequences. groups: segments of which fairness is told."""

    tables: Tables = field(default_factory=dict)
    sequences: dict[Group, dict[str, Sequence]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()

    def add(self, tick: Mapping[Group, cells.Cells]) -> None:
        """Take the next tick in order, merged from all partitions."""
        cells.merge(self.tables, tick)
        for group, found in tick.items():
            for metric, share in scores.shares_of(group.what, found, group.name).items():
                if share.rows or share.total:
                    self.sequences.setdefault(group, {}).setdefault(metric, Sequence()).add(*share)

    def forget(self, lineage: Lineage) -> None:
        """Leave out a version in an arm."""
        self.tables = {group: found for group, found in self.tables.items() if group[:3] != lineage}
        self.sequences = {group: found for group, found in self.sequences.items() if group[:3] != lineage}

    def told(self, threshold: int = scores.THRESHOLD) -> Iterator[Told]:
        """Yield every number. threshold: in 64ths, from which a score means yes; intervals are for 0.5 only."""
        for one, tables in scores.of_one(self.tables):
            place = one[:5]
            for group, found in tables.items():
                bounds = self._bounds(group, threshold)
                unit = float(group.name) if group.what == "held" else 1.0
                for metric, number in scores.numbers_of(group.what, found, threshold).items():
                    name = told_of(group.name)[0] if group.what == "metric" else group.name
                    yield Told(*place, name, metric, number * unit, *bounds.get(metric, (None, None)))
            confusion = {group: found for group, found in tables.items() if group.what == "confusion"}
            for metric, number in scores.per_class(confusion).items():
                yield Told(*place, "", metric, number)
            scored = tables.get(one._replace(what="scored"), {})
            labelled = tables.get(one._replace(what="binary"))
            if labelled is not None:
                yield from self._selected(one, scored, threshold)
                for metric, number in scores.estimated(scored, labelled).items():
                    yield Told(*place, "", metric, number)

    def _selected(self, one: Group, scored: cells.Cells, threshold: int) -> Iterator[Told]:
        """Yield the share of all predictions that say yes; and of all events of a version how alike groups are."""
        rows, hits = scores.rate_of("scored", "selection_rate", scored, threshold)
        if rows > 0:
            bounds = self._bounds(one._replace(what="scored"), threshold)
            yield Told(*one[:5], "", "selection_rate", hits / rows, *bounds.get("selection_rate", (None, None)))
        for name in () if one.segment else self.groups:
            values = {group._replace(what="", name="") for group in self.tables if group[:4] == (*one[:3], name)}
            for gap in fairness.gaps(sorted(values), self.tables, self.sequences, threshold):
                yield Told(*one[:5], name, *gap)

    def calibrations(self) -> Iterator[tuple[Group, list[tuple[float, float, int]]]]:
        """Yield the calibration tables of all that has scores: mean score, share that was right, events."""
        for group, found in sorted(self.tables.items()):
            if group.what in ("binary", "multiclass") and (rows := scores.calibration(found)):
                yield group, rows

    def _bounds(self, group: Group, threshold: int) -> dict[str, tuple[float, float]]:
        """Return the intervals of a group's numbers, in the units in which these are told."""
        found: dict[str, tuple[float, float]] = {}
        if threshold != scores.THRESHOLD:
            return found
        for metric, sequence in self.sequences.get(group, {}).items():
            if (bounds := sequence.interval()) is not None:
                low, high = scores.unscaled(metric, bounds)
                found[metric] = scores.placed(group, low), scores.placed(group, high)
        return found

    def dump(self) -> dict[str, Any]:
        """Return everything as plain values."""
        sums = [
            [list(group), {metric: [s.count, s.total, s.spread] for metric, s in found.items()}]
            for group, found in sorted(self.sequences.items())
        ]
        return {"tables": dump_tables(self.tables), "sequences": sums}

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Totals:
        """Return what was dumped."""
        sequences = {
            Group(*group): {metric: Sequence(*sums) for metric, sums in found.items()}
            for group, found in document["sequences"]
        }
        return cls(load_tables(document["tables"]), sequences)


def totals_of(parts: Iterable[Part]) -> tuple[Totals, dict[str, int]]:
    """Return what parts add up to, each counted once, and what the joins counted."""
    once = {(part.partition, part.number): part for part in parts}
    ticks: dict[int, Tables] = {}
    counts: dict[str, int] = {}
    for part in once.values():
        cells.merge(ticks.setdefault(part.tick, {}), part.tables)
        for what, count in part.counts.items():
            counts[what] = counts.get(what, 0) + count
    totals = Totals()
    for tick in sorted(ticks):
        totals.add(ticks[tick])
    return totals, counts
