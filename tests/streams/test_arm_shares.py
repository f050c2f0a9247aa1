"""What became of the events of arms that share them: counted by where they were assigned, once they are committed."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from models.routing import Router
from streams.arms import Arms, Contender, Share
from streams.breaker import LEAST
from streams.metrics import ShareMetrics
from tests.streams.test_arms import Clock, Times, contender, frame, places

COUNT = 400


def shared(active: Times, canary: Times, clock: Clock, *, steps_in: bool = True) -> Arms:
    first, second = contender("active", active, clock), contender("canary", canary, clock)
    chain: list[Contender] = [second, first] if steps_in else [second]
    return Arms({"active": [first], "canary": chain}, Router({"active": 75.0, "canary": 25.0}, "salt"), clock=clock)


def assigned() -> list[int]:
    found = Router({"active": 75.0, "canary": 25.0}, "salt").assign(*places(COUNT)())
    return [row for row, index in enumerate(found.tolist()) if index == 1]


def test_events_runs_and_their_time_are_those_of_the_assigned_arm() -> None:
    clock = Clock()
    outcome = shared(Times(1), Times(2), clock).run(frame(*range(COUNT)), places(COUNT))
    own = len(assigned())
    assert outcome.shares == {"active": Share(COUNT - own, 0, 1, 0), "canary": Share(own, 0, 1, 0)}


def test_what_an_arm_refuses_or_fails_is_counted_whoever_steps_in() -> None:
    rows = assigned()
    for steps_in in (True, False):
        canary = Times(2, refuses=rows[:3], fails=rows[3:5])
        outcome = shared(Times(1), canary, Clock(), steps_in=steps_in).run(frame(*range(COUNT)), places(COUNT))
        assert outcome.shares["canary"].failed == 5
        assert outcome.shares["active"].failed == 0
        assert len(outcome.refused) == (0 if steps_in else 5)


def test_a_run_that_hangs_is_timed() -> None:
    clock = Clock()
    canary = Times(2, hangs=assigned(), clock=clock)
    outcome = shared(Times(1), canary, clock).run(frame(*range(COUNT)), places(COUNT))
    assert outcome.shares["canary"].failed == len(assigned())
    assert outcome.shares["canary"].micros >= 10_000_000


def test_while_its_circuit_is_open_all_events_of_an_arm_count_as_failed() -> None:
    clock = Clock()
    arms = shared(Times(1), Times(2, fails=range(COUNT)), clock)
    for _ in range(LEAST):
        arms.run(frame(*range(COUNT)), places(COUNT))
        if arms.circuits["canary"]:
            break
    outcome = arms.run(frame(*range(COUNT)), places(COUNT))
    own = len(assigned())
    assert outcome.shares["canary"] == Share(own, own, 0, 0)


def test_an_open_circuit_of_who_might_step_in_says_nothing_of_its_own_events() -> None:
    clock = Clock()
    active = contender("active", Times(1, fails=range(1, COUNT)), clock)
    canary, last = contender("canary", Times(2, fails=range(COUNT)), clock), contender("fallback", Times(3), clock)
    chains = {"active": [active, last], "canary": [canary, active, last]}
    arms = Arms(chains, Router({"active": 75.0, "canary": 25.0}, "salt"), clock=clock)
    for _ in range(LEAST):
        outcome = arms.run(frame(*range(COUNT)), places(COUNT))
    assert all(arms.circuits.values())
    own = len(assigned())
    assert outcome.shares == {"active": Share(COUNT - own, COUNT - own, 0, 0), "canary": Share(own, own, 0, 0)}


def test_an_arm_that_has_all_events_has_no_share() -> None:
    outcome = Arms({"active": [contender("active", Times(1), Clock())]}).run(frame(1, 2), places(2))
    assert outcome.shares == {}


def test_shares_are_metrics_and_counts() -> None:
    registry = CollectorRegistry()
    metrics = ShareMetrics(registry, {"deployment": "d"})
    metrics.count({"canary": Share(10, 2, 1, 500_000)})
    metrics.count({"canary": Share(5, 0, 1, 250_000), "active": Share(7, 0, 1, 0)})
    assert metrics.counts() == {
        **{"events.canary": 15, "failed.canary": 2, "runs.canary": 2, "micros.canary": 750_000},
        **{"events.active": 7, "failed.active": 0, "runs.active": 1, "micros.active": 0},
    }
    page = generate_latest(registry).decode()
    assert 'penstock_assigned_events_total{assigned="canary",deployment="d"} 15.0' in page
    assert 'penstock_assigned_run_seconds_total{assigned="canary",deployment="d"} 0.75' in page
