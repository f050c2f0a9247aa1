"""A worker that is offered another plan takes it between two batches, and neither loses nor repeats an event."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from schemas.control import Running, Swap
from schemas.inference import Lineage
from streams import worker
from streams.arms import Made
from streams.deadletters import LetterLimit
from streams.runner import Runner
from streams.scorer import Alone, Scorer
from streams.swaps import Starts
from streams.work import Composer, Plan
from tests.streams.bench import Bench
from tests.streams.fakes import CODEC, Doubler, NumberDecoder


def plan(bench: Bench, revision: int, *, paused: bool = False, starts: Any = None) -> Plan:
    """A plan of the revision; its inferences name it as their model's version."""
    made = Made("active", "active", 1.0, "", "doubler", f"v{revision}")
    scorer = Scorer(NumberDecoder(), Alone(Runner(Doubler()), made), CODEC, Lineage("fake", revision, *[""] * 4, "in"))
    composer = Composer(bench.worker.plan.composer.route, None, starts)
    models = {"active": ("doubler", f"v{revision}")}
    return Plan(scorer, composer, LetterLimit(0, time.monotonic), None, paused, revision, models)


def revisions(bench: Bench) -> list[int]:
    return [CODEC.decode(message.value() or b"")["revision"] for message in bench.kafka.read("out")]


def feed(bench: Bench, count: int) -> None:
    for number in range(count):
        bench.kafka.append("in", b"%d" % (100 + number), b"k", number % 2)


