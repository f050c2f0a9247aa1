"""Columns that moved together: one alert tells of all of them, and it is over when the last of them is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from monitoring.advice import more_missing, of_group
from monitoring.alerts import COLUMNS, SEVERITIES, Subject, Told, episode_id

GROWTH = 1.5  # times the members told last: from then on they are told again
NAMED = 5  # members that the summary names
REMIND_MS = 86_400_000  # while its members are told again, so is it
SHOWN = 20  # members whose most moved bin is evidence


@dataclass(slots=True)
class Group:
    """The alert of a group. record: as it was told last. members, open: keys of episodes; tops: most moved bins."""

    record: Told
    number: int = 0  # of the next record
    names: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)  # members by kind
    members: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    tops: list[dict[str, Any]] = field(default_factory=list)
    severity: str = "warning"
    missing: bool = True  # more values are missing in all of them
    changed: int = 0  # ms at which something came to it that is not told yet; 0: nothing did

    def join(self, openings: Sequence[Told]) -> None:
        """Take in episodes that have opened."""
        for record in columns_of(openings):
            key = _key(record)
            if key not in self.open:
                self.open.append(key)
            if key in self.members:
                continue
            self.members.append(key)
            if record["name"] not in self.names:
                self.names.append(record["name"])
                self.kinds[record["kind"]] = self.kinds.get(record["kind"], 0) + 1
            self.tops += [{**top, "bin": f"{record['name']}: {top['bin']}"} for top in record["evidence"][:1]]
            self.missing = self.missing and more_missing(record["evidence"])
            self._change(record)

    def note(self, key: str, record: Told) -> None:
        """Take notice of what is told of a member."""
        if record["state"] == "closed":
            self.open = [each for each in self.open if each != key]
        else:
            if key not in self.open:
                self.open.append(key)
            self._change(record)
            if record["at"] - self.record["at"] >= REMIND_MS:
                self.changed = record["at"]

    def _change(self, record: Told) -> None:
        self.severity = max(self.severity, record["severity"], key=SEVERITIES.index)
        if len(self.names) >= GROWTH * self.record["size"] or self.severity != self.record["worst"]:
            self.changed = max(self.changed, record["at"])

    def due(self, a_while_ms: int) -> int | None:
        """When it is to be told again, in ms of record time."""
        return max(self.changed, self.record["at"] + a_while_ms) if self.number and self.changed else None

    def tell(self, columns: Mapping[str, int], at: int) -> Told:
        """Return its next record: it opens with the first one, and closes when no member is open."""
        state = "opened" if not self.number else "updated" if self.open else "closed"
        summary = self._summary(columns) if self.open else f"as before again: {self._named()}"
        deployment, onset = self.record["deployment"], self.record["onset"]
        self.record = {
            **self.record,
            "state": state,
            "severity": self.severity if self.open else "info",
            "at": at,
            "opened": at if state == "opened" else self.record["opened"],
            "value": float(len(self.open)),
            "size": float(len(self.names)),
            "worst": self.severity,
            "summary": summary,
            "peak": summary if self.open else self.record["peak"],
            "evidence": self.tops[:SHOWN],
            "action": of_group(deployment, self.names, onset, self.missing) if self.open else "",
            "members": list(self.names),
            "number": self.number,
        }
        self.number, self.changed = self.number + 1, 0
        return self.record

    def _summary(self, columns: Mapping[str, int]) -> str:
        counted = [
            f"{self.kinds[kind]} of {columns.get(kind, self.kinds[kind])} {kind}s"
            for kind in COLUMNS
            if kind in self.kinds
        ]
        missing = "; more values are missing in all of them" if self.missing else ""
        return f"{' and '.join(counted)} moved together: {self._named()}{missing}"

    def _named(self) -> str:
        more = len(self.names) - NAMED
        return ", ".join(self.names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def columns_of(openings: Sequence[Told]) -> list[Told]:
    """Return those of columns, which can be told together."""
    return [record for record in openings if record["kind"] in COLUMNS]


def together(openings: Sequence[Told]) -> int:
    """Return how many columns they are of: two detectors may have found the same."""
    return len({(record["kind"], record["name"]) for record in columns_of(openings)})


def opened_group(openings: Sequence[Told], threshold: int) -> Group:
    """Return a group that nobody is in yet, of the lineage of these openings."""
    found = columns_of(openings)
    at, first = max(record["at"] for record in found), found[0]
    subject = Subject(first["deployment"], first["arm"], first["model"], first["version"], "group", "group", "columns")
    record = {
        **{name: getattr(subject, name) for name in Subject.__slots__},
        "id": episode_id(subject, at),
        "onset": min(record["onset"] for record in found),
        "at": at,
        "opened": at,
        "threshold": float(threshold),
        "rows": max(record["rows"] for record in found),
        "size": 0.0,
        "worst": "info",
        "group": "",
    }
    return Group(record)


def _key(record: Told) -> str:
    return f"{record['detector']}/{record['kind']}/{record['name']}"
