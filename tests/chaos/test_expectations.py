"""Expectations: each limit finds what is beyond it, and what was not seen at all."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.load import Step
from tests.chaos.runner import Outcome, problems
from tests.chaos.scenario import TIMES, Expect, Scenario
from tests.chaos.slots import Grown, Sample, growth
from tests.chaos.timing import Drained
from tests.chaos.verifier import Findings

BEYOND: dict[str, dict[str, Any]] = {
    "stuck": {"stuck": 2.0},
    "recovery": {"recoveries": [0.5, 2.0]},
    "elsewhere": {"elsewhere": 2.0},
    "held": {"held": 2.0},
    "calm_p95": {"calm": (0.5, 2.0, 3.0)},
    "step_p95": {"drained": [Drained(100.0, 0.5, 2.0)]},
    "step_drain": {"drained": [Drained(100.0, 2.0, 0.5)]},
    "growth": {"grown": Grown(60.0, 100.0, 200.0)},
    "files": {"grown": Grown(60.0, files=2)},
    "restarts": {"restarts": 2},
}


def found(name: str, **seen: Any) -> list[str]:
    expect = Expect(**{"stuck": None, name: 1.5})
    return problems(Outcome(Scenario("made up", "", (Step(1, 1),)), Findings(), [], **seen), expect)


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_a_limit_is_a_problem(name: str) -> None:
    (problem,) = found(name, **BEYOND[name])
    assert "the limit 1.5" in problem


@pytest.mark.parametrize("name", ["recovery", "elsewhere", "held", "step_p95", "step_drain"])
def test_what_was_not_seen_passes_no_limit(name: str) -> None:
    (problem,) = found(name)
    assert "is nan, the limit 1.5" in problem


def test_every_limit_of_time_is_known() -> None:
    assert set(TIMES) - {"drain"} <= BEYOND.keys()  # drain bounds the wait for the end itself


def test_growth_is_that_of_the_longest_life_after_its_first_third() -> None:
    short = [Sample(t, 1, 50.0, 9) for t in range(5)]
    long = [Sample(100.0 + t, 2, rss, 20 + t // 8) for t, rss in enumerate([10, 10, 10, 100, 100, 100, 120, 120, 120])]
    assert growth([*short, *long]) == Grown(8.0, 100.0, 120.0, files=0)
    assert growth(long).ratio == pytest.approx(1.2)
    assert growth([]).ratio == 1.0
