"""What waits to be scored: how long the oldest event has waited, and how long it will take until none waits.

Noted per batch and partition, never per message, and judged when the metrics are scraped: the answers go on growing
while the loop is stuck or holds a batch back. Outlives the clients, which are made anew after a failure.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from schemas.vitals import Wait
from streams.batch import Batch

WINDOW_SECONDS = 15.0  # over which rates are taken
SETTLING_SECONDS = 2.0  # before that a rate says nothing
STALE_SECONDS = 5.0  # without a look at the topic's ends the loop is stuck: nothing is drained
AT_HAND_SECONDS = 1.0  # what is scored within this is no backlog, but what is just being worked on


@dataclass(slots=True)
class _Partition:
    """position: all before it is committed. end: of the log. read: what is left before it cannot be read.

    taken: of each batch in hand the record time of its first event in ms and the offset behind its last.
    since: when nothing is in hand and something waits, the record time (ms) that the oldest has at least.
    """

    position: int
    end: int = 0
    read: int = 0
    since: float | None = None
    taken: deque[tuple[float, int]] = field(default_factory=deque)

    def waiting(self) -> int:
        """Events not committed, where transactions' markers that are known as such do not count."""
        in_hand = self.taken[-1][1] if self.taken else self.position
        return max(0, in_hand - self.position) + max(0, self.end - max(in_hand, self.read))

    @property
    def oldest(self) -> float | None:
        """When the oldest event that is not committed was recorded, in ms since 1970; None where none waits."""
        return self.taken[0][0] if self.taken else self.since

    def age(self, now_ms: float) -> float:
        """Return how many seconds ago that was; 0 where none waits."""
        return 0.0 if self.oldest is None else max(0.0, (now_ms - self.oldest) / 1000)

    def give_up(self) -> None:
        """What is in hand is read again later; its age stays."""
        if self.taken:
            self.since = self.taken[0][0]
            self.taken.clear()


