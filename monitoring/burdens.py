"""What wears on an arm's workers: versions and training data that are too old, resources of which too much is taken.

Pure, from the last words of slots, as all of monitoring.troubles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from monitoring.alerts import Explanation, Finding

if TYPE_CHECKING:
    from monitoring.troubles import Slot, Thresholds

MINUTE_MS = 60_000
DAY_MS = 86_400_000


def finding(
    wrong: bool, size: float, threshold: float, start: int, now: int, told: Explanation, critical: bool, rows: int = 0
) -> Finding:
    """Return the finding of a look: wrong or calm."""
    return Finding(wrong, not wrong, size, threshold, rows, start, now, lambda: told, critical, size)


def ages(
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
        yield name, finding(bool(late), round(age, 3), days, start, now, told, False)


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


def loads(living: tuple[Slot, ...], limits: Thresholds, now: int) -> Iterator[tuple[str, Finding]]:
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
    return finding(bool(over), over.get(worst, 0.0), most, start, now, told, False)


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
