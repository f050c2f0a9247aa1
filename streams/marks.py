"""The mark on a committed offset by which a worker knows that a worker committed it, and not an operator.

A group's offsets can be set from outside (`kafka-consumer-groups --reset-offsets`, a mirror, a console). Every commit
of a worker carries the mark in the offset's metadata; the mark names the offset, so a tool that copies metadata along
with an offset of its own does not pass for a worker.
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import TopicPartition


def marked(topic: str, positions: Mapping[int, int]) -> list[TopicPartition]:
    """Return the offsets to commit (per partition the next to read), each with its mark."""
    return [
        TopicPartition(topic, partition, offset, metadata=f"penstock:{offset}")
        for partition, offset in positions.items()
    ]


def is_marked(committed: TopicPartition) -> bool:
    """Say whether a worker committed this offset; False also where none is committed."""
    found: bool = committed.offset >= 0 and committed.metadata == f"penstock:{committed.offset}"
    return found
