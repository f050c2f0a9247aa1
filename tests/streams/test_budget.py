"""A latency budget is spent on larger batches, is kept, and says when it cannot be kept: simulated streams."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from streams.budget import AGAIN_SECONDS, AIM, LONGEST_WAIT, WINDOW_SECONDS, Budget, Cost


@dataclass
class Stream:
    """Events that come evenly, batches that cost a fixed part and one for each event; time is simulated."""

    rate: float
    fixed: float
    each: float
    most: int = 2_000
    behind: float = 0.0  # of the producers' clocks
    now: float = 0.0
    taken: int = 0
    ages: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def run(self, seconds: float, budget: Budget | None) -> None:
        until = self.now + seconds
        while self.now < until:
            self._batch(budget)

    def _batch(self, budget: Budget | None) -> None:
        self.now = max(self.now, (self.taken + 1) / self.rate)
        most, wait = (budget.events, budget.wait) if budget else (self.most, 0.0)
        full = (self.taken + most) / self.rate
        self.now = max(self.now, min(full, self.now + wait))
        events = max(1, min(most, int(self.now * self.rate) - self.taken))
        times = (self.taken + 1 + np.arange(events)) / self.rate
        self.taken += events
        cost = self.fixed + self.each * events
        self.now += cost
        ages = self.now - times + self.behind
        self.ages += ages.tolist()
        self.sizes.append(events)
        if budget and (
            said := budget.committed(
                events, int((ages > budget.latency).sum()), float(np.percentile(ages, 95)), cost, events == most
            )
        ):
            self.said.append(said)

    def p95(self, last: float) -> float:
        return float(np.percentile(self.ages[-int(last * self.rate) :], 95))


def budget(stream: Stream, latency: float) -> Budget:
    return Budget(latency, stream.most, lambda: stream.now)


@pytest.mark.parametrize("rate", [100, 1_000, 10_000, 50_000])
@pytest.mark.parametrize("latency", [0.02, 0.1, 0.5])
def test_the_budget_is_kept_and_spent_on_fewer_batches(rate: float, latency: float) -> None:
    stream, soon = Stream(rate, 0.004, 3e-6), Stream(rate, 0.004, 3e-6)
    stream.run(30, budget(stream, latency))
    soon.run(30, None)
    assert stream.p95(10) <= latency
    assert not stream.said
    assert np.mean(stream.sizes) >= np.mean(soon.sizes)
    if rate * latency < stream.most:  # else the largest batch is full sooner
        assert max(stream.ages[-1_000:]) > 0.5 * latency
        assert len(stream.sizes) < len(soon.sizes)


def test_a_heavy_model_gets_batches_that_fit_the_budget_and_lose_little_throughput() -> None:
    stream = Stream(3_000, 0.004, 2e-4)
    plan = budget(stream, 0.1)
    stream.run(20, plan)
    assert stream.p95(5) <= 0.1
    cost = stream.fixed + stream.each * plan.events
    assert cost <= AIM * 0.1 / 2 * 1.1 or plan.events == pytest.approx(9 * stream.fixed / stream.each, rel=0.2)
    assert plan.events / cost >= 0.85 / stream.each


def test_a_stream_that_was_behind_is_met_again_after_it_was_drained() -> None:
    stream = Stream(20_000, 0.004, 3e-6)
    plan = budget(stream, 0.05)
    stream.now = 5.0  # 100,000 events wait
    stream.run(WINDOW_SECONDS + 1, plan)
    assert len(stream.said) <= 1
    stream.run(2 * WINDOW_SECONDS, plan)
    assert plan.met
    assert stream.p95(5) <= 0.05


def test_too_many_events_for_the_slot_are_said_with_what_it_scores() -> None:
    stream = Stream(10_000, 0.004, 2e-4)
    plan = budget(stream, 0.1)
    stream.run(3 * WINDOW_SECONDS, plan)
    (said,) = stream.said
    assert not plan.met
    assert "latency_ms: 100 is not met" in said
    assert "scores 4," in said
    assert "more slots" in said


def test_a_batch_that_takes_longer_than_the_budget_is_said() -> None:
    stream = Stream(100, 0.05, 1e-6)
    stream.run(2 * WINDOW_SECONDS, budget(stream, 0.02))
    (said,) = stream.said
    assert "takes 50 ms from read to commit: declare 100 ms or more" in said


def test_a_budget_that_is_still_not_met_is_said_again() -> None:
    stream = Stream(100, 0.05, 1e-6)
    stream.run(2 * AGAIN_SECONDS + 4 * WINDOW_SECONDS, budget(stream, 0.02))
    assert len(stream.said) == 3
    assert all("is not met" in said for said in stream.said)


def test_events_that_come_late_are_not_blamed_on_the_slot() -> None:
    stream = Stream(1_000, 0.004, 1e-6, behind=3.0)
    plan = budget(stream, 0.1)
    stream.run(2 * WINDOW_SECONDS, plan)
    assert "clocks are behind" in stream.said[0]
    assert plan.wait == 0.0


def test_clocks_that_are_ahead_do_not_make_it_wait_beyond_the_budget() -> None:
    stream = Stream(1_000, 0.004, 1e-6, behind=-60.0)
    plan = budget(stream, 0.1)
    stream.run(WINDOW_SECONDS, plan)
    assert plan.wait <= AIM * 0.1
    patient = budget(stream, 60.0)
    stream.run(300, patient)
    assert patient.wait <= LONGEST_WAIT


def test_the_parts_of_a_cost_are_told_apart_where_batches_differ() -> None:
    cost = Cost()
    assert cost.parts() is None
    for n in (10, 500, 2_000, 100, 1_000):
        cost.saw(n, 0.004 + 2e-6 * n)
    assert cost.parts() == (pytest.approx(0.004), pytest.approx(2e-6))
    same = Cost()
    for _ in range(5):
        same.saw(100, 0.01)
    assert same.parts() is None


def test_what_large_batches_would_do_is_told_from_small_ones_that_differ() -> None:
    cost = Cost()
    assert cost.rate(10_000) is None
    cost.saw(100, 0.01)
    assert cost.rate(10_000) == pytest.approx(100 / 0.01)  # of one size: no more than was seen
    for n in (1, 20, 50, 100):
        cost.saw(n, 0.006 + 4e-5 * n)
    assert cost.rate(10_000) == pytest.approx(10_000 / (0.006 + 0.4), rel=0.01)
