"""The monitor's fold once more, over a range of its past: what it saw tick by tick, for who wants to look at it.

What counts and what is tested is decided by the monitor's own code. It begins with the range, as a monitor would that
was started there: evidence from before is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.reference import Reference, Tally
from monitoring.folds import Out
from monitoring.profiles import Find, Lineage, ProfileFold, State, Stream
from monitoring.settings import Settings
from monitoring.tilts import Floats
from monitoring.watch import Watch


@dataclass(frozen=True, slots=True)
class Span:
    """A range of record time, in ms: from `begin` on, before `end`."""

    begin: int
    end: int

    def holds(self, ms: int) -> bool:
        return self.begin <= ms < self.end


@dataclass(frozen=True, slots=True)
class Look:
    """One closed tick of a lineage.

    reference: its bins, and the counts that it was compared with. start: ms. evidence: of each column in natural
    logarithms, and that of an alarm; None of detectors without any.
    """

    lineage: Lineage
    reference: Reference
    start: int
    tally: Tally
    evidence: tuple[Floats, float] | None


class HindsightFold(ProfileFold):
    """Shows every tick that begins within a span, and passes over the others. see: told of each."""

    def __init__(
        self,
        deployment: str,
        references: Mapping[str, Reference],
        sources: int,
        settings: Settings,
        find: Find,
        span: Span,
        see: Callable[[Look], object],
    ) -> None:
        super().__init__(deployment, references, sources, settings, find=find)
        self._span, self._see = span, see

    def done(self, state: State) -> bool:
        """Say whether every arm is past the span, so that nothing that comes later is counted."""
        return bool(state.closed) and all(state.closed.get(arm, 0) >= self._span.end for arm in state.passed)

    def finish(self, state: State) -> None:
        """Show what has not closed, too: there is nothing more to wait for."""
        for lineage, stream in sorted(state.streams.items()):
            for tick in sorted(stream.ticks):
                for _ in self._closed_tick(lineage, stream, tick, stream.ticks.pop(tick)):
                    pass

    def _add(self, state: State, profile: Mapping[str, Any]) -> None:
        if self._span.holds(profile["tick"] * profile["tick_ms"]):
            super()._add(state, profile)

    def _closed_tick(self, lineage: Lineage, stream: Stream, tick: int, tally: Tally) -> Iterator[Out]:
        yield from super()._closed_tick(lineage, stream, tick, tally)
        reference = self._reference(lineage)
        assert reference is not None  # or its rows would not have been counted
        self._see(Look(lineage, reference, tick * stream.tick_ms, tally, _evidence(stream)))


def _evidence(stream: Stream) -> tuple[Floats, float] | None:
    detector = None if stream.watched is None else stream.watched.detector
    return detector.evidence if isinstance(detector, Watch) else None
