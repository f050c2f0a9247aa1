"""What can be wrong with the workers of an arm, judged from the last words of its slots; pure.

Each trouble is a finding of its own, made at every look, so that what is calm again is said as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from monitoring.advice import clock
from monitoring.alerts import Explanation, Finding
from monitoring.burdens import DAY_MS, MINUTE_MS, ages, finding, loads
from schemas.control import Status

ENDED = ("stopped", "refused")  # states of slots that end in order
RESTING = (*ENDED, "paused", "starting")
BESIDE = "dead_letters."  # begins the counts of arms that score every event beside the others
SUMS = {"disk": ("disk_read", "disk_written"), "network": ("received", "sent")}
Counts = dict[str, int]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From when on something is trouble. Shares are of the events of the window; None: not looked for.

    rows: events that the window must hold for a share of them to mean anything. model_days, training_days: since a
    version was made, and since the last of its training data. From cpu on: what a slot may take for a whole window, as
    shares of its quota or machine, or bytes a second.
    """

    no_traffic_seconds: int | None = None
    silent_seconds: int = 60
    stuck_seconds: int = 120
    lag_seconds: int = 300
    dead_letters: float = 0.01
    fallbacks: float = 0.01
    late: float | None = None
    window_seconds: int = 300
    rows: int = 100
    model_days: float | None = None
    training_days: float | None = None
    cpu: float | None = None
    memory: float | None = None
    disk_bytes: int | None = None
    network_bytes: int | None = None
    gpu: float | None = None
    gpu_memory: float | None = None


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


def troubles(group: Group, limits: Thresholds, now: int) -> Iterator[tuple[str, Finding]]:
    """Yield a finding of everything that is looked for, by its name. now: ms since 1970."""
    window = limits.window_seconds * 1000
    living = group.living(now, limits.silent_seconds * 1000)
    yield "workers", _workers(group, living, limits, now)
    yield "revision", _refusals(living, now)
    yield "circuit", _circuits(living, now)
    yield "stuck", _stuck(living, limits, now)
    yield "lag", _lag(living, limits, now)
    yield "lost", _lost(group.counted("lost", now, window), window, now)
    events = group.counted("events", now, window)
    for name, most in (("dead_letters", limits.dead_letters), ("fallbacks", limits.fallbacks), ("late", limits.late)):
        if most is not None:
            yield name, _share(name, group.counted(name, now, window), events, most, limits, now)
    for arm in sorted({arm for slot in group.slots for arm in slot.beside}):
        count = group.counted(f"{BESIDE}{arm}", now, window)
        yield f"dead_letters of {arm}", _share("dead_letters", count, events, limits.dead_letters, limits, now, arm)
    yield from ages(living, limits.model_days, limits.training_days, now)
    yield from loads(living, limits, now)
    if limits.no_traffic_seconds is not None:
        yield "traffic", _traffic(living, limits.no_traffic_seconds, now)


def _workers(group: Group, living: tuple[Slot, ...], limits: Thresholds, now: int) -> Finding:
    """Nobody scores, though the last to be heard did not end in order."""
    last = max(group.slots, key=lambda slot: slot.at, default=None)
    wrong = last is not None and not living and last.state not in ENDED
    start = last.at if wrong and last is not None else now
    seconds = (now - start) / 1000
    told = Explanation(
        f"nobody scores: no slot has said anything since {clock(start)}" if wrong else "slots speak again",
        action="See whether the workers run and reach Kafka: `penstock status`, then their logs.",
    )
    return finding(wrong, seconds, limits.silent_seconds, start, now, told, True)


def _refusals(living: tuple[Slot, ...], now: int) -> Finding:
    refusing = [slot for slot in living if slot.refused is not None]
    told = Explanation(
        f"{len(refusing)} of {len(living)} slots refuse revision {refusing[0].refused}: {refusing[0].detail}"
        if refusing
        else "no slot refuses what control asks for",
        action="What ran before goes on. Mend what it says and apply again, or `penstock rollback`.",
    )
    return finding(bool(refusing), len(refusing), 1, now, now, told, True)


