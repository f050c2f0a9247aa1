"""What people say about alerts: be silent about some until then, or: I look at this one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, Self

from schemas import records

TOPIC = "penstock.silences"
ACTIONS = ("silence", "ack")


@dataclass(frozen=True, slots=True)
class Silence:
    """One word of a person about alerts. Times in ms since 1970.

    alert: the id of one, empty for any that match. deployment, kind, name: patterns with * and ?, empty for all.
    until_ms: when it ends; None for an ack, which lasts as long as the alert.
    """

    id: str
    action: Literal["silence", "ack"]
    who: str
    host: str
    why: str
    at_ms: int
    from_ms: int
    until_ms: int | None = None
    alert: str = ""
    deployment: str = ""
    kind: str = ""
    name: str = ""

    def matches(self, alert: Mapping[str, Any]) -> bool:
        """Say whether it is about an alert. alert: with id, deployment, kind, name; and group and members, if any.

        A group is silent when the names of all its members match: one that alone was silenced is told with the others.
        """
        if self.alert:
            return self.alert in (alert["id"], alert.get("group", ""))
        if not fnmatchcase(alert["deployment"], self.deployment or "*"):
            return False
        members = alert.get("members") or []
        if self.kind and not fnmatchcase(alert["kind"], self.kind):
            return False
        names = members if members and self.name else [alert["name"]]
        return all(fnmatchcase(name, self.name or "*") for name in names)

    def silences(self, alert: Mapping[str, Any], now_ms: int) -> bool:
        """Say whether nobody is to be told of an alert now."""
        within = self.from_ms <= now_ms and (self.until_ms is None or now_ms < self.until_ms)
        return self.action == "silence" and within and self.matches(alert)

    def acks(self, alert: Mapping[str, Any]) -> bool:
        """Say whether somebody looks at an alert."""
        return self.action == "ack" and self.matches(alert)

    @property
    def about(self) -> str:
        """What it is about, for a person."""
        if self.alert:
            return f"alert {self.alert[:8]}"
        told = {"deployment": self.deployment, "kind": self.kind, "name": self.name}
        return " ".join(f"{name}={value}" for name, value in told.items() if value) or "everything"

    def encode(self) -> bytes:
        return records.encode("silence", asdict(self))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises RecordInvalid."""
        found = records.decode("silence", data)
        if found["action"] not in ACTIONS:
            raise records.RecordInvalid(f"a word about alerts that this release does not know: {found['action']!r}")
        return cls(**found)


def silenced(alert: Mapping[str, Any], said: Iterable[Silence], now_ms: int) -> Silence | None:
    """Return what makes an alert silent now, if anything does."""
    return next((each for each in said if each.silences(alert, now_ms)), None)


def acked(alert: Mapping[str, Any], said: Iterable[Silence]) -> Silence | None:
    """Return the last ack of an alert, if there is one."""
    return max((each for each in said if each.acks(alert)), key=lambda each: each.at_ms, default=None)
