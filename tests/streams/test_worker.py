"""The worker's loop on the in-memory twin: what becomes of batches when things go wrong."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streams.budget import Budget
from streams.errors import Fenced, ProducerFenced, Rewind, StartOver
from streams.offsets import OffsetRange
from streams.orders import Caution
from streams.quarantine import Quarantine
from streams.safeguard import LOOK_SECONDS, Safeguard
from streams.sizing import ENOUGH_SECONDS, FIRST_EVENTS
from streams.worker import BATCH_BYTES
from tests.streams.bench import Bench
from tests.streams.fakes import NumberDecoder


def test_every_event_becomes_an_inference_or_a_dead_letter(make: Callable[..., Bench]) -> None:
    bench = make()
    for i in range(100):
        bench.kafka.append("in", b"%d" % i if i % 10 else b"junk", None, i % 2, ms=1)
    bench.start()
    bench.wait(lambda: bench.decided() == 100)
    bench.stop()
    assert sorted(bench.doubles()) == [2 * i for i in range(100) if i % 10 and i not in (13, 17)]
    assert len(bench.kafka.read("letters")) == 12
    assert bench.value("penstock_events_total") == 100
    assert bench.value("penstock_dead_letters_total", reason="model_failed") == 1


def test_inferences_stay_on_their_source_partition_in_order(make: Callable[..., Bench]) -> None:
    bench = make(batch_events=7)
    for i in range(0, 200, 2):
        bench.kafka.append("in", b"%d" % (i * 100), None, 1)
    bench.start()
    bench.wait(lambda: bench.decided() == 100)
    bench.stop()
    assert [m.partition() for m in bench.kafka.read("out")] == [1] * 100
    assert bench.doubles() == [i * 200 for i in range(0, 200, 2)]


def test_a_keyless_event_keeps_its_order_on_a_topic_with_other_partitions(make: Callable[..., Bench]) -> None:
    bench = make(out=1)
    bench.kafka.append("in", b"1", None, 1)
    bench.start()
    bench.wait(lambda: bench.decided() == 1)
    bench.stop()
    assert [m.partition() for m in bench.kafka.read("out")] == [0]


@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize("kind", [Rewind, StartOver, ProducerFenced])
def test_a_failed_commit_loses_and_repeats_nothing(
    make: Callable[..., Bench], kind: type[Exception], size: int
) -> None:
    bench = make(batch_events=size)
    for i in range(20):
        bench.kafka.append("in", b"%d" % (i * 100))
    failures = iter([None, kind("first"), None, kind("second")])

    def fail() -> None:
        failure = next(failures, None)
        if failure is not None:
            raise failure

    bench.fail = fail
    bench.start()
    bench.wait(lambda: bench.decided() == 20)
    bench.stop()
    assert bench.doubles() == [i * 200 for i in range(20)]


@pytest.mark.parametrize("kind", [Rewind, StartOver])
def test_a_failure_that_says_nothing_is_a_failure(make: Callable[..., Bench], kind: type[Exception]) -> None:
    bench = make()
    bench.kafka.append("in", b"1")
    failures = [kind("")]

    def fail() -> None:
        if failures:
            raise failures.pop()

    bench.fail = fail
    bench.start()
    bench.wait(lambda: bench.decided() == 1)
    bench.stop()
    assert bench.doubles() == [2]


def test_a_start_over_makes_new_clients_and_counts(make: Callable[..., Bench]) -> None:
    bench = make()
    failures = iter([StartOver("unknown outcome")])

    def fail() -> None:
        for failure in failures:
            raise failure

    bench.fail = fail
    bench.kafka.append("in", b"1")
    bench.start()
    bench.wait(lambda: bench.decided() == 1)
    bench.stop()
    assert bench.connects == 2
    assert bench.value("penstock_restarts_total", cause="start_over") == 1


@pytest.mark.parametrize("trouble", ["idle", "held", "no broker"])
def test_a_worker_that_waits_says_that_it_is_alive(make: Callable[..., Bench], trouble: str) -> None:
    turns: list[float] = []
    bench = make(decoder=NumberDecoder(down=10**6 * (trouble == "held")), alive=lambda: turns.append(time.monotonic()))

    def no_broker() -> None:
        raise StartOver("no broker answers")

    if trouble == "no broker":
        bench.fail = no_broker
    if trouble != "idle":
        bench.kafka.append("in", b"1")
    bench.start()
    bench.wait(lambda: len(turns) >= 4)
    bench.worker.stop()


def test_a_worker_whose_slot_was_taken_ends(make: Callable[..., Bench]) -> None:
    bench = make()

    def fail() -> None:
        raise Fenced("another worker took the slot")

    bench.fail = fail
    bench.kafka.append("in", b"1")
    bench.start()
    bench.thread.join(20)
    assert isinstance(bench.error, Fenced)
    assert not bench.worker.ready


@pytest.mark.parametrize("kind", [Rewind, StartOver])
def test_a_batch_that_comes_again_counts_once_against_the_limit(
    make: Callable[..., Bench], kind: type[Exception]
) -> None:
    bench = make(limit=5)
    failures = iter([kind("aborted")] * 2)

    def fail() -> None:
        for failure in failures:
            raise failure

    bench.fail = fail
    for _ in range(4):
        bench.kafka.append("in", b"junk")
    bench.start()
    bench.wait(lambda: bench.decided() == 4)
    assert bench.value("penstock_held", cause="dead_letters") == 0
    bench.stop()
    assert len(bench.kafka.read("letters")) == 4


def test_quarantined_events_beside_a_batch_that_fails_do_not_count_its_letters_twice(
    make: Callable[..., Bench],
) -> None:
    """The batch before, which has none that count, is committed when the letters of the next are counted already."""
    guard = Safeguard("in", quarantine=Quarantine([OffsetRange("in", 0, 0, 2)]))
    bench = make(guard=guard, limit=3, batch_events=2)  # full batches: the commit goes on beside the loop
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        if len(calls) == 1:
            bench.wait(lambda: 2 in bench.worker._undecided)
        if len(calls) == 2:
            raise Rewind("aborted")

    bench.fail = fail
    for value in (b"1", b"2", b"junk", b"junk"):
        bench.kafka.append("in", value, None, 0)
    bench.start()
    bench.wait(lambda: bench.decided() == 4 or bench.value("penstock_held", cause="dead_letters") == 1)
    assert bench.value("penstock_held", cause="dead_letters") == 0
    bench.stop()
    assert len(bench.kafka.read("letters")) == 4


def test_a_signal_may_stop_a_worker_wherever_it_interrupts_it(make: Callable[..., Bench]) -> None:
    """A handler runs in the middle of the loop's own code: a lock that both take would be waited for in vain."""
    worker = make().worker

    def interrupted(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_name in ("wait", "_rest"):
            worker.stop()
        return interrupted

    def rest() -> None:
        sys.settrace(interrupted)
        worker._rest(20)

    thread = threading.Thread(target=rest, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.usefixtures("quick")
def test_a_batch_that_fails_shrinks_to_one_event_though_many_wait_and_grows_again(make: Callable[..., Bench]) -> None:
    sizes: list[int] = []

    class Sized(NumberDecoder):
        def decode(self, values: Sequence[bytes | None]) -> Any:
            sizes.append(len(values))
            return super().decode(values)

    bench = make(batch_events=64, decoder=Sized())
    broken = True

    def fail() -> None:
        if broken:
            raise Rewind("the broker is slow")

    bench.fail = fail
    for i in range(1_000):
        bench.kafka.append("in", b"%d" % (i * 100))
    bench.start()
    bench.wait(lambda: sizes[-2:] == [1, 1])
    broken = False
    bench.wait(lambda: bench.decided() == 1_000)
    bench.stop()
    assert max(sizes[-5:]) == 64


@pytest.mark.parametrize(("seconds", "largest"), [(0.0, 10_000), (ENOUGH_SECONDS, FIRST_EVENTS)])
def test_a_backlog_makes_batches_larger_while_scoring_them_costs_no_wait(
    make: Callable[..., Bench], seconds: float, largest: int
) -> None:
    sizes: list[int] = []

    class Slow(NumberDecoder):
        def decode(self, values: Sequence[bytes | None]) -> Any:
            sizes.append(len(values))
            time.sleep(seconds)
            return super().decode(values)

    bench = make(decoder=Slow())
    for i in range(2 * FIRST_EVENTS if seconds else 30_000):
        bench.kafka.append("in", b"%d" % (i * 100))
    bench.start()
    bench.wait(lambda: max(sizes, default=0) == largest and len(sizes) > 1)
    bench.stop()
    assert sizes[0] == FIRST_EVENTS
    assert max(sizes) == largest


@pytest.mark.parametrize("changes", [True, False], ids=["another plan", "the same"])
def test_another_plan_begins_with_small_batches_because_its_model_may_be_slow(
    make: Callable[..., Bench], changes: bool
) -> None:
    sizes: list[int] = []

    class Sized(NumberDecoder):
        def decode(self, values: Sequence[bytes | None]) -> Any:
            sizes.append(len(values))
            if len(values) == 10_000 and changes:
                bench.worker.offer(replace(bench.worker.plan, revision=len(sizes)))
            return super().decode(values)

    bench = make(decoder=Sized())
    for i in range(40_000):
        bench.kafka.append("in", b"%d" % (i * 100))
    bench.start()
    bench.wait(lambda: 10_000 in sizes[:-1])
    bench.stop()
    after = sizes[sizes.index(10_000) + 1]
    assert after == FIRST_EVENTS if changes else after > FIRST_EVENTS


def test_large_events_make_small_batches() -> None:
    assert bench_batch(b"x" * (20 << 20)).fitting(BATCH_BYTES) == 1
    assert bench_batch(b"x").fitting(BATCH_BYTES) == BATCH_BYTES // 2
    assert bench_batch(b"x", b"k" * (20 << 20)).fitting(BATCH_BYTES) == 1  # keys take memory, too
    assert bench_batch(None, b"k").fitting(BATCH_BYTES) == BATCH_BYTES // 2


def bench_batch(value: bytes | None, key: bytes | None = None) -> Any:
    from streams.batch import batch_of
    from streams.memory import StoredMessage

    return batch_of([StoredMessage((value, key, 0, i, 0, None)) for i in range(4)])


def test_a_held_event_stops_its_partition_alone_and_goes_to_the_dead_letters_once_in_quarantine(
    make: Callable[..., Bench],
) -> None:
    now, ranges = [0.0], [Quarantine()]
    guard = Safeguard("in", look=lambda: ranges[0], caution=Caution(held={0: (3, 4)}), clock=lambda: now[0])
    bench = make(guard=guard, limit=1)
    for i in range(20):
        bench.kafka.append("in", b"%d" % (i * 100), None, i % 2)
    bench.start()
    bench.wait(lambda: bench.value("penstock_held", cause="crash") == 1)
    assert bench.kafka.offsets == {("in", 0): 3, ("in", 1): 10}
    ranges[0] = Quarantine([OffsetRange("in", 0, 3, 6)])  # more than the limit on dead letters
    now[0] = LOOK_SECONDS
    bench.wait(lambda: bench.decided() == 20)
    bench.wait(lambda: bench.value("penstock_held", cause="crash") == 0)
    bench.stop()
    assert len(bench.doubles()) == 17
    assert [dict(m.headers() or [])["penstock.source.offset"] for m in bench.kafka.read("letters")] == [
        b"3",
        b"4",
        b"5",
    ]


def test_a_batch_that_came_with_the_assignment_is_read_again_in_small_ones(make: Callable[..., Bench]) -> None:
    sizes = []

    class Sized(NumberDecoder):
        def decode(self, values: Sequence[bytes | None]) -> Any:
            sizes.append(len(values))
            return super().decode(values)

    guard = Safeguard("in", caution=Caution({0: (0, 6)}, 2))
    bench = make(guard=guard, decoder=Sized())
    for i in range(10):
        bench.kafka.append("in", b"%d" % (i * 100))
    limits = [guard.limit]
    guard.limit = lambda most, source: most if limits and limits.pop() else type(guard).limit(guard, most, source)  # type: ignore[method-assign,assignment]
    bench.start()
    bench.wait(lambda: bench.decided() == 10)
    bench.stop()
    assert sizes == [2, 2, 2, 4]
    assert bench.doubles() == [i * 200 for i in range(10)]


@pytest.mark.parametrize("kind", [Rewind, StartOver])
def test_a_batch_whose_commit_fails_while_stopping_is_not_called_committed(
    make: Callable[..., Bench], kind: type[Exception]
) -> None:
    bench = make(batch_events=1)  # full batches: the commit goes on beside the loop

    def fail() -> None:
        bench.worker.stop()
        time.sleep(0.2)  # the loop comes to its end
        raise kind("aborted")

    bench.fail = fail
    bench.kafka.append("in", b"1")
    bench.start()
    bench.thread.join(20)
    assert bench.error is None
    assert bench.decided() == 0
    assert not bench.worker.whole


class Steady(Budget):
    """A budget that goes on planning the same."""

    def committed(self, events: int, late: int, age: float, seconds: float, whole: bool) -> str | None:
        self.learned.append((events, late, age))
        return "said" if len(self.learned) == 1 else None

    learned: list[tuple[int, int, float]]


def steady(latency: float, wait: float, events: int = 50) -> Steady:
    budget = Steady(latency, 50)
    budget.learned, budget.wait, budget.events = [], wait, events
    return budget


def test_a_budget_decides_how_long_a_batch_is_waited_for(make: Callable[..., Bench]) -> None:
    bench = make(budget=steady(10.0, wait=5.0, events=3), batch_events=50)
    bench.start()
    for i in range(3):
        bench.kafka.append("in", b"%d" % (i * 100))
        time.sleep(0.05)
    bench.wait(lambda: bench.decided() == 3)
    bench.stop()
    assert bench.value("penstock_batches_total") == 1


def test_events_that_are_committed_late_are_counted_and_the_sentence_is_said(
    make: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    budget = steady(5.0, wait=0.0)
    budget.met = False
    bench = make(budget=budget, clock=lambda: 100.0)
    for ms in (90_000, 99_000, 94_999, 98_000, -1):
        bench.kafka.append("in", b"100", ms=ms)
    bench.start()
    bench.wait(lambda: bench.decided() == 5)
    bench.stop()
    assert bench.value("penstock_late_events_total") == 2
    assert budget.learned[0][:2] == (5, 2)
    assert budget.learned[0][2] == pytest.approx(np.percentile([10.0, 1.0, 5.001, 2.0], 95))
    assert "said" in caplog.text


def test_without_a_budget_nothing_is_late(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.kafka.append("in", b"100", ms=1)
    bench.start()
    bench.wait(lambda: bench.decided() == 1)
    bench.stop()
    assert bench.value("penstock_late_events_total") == 0
