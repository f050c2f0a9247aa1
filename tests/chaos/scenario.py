"""A scenario is data: brokers, slots, load, faults with their times, and what must come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.chaos.events import Events
from tests.chaos.load import Step

GOOD = Events()


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that begins `at` seconds after the load; `lasts` for those that must be ended again."""

    at: float
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    lasts: float = 0.0

    def __str__(self) -> str:
        details = [f"{name} {value}" for name, value in self.arguments.items()]
        details += [f"for {self.lasts:g} s"] if self.lasts else []
        return f"{self.kind.replace('_', ' ')}{' (' + ', '.join(details) + ')' if details else ''}"


@dataclass(frozen=True, slots=True)
class Expect:
    """What a run must show; None: not asked.

    broken: of a negative control, the kinds of problems of which one must be found; empty: none at all may be found.
    complete: False where a control is so broken that it need not come to an end.
    stuck: seconds that an event may wait beyond its fault's end. recovery: seconds until the partitions of a slot that
    was hit speak again, `elsewhere`: p99 in seconds of the other partitions meanwhile, `held`: their longest wait.
    drain: seconds from the end of the load to the last result. calm_p95: seconds, of events away from every fault.
    step_drain, step_p95: seconds from the end of a rise of the load to its last result, and the p95 of events after
    that. growth: of a worker's resident memory, as a ratio; files: that it opens and keeps over its life. gone:
    retention must have taken some events, and the workers must have counted exactly these.
    tolerated: breakages that the mode does not exclude. versions: how many must have scored. said: what some worker's
    log must say. exits: workers end by themselves with each of these statuses, and with no other. restarts: how often
    workers may make their clients anew.
    """

    broken: tuple[str, ...] = ()
    complete: bool = True
    stuck: float | None = 30.0
    recovery: float | None = None
    elsewhere: float | None = None
    held: float | None = None
    drain: float = 120.0
    calm_p95: float | None = None
    step_p95: float | None = None
    step_drain: float | None = None
    growth: float | None = None
    files: float | None = None
    gone: bool = False
    tolerated: tuple[str, ...] = ()
    versions: int = 1
    said: tuple[str, ...] = ()
    exits: tuple[int, ...] = ()
    restarts: float | None = None

    def patient(self, times: float) -> Expect:
        """Return the same with limits of time that are so many times as long, for machines that do other things too."""
        limits: dict[str, Any] = {name: value * times for name in TIMES if (value := getattr(self, name))}
        return replace(self, **limits)


TIMES = ("stuck", "recovery", "elsewhere", "held", "drain", "calm_p95", "step_p95", "step_drain")


@dataclass(frozen=True, slots=True)
class Hurts:
    """What a run of the monitor suffers, a fault every so many seconds. flags: of its processes, for a control."""

    seed: int = 1
    kills: int = 15
    terms: int = 5
    freezes: int = 3
    brokers: int = 1
    every: float = 6.0
    flags: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long the faults take."""
        return self.every * (self.kills + self.terms + self.freezes + self.brokers)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run.

    brokers: 1 or 3. proxied: workers reach the brokers through proxies. limit: events at most (0: as the steps say).
    settings: the workers' environment. declared: what differs in the deployment. broken: what tests.chaos.wrapped
    breaks in the workers, for controls. isolation: of the reader. registry: events come in Confluent framing, and their
    schema from a registry. outputs: partitions of the output topic (0: as many as the input has). output_bytes: its
    max.message.bytes (0: the broker's). supervised: the slots run under `penstock worker --slots N --supervise`.
    hurts: it is a run of the monitor, and of tests.chaos.monitor_run; None: of workers.
    """

    name: str
    about: str
    load: tuple[Step, ...]
    faults: tuple[Fault, ...] = ()
    expect: Expect = Expect()
    events: Events = GOOD
    brokers: int = 1
    partitions: int = 12
    outputs: int = 0
    slots: int = 3
    proxied: bool = False
    limit: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)
    broken: str | None = None
    isolation: str = "read_committed"
    registry: bool = False
    stepped: bool = False
    tiny_disk: bool = False
    output_bytes: int = 0
    supervised: bool = False
    hurts: Hurts | None = None
    short: bool = False
    long: bool = False

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.load) + (self.hurts.seconds if self.hurts else 0.0)
