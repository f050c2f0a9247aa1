"""The parts of a worker that scoring does without, and what a worker takes with and without each of them.

What cannot be switched off has no entry: the looks for values that are missing or not finite, and the limits on a
model's time and an inference's size. Checks of fields have none because the jobs declare none.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import polars as pl

from benchmarks.jobs import Job
from benchmarks.replay import EVENTS, OUTPUT, Messages, Setup, Sink, everything, messages_of
from schemas.deployment import ACTIVE
from schemas.inference import InferenceCodec, _datums
from schemas.values import POSITION
from streams.budget import BATCH_EVENTS
from streams.metrics import WorkerMetrics
from streams.safeguard import Safeguard

EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Part:
    """about: what it is for. without: a setup without it."""

    name: str
    about: str
    without: Callable[[Setup], Setup]


class Silent:
    """Metrics that count nothing: whatever is asked of it is itself, and calling it does nothing."""

    def __getattr__(self, name: str) -> Silent:
        return self

    def __call__(self, *given: object) -> None: ...


class Anonymous(InferenceCodec):
    """Inferences of a header and the outputs alone: nothing tells what made them, of which event.

    The columns of the event's position are put together and dropped, 20 us a batch that count as scoring.
    """

    def encode(self, frame: pl.DataFrame, prefixes: bytes | Sequence[bytes]) -> list[bytes]:
        return [self._header + datum for datum in _datums(frame.drop(POSITION))]


def _without_lineage(setup: Setup) -> Setup:
    assembly = setup.assembly
    codec = Anonymous(assembly.deployment.name, assembly.models[ACTIVE].outputs, [])
    return replace(setup, assembly=replace(assembly, codec=codec))


# What a later part of the worker costs is one more entry here.
PARTS: Sequence[Part] = (
    Part("profiles", "counts of every feature and score, for the monitor", lambda setup: replace(setup, profiler=None)),
    Part(
        "samples",
        "what was said of every event, for the join with its label",
        lambda setup: replace(setup, sampler=None),
    ),
    Part("metrics", "what is counted and timed", lambda setup: replace(setup, metrics=cast(WorkerMetrics, Silent()))),
    Part("lineage", "in every inference: what made it, and of which event", _without_lineage),
    Part(
        "in-flight note",
        "what is being scored, for whoever comes after a crash",
        lambda setup: replace(setup, guard=Safeguard(EVENTS)),
    ),
)


def measure(job: Job, rounds: int, batches: int) -> tuple[Mapping[str, Sequence[float]], Mapping[str, float]]:
    """Return CPU us an event in each round, and bytes of all records an event, of everything and without each part.

    Raises RuntimeError when an event got no inference.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-costs-") as folder:
        whole = everything(job, Path(folder))
        setups = {EVERYTHING: whole, **{part.name: part.without(whole) for part in PARTS}}
        messages = messages_of(job, batches)
        gc.collect()
        gc.freeze()  # as a worker after its start
        events = batches * BATCH_EVENTS
        sizes = {name: _counted(setup, messages, events) for name, setup in setups.items()}
        found: dict[str, list[float]] = {name: [] for name in setups}
        order = list(setups)
        for _ in range(rounds):
            for name in order:
                found[name].append(setups[name].run(messages, Sink()) / events * 1e6)
            order.append(order.pop(0))  # so that nobody always comes behind the same one
        whole.pool.close()
    return found, sizes


def _counted(setup: Setup, messages: Messages, events: int) -> float:
    """Return the bytes of all records an event, of a run that does not count: it fills caches."""
    sink = Sink(counts=True)
    setup.run(messages, sink)
    if sink.records.get(OUTPUT) != events:
        raise RuntimeError(f"{events:,} events became {sink.records}")
    return sum(sink.sizes.values()) / events