def _circuits(living: tuple[Slot, ...], now: int) -> Finding:
    arms = sorted({arm for slot in living for arm in slot.circuits})
    slots = sum(bool(slot.circuits) for slot in living)
    told = Explanation(
        f"the model of {', '.join(arms)} keeps failing and is not called now, in {slots} of {len(living)} slots"
        if arms
        else "every model is called again",
        action="Others step in where a fallback is declared. The workers' logs say how it fails; `penstock history` "
        "says since when it is there, `penstock rollback` takes it back.",
    )
    return finding(bool(arms), len(arms), 1, now, now, told, True)


def _stuck(living: tuple[Slot, ...], limits: Thresholds, now: int) -> Finding:
    """Partitions that stand still though something waits, while nobody paused them."""
    found = {
        int(partition): place
        for slot in living
        if slot.state not in RESTING
        for partition, place in slot.places.items()
        if place["waiting"] and now - place["since"] >= limits.stuck_seconds * 1000
    }
    start = min((place["since"] for place in found.values()), default=now)
    told = Explanation(
        f"nothing is scored in {_partitions(found)} since {clock(start)}, though events wait"
        if found
        else "no partition stands still",
        action="A worker that hangs or dies again and again says so in its log; `penstock quarantine` sends an event "
        "on which workers die to the dead letters.",
    )
    return finding(bool(found), len(found), 1, start, now, told, True)


def _lag(living: tuple[Slot, ...], limits: Thresholds, now: int) -> Finding:
    found = {
        int(partition): place["seconds"]
        for slot in living
        if slot.state not in RESTING
        for partition, place in slot.places.items()
        if place["waiting"] and place["seconds"] >= limits.lag_seconds
    }
    most = max(found.values(), default=0.0)
    told = Explanation(
        f"events wait for {most:,.0f} s in {_partitions(found)}" if found else "what comes is scored in time",
        action="Start more slots (`penstock autoscale --dry-run` says how many), or see what slows them down.",
    )
    return finding(bool(found), most, limits.lag_seconds, now - round(most * 1000), now, told, False)


def _lost(lost: int, window: int, now: int) -> Finding:
    told = Explanation(
        f"{lost:,} events were removed by retention before they were scored" if lost else "no event is lost any more",
        action="They cannot be scored any more. Give the input topic a longer retention than the longest pause, and "
        "find out why scoring was behind.",
    )
    return finding(lost > 0, lost, 1, now - window, now, told, True)


NAMES = {
    "dead_letters": ("became dead letters", "`penstock deadletters` shows them with reasons."),
    "fallbacks": ("were scored by another arm than theirs", "The workers' logs and metrics say why others step in."),
    "late": ("were committed later than latency_ms", "See `penstock status` for what the slots wait for."),
}


def _share(name: str, count: int, events: int, most: float, limits: Thresholds, now: int, arm: str = "") -> Finding:
    share = count / events if events else 0.0
    wrong = events >= limits.rows and share > most
    what, action = NAMES[name]
    what += f" of the arm {arm}" if arm else ""
    summary = f"{share:.2%} of {events:,} events {what} in the last {limits.window_seconds} s; {most:.2%} may"
    told = Explanation(summary, action=action)
    start = now - limits.window_seconds * 1000
    return finding(wrong, round(share, 6), most, start, now, told, share > 10 * most, events)


def _traffic(living: tuple[Slot, ...], seconds: int, now: int) -> Finding:
    found = {
        int(partition): place["came"]
        for slot in living
        if slot.state not in RESTING
        for partition, place in slot.places.items()
        if now - place["came"] >= seconds * 1000
    }
    start = min(found.values(), default=now)
    told = Explanation(
        f"no event has come in {_partitions(found)} since {clock(start)}" if found else "events come again",
        action="See whether producers run and write to this topic.",
    )
    return finding(bool(found), len(found), 1, start, now, told, False)


def _partitions(found: dict[int, Any]) -> str:
    shown = sorted(found)
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return f"partition{'' if len(shown) == 1 else 's'} {', '.join(map(str, shown[:8]))}{more}"
