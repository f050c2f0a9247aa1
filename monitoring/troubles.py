"""What can be wrong with the workers of an arm, judged from the last words of its slots; pure.

Each trouble is a finding of its own, made at every look, so that what is calm again is said as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from monitoring.advice import clock
from monitoring.alerts import Explanation, Finding
from monitoring.slots import BESIDE, DAY_MS, ENDED, MINUTE_MS, Group, Slot

RESTING = (*ENDED, "paused", "starting")


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
    yield from _ages(living, limits.model_days, limits.training_days, now)
    yield from _loads(living, limits, now)
    if limits.no_traffic_seconds is not None:
        yield "traffic", _traffic(living, limits.no_traffic_seconds, now)


def _finding(
    wrong: bool, size: float, threshold: float, start: int, now: int, told: Explanation, critical: bool, rows: int = 0
) -> Finding:
    """Return the finding of a look: wrong or calm."""
    return Finding(wrong, not wrong, size, threshold, rows, start, now, lambda: told, critical, size)


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
    return _finding(wrong, seconds, limits.silent_seconds, start, now, told, True)


def _refusals(living: tuple[Slot, ...], now: int) -> Finding:
    refusing = [slot for slot in living if slot.refused is not None]
    told = Explanation(
        f"{len(refusing)} of {len(living)} slots refuse revision {refusing[0].refused}: {refusing[0].detail}"
        if refusing
        else "no slot refuses what control asks for",
        action="What ran before goes on. Mend what it says and apply again, or `penstock rollback`.",
    )
    return _finding(bool(refusing), len(refusing), 1, now, now, told, True)


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
    return _finding(bool(arms), len(arms), 1, now, now, told, True)


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
    return _finding(bool(found), len(found), 1, start, now, told, True)


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
    return _finding(bool(found), most, limits.lag_seconds, now - round(most * 1000), now, told, False)


def _lost(lost: int, window: int, now: int) -> Finding:
    told = Explanation(
        f"{lost:,} events were removed by retention before they were scored" if lost else "no event is lost any more",
        action="They cannot be scored any more. Give the input topic a longer retention than the longest pause, and "
        "find out why scoring was behind.",
    )
    return _finding(lost > 0, lost, 1, now - window, now, told, True)


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
    return _finding(wrong, round(share, 6), most, start, now, told, share > 10 * most, events)


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
    return _finding(bool(found), len(found), 1, start, now, told, False)


def _ages(
    living: tuple[Slot, ...], model_days: float | None, training_days: float | None, now: int
) -> Iterator[tuple[str, Finding]]:
    """Yield whether versions that score, or what they were trained on, are too old; of what is not known, nothing."""
    for name, days, place in (("model_age", model_days, 2), ("training_age", training_days, 3)):
        if days is None:
            continue
        known = {(arm[0], arm[1]): int(arm[place]) for slot in living for arm in slot.running if arm[place] is not None}
        late = {whose: since for whose, since in known.items() if now - since > days * DAY_MS}
        oldest = min(late.values(), default=now)
        age = (now - oldest) / DAY_MS
        told = Explanation(_aged(name, sorted(late), age, days), action=ACTIONS[name])
        start = oldest + round(days * DAY_MS) if late else now
        yield name, _finding(bool(late), round(age, 3), days, start, now, told, False)


def _aged(name: str, late: list[tuple[str, str]], age: float, days: float) -> str:
    if not late:
        return "nothing that scores is too old"
    whose = ", ".join(f"{ref} of the arm {arm}" for arm, ref in late[:3]) + (" and more" if len(late) > 3 else "")
    what = "was made" if name == "model_age" else "was trained on events that ended"
    return f"{whose} {what} {age:,.1f} days ago; {days:g} may pass"


ACTIONS = {
    "model_age": "Train a new version, or raise monitor.operations.model_days where this one is still right; "
    "`penstock quality` says how good it is.",
    "training_age": "Train on newer events; `penstock alerts list` says what has moved since.",
}


def _loads(living: tuple[Slot, ...], limits: Thresholds, now: int) -> Iterator[tuple[str, Finding]]:
    """Yield whether a slot has taken more of a resource than it may for the whole window."""
    for name, most in (
        ("cpu", limits.cpu),
        ("memory", limits.memory),
        ("disk", limits.disk_bytes),
        ("network", limits.network_bytes),
        ("gpu", limits.gpu),
        ("gpu_memory", limits.gpu_memory),
    ):
        if most is not None:
            yield name, _load(living, name, float(most), limits.window_seconds, now)


def _load(living: tuple[Slot, ...], name: str, most: float, seconds: int, now: int) -> Finding:
    start = now - seconds * 1000
    taken = {slot.name: _least(slot, name, start) for slot in living}
    over = {slot: least for slot, least in taken.items() if least is not None and least > most}
    worst = max(over, key=lambda slot: (over[slot], slot), default="")
    told = Explanation(
        f"slot {worst} has taken {_amount(name, over[worst])} of {WORDS[name]} or more for {seconds} s; "
        f"{_amount(name, most)} may be taken" + (f"; so have {len(over) - 1} other slots" if len(over) > 1 else "")
        if over
        else f"no slot takes too much of {WORDS[name]}",
        action="`penstock status` shows the load of each slot. Start more slots or machines, raise its quota, or see "
        "what else runs there.",
    )
    return _finding(bool(over), over.get(worst, 0.0), most, start, now, told, False)


def _least(slot: Slot, name: str, start: int) -> float | None:
    """Return the least that a slot took in any minute since; None where it was not there all the time."""
    minutes = sorted(int(minute) for minute in slot.loads if int(minute) > start)
    if not minutes or minutes[0] > start + MINUTE_MS:
        return None
    return min(slot.loads[str(minute)].get(name, 0.0) for minute in minutes)


WORDS = {
    "cpu": "its CPU",
    "memory": "its memory",
    "disk": "the disk",
    "network": "the network",
    "gpu": "a GPU",
    "gpu_memory": "a GPU's memory",
}


def _amount(name: str, value: float) -> str:
    return f"{value / 1e6:,.1f} MB/s" if name in ("disk", "network") else f"{value:.0%}"


def _partitions(found: dict[int, Any]) -> str:
    shown = sorted(found)
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return f"partition{'' if len(shown) == 1 else 's'} {', '.join(map(str, shown[:8]))}{more}"
