"""How good the version before was when its last labels came, and how good the one since is by its first ones.

Who took over is told by predictions, whose times are those of events; labels come later, and for both at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from monitoring import judging
from monitoring.cells import Cells, Group, Lineage, Tables
from monitoring.succession import Lately, Succession, Takeover, Who, Window

PREDICTED, LABELLED = 1000, 1000  # events of a window
JUDGED = ("binary", "multiclass", "regression")
TOLD = (*JUDGED, "number", "held", "confusion")


@dataclass(slots=True)
class Awaited:
    """A version that took over, and its labels so far."""

    before: Who
    after: Who
    first: Window


@dataclass(slots=True)
class Handovers:
    """Of all arms. lately: the last labelled events by arm, model and version."""

    successions: dict[str, Succession] = field(default_factory=dict)
    lately: dict[Who, Lately] = field(default_factory=dict)
    awaited: dict[str, Awaited] = field(default_factory=dict)

    def take(self, start: int, end: int, tables: Tables) -> Iterator[tuple[str, Takeover]]:
        """Take a tick; yield the arms of which both versions' labels are there now."""
        by_version: dict[Who, Tables] = {}
        for group, found in tables.items():
            if not group.segment:
                by_version.setdefault(group[:3], {})[group] = found
        for (arm, *version), mine in sorted(by_version.items()):
            who: Who = tuple(version)
            self._predicted(arm, who, start, end, mine)
            self._labelled(arm, who, start, end, mine)
            awaited = self.awaited.get(arm)
            if awaited is not None and awaited.after == who and awaited.first.full(LABELLED):
                del self.awaited[arm]
                before = self.lately.get((arm, *awaited.before))
                if before is not None:
                    yield arm, Takeover(awaited.before, before.whole(), who, awaited.first)

    def _predicted(self, arm: str, who: Who, start: int, end: int, tables: Tables) -> None:
        rows = sum(map(_predictions, tables, tables.values()))
        if rows <= 0:
            return
        took = self.successions.setdefault(arm, Succession(PREDICTED)).take(who, start, end, rows, {})
        if took is not None:
            known = self.lately.get((arm, *who))
            first = Window() if known is None else known.whole(took.first.since)
            self.awaited[arm] = Awaited(took.before, who, first)

    def _labelled(self, arm: str, who: Who, start: int, end: int, tables: Tables) -> None:
        rows = sum(map(_labels, tables, tables.values()))
        if rows <= 0:
            return
        told = {group: cells for group, cells in tables.items() if group.what in TOLD}
        self.lately.setdefault((arm, *who), Lately(LABELLED)).add(start, end, rows, told)
        awaited = self.awaited.get(arm)
        if awaited is not None and awaited.after == who and end > awaited.first.until:
            awaited.first.add(start, end, rows, told)

    def forget(self, lineage: Lineage) -> None:
        """Leave out a version in an arm."""
        self.lately.pop(lineage, None)

    def dump(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "successions": {arm: each.dump() for arm, each in sorted(self.successions.items())},
            "lately": [[list(who), each.dump()] for who, each in sorted(self.lately.items())],
            "awaited": {
                arm: [list(each.before), list(each.after), each.first.dump()]
                for arm, each in sorted(self.awaited.items())
            },
        }

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Handovers:
        """Return what was dumped."""
        return cls(
            {arm: Succession.load(PREDICTED, each) for arm, each in document["successions"].items()},
            {tuple(who): Lately.load(LABELLED, each) for who, each in document["lately"]},
            {
                arm: Awaited(tuple(before), tuple(after), Window.load(first))
                for arm, (before, after, first) in document["awaited"].items()
            },
        )


def _predictions(group: Group, cells: Cells) -> int:
    if group.what == "scored":
        return sum(cells.values())
    return cells.get(judging.COUNT, 0) if group.what == "predicted" else 0


def _labels(group: Group, cells: Cells) -> int:
    if group.what == "regression":
        return cells.get(judging.COUNT, 0)
    return sum(count for cell, count in cells.items() if cell < judging.SUMS) if group.what in JUDGED else 0
