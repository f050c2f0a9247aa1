"""Tells a supervisor how many slots to run: looks at their vitals once a second, says each decision with its reasons.

Knows no Kafka: what the slots on this machine say of themselves is in files beside their locks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from schemas.vitals import Vitals
from streams.scaling import Decision, History, Load, Sight, Targets, decide, load_of
from streams.vitals import read, vitals_path

log = logging.getLogger(__name__)

REMIND_SECONDS = 60.0  # after which a decision that changes nothing is said again


class Autoscaler:
    """Called with the processes of the slots that there are to be, returns how many there are to be from now on.

    read: the vitals of a slot by its name, None where it has none. clock: seconds since 1970; monotonic: of any origin.
    """

    def __init__(
        self,
        targets: Targets,
        read: Callable[[str], Vitals | None],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._targets, self._read, self._clock, self._monotonic = targets, read, clock, monotonic
        self._watch = Watch(targets)
        self._said, self._last = float("-inf"), (0, 0)

    def __call__(self, processes: Mapping[str, int | None]) -> int:
        found = {name: self._read(name) for name in processes}
        vitals = [each for name, each in found.items() if each is not None and each.process == processes[name]]
        decision = self._watch.look(load_of(vitals, self._clock() * 1000), len(processes), self._monotonic())
        self._say(decision)
        return decision.wanted

    def _say(self, decision: Decision) -> None:
        now, before = self._monotonic(), self._last
        self._last = decision.slots, decision.wanted
        if self._last == before and now - self._said < REMIND_SECONDS:
            return
        if decision.wanted != decision.slots:
            log.info("slots: %d -> %d: %s", decision.slots, decision.wanted, decision.why)
        elif now - self._said >= REMIND_SECONDS:
            log.info("slots: %d: %s", decision.slots, decision.why)
        else:
            return
        self._said = now


class Watch:
    """Decides look after look: keeps what the next decision needs to know of those before."""

    def __init__(self, targets: Targets) -> None:
        self._targets, self._history = targets, History()
        self._slots: int | None = None
        self._complete = 0.0  # when all slots were last seen to read

    def look(self, load: Load | None, slots: int, now: float) -> Decision:
        """Return the decision. slots: that there are to be. now: seconds of any origin."""
        if slots != self._slots:  # what was recommended for another number says little; those that come have to start
            self._slots, self._complete, self._history = slots, now, History()
        if load is not None and load.slots >= slots:
            self._complete = now
        decision = decide(self._targets, Sight(now, slots, load, now - self._complete), self._history)
        self._history = decision.history
        return decision


def files(folder: Path, group: str) -> Callable[[str], Vitals | None]:
    """Return what reads the vitals of a group's slots from the folder of the slots."""
    return lambda slot: read(vitals_path(folder, f"{group}.{slot}"))


def slots_in(folder: Path, group: str) -> list[Vitals]:
    """Return the vitals of all slots of a group that note them in the folder of the slots."""
    paths = sorted(folder.glob("*.vitals"))
    mine = [path for path in paths if path.name.removesuffix(".vitals").rpartition(".")[0] == group]
    return [found for path in mine if (found := read(path)) is not None]
