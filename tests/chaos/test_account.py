"""The page about a run: it can be written whatever the run showed."""

from __future__ import annotations

from tests.chaos.account import page, verdict
from tests.chaos.load import Step
from tests.chaos.runner import Outcome
from tests.chaos.scenario import Scenario
from tests.chaos.slots import Grown
from tests.chaos.timing import Drained, Happened
from tests.chaos.verifier import Findings

SCENARIO = Scenario("made up", "nothing happens", (Step(1, 1),))


def test_a_run_that_showed_nothing_has_a_page() -> None:
    text = page(Outcome(SCENARIO, Findings(), []))
    assert "lost 0, duplicated 0" in text
    assert text.endswith("pass")


def test_a_run_that_showed_everything_has_a_page() -> None:
    findings = Findings(events=10, inferences=8, letters=1, gone=2, unowned=3)
    findings.found("lost", 1, ["0@7"])
    outcome = Outcome(
        SCENARIO, findings, [Happened(1.0, "kill", "kill (slot 0)", partitions=(0,))], problems=["lost: 1"]
    )
    outcome.killed, outcome.killed_at_work, outcome.lives = 2, 1, 5
    outcome.grown, outcome.recoveries, outcome.drained = Grown(60.0, 100.0, 104.0, 1.0), [0.5], [Drained(9.0, 1.0, 0.1)]
    outcome.versions, outcome.exits = {"a": 1, "b": 2}, ["slot 0 ended with status 1: x"]
    text = page(outcome)
    for said in (
        "appended 3 records",
        "example     lost: 0@7",
        "2 of 5 processes killed, 1 of them at work",
        "100 MiB, later 104",
        "+1 open files",
    ):
        assert said in text
    assert text.endswith("FAIL")
    assert verdict([outcome], 3.0).startswith("FAIL 0 of 1 scenarios in 3 s, 10 events, 1 faults: lost 1")
