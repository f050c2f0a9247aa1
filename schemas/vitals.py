"""What a slot says of its load once a second: what autoscaling is decided by, here and elsewhere.

Written to a file beside the slot's lock, for the supervisor on the same machine, and into the slot's status record, for
everybody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from schemas.errors import RecordInvalid


@dataclass(frozen=True, slots=True)
class Wait:
    """One partition of a slot: the offset before which all is decided, the events behind it, the age of the oldest."""

    partition: int
    position: int
    waiting: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Vitals:
    """The load of one slot.

    at_ms: when, in ms since 1970. process: its id. partitions: that the slot reads, of those that the input topic has.
    lag: events of its partitions that are not committed. arriving, scored: events a second over the last seconds; None
    while not known. capacity: events a second that it could score, quotas included. slowdown: how many times as long
    model runs take as by themselves (95th percentile). row_seconds: of the version by itself. cpu: cores that it uses.
    memory: resident bytes; both None where the system does not tell. held: causes for which it holds events back.
    settled: seconds for which partitions and revision have been what they are; 0 while another revision is made ready.
    turned: seconds since its loop last came round. joined: it is a member of its group. counts: events, inferences,
    fallbacks, dead_letters, late and lost since the process began, and dead_letters.ARM of arms that score every event
    beside the others; of arms that share the events events.ARM, failed.ARM (those that its model did not score), and
    the runs.ARM of its model with the microseconds that they took, micros.ARM. resources: shares of what it may use
    (cpu, memory, gpu, gpu_memory) and bytes a second (disk_read, disk_written, received, sent), those that are known.
    circuits: arms whose model is not called because it keeps failing. waits: its partitions.
    """

    at_ms: int
    process: int
    partitions: int
    topic_partitions: int
    lag: int
    arriving: float | None = None
    scored: float | None = None
    capacity: float | None = None
    slowdown: float | None = None
    row_seconds: float | None = None
    cpu: float | None = None
    memory: int | None = None
    held: tuple[str, ...] = ()
    settled: float = 0.0
    turned: float = 0.0
    joined: bool = True
    counts: Mapping[str, int] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    circuits: tuple[str, ...] = ()
    waits: tuple[Wait, ...] = ()

    @property
    def utilization(self) -> float | None:
        """What the slot scores, of what it could; above 1 it cannot be."""
        if self.scored is None or not self.capacity:
            return None
        return min(1.0, self.scored / self.capacity)

    def to_line(self) -> bytes:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """Return it from plain values. Raises KeyError, TypeError."""
        waits = tuple(Wait(**each) for each in found["waits"])
        lists = {name: tuple(found[name]) for name in ("held", "circuits")}
        return cls(**{**found, **lists, "waits": waits})

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read `to_line`. Raises RecordInvalid when it is none, or one of another release."""
        try:
            return cls.of(json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            raise RecordInvalid(f"no vitals of a slot: {line[:200]!r} ({error!r})") from error
