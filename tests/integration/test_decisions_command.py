"""Decisions as people see and answer them, on a real Kafka."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import pytest

from monitoring.decision import Decision
from penstock.controller.acting import change_of
from tests.integration.desk import Desk

pytestmark = pytest.mark.timeout(180)
CANARY = {"role": "canary", "model": "sum@candidate", "percent": 5}
EVIDENCE: dict[str, Any] = {
    "candidate": {"outcomes": 500, "mean": 0.9},
    "incumbent": {"outcomes": 9500, "mean": 0.8},
    "difference": {"low": 0.05, "high": 0.15, "level": 0.05},
    "with_this_share": {"labels": 500, "events": 600, "failed": 1, "since": 1_000},
    "run_ms": 1.5,
}


def propose(desk: Desk, **changes: Any) -> int:
    """Write a proposal as the controller does; return its number."""
    fields: dict[str, Any] = {
        **{"id": "a" * 32, "deployment": desk.name, "at": 1000, "kind": "step", "revision": desk.revision()},
        **{"arm": "canary", "candidate": f"sum@{desk.second}", "incumbent": f"sum@{desk.first}", "before": 5.0},
        **{"to": 25.0, "due": False, "why": "it was seen enough", "evidence": EVIDENCE, **changes},
    }
    written = desk.plane.change(partial(change_of, decision=Decision(**fields)), whole=True)
    assert written is not None
    return written.entries[0].sequence


def test_a_decision_is_listed_explained_and_answered(desk: Desk) -> None:
    assert "nothing was decided about" in desk.said("decisions", "list", "flights")
    desk.declare(arms=[*desk.rig.declared["arms"], CANARY])
    desk.apply()
    number = propose(desk)
    (line,) = desk.said("decisions", "list").splitlines()
    assert re.fullmatch(rf" +{number}  \S+ \S+  waits     {desk.name}: canary 5 % -> 25 %; it was seen enough", line)

    page = desk.said("decisions", "explain", str(number))
    assert "candidate  mean 0.9000 of 500 outcomes" in page
    assert "difference between +0.0500 and +0.1500 (95% sure, whenever one looks)" in page
    assert json.loads(desk.said("decisions", "explain", str(number), "--json"))["told"]["to"] == 25.0

    assert f"decision {number} is approved" in desk.said("approve", str(number), "--why", "looks good")
    assert "nothing was changed" in desk.said("approve", str(number))
    assert "does not wait for an answer: it is approved" in desk.refused("veto", str(number))
    assert json.loads(desk.said("decisions", "list", desk.name, "--json"))["by"] == "ada: looks good"
    assert f"there is no decision 99; there is {number}" in desk.refused("decisions", "explain", "99")

    told = desk.said("history")
    assert "canary 5 % -> 25 %" in told
    assert f"decision {number}" in told
    assert "the audit is whole" in desk.said("audit", "verify")


def test_a_veto_stands_in_the_audit(desk: Desk) -> None:
    desk.declare(arms=[*desk.rig.declared["arms"], CANARY])
    desk.apply()
    number = propose(desk, kind="promote", to=100.0)
    assert f"decision {number} is vetoed" in desk.said("veto", str(number), "--why", "not before the holidays")
    assert "vetoed" in desk.said("decisions", "list")
    assert "canary becomes active" in desk.said("decisions", "explain", str(number))


def test_a_policy_is_tried_in_made_up_worlds(desk: Desk) -> None:
    file = desk.rig.folder / "policy.yaml"
    file.write_text(f"deployment: {desk.name}\nsteps: [5, 100]\npromotion: {{labels: 0, seconds: 0}}\n")
    words = ["simulate", str(file), "--rollouts", "5", "--days", "1", "--gain", "0", "--gain", "0.1"]
    page = desk.said(*words)
    assert "a candidate that is no better and no worse, 10 labelled events/s" in page
    assert "a candidate that is better by 0.1" in page
    found = json.loads(desk.said(*words, "--json"))
    assert [world["ends"]["promoted"]["share"] for world in found["worlds"]] == [0.0, 1.0]
    file.write_text(f"deployment: {desk.name}\nsteps: [50, 5]\n")
    assert "steps" in desk.refused("simulate", str(file))


def test_a_policy_of_a_deployment_without_labels_is_refused(desk: Desk) -> None:
    file = desk.rig.folder / "policy.yaml"
    file.write_text(f"deployment: {desk.name}\n")
    desk.apply()
    assert "declares no labels" in desk.refused("controller", str(file))
    file.write_text("deployment: nobody\n")
    assert "control has no deployment nobody" in desk.refused("controller", str(file))
