"""What the slots say of themselves, beside what control asks of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.control import State, Status
from schemas.deployment import ACTIVE, group_of
from schemas.errors import RecordInvalid
from streams.control import TOPICS, ControlTopics
from streams.reading import TopicReader
from streams.reports import ENDED, EVERY_SECONDS

ENDED_SECONDS = 120.0  # whoever supervises a slot that ends because nothing can run starts it again sooner
SILENT_SECONDS = 3 * EVERY_SECONDS  # a slot that says nothing for so long has died, or cannot reach Kafka
GONE_SECONDS = 3_600.0  # nobody waits for it any more: it was scaled away, or others have its partitions
FORGOTTEN_SECONDS = 86_400.0
AS_WANTED, STOPPED, GONE = "as wanted", "stopped", "gone"


@dataclass(frozen=True, slots=True)
class Row:
    """One slot. verdict: `as wanted`, or what is other than it is to be. age: seconds since it last said so."""

    status: Status
    verdict: str
    age: float

    @property
    def fine(self) -> bool:
        return self.verdict in (AS_WANTED, STOPPED, GONE)

    @property
    def lives(self) -> bool:
        """Whether the slot is there, whatever it runs."""
        return self.status.state not in ("stopped", ENDED) and self.age <= SILENT_SECONDS


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

    Left out are slots that ended in order an hour ago, or fell silent a day ago; and of a deployment that control has
    not, all that say nothing more.
    """
    found = []
    for status in statuses:
        age = max(0.0, now - status.at_ms / 1000)
        state = states.get(status.deployment)
        row = Row(status, _verdict(status, state, age), age)
        if row.lives or (state is not None and age <= (GONE_SECONDS if row.verdict == STOPPED else FORGOTTEN_SECONDS)):
            found.append(row)
    return found


def unmanned(states: Mapping[str, State], rows: Iterable[Row]) -> list[tuple[State, str]]:
    """Return the arms that have workers of their own and not one slot that lives, each with its deployment's state."""
    there = {(row.status.deployment, row.status.group) for row in rows if row.lives}
    found = []
    for name, state in states.items():
        for arm in state.arms:
            if arm.role in (ACTIVE, "shadow"):
                group = group_of(name, arm.name if arm.role == "shadow" else ACTIVE)
                if (name, group) not in there:
                    found.append((state, arm.name))
    return found


def _verdict(status: Status, state: State | None, age: float) -> str:
    if status.state == ENDED and age <= ENDED_SECONDS and state is not None and status.refused == state.revision:
        return f"ended, for it refuses revision {state.revision}: {status.detail}"
    if status.state in ("stopped", ENDED):
        return STOPPED
    if age > SILENT_SECONDS:
        return GONE if age > GONE_SECONDS else f"silent for {age:,.0f} s"
    if state is None:
        return "not in control"
    if status.refused == state.revision:
        return f"refuses revision {state.revision}: {status.detail}"
    if status.revision != state.revision:
        return f"behind: revision {state.revision} is wanted" + (f" ({status.detail})" if status.detail else "")
    return AS_WANTED
