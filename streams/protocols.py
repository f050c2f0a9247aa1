"""What the worker needs of Kafka: a source of batches and a sink that publishes them whole. Real, and in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from streams.batch import Batch, Records


class Source(Protocol):
    """One input topic, read by one member of a consumer group."""

    topic: str
    joined: bool  # the group has given this member its partitions, which may be none

    def begin(self) -> None:
        """Join the group. Call after the sink's `begin`, which fences a predecessor."""

    def poll(self, limit: int, seconds: float, wait: float = 0.0) -> Batch | None:
        """Return at most `limit` messages: waits up to `seconds` for the first, and up to `wait` for the others.

        Raises Fenced when another worker took the slot, StartOver when the client is broken.
        """

    def committed(self, positions: Mapping[int, int]) -> None:
        """Note that the offsets of a batch are committed; a rewind goes back to these."""

    def rewind(self) -> None:
        """Read again from the committed offsets. Does not block."""

    def hold(self, seconds: float) -> bool:
        """Stay a member of the group for `seconds` without reading; False when a partition was taken away meanwhile."""

    def park(self, partition: int, offset: int) -> None:
        """Read a partition no further than to `offset`, until `unpark`, or until it is assigned or held anew."""

    def unpark(self) -> None:
        """Read every partition again from where it was parked."""

    def assigned(self) -> Sequence[int]:
        """Return the partitions that this member reads now."""

    def positions(self) -> Mapping[int, int]:
        """Return per assigned partition the offset that the next message has at least."""

    def lags(self) -> Mapping[int, int]:
        """Return how many messages of each partition are not read yet, where that is known without asking the broker.

        Markers of transactions count as messages: behind the last one a lag of 1 may stay.
        """

    def close(self, leave: bool) -> None:
        """Stop reading; `leave` gives the partitions to others at once, else they wait for this slot to return."""


class Sink(Protocol):
    """Where a batch goes: all of its records and its offsets, or nothing."""

    def begin(self) -> None:
        """Abort what this slot left open, fence whoever else uses it."""

    def publish(self, records: Sequence[Records], positions: Mapping[int, int]) -> None:
        """Publish the records and commit the input offsets; returns when both are decided.

        Raises Rewind when nothing was published, StartOver when that is not known, Fenced when the slot was taken.
        """

    def close(self) -> None:
        """Close the producers; what was not committed is aborted."""
