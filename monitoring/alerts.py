"""Episodes: an alert opens once and closes once, under an id that follows from its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from schemas import records

TOPIC = "penstock.alerts"
Change = Literal["opened", "closed"]


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


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an alert tells a person."""

    summary: str
    evidence: list[dict[str, Any]] = field(default_factory=list)


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
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def alert(subject: Subject, change: Change, onset: int, finding: Finding) -> tuple[bytes, bytes]:
    """Return key and value of the alert record."""
    identity = episode_id(subject, onset)
    explanation = finding.explain()
    severity = "critical" if finding.critical else "warning"
    record = {
        "id": identity,
        "state": change,
        "severity": severity if change == "opened" else "info",
        **asdict(subject),
        "onset": _time(onset),
        "at": _time(finding.end),
        "value": round(finding.value, 6),
        "threshold": finding.threshold,
        "rows": finding.rows,
        "summary": explanation.summary,
        "evidence": explanation.evidence,
    }
    return identity.encode(), records.encode("alert", record)


def _time(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=ms)  # noqa: UP017
