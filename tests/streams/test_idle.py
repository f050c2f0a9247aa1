"""What a worker tells the monitor: a profile with each batch, and progress of the partitions that are idle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from streams.memory import MemorySink, MemorySource
from tests.streams.bench import Bench


class CountingProfiler:
    """Publishes one record a batch, and one a partition that is idle."""

    def __init__(self) -> None:
        self.forgotten = 0

    def profiles(
        self, frame: Any, outputs: Any, partitions: Any, timestamps: Any, arms: Any, arm_of: Any = None
    ) -> list[bytes]:
        assert (arms, arm_of) == (["active"], None)
        assert len(frame) == len(outputs) == len(partitions) == len(timestamps)
        return [b"batch %d" % len(frame)]

    def progress(self, partitions: Any, now_ms: int) -> list[bytes]:
        return [b"idle %d" % partition for partition in partitions]

    def forget(self) -> None:
        self.forgotten += 1


def test_profiles_ride_with_their_batch_and_idle_partitions_say_so(make: Callable[..., Bench]) -> None:
    profiler = CountingProfiler()
    bench = make(profiler=profiler)
    bench.start()
    bench.wait(lambda: len(bench.kafka.read("profiles")) >= 2)
    for value in (b"1", b"junk", b"2"):
        bench.kafka.append("in", value)
    bench.wait(lambda: bench.decided() == 3)
    bench.stop()
    values = [m.value() or b"" for m in bench.kafka.read("profiles")]
    assert {b"idle 0", b"idle 1"} <= set(values)
    assert sum(int(v.split()[1]) for v in values if v.startswith(b"batch")) == 2
    assert profiler.forgotten


class Told(MemorySink):
    """Remembers what is published, and with which offsets."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.published: list[tuple[list[bytes | None], dict[int, int]]] = []

    def publish(self, records: Any, positions: Any) -> None:
        super().publish(records, positions)
        self.published.append(([value for group in records for value in group.values], dict(positions)))


@pytest.mark.usefixtures("quick")
def test_progress_is_published_with_the_offsets_that_it_speaks_of(make: Callable[..., Bench]) -> None:
    bench, sinks = make(profiler=CountingProfiler()), []

    def connect(revoked: Callable[[], None]) -> tuple[MemorySource, MemorySink]:
        source = MemorySource(bench.kafka, "in", revoked)
        sinks.append(Told(bench.kafka, source))
        return source, sinks[-1]

    bench.worker._connect = connect
    for _ in range(3):
        bench.kafka.append("in", b"1")
    bench.start()
    bench.wait(lambda: any(b"idle 0" in values for sink in sinks for values, _ in sink.published))
    bench.stop()
    assert ([b"idle 0", b"idle 1"], {0: 3, 1: 0}) in sinks[0].published


@pytest.mark.usefixtures("quick")
def test_a_worker_says_nothing_of_a_partition_that_it_lost_without_hearing_of_it(make: Callable[..., Bench]) -> None:
    bench = make(profiler=CountingProfiler())

    class Zombie(MemorySource):
        def assigned(self) -> Sequence[int]:  # what the group knows, and the sink's transactions are judged by
            return [1]

    def connect(revoked: Callable[[], None]) -> tuple[MemorySource, MemorySink]:
        source = Zombie(bench.kafka, "in", revoked)
        return source, MemorySink(bench.kafka, source)

    bench.worker._connect = connect
    bench.start()
    bench.wait(lambda: bench.value("penstock_restarts_total", cause="rewind") > 0)
    bench.stop()
    assert bench.kafka.read("profiles") == []


def test_events_at_hand_are_profiled_before_their_partition_counts_as_idle(make: Callable[..., Bench]) -> None:
    bench = make(profiler=CountingProfiler())
    worker = bench.worker
    poll = MemorySource.poll

    class Ticking(MemorySource):
        def poll(self, limit: int, seconds: float, wait: float = 0.0) -> Any:
            worker._ticked = 0.0  # a tick is due while a batch is at hand
            worker._quiet.update({0: 9, 1: 9})
            return poll(self, limit, seconds, wait)

    def connect(revoked: Callable[[], None]) -> tuple[MemorySource, MemorySink]:
        source = Ticking(bench.kafka, "in", revoked)
        return source, MemorySink(bench.kafka, source)

    worker._connect = connect
    bench.kafka.append("in", b"1")
    bench.start()
    bench.wait(lambda: len(bench.kafka.read("profiles")) >= 2)
    bench.stop()
    assert bench.kafka.read("profiles")[0].value() == b"batch 1"
