"""What the slots of each group say together, with the brokers' word on partitions that nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from schemas.control import State, Status
from schemas.errors import RecordInvalid
from streams.errors import Refused
from streams.reading import TopicReader
from streams.scaling import FRESH_SECONDS, Load, load_of
from streams.statuses import SILENT_SECONDS


@dataclass(frozen=True, slots=True)
class Group:
    """One consumer group of a deployment. arm: whose workers it is of. load: None where no slot reads.

    lag: events that are not committed; None where neither slots nor brokers tell. paused: slots keep their places, and
    what they said of their load while they scored is over.
    """

    deployment: str
    arm: str
    load: Load | None
    lag: int | None
    paused: bool = False

    def told(self) -> dict[str, Any]:
        """Return it as JSON can say it."""
        signals = self.load.told() if self.load is not None else {"slots": 0, "lag": self.lag}
        return {"deployment": self.deployment, "arm": self.arm, "paused": self.paused, **signals}

    def __str__(self) -> str:
        if self.load is not None:
            return str(self.load)
        waits = "" if self.lag is None else f"; {self.lag:,} events wait"
        return ("paused" if self.paused else "no slot reads") + waits


def groups(
    kafka: Mapping[str, str], states: Mapping[str, State], statuses: Iterable[Status], now: float
) -> list[Group]:
    """Return the load of each group of these deployments. now: seconds since 1970."""
    told = list(statuses)
    found = []
    for state in states.values():
        try:
            deployment, _ = state.content()
        except RecordInvalid:  # of a newer release
            continue
        for arm, group in deployment.groups.items():
            mine = [each for each in told if (each.deployment, each.group) == (state.deployment, group)]
            lag = partial(offsets_lag, kafka, deployment.input.topic, group)
            found.append(_group(state, arm, mine, now, lag))
    return found


def _group(state: State, arm: str, statuses: Iterable[Status], now: float, lag: Callable[[], int | None]) -> Group:
    """Return the load of a group. lag: asks the brokers, where the slots do not tell all."""
    if state.paused:
        return Group(state.deployment, arm, None, lag(), paused=True)
    vitals = [each.vitals for each in statuses if each.vitals is not None and each.state != "stopped"]
    fresh = SILENT_SECONDS + FRESH_SECONDS
    load = load_of(vitals, now * 1000, fresh)
    if load is not None and load.read >= load.partitions:
        return Group(state.deployment, arm, load, load.lag)
    asked = lag()
    load = load_of(vitals, now * 1000, fresh, asked)
    return Group(state.deployment, arm, load, asked if load is None else load.lag)


def offsets_lag(kafka: Mapping[str, str], topic: str, group: str) -> int | None:
    """Return the offsets of a topic that a group has not committed; None where the brokers do not tell.

    Markers of transactions count. A partition of which nothing is committed counts whole.
    """
    reader = TopicReader(kafka, group)
    try:
        ends = reader.ends(topic)
        committed = reader.committed(topic, ends)
    except Refused:
        return None
    finally:
        reader.close()
    return sum(max(0, high - max(low, committed.get(partition, low))) for partition, (low, high) in ends.items())
