"""What an alert is: whom it concerns, what a detector found, and the record that tells of it under its own id."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from models import unusual
from monitoring.advice import of_column, of_unusual
from monitoring.folds import Out, identity
from schemas import records

TOPIC = "penstock.alerts"
Change = Literal["opened", "updated", "closed"]
COLUMNS = ("feature", "output")  # kinds that are told together
SEVERITIES = ("info", "warning", "critical")
Told = dict[str, Any]  # a record as plain values, times in ms since 1970: it waits in snapshots


@dataclass(frozen=True, slots=True)
class Subject:
    """What an episode is about."""

    deployment: str
    arm: str
    model: str
    version: str
    detector: str
    kind: str  # feature, output, group, quality, divergence or operations
    name: str

    @property
    def key(self) -> str:
        """Its name among the episodes of one lineage."""
        return f"{self.detector}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an alert tells a person. action: what to look at, and with which command."""

    summary: str
    evidence: list[dict[str, Any]] = field(default_factory=list)
    action: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector says about one window."""

    deviates: bool  # beyond the threshold that opens
    calm: bool  # below the threshold that closes; neither of both keeps an episode as it is
    value: float
    threshold: float
    rows: int
    start: int  # ms of record time, of the window
    end: int
    explain: Callable[[], Explanation]  # asked only when an alert is due
    critical: bool  # an alert that opens with it is critical, not a warning
    size: float | None = None  # of the effect; None: the value

    @property
    def severity(self) -> str:
        return "critical" if self.critical else "warning"

    @property
    def effect(self) -> float:
        """How large the effect is."""
        return self.value if self.size is None else self.size


@dataclass(slots=True)
class Episode:
    """Hysteresis: opens after `patience` deviating windows in a row, closes after `rest` calm ones in a row."""

    onset: int = 0  # ms of record time where the row of deviating windows began
    streak: int = 0
    open: bool = False

    def step(self, finding: Finding, patience: int, rest: int) -> Change | None:
        """Take the next window; return whether the episode opened or closed with it."""
        if self.open:
            self.streak = self.streak + 1 if finding.calm else 0
            if self.streak < rest:
                return None
            self.open, self.streak = False, 0
            return "closed"
        if not finding.deviates:
            self.streak = 0
            return None
        if not self.streak:
            self.onset = finding.start
        self.streak += 1
        if self.streak < patience:
            return None
        self.open, self.streak = True, 0
        return "opened"


def episode_id(subject: Subject, onset: int) -> str:
    """Return 32 hexadecimal digits that any monitor derives alike from the same log."""
    content = json.dumps([asdict(subject), onset], sort_keys=True, separators=(",", ":"))
    return identity(content)


def told(subject: Subject, change: Change, onset: int, finding: Finding) -> Told:
    """Return what a finding tells, without what an episode knows besides (its number, group, ...)."""
    explanation = finding.explain()
    return {
        "id": episode_id(subject, onset),
        "state": change,
        "severity": "info" if change == "closed" else finding.severity,
        **asdict(subject),
        "onset": onset,
        "at": finding.end,
        "opened": finding.end,
        "value": round(finding.value, 6),
        "threshold": finding.threshold,
        "rows": finding.rows,
        "size": round(finding.effect, 6),
        "worst": finding.severity if change != "closed" else "info",
        "summary": explanation.summary,
        "peak": explanation.summary if change != "closed" else "",
        "evidence": explanation.evidence,
        "action": "" if change == "closed" else explanation.action or _advice(subject, onset, explanation),
    }


def _advice(subject: Subject, onset: int, explanation: Explanation) -> str:
    if (subject.kind, subject.name) == (unusual.KIND, unusual.NAME):
        return of_unusual(subject.deployment, onset)
    if subject.kind not in COLUMNS:
        return ""
    return of_column(subject.kind, subject.name, subject.deployment, onset, explanation.evidence)


def encoded(record: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return key and value of the alert record."""
    return str(record["id"]).encode(), records.encode("alert", record)


def outs(topic: str, found: Iterable[Told]) -> Iterator[Out]:
    """Yield the records of alerts as they are published."""
    return (Out(topic, *encoded(record)) for record in found)
