"""Episodes of a range, put together from the records of the alerts topic; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from monitoring.hindsight import Span

MOST = 500  # episodes of a report; of more, the latest are kept
SEVERITIES = ("info", "warning", "critical")


@dataclass(slots=True)
class Episode:
    """One episode: what its last opening record and its end say. Times in ms since 1970; closed: None while it is open.

    severity: the highest.
    """

    id: str
    arm: str
    model: str
    version: str
    detector: str
    kind: str
    name: str
    severity: str
    onset: int
    opened: int
    summary: str
    closed: int | None = None

    @property
    def gravity(self) -> int:
        """The place of its severity, the gravest last."""
        return SEVERITIES.index(self.severity)

    def within(self, span: Span) -> bool:
        """Say whether some of it lies in a span."""
        return self.onset < span.end and (self.closed is None or self.closed > span.begin)


@dataclass(slots=True)
class Episodes:
    """The episodes of one deployment that reach into a span. left_out: how many more there were."""

    deployment: str
    span: Span
    left_out: int = 0
    _known: dict[str, Episode] = field(default_factory=dict)

    def add(self, alert: Mapping[str, Any]) -> None:
        """Take a record of the alerts topic, in their order; a repeated record changes nothing."""
        if alert["deployment"] != self.deployment:
            return
        known = self._known.get(alert["id"])
        if alert["state"] == "closed":
            if known is not None:
                known.closed = _ms(alert["at"])
                if not known.within(self.span):
                    del self._known[known.id]
            return
        told = _episode(alert)
        if known is not None:
            told.opened = known.opened
            told.severity = max(told.severity, known.severity, key=SEVERITIES.index)
        if told.onset < self.span.end:
            self._known[told.id] = told
        if len(self._known) > MOST:
            del self._known[min(self._known.values(), key=lambda each: (each.closed is None, each.onset)).id]
            self.left_out += 1

    def found(self) -> list[Episode]:
        """Return them, the gravest first, then the earliest."""
        inside = (each for each in self._known.values() if each.within(self.span))
        return sorted(inside, key=lambda each: (-each.gravity, each.onset, each.id))


def _episode(alert: Mapping[str, Any]) -> Episode:
    names = ("id", "arm", "model", "version", "detector", "kind", "name", "severity", "summary")
    return Episode(**{name: alert[name] for name in names}, onset=_ms(alert["onset"]), opened=_ms(alert["at"]))


def _ms(moment: datetime | int) -> int:
    return moment if isinstance(moment, int) else round(moment.timestamp() * 1000)
