"""Feed files into a topic: paced, repeated, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from penstock.client.files import Chunk, EventFile
from penstock.client.pacing import Clock, Pace
from penstock.client.producer import Producer


@dataclass
class Feed:
    """Sends the events of files; `sent` counts them while it runs.

    repeat: how often the files are sent, 0 for ever; limit: stop after so many events, None never.
    """

    producer: Producer
    files: Sequence[EventFile]
    pace: Callable[[], Pace]
    clock: Clock = field(default_factory=Clock)
    key: str | None = None
    event_time: str | None = None
    repeat: int = 1
    limit: int | None = None
    progress: Callable[[Feed], None] = lambda feed: None
    sent: int = 0
    disordered: int = 0
    rounds: int = 0  # times that the files were begun
    stopped: bool = False

    def stop(self) -> None:
        """Send no more, and flush; for a signal's handler."""
        self.stopped = True

    def run(self) -> None:
        """Send everything and flush.

        Raises EventInvalid and FileInvalid (earlier chunks were sent), DeliveryFailed, FlushTimedOut.
        """
        while not self._enough() and (self.repeat == 0 or self.rounds < self.repeat):
            before = self.sent
            self.rounds += 1
            self._once()
            if self.sent == before:
                break  # nothing in the files
        self.producer.flush(120.0)
        self.progress(self)

    def _once(self) -> None:
        pace, start, first = self.pace(), self.clock.elapsed(), self.sent
        for chunk in self._chunks():
            for value, key, event_time in zip(chunk.values, chunk.keys, chunk.times, strict=True):
                due = pace.due(self.sent - first, event_time)
                if due:
                    self.clock.wait_until(start + due, self._meanwhile, self._enough)
                    if self._enough():
                        break
                self.producer.publish(value, key)
                self.sent += 1
                if self._enough():
                    break
            self._meanwhile()
            if self._enough():
                break
        self.disordered += getattr(pace, "disordered", 0)

    def _chunks(self) -> Iterator[Chunk]:
        for file in self.files:
            yield from file.chunks(self.key, self.event_time)

    def _enough(self) -> bool:
        return self.stopped or (self.limit is not None and self.sent >= self.limit)

    def _meanwhile(self) -> None:
        self.producer.poll()
        self.progress(self)
