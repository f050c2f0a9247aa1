"""What slots said of themselves, added up to what is judged: their counts, loads and places; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.control import Status

ENDED = ("stopped", "refused")  # states of slots that end in order
BESIDE = "dead_letters."  # begins the counts of arms that score every event beside the others
SUMS = {"disk": ("disk_read", "disk_written"), "network": ("received", "sent")}
MINUTE_MS = 60_000
DAY_MS = 86_400_000
Counts = dict[str, int]


@dataclass(slots=True)
class Slot:
    """What a slot said last, and what it counted lately. Times in ms since 1970.

    minutes: what it counted by minute. loads: the least that it took in each minute, by resource. running: arm,
    version, when it was made, and up to when its data reach. beside: arms that have dead letters of their own. places:
    by partition the offset, since when it stands there, what waits, and the age of the oldest in seconds; and since
    when nothing came.
    """

    group: str = ""
    name: str = ""
    process: str = ""
    at: int = 0
    state: str = ""
    detail: str = ""
    refused: int | None = None
    counts: Counts = field(default_factory=dict)
    circuits: list[str] = field(default_factory=list)
    minutes: dict[str, Counts] = field(default_factory=dict)
    loads: dict[str, dict[str, float]] = field(default_factory=dict)
    running: list[list[Any]] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    places: dict[str, dict[str, Any]] = field(default_factory=dict)

    def heard(self, status: Status, window_ms: int) -> Slot:
        """Return the slot after its next word."""
        process = f"{status.host}/{status.pid}"
        now = replace(
            self,
            group=status.group,
            name=status.slot,
            process=process,
            at=max(self.at, status.at_ms),
            state=status.state,
            detail=status.detail,
            refused=status.refused,
            running=[[arm.name, f"{arm.model}@{arm.version}", arm.created_ms, arm.trained_ms] for arm in status.arms],
        )
        if (vitals := status.vitals) is None:
            return replace(now, circuits=[], places={}) if status.state in ENDED else now
        counts = dict(vitals.counts)
        before = self.counts if self.process == process else {} if self.process else counts
        after = now.at - window_ms - MINUTE_MS
        minutes = {minute: kept for minute, kept in self.minutes.items() if int(minute) > after}
        minute = str(status.at_ms // MINUTE_MS * MINUTE_MS)
        own = minutes.setdefault(minute, {})
        for name, count in counts.items():
            if (more := max(0, count - before.get(name, 0))) > 0:
                own[name] = own.get(name, 0) + more
        places = {str(each.partition): self._place(each, now.at) for each in vitals.waits}
        return replace(
            now,
            counts=counts,
            circuits=list(vitals.circuits),
            minutes=minutes,
            loads=self._loaded(vitals.resources, minute, now.at - window_ms),
            beside=sorted({*self.beside, *(name[len(BESIDE) :] for name in counts if name.startswith(BESIDE))}),
            places=places,
        )

    def _loaded(self, resources: Mapping[str, float], minute: str, after: int) -> dict[str, dict[str, float]]:
        loads = {each: least for each, least in self.loads.items() if int(each) > after}
        known, found = loads.get(minute), {**resources}
        for sum_of, parts in SUMS.items():
            if any(part in resources for part in parts):
                found[sum_of] = sum(resources.get(part, 0.0) for part in parts)
        loads[minute] = {
            name: round(value if known is None else min(value, known.get(name, 0.0)), 6)
            for name, value in found.items()
        }
        return loads

    def _place(self, each: Any, now: int) -> dict[str, Any]:
        known, end = self.places.get(str(each.partition)), each.position + each.waiting
        moved = known is None or known["position"] != each.position or not each.waiting
        came = known is None or known["end"] != end
        return {
            "position": each.position,
            "end": end,
            "waiting": each.waiting,
            "seconds": each.seconds,
            "since": now if moved or known is None else known["since"],
            "came": now if came or known is None else known["came"],
        }

    def forgotten(self, now: int) -> bool:
        """Say whether it has been gone for so long that nobody asks for it."""
        return now - self.at > DAY_MS


@dataclass(frozen=True, slots=True)
class Group:
    """The slots of one arm."""

    name: str
    slots: tuple[Slot, ...]

    def counted(self, name: str, now: int, window_ms: int) -> int:
        """Return how many the slots counted in the window."""
        return sum(
            counts.get(name, 0)
            for slot in self.slots
            for minute, counts in slot.minutes.items()
            if int(minute) + MINUTE_MS > now - window_ms
        )

    def living(self, now: int, silent_ms: int) -> tuple[Slot, ...]:
        """Return the slots that have spoken lately and did not end."""
        return tuple(slot for slot in self.slots if now - slot.at <= silent_ms and slot.state not in ENDED)
