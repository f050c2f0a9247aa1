"""Random schedules that a seed reproduces: how many faults of which kind, spread over a time."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.chaos.scenario import Fault

BROKER_KINDS = (
    "kill_broker",
    "stop_broker",
    "kill_leader",
    "kill_coordinator",
    "move_leaders",
    "move_coordinator",
    "pause_broker",
)
SINGLE_BROKER_KINDS = ("kill_broker", "stop_broker")


def schedule(
    seed: int,
    seconds: float,
    *,
    slots: int,
    brokers: int = 1,
    kills: int = 0,
    terms: int = 0,
    pauses: int = 0,
    scales: int = 0,
    broker_faults: int = 0,
    start: float = 3.0,
    spared: int = 0,
) -> tuple[Fault, ...]:
    """Return so many faults of each kind, in the order of their times, evenly spread with some chance.

    scales: changes of the number of slots, away from `slots` and back. spared: slots below this number are frozen but
    never ended, so that what a process keeps over a long life shows.
    """
    chance = random.Random(seed)
    kinds = ["kill"] * kills + ["term"] * terms + ["pause"] * pauses + ["broker"] * broker_faults
    chance.shuffle(kinds)
    kinds = _with_scales(chance, kinds, scales // 2)
    faults, away = [], False
    step = (seconds - start) / max(1, len(kinds))
    for i, kind in enumerate(kinds):
        at = round(start + step * (i + chance.uniform(0.0, 0.8)), 2)
        running = 1 if away else slots  # slots that surely run: a slot that left cannot be hit
        if kind in ("away", "back"):
            away = kind == "away"
            faults.append(Fault(at, "scale", {"to": chance.choice(_others(slots)) if away else slots}))
        else:
            faults.append(_fault(chance, at, kind, running, brokers, spared))
    return tuple(faults)


def _with_scales(chance: random.Random, kinds: list[str], pairs: int) -> list[str]:
    """Put changes of the number of slots between the other faults, each followed by its way back some faults later."""
    mixed: list[str] = []
    for pair in range(pairs):
        block = kinds[len(kinds) * pair // pairs : len(kinds) * (pair + 1) // pairs]
        first = chance.randint(0, len(block) // 2)
        last = min(len(block), first + chance.randint(1, 3))
        mixed += [*block[:first], "away", *block[first:last], "back", *block[last:]]
    return mixed if pairs else kinds


def _others(slots: int) -> Sequence[int]:
    return [count for count in range(1, slots + 2) if count != slots]


def _fault(chance: random.Random, at: float, kind: str, slots: int, brokers: int, spared: int) -> Fault:
    slot = str(chance.randrange(slots))
    if kind in ("kill", "term") and int(slot) < spared:
        kind, slot = (kind, str(chance.randrange(spared, slots))) if slots > spared else ("pause", slot)
    if kind == "kill":
        return Fault(at, "kill", {"slot": slot, "again": round(chance.choice([0.0, 0.0, 0.5, 2.0]), 1)})
    if kind == "term":
        return Fault(at, "term", {"slot": slot})
    if kind == "pause":
        return Fault(at, "pause", {"slot": slot}, lasts=round(chance.choice([3.0, 9.0, 14.0]), 1))
    return broker_fault(chance, at, brokers)


def broker_fault(chance: random.Random, at: float, brokers: int) -> Fault:
    """Return a fault of a broker that it survives."""
    kind = chance.choice(BROKER_KINDS if brokers > 1 else SINGLE_BROKER_KINDS)
    if kind in ("kill_broker", "stop_broker"):
        lasts = round(chance.uniform(1.0, 6.0), 1)
        return Fault(at, kind, {"node": chance.randrange(brokers)}, lasts=lasts)
    if kind == "pause_broker":  # longer than its session: the others take over, and it wakes up as a zombie
        return Fault(at, kind, {"node": chance.randrange(brokers)}, lasts=round(chance.uniform(6.0, 12.0), 1))
    if kind in ("kill_leader", "kill_coordinator"):
        return Fault(at, kind, {"of": chance.choice(("group", "transactions"))} if "coord" in kind else {}, lasts=4.0)
    return Fault(at, kind, {"of": chance.choice(("group", "transactions"))} if "coord" in kind else {})
