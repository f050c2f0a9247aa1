"""Produces events to a topic, at a rate or as fast as the broker takes them.

At a rate this is a process of its own, `python -m penstock.bench.load`, told its task on standard input: in one process
with a reader it would come too late.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

TURN = 0.002  # seconds between bursts when a rate is set
BURST = 20_000

Headers = list[tuple[str, str | bytes | None]]
Kafka = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Events:
    """Messages that are sent one after the other, and again from the first; headers: of each of them, as text."""

    values: Sequence[bytes]
    headers: Headers | None = None

    def write(self, path: Path) -> None:
        """Write them for `read`: the headers as JSON, then the values, each behind its length."""
        parts = [json.dumps(self.headers).encode(), *self.values]
        path.write_bytes(b"".join(struct.pack(">I", len(part)) + part for part in parts))

    @classmethod
    def read(cls, path: Path) -> Events:
        """Read what `write` wrote."""
        headers, *values = _parts(path.read_bytes())
        found = json.loads(headers)
        return cls(values, found and [(name, value) for name, value in found])


def _parts(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


@dataclass(frozen=True, slots=True)
class Task:
    """Events `first` to `first` + `count` of a topic with so many partitions. rate: a second; 0: no pause."""

    topic: str
    partitions: int
    first: int
    count: int
    rate: float = 0.0


def producer(kafka: Kafka) -> Producer:
    """Return a producer that is fast, and keeps the order whatever the broker does."""
    return Producer(
        {
            **kafka,
            "log_level": 2,  # one that outlives its broker has nothing to say
            "compression.type": "lz4",
            "enable.idempotence": True,
            "linger.ms": 1,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 256 << 10,
        }
    )


def produce(kafka: Kafka, events: Events, task: Task) -> None:
    """Produce the events: number i has i as its key, and lies in partition i modulo their number.

    Raises RuntimeError when the brokers do not take them.
    """
    out, values, headers, many = producer(kafka), events.values, events.headers, len(events.values)
    topic, partitions, rate = task.topic, task.partitions, task.rate
    sent, began = 0, time.perf_counter()
    while sent < task.count:
        due = task.count if not rate else min(task.count, int((time.perf_counter() - began) * rate))
        last = min(due, sent + BURST)
        for i in range(task.first + sent, task.first + last):
            while True:
                try:
                    out.produce(topic, values[i % many], b"%d" % i, i % partitions, headers=headers)
                    break
                except BufferError:
                    out.poll(0.05)
        sent = last
        out.poll(0)
        if rate and sent < task.count:
            time.sleep(TURN)
    if out.flush(60):
        raise RuntimeError(f"the brokers did not take all events of {topic} within 60 s")


def told(kafka: Kafka, file: Path, task: Task) -> bytes:
    """Return what the process is told on its standard input."""
    names = ("topic", "partitions", "first", "count", "rate")
    return json.dumps({"kafka": dict(kafka), "file": str(file), "task": {n: getattr(task, n) for n in names}}).encode()


def main(text: bytes) -> None:
    asked: dict[str, Any] = json.loads(text)
    produce(asked["kafka"], Events.read(Path(asked["file"])), Task(**asked["task"]))


if __name__ == "__main__":
    main(sys.stdin.buffer.read())
