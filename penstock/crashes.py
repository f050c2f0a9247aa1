"""What the deaths of one slot's processes have in common, and what follows: wait, read in small batches, or hold back.

Pure: the supervisor tells what a dead process left, and asks how to start the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from streams.inflight import Trace
from streams.offsets import OffsetRange, Spans, common, ranges_of
from streams.orders import Caution

DELAYS = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds before a restart, by how many short lives in a row there were
SHORT_LIFE = 10.0
LONG_LIFE = 60.0  # after which earlier deaths do not count any more
DEATHS = 5  # on the same events, or before becoming a member of the group
INCIDENTS = 8  # events that slots die on at a time: more are not told apart


@dataclass(slots=True)
class Incident:
    """Deaths on the same events. spans: the offsets that each of the dead processes was scoring."""

    topic: str
    spans: Spans
    deaths: int = 1

    @property
    def ranges(self) -> list[OffsetRange]:
        return ranges_of(self.topic, self.spans)


@dataclass(slots=True)
class Crashes:
    """The ledger of one slot. batch_events: the largest batch of a worker without crashes."""

    batch_events: int
    hopeless: bool = False  # its processes die before they score anything
    held: dict[int, tuple[int, int]] = field(default_factory=dict)
    _incidents: list[Incident] = field(default_factory=list)
    _unexplained: int = 0
    _short: int = 0

    def died(self, trace: Trace, lived: float) -> Incident | None:
        """Note a death after `lived` seconds; returns the incident it belongs to, None when nothing was scored."""
        self.stopped(lived)
        if lived >= LONG_LIFE:
            self._incidents.clear()
        if not trace.spans:
            self._unexplained = 0 if trace.joined else self._unexplained + 1
            self.hopeless = self._unexplained >= DEATHS
            return None
        self._unexplained = 0
        incident = self._incident(trace)
        if incident.deaths >= DEATHS:
            self._incidents.remove(incident)
            self.held.update(incident.spans)
        return incident

    def stopped(self, lived: float) -> None:
        """Note an end after `lived` seconds that was no crash."""
        self._short = 1 if lived >= SHORT_LIFE else self._short + 1

    def forgive(self) -> None:
        """Begin anew: somebody says that what went wrong is mended."""
        self.hopeless, self._unexplained, self._short = False, 0, 0
        self.held.clear()
        self._incidents.clear()

    @property
    def delay(self) -> float:
        """Seconds to wait before the next start."""
        return DELAYS[min(max(self._short, 1), len(DELAYS)) - 1]

    @property
    def caution(self) -> Caution:
        """What the next process has to know."""
        again = [incident for incident in self._incidents if incident.deaths > 1]
        suspects: dict[int, tuple[int, int]] = {}
        for incident in again:
            for partition, (first, past) in incident.spans.items():
                known = suspects.get(partition, (first, past))
                suspects[partition] = (min(first, known[0]), max(past, known[1]))
        return Caution(suspects, self.batch(max((each.deaths for each in again), default=1)), dict(self.held))

    def batch(self, deaths: int) -> int:
        """Return the largest batch after so many deaths: in equal steps (as factors) down to a single event."""
        steps = DEATHS - 2
        return max(1, round(math.pow(self.batch_events, 1 - min(deaths - 1, steps) / steps)))

    def _incident(self, trace: Trace) -> Incident:
        for incident in self._incidents:
            if incident.topic == trace.topic and (both := common(incident.spans, trace.spans)):
                incident.spans, incident.deaths = both, incident.deaths + 1
                return incident
        self._incidents = [*self._incidents[1 - INCIDENTS :], Incident(trace.topic, trace.spans)]
        return self._incidents[-1]
