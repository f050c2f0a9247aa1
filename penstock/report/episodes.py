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
    """One episode, as its records tell it. Times in ms since 1970; closed: None while it is open.

    severity: the highest. number: of its last record.
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
    number: int = 0

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
        """Take a record of the alerts topic, in their order; a repeated record changes nothing.

        Of an episode that compaction has passed only the last record is left, which says when it was opened.
        """
        if alert["deployment"] != self.deployment:
            return
        told = _episode(alert)
        known = self._known.get(told.id)
        if known is not None:
            if told.number < known.number:
                return
            told.onset, told.opened = min(told.onset, known.onset), min(told.opened, known.opened)
            told.severity = max(told.severity, known.severity, key=SEVERITIES.index)
            told.summary = known.summary if told.closed is not None else told.summary
        if told.within(self.span):
            self._known[told.id] = told
        else:
            self._known.pop(told.id, None)
        if len(self._known) > MOST:
            del self._known[min(self._known.values(), key=lambda each: (each.closed is None, each.onset)).id]
            self.left_out += 1

    def found(self) -> list[Episode]:
        """Return them, the gravest first, then the earliest."""
        inside = (each for each in self._known.values() if each.within(self.span))
        return sorted(inside, key=lambda each: (-each.gravity, each.onset, each.id))


def _episode(alert: Mapping[str, Any]) -> Episode:
    """Return what one record tells; an earlier release's lacks some of it."""
    names = ("id", "arm", "model", "version", "detector", "kind", "name")
    at, opened = _ms(alert["at"]), _ms(alert.get("opened", 0))
    return Episode(
        **{name: alert[name] for name in names},
        severity=max(alert["severity"], alert.get("worst", "info"), key=SEVERITIES.index),
        onset=_ms(alert["onset"]),
        opened=opened or at,
        summary=alert.get("peak") or alert["summary"],
        closed=at if alert["state"] == "closed" else None,
        number=alert.get("number", 0),
    )


def _ms(moment: datetime | int) -> int:
    return moment if isinstance(moment, int) else round(moment.timestamp() * 1000)
