"""How many slots a deployment needs: what its slots say of their load in, a number with its reasons out. Pure.

Needed are as many slots as what arrives takes at the utilization that is aimed at, or more where what waits would not
be drained in time. Up is quick: a few seconds of evidence. Down is slow: nothing in a whole window may have asked for
more. Between the two is room, so that a load near the edge changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.vitals import Vitals

FRESH_SECONDS = 5.0  # vitals that are older are those of a slot that is not there
STUCK_SECONDS = 60.0  # a loop that did not come round for so long serves nobody
SETTLING_SECONDS = 5.0  # after a rebalance or a swap, before what a slot says means something
STARTING_SECONDS = 60.0  # that a slot may take until it reads; then it is counted as lost
UP_SECONDS = 3.0  # of evidence before slots are added
ROOM = 0.1  # of the slots needed, by which they may be too few or too many before anything is changed
AT_HAND_SECONDS = 1.0  # what is scored within this is no backlog, but what is being worked on
QUOTA = "quota"  # the one cause of holding back that more slots help against


@dataclass(frozen=True, slots=True)
class Load:
    """What the slots of one group say together.

    slots: that run. idle: those of them without a partition. read: partitions that the others have, of those of the
    input (partitions). lag: events not committed, of all. arriving, scored: events a second, of all; None while not
    known. capacity: events a second of one slot, on average; None before enough were scored. slowdown: of the
    slowest slot. held: causes for which a slot holds events back. settled: seconds since partitions or revision of a
    slot changed.
    """

    slots: int
    idle: int
    read: int
    partitions: int
    lag: int
    arriving: float | None
    scored: float | None
    capacity: float | None
    slowdown: float | None
    held: tuple[str, ...]
    settled: float

    @property
    def drain_seconds(self) -> float | None:
        """Until no event waits, at the present rates; inf: never, None: not known."""
        if not self.lag:
            return 0.0
        if self.scored is None or self.arriving is None:
            return None
        if self.lag <= self.scored * AT_HAND_SECONDS:
            return self.lag / self.scored
        drained = self.scored - self.arriving
        return self.lag / drained if drained > 0 else math.inf

    @property
    def utilization(self) -> float | None:
        """What the slots score, of what they could."""
        if self.scored is None or not self.capacity:
            return None
        return min(1.0, self.scored / (self.capacity * self.slots))

    def told(self) -> dict[str, object]:
        """Return the signals by name, as JSON can say them: `inf` as text."""
        drain = self.drain_seconds
        return {
            "slots": self.slots,
            "partitions": self.partitions,
            "lag": self.lag,
            "drain_seconds": "inf" if drain == math.inf else _rounded(drain),
            "arriving": _rounded(self.arriving),
            "scored": _rounded(self.scored),
            "capacity": _rounded(self.capacity),
            "utilization": _rounded(self.utilization),
            "slowdown": _rounded(self.slowdown),
            "held": list(self.held),
        }

    def __str__(self) -> str:
        drain = self.drain_seconds
        when = "" if drain is None else ", never drained" if drain == math.inf else f", drained in {drain:,.0f} s"
        could = f"a slot can score {_said(self.capacity)}/s"
        if self.capacity is None:
            could = "what a slot can score is not known yet"
        used = "" if self.utilization is None else f": utilization {self.utilization:.0%}"
        slow = "" if self.slowdown is None else f"; slow-down {self.slowdown:.1f}"
        return (
            f"{self.lag:,} events wait{when}; {_said(self.arriving)}/s arrive, {_said(self.scored)}/s are scored, "
            f"{could}{used}{slow}"
        )


def load_of(
    vitals: Sequence[Vitals], now_ms: float, fresh_seconds: float = FRESH_SECONDS, lag: int | None = None
) -> Load | None:
    """Return what the slots say together; None where none of them reads.

    lag: by the brokers' offsets, taken where partitions are read by nobody.
    """
    recent = [each for each in vitals if now_ms - each.at_ms <= 1000 * fresh_seconds]
    fresh = [each for each in recent if each.joined and each.turned < STUCK_SECONDS]
    if not fresh:
        return None
    read = sum(each.partitions for each in fresh)
    partitions = max(each.topic_partitions for each in fresh)
    own = sum(each.lag for each in fresh)
    capacities = [each.capacity for each in fresh if each.capacity]
    return Load(
        slots=len(fresh),
        idle=sum(not each.partitions for each in fresh),
        read=read,
        partitions=partitions,
        lag=own if lag is None or read >= partitions else max(own, lag),
        arriving=_sum([each.arriving for each in fresh if each.partitions]),
        scored=_sum([each.scored for each in fresh if each.partitions]),
        capacity=sum(capacities) / len(capacities) if capacities else None,
        slowdown=max((each.slowdown for each in fresh if each.slowdown is not None), default=None),
        held=tuple(sorted({cause for each in fresh for cause in each.held})),
        settled=min(each.settled for each in fresh),
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _said(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


@dataclass(frozen=True, slots=True)
class Targets:
    """least, most: slots. lag_seconds: in which what waits is to be drained. utilization: of what a slot can score.

    slowdown: of model runs, above which no slot is added; None: never mind. down_seconds: without need for a slot until
    it goes.
    """

    least: int = 1
    most: int = 1
    lag_seconds: float = 30.0
    utilization: float = 0.7
    slowdown: float | None = None
    down_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen at a moment. at: seconds of any origin. slots: that there are to be. load: of those that read.

    missing: seconds for which some of them have not been reading; 0 where all do.
    """

    at: float
    slots: int
    load: Load | None
    missing: float = 0.0


