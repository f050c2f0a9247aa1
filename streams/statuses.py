"""What the slots say of themselves, beside what control asks of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.control import State, Status
from schemas.errors import RecordInvalid
from streams.control import TOPICS, ControlTopics
from streams.reading import TopicReader
from streams.reports import ENDED, EVERY_SECONDS

ENDED_SECONDS = 120.0  # whoever supervises a slot that ends because nothing can run starts it again sooner
SILENT_SECONDS = 3 * EVERY_SECONDS  # a slot that says nothing for so long has died, or cannot reach Kafka


@dataclass(frozen=True, slots=True)
class Row:
    """One slot. verdict: `as wanted`, or what is other than it is to be. age: seconds since it last said so."""

    status: Status
    verdict: str
    age: float

    @property
    def fine(self) -> bool:
        return self.verdict in ("as wanted", "stopped")


def read(kafka: Mapping[str, str], topics: ControlTopics = TOPICS) -> list[Status]:
    """Return the last word of each slot; none where no worker was ever under control. Raises Refused."""
    reader = TopicReader(kafka, f"{topics.status}.readers")
    found: dict[bytes, Status] = {}
    try:
        if not reader.partitions(topics.status):
            return []
        for messages in reader.read(topics.status, reader.ends(topics.status)):
            for message in messages:
                key, value = message.key() or b"", message.value()
                try:
                    status = Status.decode(value) if value else None
                except RecordInvalid:  # of a newer release
                    status = None
                found.pop(key, None)
                if status is not None:
                    found[key] = status
    finally:
        reader.close()
    return sorted(found.values(), key=lambda each: (each.deployment, each.group, each.slot))


def rows(statuses: Iterable[Status], states: Mapping[str, State], now: float) -> list[Row]:
    """Judge what the slots said against what control asks for. now: seconds since 1970.

    Slots of a deployment that control has not are left out once they say nothing more.
    """
    return [
        Row(status, _verdict(status, states.get(status.deployment), age), age)
        for status in statuses
        for age in [max(0.0, now - status.at_ms / 1000)]
        if status.deployment in states or not _ended(status, age)
    ]


def _ended(status: Status, age: float) -> bool:
    return status.state in ("stopped", ENDED) or age > SILENT_SECONDS


def _verdict(status: Status, state: State | None, age: float) -> str:
    if status.state == ENDED and age <= ENDED_SECONDS and state is not None and status.refused == state.revision:
        return f"ended, for it refuses revision {state.revision}: {status.detail}"
    if status.state in ("stopped", ENDED):
        return "stopped"
    if age > SILENT_SECONDS:
        return f"silent for {age:,.0f} s"
    if state is None:
        return "not in control"
    if status.refused == state.revision:
        return f"refuses revision {state.revision}: {status.detail}"
    if status.revision != state.revision:
        return f"behind: revision {state.revision} is wanted" + (f" ({status.detail})" if status.detail else "")
    return "as wanted"
