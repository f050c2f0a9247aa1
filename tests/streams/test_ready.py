"""When a worker is ready, and what it holds back: what its probe and its gauges say on the in-memory twin."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from streams.errors import Rewind, StartOver
from tests.streams.bench import Bench
from tests.streams.fakes import NumberDecoder


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("decided_by", ["us", "others"])
@pytest.mark.parametrize("kind", [Rewind, StartOver])
def test_a_worker_that_fails_in_a_row_is_not_ready_until_it_commits_or_waits_for_events(
    make: Callable[..., Bench], kind: type[Exception], decided_by: str
) -> None:
    bench = make()
    failing, times = True, 0

    def fail() -> None:
        nonlocal times
        if failing:
            times += 1
            raise kind("the topic takes no such record")

    bench.fail = fail
    bench.start()
    bench.wait(lambda: bench.worker.ready)
    bench.kafka.append("in", b"1")
    bench.wait(lambda: times > 3)
    while times < 20:
        assert not bench.worker.ready
        time.sleep(0.001)
    if decided_by == "others":
        bench.kafka.offsets[("in", 0)] = 1
    failing = decided_by == "others"
    bench.wait(lambda: bench.worker.ready)
    bench.stop()


@pytest.mark.usefixtures("quick")
def test_a_single_failure_leaves_a_worker_ready(make: Callable[..., Bench]) -> None:
    bench = make()
    failures = iter([Rewind("aborted"), Rewind("aborted")])

    def fail() -> None:
        for failure in failures:
            raise failure

    bench.fail = fail
    bench.start()
    bench.wait(lambda: bench.worker.ready)
    bench.kafka.append("in", b"1")
    while bench.decided() < 1:
        assert bench.worker.ready
        time.sleep(0.001)
    bench.stop()


def test_an_unavailable_schema_source_makes_the_batch_wait(make: Callable[..., Bench]) -> None:
    bench = make(decoder=NumberDecoder(down=3))
    bench.kafka.append("in", b"1")
    bench.start()
    bench.wait(lambda: bench.value("penstock_held", cause="schemas") == 1)
    bench.wait(lambda: bench.decided() == 1)
    assert bench.value("penstock_held", cause="schemas") == 0
    bench.stop()
    assert bench.doubles() == [2]


def test_the_limit_on_dead_letters_pauses_until_told_to_go_on(make: Callable[..., Bench]) -> None:
    bench = make(limit=5)
    for _ in range(10):
        bench.kafka.append("in", b"junk")
    bench.start()
    bench.wait(lambda: bench.value("penstock_held", cause="dead_letters") == 1)
    assert bench.decided() == 0
    assert not bench.worker.ready
    bench.worker.resume()
    bench.wait(lambda: bench.decided() == 10)
    bench.stop()
    assert len(bench.kafka.read("letters")) == 10


def test_a_paused_worker_stops_and_commits_nothing(make: Callable[..., Bench]) -> None:
    bench = make(limit=5)
    for _ in range(10):
        bench.kafka.append("in", b"junk")
    bench.start()
    bench.wait(lambda: bench.value("penstock_held", cause="dead_letters") == 1)
    bench.worker.stop()
    bench.thread.join(20)
    assert bench.error is None
    assert bench.decided() == 0


def test_a_batch_that_was_held_and_given_up_is_not_shown_as_held(make: Callable[..., Bench]) -> None:
    bench = make(limit=1)
    for _ in range(2):
        bench.kafka.append("in", b"junk")
    bench.start()
    bench.wait(lambda: bench.value("penstock_held", cause="dead_letters") == 1)
    bench.kafka.offsets[("in", 0)] = 2  # somebody else decided them
    bench.sources[0].hold = lambda seconds: False  # type: ignore[method-assign]
    bench.wait(lambda: bench.value("penstock_held", cause="dead_letters") == 0)
    bench.stop()


@pytest.mark.parametrize("cause", ["schemas", "dead_letters"])
def test_a_batch_that_was_held_when_the_clients_broke_is_not_shown_as_held(
    make: Callable[..., Bench], cause: str
) -> None:
    bench = make(limit=1, decoder=NumberDecoder(down=10**6 * (cause == "schemas")))
    for _ in range(2):
        bench.kafka.append("in", b"junk")
    bench.start()
    bench.wait(lambda: bench.value("penstock_held", cause=cause) == 1)
    bench.kafka.offsets[("in", 0)] = 2  # somebody else decided them

    def broken(seconds: float) -> bool:
        raise StartOver("the consumer failed")

    bench.sources[0].hold = broken  # type: ignore[method-assign]
    bench.wait(lambda: bench.connects == 2)
    assert bench.value("penstock_held", cause=cause) == 0
    bench.stop()
