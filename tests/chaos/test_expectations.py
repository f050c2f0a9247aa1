"""Expectations: each limit finds what is beyond it, and what was not seen at all."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.chaos.load import Step
from tests.chaos.runner import Outcome, problems
from tests.chaos.scenario import TIMES, Expect, Scenario
from tests.chaos.slots import Grown, Sample, growth
from tests.chaos.timing import Drained
from tests.chaos.verifier import BREAKAGES, Findings

BEYOND: dict[str, dict[str, Any]] = {
    "stuck": {"stuck": 2.0},
    "recovery": {"recoveries": [0.5, 2.0]},
    "elsewhere": {"elsewhere": 2.0},
    "held": {"held": 2.0},
    "calm_p95": {"calm": (0.5, 2.0, 3.0)},
    "step_p95": {"drained": [Drained(100.0, 0.5, 2.0)]},
    "step_drain": {"drained": [Drained(100.0, 2.0, 0.5)]},
    "growth": {"grown": Grown(60.0, 100.0, 200.0)},
    "files": {"grown": Grown(60.0, files=2.0)},
    "restarts": {"restarts": 2},
}


def found(name: str, limit: Any = 1.5, **seen: Any) -> list[str]:
    seen = {"versions": {"v": 1}, **seen}
    expect = Expect(**{"stuck": None, name: limit})
    return problems(
        Outcome(Scenario("made up", "", (Step(1, 1),)), seen.pop("findings", Findings()), [], **seen), expect
    )


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_a_limit_is_a_problem(name: str) -> None:
    (problem,) = found(name, **BEYOND[name])
    assert "the limit 1.5" in problem


@pytest.mark.parametrize("name", ["recovery", "elsewhere", "held", "step_p95", "step_drain", "growth", "files"])
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
    assert math.isnan(growth([]).ratio)


@pytest.mark.parametrize(
    ("name", "limit", "seen", "text"),
    [
        ("versions", 2, {}, "1 of 2 versions have scored"),
        ("exits", (2,), {}, "no worker ended with status 2"),
        ("exits", (2,), {"exits": ["slot 0 ended with status 2: x", "slot 0 ended with status 3: y"]}, "status 3: y"),
        ("said", ("hello",), {"unsaid": ["hello"]}, "no worker said 'hello'"),
        ("restarts", None, {"missing": "no event was acknowledged"}, "no event was acknowledged"),
        ("restarts", None, {"settled": False}, "not every event had a result"),
        ("restarts", None, {"readers_agree": False}, "saw different results"),
    ],
)
def test_what_did_not_happen_is_a_problem(name: str, limit: Any, seen: dict[str, Any], text: str) -> None:
    (problem,) = found(name, limit, **seen)
    assert text in problem


def broken(kind: str) -> Findings:
    findings = Findings()
    findings.found(kind, 3)
    return findings


@pytest.mark.parametrize("kind", BREAKAGES)
def test_a_breakage_is_a_problem_unless_it_is_tolerated(kind: str) -> None:
    assert found("restarts", None, findings=broken(kind)) == [f"{kind.replace('_', ' ')}: 3"]
    assert found("tolerated", (kind,), findings=broken(kind)) == []


def test_a_control_that_fails_for_another_reason_shows_nothing() -> None:
    assert found("broken", ("lost",), findings=broken("lost")) == []
    assert found("broken", ("lost",), findings=broken("duplicated")) != []
    assert found("broken", ("lost",), findings=broken("lost"), exits=["slot 0 ended with status 1: boom"]) != []