class Backlog:
    """The partitions of one slot. Any thread may call. clock: seconds since 1970; monotonic: of any origin."""

    def __init__(self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._lock = threading.Lock()
        self._partitions: dict[int, _Partition] = {}
        self._scored = 0
        self._looked = monotonic()
        self._since: float | None = None  # when partitions were given or taken last
        self._samples: deque[tuple[float, int, int]] = deque()  # monotonic seconds, waiting, scored so far

    def assigned(self, positions: Mapping[int, int], all_assigned: Iterable[int]) -> None:
        """Begin with partitions at these offsets; what does not belong to this slot any more is forgotten."""
        with self._lock:
            for partition in self._partitions.keys() - set(all_assigned):
                del self._partitions[partition]
            for partition, position in positions.items():
                state = self._partitions.setdefault(partition, _Partition(position))
                state.position = state.read = position
                state.give_up()
            self._begin_anew()

    def revoked(self, partitions: Iterable[int]) -> None:
        """Forget partitions that others read now."""
        with self._lock:
            for partition in partitions:
                self._partitions.pop(partition, None)
            self._begin_anew()

    def given_up(self) -> None:
        """What is in hand is read again, or by new clients."""
        with self._lock:
            for state in self._partitions.values():
                state.give_up()

    def took(self, batch: Batch) -> None:
        """Note the batch as in hand."""
        with self._lock:
            for partition, position in batch.positions.items():
                state = self._partitions.get(partition)
                if state is not None:
                    first = batch.messages[int((batch.partitions == partition).argmax())]
                    taken = float(first.timestamp()[1])
                    state.taken.append((taken if taken > 0 else self._clock() * 1000, position))
                    state.since = None

    def committed(self, positions: Mapping[int, int]) -> None:
        """Note that everything before these offsets is decided."""
        with self._lock:
            for partition, position in positions.items():
                state = self._partitions.get(partition)
                if state is None:
                    continue
                self._scored += max(0, position - state.position)
                state.position = position
                while state.taken and state.taken[0][1] <= position:
                    state.since = state.taken.popleft()[0]
                if not state.waiting():
                    state.since = None

    def ends(self, ends: Mapping[int, int]) -> None:
        """Note where the partitions' logs end now."""
        now = self._clock() * 1000
        with self._lock:
            for partition, end in ends.items():
                if (state := self._partitions.get(partition)) is not None:
                    state.end = end
                    self._look(state, now)
            self._sample()

    def read(self, offsets: Mapping[int, int]) -> None:
        """Note that what is left before these offsets cannot be read: markers, or transactions still open."""
        with self._lock:
            for partition, offset in offsets.items():
                if (state := self._partitions.get(partition)) is not None:
                    state.read = max(state.read, offset)
                    self._look(state, self._clock() * 1000)

    def _look(self, state: _Partition, now_ms: float) -> None:
        if not state.waiting():
            state.since = None
        elif state.since is None and not state.taken:
            state.since = now_ms  # it came after the last look

    def _begin_anew(self) -> None:
        self._samples.clear()
        self._looked = self._since = self._monotonic()

    def _sample(self) -> None:
        now = self._looked = self._monotonic()
        self._samples.append((now, self._waiting(), self._scored))
        while self._samples[0][0] < now - WINDOW_SECONDS:
            self._samples.popleft()

    def _waiting(self) -> int:
        return sum(state.waiting() for state in self._partitions.values())

    def oldest_seconds(self) -> float:
        """Return how long ago the oldest event that is not committed was recorded; 0 when none waits.

        Before an event was read its record time is not known: then the age is counted from when it was first seen, or
        from the event before it.
        """
        with self._lock:
            times = [state.oldest for state in self._partitions.values()]
        oldest = min((time for time in times if time is not None), default=None)
        return 0.0 if oldest is None else max(0.0, self._clock() - oldest / 1000)

    def rates(self, seconds: float = WINDOW_SECONDS) -> tuple[float, float] | None:
        """Return the events scored and those that arrived, a second, over the last so many; None: not known now."""
        with self._lock:
            now = self._monotonic()
            if not self._samples or now - self._looked > STALE_SECONDS:
                return None
            ended, after, scored_now = self._samples[-1]
            began, before, scored = next(each for each in self._samples if each[0] >= ended - seconds)
        if (lasted := ended - began) < min(seconds, SETTLING_SECONDS):
            return None
        return (scored_now - scored) / lasted, max(0.0, (scored_now - scored + after - before) / lasted)

    def waiting(self) -> int:
        """Return how many events are not committed."""
        with self._lock:
            return self._waiting()

    def waits(self) -> tuple[Wait, ...]:
        """Return what waits in each partition."""
        with self._lock:
            now_ms = self._clock() * 1000
            return tuple(
                Wait(partition, state.position, state.waiting(), state.age(now_ms))
                for partition, state in sorted(self._partitions.items())
            )

    def partitions(self) -> int:
        """Return how many partitions belong to this slot."""
        with self._lock:
            return len(self._partitions)

    def settled_seconds(self) -> float:
        """Return for how long these partitions have been this slot's; 0 before the group gave it any or none."""
        with self._lock:
            return 0.0 if self._since is None else self._monotonic() - self._since

    @property
    def joined(self) -> bool:
        """Whether the group has given this slot its partitions, which may be none."""
        return self._since is not None

    def drain_seconds(self) -> float:
        """Return in how many seconds none will wait at the present rates; inf: never, nan: not known yet."""
        with self._lock:
            now, waiting = self._monotonic(), self._waiting()
            if not waiting:
                return 0.0
            if now - self._looked > STALE_SECONDS:
                return math.inf
            if not self._samples:
                return math.nan
            (began, before, scored), (ended, after, scored_now) = self._samples[0], self._samples[-1]
        seconds = ended - began
        if seconds < SETTLING_SECONDS:
            return math.nan
        if waiting <= (rate := (scored_now - scored) / seconds) * AT_HAND_SECONDS:
            return waiting / rate
        return waiting * seconds / (before - after) if after < before else math.inf