@dataclass(frozen=True, slots=True)
class History:
    """What was recommended since the number of slots last changed, oldest first: when, and how many."""

    asked: tuple[tuple[float, int], ...] = ()

    def with_one(self, at: float, slots: int, keep: float) -> History:
        """Return it with one more, without those that are older than the newest one before the last `keep` seconds."""
        asked = (*self.asked, (at, slots))
        first = max((place for place, (when, _) in enumerate(asked) if when <= at - keep), default=0)
        return History(asked[first:])

    def over(self, at: float, seconds: float) -> list[int] | None:
        """Return what was recommended in the last so many seconds; None where that was not looked at for so long."""
        if not self.asked or self.asked[0][0] > at - seconds:
            return None
        return [slots for when, slots in self.asked if when >= at - seconds]


@dataclass(frozen=True, slots=True)
class Decision:
    """How many slots are wanted, and why. history: for the next decision, as long as the number of slots stays."""

    slots: int
    wanted: int
    why: str
    history: History = field(default_factory=History)


def needed(load: Load, targets: Targets) -> float | None:
    """Return how many slots the load takes, as a fraction; None where what is known does not tell."""
    if load.arriving is None or load.scored is None:
        return None
    if load.capacity is None:
        return 0.0 if not load.lag else None
    backlog = max(0.0, load.lag - load.scored * AT_HAND_SECONDS)
    steady = load.arriving / (load.capacity * targets.utilization)
    draining = (load.arriving + backlog / targets.lag_seconds) / load.capacity
    return max(steady, draining)


def decide(targets: Targets, sight: Sight, history: History) -> Decision:
    """Return how many slots are wanted. Within the targets' bounds whatever is seen, and never more than partitions."""
    bounded = max(targets.least, min(targets.most, sight.slots))
    if bounded != sight.slots:
        return Decision(sight.slots, bounded, f"at least {targets.least} and at most {targets.most} slots are declared")
    load = sight.load
    if load is None or (waits := _waits(load, sight)):
        return Decision(sight.slots, sight.slots, "no slot reads yet" if load is None else waits, history)
    wants = needed(load, targets)
    if wants is None:
        return Decision(sight.slots, sight.slots, f"rates are not known yet: {load}", history)
    lost = max(0, sight.slots - load.slots)  # what reads has to do without them
    asked = _recommended(wants, sight.slots - lost) + lost
    most = min(targets.most, load.partitions + lost)
    asked = max(targets.least, min(most, asked))
    if load.idle:
        asked = max(targets.least, min(asked, sight.slots - load.idle))
    history = history.with_one(sight.at, asked, max(UP_SECONDS, targets.down_seconds))
    wanted, why = _stable(targets, sight, load, history)
    text = f"{load}; {wants:.2f} slots are needed{f' besides {lost} that do not read' if lost else ''}{why}"
    return Decision(sight.slots, wanted, text, history)


def _waits(load: Load, sight: Sight) -> str:
    """Return why this is no moment to decide, empty where it is one."""
    if load.slots < sight.slots and sight.missing < STARTING_SECONDS:
        return f"{load.slots} of {sight.slots} slots read: the others are starting"
    if load.settled < SETTLING_SECONDS:
        return "partitions or revision changed a moment ago"
    if held := [cause for cause in load.held if cause != QUOTA]:
        return f"events are held back ({', '.join(held)}): more slots or fewer would not help"
    return ""


def _recommended(wants: float, slots: int) -> int:
    """Return the slots to have, the present number where it is within ROOM of what is needed."""
    if math.ceil(wants / (1 + ROOM)) > slots:
        return math.ceil(wants)
    return min(slots, max(1, math.ceil(wants / (1 - ROOM))))


def _stable(targets: Targets, sight: Sight, load: Load, history: History) -> tuple[int, str]:
    """Return the slots that the history agrees on, and what kept them from being others."""
    slots, latest = sight.slots, history.asked[-1][1]
    if latest > slots:
        if targets.slowdown is not None and (load.slowdown or 0.0) > targets.slowdown:
            return slots, f", but above a slow-down of {targets.slowdown:g} more would share what this machine has"
        asked = history.over(sight.at, UP_SECONDS)
        wanted = min(min(asked), 2 * slots) if asked is not None else slots
        return max(slots, wanted), ""
    if latest < slots:
        asked = history.over(sight.at, targets.down_seconds)
        if asked is None or max(asked) >= slots:
            return slots, f", and not for {targets.down_seconds:g} s yet"
        return max(max(asked), math.ceil(slots / 2)), ""
    return slots, f"; the input has {load.partitions} partitions" if slots >= load.partitions else ""
