"""The fold of what slots say of themselves: is the service well? What is not becomes alerts of the kind `operations`.

It reads the status topic, in which each slot speaks every ten seconds, and so does the monitor itself, so that time
passes when every slot is dead. Nothing else decides: the same words give the same alerts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from monitoring import alerts
from monitoring.alerts import Subject
from monitoring.episodes import ALONE, Book
from monitoring.folds import Out, Record, packed, unpacked
from monitoring.slots import Group, Slot
from monitoring.troubles import Thresholds, troubles
from schemas.control import Status
from schemas.errors import RecordInvalid

FORMAT = 1
LOOK_MS = 10_000  # between two looks at everything
CALM = 6  # looks without trouble that close an alert
CLOCK = "clock"  # the group of a monitor's word, whose deployment has no name


def tick_of(deployment: str, slot: str, at_ms: int) -> Status:
    """Return the word of a monitor: that it is so late now. No reader takes it for a slot's."""
    return Status("", f"{deployment}.{slot}", CLOCK, "", 0, at_ms, None, None, (), "stopped")


@dataclass(slots=True)
class State:
    """now: the latest word's time, in ms since 1970. slots: by group and slot. told: what was said of each group."""

    now: int = 0
    looked: int = 0
    slots: dict[str, Slot] = field(default_factory=dict)
    books: dict[str, Book] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class OperationsFold:
    """Folds the status topic for one deployment."""

    def __init__(self, deployment: str, thresholds: Thresholds, topic: str = alerts.TOPIC) -> None:
        self._deployment, self._thresholds, self._topic = deployment, thresholds, topic

    def new(self, partition: int) -> State:
        """Return the state before the first record."""
        return State()

    def apply(self, state: State, record: Record) -> list[Out]:
        """Take the word of a slot, or of a monitor's clock; return the alerts that follow."""
        try:
            status = Status.decode(record.value or b"")
        except RecordInvalid:  # of a newer release, or a slot that control forgot
            return []
        clock = not status.deployment and status.slot.rpartition(".")[0] == self._deployment
        if status.deployment != self._deployment and not clock:
            return []
        state.counts["words"] = state.counts.get("words", 0) + 1
        if not clock:
            key = f"{status.group}/{status.slot}"
            state.slots[key] = state.slots.get(key, Slot()).heard(status, self._thresholds.window_seconds * 1000)
        state.now = max(state.now, status.at_ms)
        return list(self._look(state)) if state.now - state.looked >= LOOK_MS else []

    def _look(self, state: State) -> Iterator[Out]:
        state.looked = now = state.now // LOOK_MS * LOOK_MS
        state.slots = {key: slot for key, slot in state.slots.items() if not slot.forgotten(now)}
        for name in sorted({slot.group for slot in state.slots.values()} | state.books.keys()):
            book = state.books.setdefault(name, Book({}, LOOK_MS, ALONE))
            found = Group(name, tuple(slot for _, slot in sorted(state.slots.items()) if slot.group == name))
            for kind, finding in troubles(found, self._thresholds, now):
                subject = Subject(self._deployment, self._arm(name), "", "", "operations", "operations", kind)
                yield from alerts.outs(self._topic, book.settle(now))
                yield from alerts.outs(self._topic, book.take(subject, finding, 1, CALM))
            yield from alerts.outs(self._topic, book.settle(now))

    def _arm(self, group: str) -> str:
        return group.removeprefix(f"penstock.{self._deployment}").removeprefix(".") or "active"

    def facts(self, state: State) -> dict[str, int]:
        """Return counters and sizes: words, slots, open_alerts."""
        return {
            **state.counts,
            "slots": len(state.slots),
            "open_alerts": sum(book.open for book in state.books.values()),
        }

    def dump(self, state: State) -> bytes:
        """Return compressed JSON."""
        document = {
            "format": FORMAT,
            "now": state.now,
            "looked": state.looked,
            "slots": {key: asdict(slot) for key, slot in state.slots.items()},
            "books": {name: book.dump() for name, book in state.books.items()},
            "counts": state.counts,
        }
        return packed(document)

    def load(self, data: bytes) -> State:
        """Return the dumped state. Raises SnapshotInvalid."""
        return unpacked(data, FORMAT, _loaded)


def _loaded(document: Mapping[str, Any]) -> State:
    books = {name: Book({}, LOOK_MS, ALONE) for name in document["books"]}
    for name, book in books.items():
        book.load(document["books"][name])
    slots = {key: Slot(**slot) for key, slot in document["slots"].items()}
    return State(document["now"], document["looked"], slots, books, document["counts"])
