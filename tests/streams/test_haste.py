"""The way back does not wait for a model that hangs: what it was at is given up, and nothing of it is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from models.errors import ModelTimedOut
from models.runtimes.watchdog import HURRY_SECONDS, Watchdog
from schemas.inference import Lineage
from streams.arms import Made
from streams.errors import Abandoned
from streams.haste import Haste
from streams.runner import Runner
from streams.scorer import Alone, Scorer
from streams.search import Search
from tests.streams.bench import Bench
from tests.streams.fakes import CODEC, Doubler, NumberDecoder


class Hangs(Doubler):
    """Hangs until it is hurried, as a run does that the watchdog ends."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.hurried = threading.Event(), threading.Event()

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> pl.DataFrame:
        self.began.set()
        if not self.hurried.wait(30):
            return super().run(inputs, seconds)
        time.sleep(HURRY_SECONDS)
        raise ModelTimedOut("hangs")

    def hurry(self, on: bool) -> None:
        self.hurried.set() if on else self.hurried.clear()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_run_in_hand_is_ended_and_one_that_is_quick_is_not() -> None:
    class Options:
        terminate = False

    clock = Clock()
    watchdog = Watchdog(clock)
    watchdog.close()  # looks are made by hand
    for hurried, seconds, ended in [(False, 5.0, False), (True, 0.8, False), (True, 1.5, True)]:
        options = Options()
        watchdog.hurried = hurried
        watchdog.begin(options, 10.0)
        watchdog._look()
        for _ in range(round(seconds * 10)):
            clock.now += 0.1
            watchdog._look()
        assert (options.terminate, watchdog.end()) == (ended, ended)


def test_what_is_given_up_is_not_refused_and_what_took_little_is_finished() -> None:
    clock, haste = Clock(), Haste()

    class Slow(Doubler):
        def run(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> pl.DataFrame:
            clock.now += HURRY_SECONDS
            raise ModelTimedOut("thinks for ever")

    inputs = {"x": np.arange(4.0)}
    search = Search(Slow(), 10.0, clock, None, haste)
    assert len(search.score(inputs, 4)[2]) == 4  # the control
    haste.hasten()
    with pytest.raises(Abandoned, match=r"at the batch in hand for 1\.0 s"):
        search.score(inputs, 4)
    assert len(Search(Doubler(), 10.0, clock, None, haste).score(inputs, 4)[0]) == 4
    haste.calm()
    assert len(search.score(inputs, 4)[2]) == 4


def hanging(model: Hangs) -> tuple[Scorer, Haste]:
    haste = Haste([model])
    alone = Alone(Runner(model, 60.0, haste=haste), Made("active", "active", 1.0, "", "doubler", "bad"))
    return Scorer(NumberDecoder(), alone, CODEC, Lineage("fake", 1, "", "", "", "", "in")), haste


def test_a_batch_that_hangs_is_scored_by_the_revision_that_comes(make: Callable[..., Bench]) -> None:
    bench, model = make(), Hangs()
    good = bench.worker.plan
    scorer, haste = hanging(model)
    bench.worker.offer(replace(good, scorer=scorer, haste=haste, revision=2))
    for i in range(100, 110):
        bench.kafka.append("in", b"%d" % i)
    bench.start()
    assert model.began.wait(10)
    bench.worker.offer(replace(good, revision=3))
    bench.wait(lambda: bench.decided() == 10)
    bench.stop()
    assert sorted(bench.doubles()) == [2.0 * i for i in range(100, 110)]  # all of them, and none is a dead letter
    assert bench.value("penstock_restarts_total", cause="rewind") == 1


def test_a_plan_that_is_taken_has_time_again(make: Callable[..., Bench]) -> None:
    """Two plans share a model: the hurry of the one is not that of the next."""
    bench, model = make(), Hangs()
    good = bench.worker.plan
    first, second = Haste([model]), Haste([model])
    bench.worker.offer(replace(good, haste=first))
    bench.start()
    bench.wait(lambda: bench.worker.plan.haste is first)
    bench.worker.offer(replace(good, haste=second))
    bench.wait(lambda: bench.worker.plan.haste is second)
    bench.stop()
    assert first.wanted
    assert (second.wanted, model.hurried.is_set()) == (False, False)
