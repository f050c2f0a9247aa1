"""The messages of a job's events, in each form that a contestant reads."""

from __future__ import annotations

import random
from typing import Any, Literal

import orjson

from benchmarks.jobs import Job
from penstock.bench.load import Events

DISTINCT = 5_000
DISTINCT_LARGE = 500  # of events of kilobytes

Wire = Literal["own", "five_bytes", "v2"]  # the job's; five bytes before Avro; requests as MLServer takes them


def distinct(job: Job) -> int:
    """Return after how many events a job's values come again."""
    return job.distinct or (DISTINCT_LARGE if job.framing == "json" else DISTINCT)


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


def events_of(job: Job, wire: Wire = "own", bad: float = 0.0) -> Events:
    """Return a job's distinct events, a share of them bad."""
    if wire == "v2":
        return Events([_v2(job, row) for row in job.rows(distinct(job))], [("mlserver-model", "peer")])
    head = job.head if wire == "own" else bytes(5)
    return Events(spoilt([head + datum for datum in job.events(distinct(job))], bad))


def _v2(job: Job, row: dict[str, Any]) -> bytes:
    """An inference request of the Open Inference Protocol, of one event."""
    numbers = job.matrix([row])
    tensor = {"name": "x", "shape": list(numbers.shape), "datatype": "FP32", "data": numbers.ravel().tolist()}
    return orjson.dumps({"inputs": [tensor]})
