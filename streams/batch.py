"""A micro-batch of messages, and the records that one transaction publishes: values per batch, never per message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.frames import distinct

Headers = list[tuple[str, str | bytes | None]]


class Message(Protocol):
    """What a consumed record can say: confluent_kafka's Message, and the in-memory twin's."""

    def value(self) -> bytes | None: ...
    def key(self) -> bytes | None: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> Headers | None: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one topic in the order in which they were read, with their columns.

    values, keys: one a message. partitions, offsets: shape (n,). positions: next offset to read per partition once this
    batch is committed.
    """

    messages: Sequence[Message]
    values: list[bytes | None]
    keys: list[bytes | None]
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    positions: dict[int, int]

    def __len__(self) -> int:
        return len(self.messages)

    def firsts(self) -> dict[int, int]:
        """Return the first offset of each partition of the batch."""
        return firsts_of(self.partitions, self.offsets)

    def timestamps(self) -> npt.NDArray[np.int64]:
        """Return the record time of each message in ms since 1970, -1 where it has none; shape (n,)."""
        return np.array([message.timestamp()[1] for message in self.messages], np.int64)

    def fitting(self, size: int) -> int:
        """Return how many events like these have keys and values of so many bytes at most; at least 1."""
        sample = [part for parts in (self.values[::16], self.keys[::16]) for part in parts if part]
        average = sum(map(len, sample)) / len(self.values[::16])
        return max(1, int(size / (average + 1)))

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return sum(map(len, filter(None, self.values)))


def batch_of(messages: Sequence[Message]) -> Batch:
    """Return the messages as a batch."""
    partitions = np.array([message.partition() for message in messages], np.int32)
    offsets = np.array([message.offset() for message in messages], np.int64)
    return Batch(
        messages,
        [message.value() for message in messages],
        [message.key() for message in messages],
        partitions,
        offsets,
        positions_of(partitions, offsets),
    )


def firsts_of(partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> dict[int, int]:
    """Return the first offset of each partition."""
    return {each: int(offsets[(partitions == each).argmax()]) for each in distinct(partitions)}


def positions_of(partitions: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64]) -> dict[int, int]:
    """Return the offset behind the last one of each partition."""
    return {each: int(offsets[partitions == each].max()) + 1 for each in distinct(partitions)}


@dataclass(frozen=True, slots=True)
class Records:
    """Records for one topic, in order.

    partitions: the partition of each record, -1 to let its key decide (murmur2); None: each one's key decides.
    of_an_event: how many of them may be of one event.
    """

    topic: str
    values: Sequence[bytes | None]
    keys: Sequence[bytes | None]
    partitions: Sequence[int] | None = None
    headers: Sequence[Headers] | None = None
    of_an_event: int = 1
