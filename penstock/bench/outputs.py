"""What came out of a system that was measured: complete, once, in order, with the right scores? Pure.

Every system passes the key of an event on, which is its number: so an output names its event, whatever else a system
can tell of where it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Times = npt.NDArray[np.float64]
MIDDLE_MS = 300.0  # that the middle must last for its throughput to tell something
TOLERANCE = 1e-4  # of a score: other builds of onnxruntime, and doubles beside floats


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of a topic, partition after partition, each in the order of its log.

    event: number of the event, -1 for a key that is none; partition: of the output; appended: when, in ms since 1970.
    """

    event: Numbers
    partition: Numbers
    appended: Times


@dataclass(frozen=True, slots=True)
class Checked:
    """lost: events without an output; repeated: outputs of an event beyond its first; reordered: first outputs behind
    that of a later event of their source partition in the same output partition; unknown: outputs of no event; wrong:
    outputs of a sample with another score than the model's.
    """

    events: int
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    unknown: int = 0
    wrong: int = 0

    def __str__(self) -> str:
        names = ("lost", "repeated", "reordered", "unknown", "wrong")
        found = [f"{getattr(self, name):,} {name}" for name in names if getattr(self, name)]
        return ", ".join(found) or "exact"

    @property
    def exact(self) -> bool:
        return str(self) == "exact"


def numbers(keys: Sequence[bytes]) -> Numbers:
    """Return the events of keys, which are decimal numbers; -1 for what is none."""
    try:
        return np.array(keys, "S").astype(np.int64)
    except ValueError:
        return np.array([int(key) if key.isdigit() else -1 for key in keys], np.int64)


def check(outputs: Outputs, events: int, partitions: int, wrong: int = 0) -> Checked:
    """Compare outputs with the events 0 to `events` - 1."""
    known = (outputs.event >= 0) & (outputs.event < events)
    event, target = outputs.event[known], outputs.partition[known]
    counts = np.bincount(event, minlength=events)
    _, first = np.unique(event, return_index=True)
    first.sort()
    event, target = event[first], target[first]
    return Checked(
        events,
        lost=int(np.sum(counts == 0)),
        repeated=int(np.sum(counts[counts > 1] - 1)),
        reordered=_reordered(event, target.astype(np.int64) * partitions + event % partitions, events),
        unknown=int(np.sum(~known)),
        wrong=wrong,
    )


def _reordered(event: Numbers, group: Numbers, events: int) -> int:
    """Count the events (below `events`) that come behind a later one of their group."""
    order = np.argsort(group, kind="stable")
    placed = event[order] + group[order] * events  # so a group is behind all of the one before
    return int(np.sum(placed[1:] < np.maximum.accumulate(placed)[:-1]))


def wrong_scores(events: Sequence[int], scores: Sequence[float], expected: Sequence[float]) -> int:
    """Count the scores that are not those expected; expected: of event i at i modulo its length."""
    due = np.array(expected)[np.array(events, np.int64) % len(expected)]
    return int(np.sum(~np.isclose(np.array(scores, np.float64), due, rtol=TOLERANCE, atol=TOLERANCE)))


def throughput(outputs: Outputs) -> tuple[float, float, float]:
    """Return outputs a second of the middle, and when that part began and ended, in ms.

    It begins after the longest wait for an output between 10 % and 30 % of them, and ends after the longest between
    70 % and 90 %: where a system commits few and large batches, from the end of one to the end of another, for what was
    committed late was scored early. NaN where there are too few, or the middle was committed in one go.
    """
    if len(outputs.appended) < 100:
        return float("nan"), float("nan"), float("nan")
    times = np.sort(outputs.appended)
    low, high = _after_a_wait(times, 0.1, 0.3), _after_a_wait(times, 0.7, 0.9)
    began, ended = float(times[low]), float(times[high])
    rate = (high - low) / (ended - began) * 1000 if ended - began >= MIDDLE_MS else float("nan")
    return rate, began, ended


def _after_a_wait(times: Times, least: float, most: float) -> int:
    """Return the place after the longest wait among those from a share of them to another."""
    first, last = int(len(times) * least), int(len(times) * most)
    return first + int(np.argmax(np.diff(times[first - 1 : last])))
