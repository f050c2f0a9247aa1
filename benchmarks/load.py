"""Produces a job's events to a topic, at a rate or as fast as the broker takes them.

usage: python -m benchmarks.load BOOTSTRAP JOB TOPIC COUNT RATE   (rate 0: as fast as possible)
"""

from __future__ import annotations

import random
import sys
import time

from confluent_kafka import Producer

from benchmarks.jobs import JOBS
from benchmarks.latency import PARTITIONS
from schemas.wire import fingerprint, single_object_header

DISTINCT = 5_000
TURN = 0.002  # seconds between bursts when a rate is set


def producer(servers: str) -> Producer:
    return Producer(
        {
            "bootstrap.servers": servers,
            "compression.type": "lz4",
            "linger.ms": 1,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1 << 20,
        }
    )


def spoilt(values: list[bytes], share: float, seed: int = 0) -> list[bytes]:
    """Return the events with a share of them made bad: cut short, with bytes appended, or with one byte altered."""
    chance = random.Random(seed)
    result = []
    for value in values:
        if chance.random() < share:
            at = chance.randrange(len(value))
            value = chance.choice(
                [value[:at], value + b"\0" * chance.randint(1, 9), value[:at] + b"\xff" + value[at + 1 :]]
            )
        result.append(value)
    return result


def produce(servers: str, job_name: str, topic: str, count: int, rate: int, bad: float = 0.0) -> None:
    """Produce `count` events in Avro single-object framing over all partitions, a share of them spoilt."""
    job = JOBS[job_name]
    head = single_object_header(fingerprint(job.schema))
    values = spoilt([head + datum for datum in job.events(DISTINCT)], bad)
    keys = [b"k%d" % i for i in range(DISTINCT)]
    out = producer(servers)
    sent, began = 0, time.perf_counter()
    while sent < count:
        due = count if not rate else min(count, int((time.perf_counter() - began) * rate))
        for i in range(sent, min(due, sent + 20_000)):
            while True:
                try:
                    out.produce(topic, values[i % DISTINCT], keys[i % DISTINCT], i % PARTITIONS)
                    break
                except BufferError:
                    out.poll(0.05)
        sent = min(due, sent + 20_000)
        out.poll(0)
        if rate and sent < count:
            time.sleep(TURN)
    if out.flush(60):
        raise SystemExit("events were not delivered")


if __name__ == "__main__":
    produce(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
