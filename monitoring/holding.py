"""Records of a log that are held back until many can be taken as one.

Where that ends follows from the records alone, never from how they were fetched: so every replay takes the same ones
together, whoever was restarted in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from monitoring.folds import Record

SPAN_MS = 1000  # of record time that is taken as one: outputs are later by so much, and they are of minutes
MOST_RECORDS = 500
MOST_BYTES = 1 << 18  # of values


@dataclass(slots=True)
class Held:
    """Records in the order of the log. size: bytes of their values."""

    records: list[Record] = field(default_factory=list)
    size: int = 0

    @property
    def first(self) -> int | None:
        """The offset of the first of them; None where nothing is held."""
        return self.records[0].offset if self.records else None

    def ends_before(self, record: Record) -> bool:
        """Say whether a record, the next one of the log, does not belong to what is held."""
        return bool(self.records) and record.time // SPAN_MS != self.records[0].time // SPAN_MS

    def add(self, record: Record) -> None:
        """Hold a record."""
        self.records.append(record)
        self.size += len(record.value or b"")

    @property
    def full(self) -> bool:
        """Say whether nothing may be added: much is held, or the last one has no time and so no others beside it."""
        many = len(self.records) >= MOST_RECORDS or self.size >= MOST_BYTES
        return many or (bool(self.records) and self.records[-1].time < 0)

    def take(self) -> list[Record]:
        """Return what is held, and hold nothing."""
        found, self.records, self.size = self.records, [], 0
        return found
