"""Samples on the in-memory twin: with the inferences of their batch or not at all, beside profiles, and counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.samples import Samples
from models.sampling import hashes, places, sampled
from schemas.heads import read_lineage, read_position
from streams.batch import Batch
from streams.errors import Rewind
from streams.sampler import Sampled, Sampler
from streams.scorer import Scored
from tests.streams.bench import Bench

Row = tuple[int, int, bytes, float]


def sampler(**changed: Any) -> Sampler:
    given: dict[str, Any] = {"share": 1.0, "limit": 1 << 20, **changed}
    return Sampler("fake", 1, "in", partitions=4, roles={}, outputs=["double"], segments={}, **given)


def told(bench: Bench) -> list[Row]:
    """Source partition and offset, key and output of every sampled event."""
    found = []
    for message in bench.kafka.read("samples"):
        part = Samples.decode(message.value() or b"")
        assert set(places(hashes(part.keys), 4).tolist()) == {message.partition()}
        assert message.key() == b"fake"
        sources = zip(part.partitions.tolist(), part.offsets.tolist(), strict=True)
        found += [(*at, key, out) for at, key, out in zip(sources, part.keys, part.outputs["double"], strict=True)]
    return sorted(found)


def inferred(bench: Bench) -> list[tuple[int, int]]:
    values = [message.value() or b"" for message in bench.kafka.read("out")]
    return sorted(read_position(value, read_lineage(value)[1]) for value in values)


def filled(make: Callable[..., Bench], **options: Any) -> Bench:
    bench = make(**options)
    for i in range(100):
        bench.kafka.append("in", b"%d" % i if i % 10 else b"junk", b"k%d" % i if i % 7 else None, i % 2, ms=1 + i)
    return bench


def run(bench: Bench) -> None:
    bench.start()
    bench.wait(lambda: bench.decided() == 100)
    bench.stop()


def due() -> list[Row]:
    return sorted((i % 2, i // 2, b"k%d" % i, 2.0 * i) for i in range(100) if i % 10 and i % 7 and i not in (13, 17))


def test_every_inference_of_an_event_with_a_key_has_its_sample_and_both_are_counted(make: Callable[..., Bench]) -> None:
    bench = filled(make, sampler=sampler())
    run(bench)
    assert told(bench) == due()
    assert bench.value("penstock_samples_total", scored_by="active") == len(due())
    assert bench.value("penstock_unsampled_events_total", reason="no_key") == len(inferred(bench)) - len(due())


def test_a_batch_that_is_published_again_has_its_samples_once(make: Callable[..., Bench], quick: None) -> None:
    failures = iter([Rewind("aborted")] * 3)

    def fail() -> None:
        for error in failures:
            raise error

    bench = filled(make, sampler=sampler(), batch_events=30)
    bench.fail = fail
    run(bench)
    assert told(bench) == due()
    assert bench.value("penstock_samples_total", scored_by="active") == len(due())


def test_samples_that_are_written_before_their_batch_is_decided_are_found(
    make: Callable[..., Bench], quick: None
) -> None:
    """The negative control of the test above."""

    class Hasty(Sampler):
        def sample(self, batch: Batch, scored: Scored, times: Any = None) -> Sampled:
            found = super().sample(batch, scored, times)
            for value, place in zip(found.values, found.partitions, strict=True):
                bench.kafka.append("samples", value, b"fake", place)
            return Sampled()

    failures = iter([Rewind("aborted")])

    def fail() -> None:
        for error in failures:
            raise error

    bench = filled(make, batch_events=30)
    made = sampler()
    bench.worker.plan.composer.sampler = Hasty(**{name: getattr(made, name) for name in Sampler.__slots__})
    bench.fail = fail
    run(bench)
    assert set(told(bench)) == set(due())
    assert len(told(bench)) > len(due())


def test_without_labels_nothing_is_sampled(make: Callable[..., Bench]) -> None:
    bench = filled(make)
    run(bench)
    assert bench.kafka.read("samples") == []


def test_profiles_and_samples_tell_of_the_same_times(make: Callable[..., Bench]) -> None:
    class Profiler:
        def __init__(self) -> None:
            self.times: list[int] = []

        def profiles(self, frame: Any, outputs: Any, partitions: Any, timestamps: Any, *_: Any) -> list[bytes]:
            self.times += np.asarray(timestamps).tolist()
            return [b"profile"]

        def progress(self, partitions: Any, now_ms: int) -> list[bytes]:
            return []

        def forget(self) -> None: ...

    profiler = Profiler()
    bench = filled(make, sampler=sampler(), profiler=profiler)
    run(bench)
    parts = [Samples.decode(message.value() or b"") for message in bench.kafka.read("samples")]
    assert {int(time) for part in parts for time in part.times} < set(profiler.times)
    assert len(told(bench)) == len(due())


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_a_share_keeps_whole_keys(make: Callable[..., Bench], share: float) -> None:
    bench = filled(make, sampler=sampler(share=share))
    run(bench)
    keys = [key for *_, key, _ in due()]
    chosen = {key for key, is_in in zip(keys, sampled(hashes(keys), share).tolist(), strict=True) if is_in}
    assert {key for *_, key, _ in told(bench)} == chosen
