"""What a supervisor tells a worker process that waits for a slot: one line of JSON on its standard input.

The pipe stays open as long as the supervisor lives; its end tells the worker to stop.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streams.offsets import Spans

LOOK_SECONDS = 1.0  # how often a waiting process looks whether it was told to stop
LINE_BYTES = 1 << 20
FROM_STDIN = "-"  # as a slot: a supervisor says which, when it is needed
REMOVED = 6  # exit status that tells a supervisor that control has the deployment no more


@dataclass(frozen=True, slots=True)
class Caution:
    """Events that earlier processes of the slot died on.

    suspects: read in batches of at most `batch_events`. held: nothing is read of the partition from here on, until the
    range is quarantined.
    """

    suspects: Spans = field(default_factory=dict)
    batch_events: int = 1
    held: Spans = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """Take this slot. metrics_port: where to serve its metrics, None not to.

    outgrown: how often processes of the slot ended because they had more memory than their quota.
    """

    slot: str
    metrics_port: int | None = None
    caution: Caution = field(default_factory=Caution)
    outgrown: int = 0

    def to_line(self) -> bytes:
        """Return the order as it goes through the pipe."""
        caution = self.caution
        said = {
            "slot": self.slot,
            "metrics_port": self.metrics_port,
            "suspects": _listed(caution.suspects),
            "batch_events": caution.batch_events,
            "held": _listed(caution.held),
            "outgrown": self.outgrown,
        }
        return json.dumps(said).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Order:
        """Read `to_line`. Raises ValueError when it is none."""
        try:
            said = json.loads(line)
            caution = Caution(_spans(said["suspects"]), int(said["batch_events"]), _spans(said["held"]))
            return cls(str(said["slot"]), said["metrics_port"], caution, int(said["outgrown"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no order of a supervisor: {line[:200]!r} ({error!r})") from None


def await_order(
    pipe: int, stopping: Callable[[], bool], stale: Callable[[], bool], every: float = 30.0
) -> Order | None:
    """Wait for an order; None when the pipe ended, `stopping` came true, or what was made ready is `stale`.

    every: seconds between two looks whether it is. Raises ValueError when something else comes.
    """
    line, looked = b"", time.monotonic()
    while not stopping():
        if time.monotonic() - looked > every:
            if stale():
                return None
            looked = time.monotonic()
        if not select.select([pipe], [], [], LOOK_SECONDS)[0]:
            continue
        part = os.read(pipe, 1 << 16)
        line += part
        if line.endswith(b"\n"):
            return Order.parse(line)
        if not part or len(line) > LINE_BYTES:
            break
    return None


def await_end(pipe: int) -> None:
    """Block until the other end of the pipe is closed, which a supervisor's death does too."""
    while os.read(pipe, 1 << 16):
        pass


def _listed(spans: Spans) -> list[tuple[int, int, int]]:
    return [(partition, first, past) for partition, (first, past) in spans.items()]


def _spans(listed: Any) -> dict[int, tuple[int, int]]:
    return {int(partition): (int(first), int(past)) for partition, first, past in listed}
