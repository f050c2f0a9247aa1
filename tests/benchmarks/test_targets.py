"""The verdict of the comparison: it says what was missed, and nothing of what was not measured."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.contestants import JAVA, OURS
from benchmarks.results import checked, median
from benchmarks.targets import TARGETS, Target, last_line, verdict


def run(rate: float, told: str = "exact") -> dict[str, Any]:
    return {"rate": rate, "cpu": 2.0, "broker_cpu": 1.0, "rss": 200.0, "checked": told}


def results(**rates: float) -> dict[str, Any]:
    names = {"ours": OURS, "java": JAVA}
    contestants = {names[name]: {"backlog": [run(rate)]} for name, rate in rates.items()}
    return {"jobs": {"matrix": {"contestants": contestants}}}


def test_figures_are_medians_of_the_runs() -> None:
    found = results(ours=100.0)
    found["jobs"]["matrix"]["contestants"][OURS]["backlog"] = [run(100.0), run(500.0), run(110.0)]
    assert median(found, "matrix", OURS, "rate") == 110.0
    assert median(found, "matrix", "nobody", "rate") is None


def test_a_ratio_that_is_reached_passes_and_one_that_is_not_fails() -> None:
    assert verdict(results(ours=131.0, java=100.0))[0]
    good, lines = verdict(results(ours=129.0, java=100.0))
    assert not good
    assert any(line.startswith("MISS matrix: rate") for line in lines)
    assert last_line(results(ours=131.0, java=100.0)).startswith("PASS matrix: rate")
    assert last_line(results(ours=129.0, java=100.0)).startswith("FAIL (1 of 2) matrix")


def test_nothing_measured_is_no_success() -> None:
    assert not verdict({"jobs": {}})[0]


def test_outputs_of_ours_that_are_not_exact_fail() -> None:
    found = results(ours=131.0, java=100.0)
    found["jobs"]["matrix"]["contestants"][OURS]["backlog"].append(run(131.0, "1 lost"))
    assert checked(found, "matrix", OURS) == "1 lost"
    assert not verdict(found)[0]


def test_ours_that_failed_fails() -> None:
    found = results(ours=131.0, java=100.0)
    found["jobs"]["matrix"]["contestants"][OURS]["failed"] = "it ended"
    assert not verdict(found)[0]


def test_who_does_not_keep_up_is_infinitely_late() -> None:
    late = Target("matrix", "p95@100000", OURS, JAVA, 1 / 8, "at most")
    found = results(ours=1.0, java=1.0)
    ours, java = (found["jobs"]["matrix"]["contestants"][name] for name in (OURS, JAVA))
    fast = {"p50": 1.0, "p95": 8.0, "p99": 9.0}
    slow = dict.fromkeys(fast, math.inf)
    ours["latency"], java["latency"] = {"100000": [fast]}, {"100000": [slow]}
    assert late.ratio(found) == 0.0
    ours["latency"], java["latency"] = {"100000": [slow]}, {"100000": [fast]}
    ratio = late.ratio(found)
    assert ratio is not None
    assert not late.met(ratio)
    ours["latency"] = java["latency"] = {"100000": [slow]}
    assert late.ratio(found) is None


def test_every_target_names_a_figure_that_is_measured() -> None:
    for target in TARGETS:
        figure, _, rate = target.figure.partition("@")
        assert figure in ("rate", "cpu", "rss", "p95", "p99")
        assert bool(rate) == figure.startswith("p")