def test_each_batch_is_of_one_revision_and_none_is_lost(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.start()
    for revision in range(2, 30):
        feed(bench, 7)
        bench.worker.offer(plan(bench, revision))
    feed(bench, 7)
    bench.wait(lambda: bench.decided() == 29 * 7)
    bench.wait(lambda: bench.worker.plan.revision == 29)
    feed(bench, 1)
    bench.wait(lambda: bench.decided() == 29 * 7 + 1)
    bench.stop()
    found = [
        (CODEC.decode(m.value() or b"")["source_partition"], CODEC.decode(m.value() or b"")["source_offset"])
        for m in bench.kafka.read("out")
    ]
    assert len(found) == len(set(found)) == 29 * 7 + 1
    last = CODEC.decode([message for message in bench.kafka.read("out") if message.partition() == 0][-1].value() or b"")
    assert (last["source_partition"], last["revision"]) == (0, 29)
    assert bench.value("penstock_model_info", scored_by="active", model="doubler", version="v29") == 1
    assert bench.value("penstock_model_info", scored_by="active", model="doubler", version="v2") == 0


def test_a_plan_that_pauses_scores_nothing_and_loses_nothing(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.start()
    bench.worker.offer(plan(bench, 2, paused=True))
    bench.wait(lambda: bench.worker.plan.paused)
    feed(bench, 10)
    time.sleep(0.3)
    assert bench.decided() == 0
    assert bench.value("penstock_held", cause="paused") == 1
    bench.worker.offer(plan(bench, 3))
    bench.wait(lambda: bench.decided() == 10)
    assert bench.value("penstock_held", cause="paused") == 0
    bench.stop()
    assert set(revisions(bench)) == {3}


class Counting(NumberDecoder):
    """Breaks a check with every event."""

    def __init__(self) -> None:
        super().__init__()
        self.broken_checks = {"number": 0}

    def decode(self, values: Any) -> Any:
        self.broken_checks["number"] += len(values)
        return super().decode(values)


def test_broken_checks_are_counted_to_the_last_batch_of_a_plan(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "TICK_SECONDS", 3600.0)  # none comes between the batch and the change
    bench = make(decoder=Counting())
    bench.start()
    feed(bench, 6)
    bench.wait(lambda: bench.decided() == 6)
    bench.worker.offer(plan(bench, 2))
    bench.wait(lambda: bench.worker.plan.revision == 2)
    bench.stop()
    assert bench.value("penstock_broken_checks_total", field="number") == 6


def test_a_pause_of_the_plan_that_scores_counts_nothing_twice(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "TICK_SECONDS", 0.0)
    bench = make(decoder=Counting())
    bench.start()
    feed(bench, 6)
    bench.wait(lambda: bench.decided() == 6)
    scoring = bench.worker.plan
    for paused in (True, False):
        bench.worker.offer(replace(scoring, paused=paused))
        bench.wait(lambda paused=paused: bench.value("penstock_held", cause="paused") == paused)  # type: ignore[misc]
    feed(bench, 2)
    bench.wait(lambda: bench.decided() == 8)
    bench.wait(lambda: bench.value("penstock_broken_checks_total", field="number") >= 8)  # told with the next tick
    bench.stop()
    assert bench.value("penstock_broken_checks_total", field="number") == 8


def test_a_batch_that_is_held_back_is_scored_by_what_was_offered_meanwhile(make: Callable[..., Bench]) -> None:
    bench = make(decoder=NumberDecoder(down=10**9))  # its schemas cannot be read, whatever happens
    bench.start()
    feed(bench, 4)
    bench.wait(lambda: bench.value("penstock_held", cause="schemas") == 1)
    bench.worker.offer(plan(bench, 2))
    bench.wait(lambda: bench.decided() == 4)
    bench.stop()
    assert set(revisions(bench)) == {2}


class Once(NumberDecoder):
    """Decodes a batch, and then the source of schemas is away."""

    def decode(self, values: Any) -> Any:
        try:
            return super().decode(values)
        finally:
            self.down = 10**9


def test_what_is_being_committed_is_not_scored_again_by_what_was_offered_meanwhile(make: Callable[..., Bench]) -> None:
    """A batch behind it is held back, given up for the offer, and read again: so would it be."""
    bench, decided = make(decoder=Once(), batch_events=2), threading.Event()
    bench.fail = lambda: None if decided.wait(10) else pytest.fail("was never let go")
    feed(bench, 4)
    bench.start()
    bench.wait(lambda: bench.value("penstock_held", cause="schemas") == 1)
    bench.worker.offer(plan(bench, 2))
    time.sleep(0.5)  # by now it would have been read again
    decided.set()
    bench.wait(lambda: bench.decided() == 4)
    bench.stop()
    assert sorted(revisions(bench)) == [1, 1, 2, 2]


def test_where_a_revision_begins_is_told_in_the_transaction_that_it_begins_with(make: Callable[..., Bench]) -> None:
    bench = make()
    arms = [Running("active", "doubler", "v2", "d2"), Running("canary", "doubler", "v3", "d3")]
    bench.start()
    feed(bench, 6)
    bench.wait(lambda: bench.decided() == 6)
    starts = Starts("profiles", "fake", 2, arms, lambda: "7", lambda: 1.5)
    bench.worker.offer(plan(bench, 2, starts=starts))
    bench.wait(lambda: bench.worker.plan.revision == 2)
    feed(bench, 6)
    bench.wait(lambda: bench.decided() == 12)
    bench.stop()
    told = [Swap.decode(message.value() or b"") for message in bench.kafka.read("profiles")]
    assert {(each.arm, each.version, each.revision, each.slot, each.at_ms) for each in told} == {
        ("active", "v2", 2, "7", 1500),
        ("canary", "v3", 2, "7", 1500),
    }
    firsts = sorted((first.partition, first.offset) for each in told if each.arm == "active" for first in each.firsts)
    assert firsts == [(0, 3), (1, 3)]
    by_offset = {
        (record["source_partition"], record["source_offset"]): record["revision"]
        for record in (CODEC.decode(message.value() or b"") for message in bench.kafka.read("out"))
    }
    assert all((revision == 2) == (offset >= 3) for (_, offset), revision in by_offset.items())


def test_what_was_told_in_a_transaction_that_failed_is_told_again() -> None:
    starts = Starts("swaps", "d", 2, [Running("active", "m", "v", "d")], lambda: "0")
    first = starts.records({0: 5})
    assert first is not None
    assert starts.records({0: 9}) is None
    more = starts.records({0: 9, 1: 3})
    assert more is not None
    assert [(f.partition, f.offset) for f in Swap.decode(more.values[0] or b"").firsts] == [(1, 3)]
    starts.forget()
    again = starts.records({0: 5, 1: 3})
    assert again is not None
    assert [(f.partition, f.offset) for f in Swap.decode(again.values[0] or b"").firsts] == [(0, 5), (1, 3)]


@pytest.mark.parametrize("paused", [True, False])
def test_a_worker_can_begin_with_either(make: Callable[..., Bench], paused: bool) -> None:
    bench = make()
    begun = replace(bench.worker.plan, paused=paused)
    bench.worker.plan = bench.worker._offered = begun
    feed(bench, 2)
    bench.start()
    if paused:
        time.sleep(0.2)
        assert bench.decided() == 0
    else:
        bench.wait(lambda: bench.decided() == 2)
    bench.stop()
