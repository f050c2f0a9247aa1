"""What the deaths of a deployment's processes have in common, and what follows: wait, read in small batches, hold back.

Pure: the supervisor tells what a dead process left, and asks how to start the next one. Events are suspected whatever
slot died on them, because their partition moves to other slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from streams.inflight import Trace
from streams.offsets import OffsetRange, Spans, common, ranges_of
from streams.orders import Caution

DELAYS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds before a restart, by how many short lives in a row there were
SCORED_DELAYS = DELAYS[:3]  # soon enough to keep the slot's partitions: on the same events it dies a few times only
SHORT_LIFE = 10.0
DEATHS = 5  # on the same events, or in a row before becoming a member of the group
LONG_LIFE = 60.0  # seconds after which a process counts as started, also where its note of that cannot be read
INCIDENTS = 8  # events that processes die on at a time: more are not told apart
MEMORY = 600.0  # seconds after which a death is forgotten


@dataclass(slots=True)
class Incident:
    """Deaths on the same events. spans: the offsets that each of the dead processes was scoring; held: none reads them.

    Deaths of a slot that was not told yet narrow nothing down: so many more are waited for.
    """

    topic: str
    spans: Spans
    last: float
    deaths: int = 1
    held: bool = False

    @property
    def ranges(self) -> list[OffsetRange]:
        return ranges_of(self.topic, self.spans)

    def add(self, spans: Spans, now: float) -> None:
        """Count one more death."""
        self.spans, self.deaths, self.last = spans, self.deaths + 1, now
        narrow = sum(past - first for first, past in spans.values()) == 1
        self.held = self.held or (self.deaths >= DEATHS and narrow) or self.deaths >= 2 * DEATHS


@dataclass(slots=True)
class Incidents:
    """What processes died on. batch_events: the largest batch of a worker without crashes."""

    batch_events: int
    _all: list[Incident] = field(default_factory=list)

    def died(self, trace: Trace, now: float, told: Spans) -> Incident | None:
        """Note a death; returns the incident it belongs to, None when nothing was being scored.

        told: what the process had been told to hold. It read on only behind a quarantine, so it died on other events:
        those held ones, which may lie amid what it scored, must not hide them.
        """
        if not trace.spans:
            return None
        self._all = [each for each in self._all if each.held or now - each.last < MEMORY]
        for incident in self._all:
            spans = _untold(incident.spans, told) if incident.held else incident.spans
            if both := common(spans, trace.spans):
                incident.add(both, now)
                return incident
        suspected = [each for each in self._all if not each.held]
        if len(suspected) >= INCIDENTS:
            self._all.remove(suspected[0])
        self._all.append(Incident(trace.topic, trace.spans, now))
        return self._all[-1]

    @property
    def held(self) -> dict[int, tuple[int, int]]:
        """What nobody is to read: the last of each partition, because those before it were decided."""
        return {p: span for each in self._all if each.held for p, span in each.spans.items()}

    @property
    def caution(self) -> Caution:
        """What the next process has to know."""
        again = [each for each in self._all if each.deaths > 1 and not each.held]
        suspects: dict[int, tuple[int, int]] = {}
        for incident in again:
            for partition, (first, past) in incident.spans.items():
                known = suspects.get(partition, (first, past))
                suspects[partition] = (min(first, known[0]), max(past, known[1]))
        return Caution(suspects, self.batch(max((each.deaths for each in again), default=1)), self.held)

    def batch(self, deaths: int) -> int:
        """Return the largest batch after so many deaths: in equal steps (as factors) down to a single event."""
        steps = DEATHS - 2
        return max(1, round(math.pow(self.batch_events, 1 - min(deaths - 1, steps) / steps)))

    def forgive(self) -> None:
        """Begin anew: somebody says that what went wrong is mended."""
        self._all.clear()


def _untold(spans: Spans, told: Spans) -> Spans:
    """Return the spans behind those told: one is told for each partition, and what lies before it was decided."""
    return {p: (first, past) for p, (first, past) in spans.items() if p not in told or past > told[p][1]}


@dataclass(slots=True)
class Lives:
    """How long the processes of one slot lived."""

    hopeless: bool = False  # they die before they read anything
    delay: float = 0.0  # seconds to wait before the next start
    _short: int = 0
    _unborn: int = 0

    def ended(self, lived: float, *, joined: bool, crashed: bool, scoring: bool) -> None:
        """Note an end after `lived` seconds. joined: of the group, if known; scoring: events are the likely cause."""
        self._short = 1 if lived >= SHORT_LIFE else self._short + 1
        delays = SCORED_DELAYS if scoring else DELAYS
        self.delay = delays[min(self._short, len(delays)) - 1]
        self._unborn = self._unborn + 1 if crashed and not joined and lived < LONG_LIFE else 0
        self.hopeless = self._unborn >= DEATHS
