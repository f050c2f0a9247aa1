"""Trainings that the controller starts: what they are given, and how they ended."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from monitoring.decision import Decision
from penstock.controller import training
from schemas.policy import Retraining
from tests.monitoring.test_renewal import REQUEST
from tests.webhook_server import Receiver


def decision() -> Decision:
    return Decision(
        *("d" * 32, "flights", 1, "retrain", 1, "trained", "late@1", "late@1", 0.0, 0.0),  # type: ignore[arg-type]
        due=True,
        why="delay moved",
        evidence={"request": REQUEST},
    )


def ended(**rule: Any) -> tuple[str, str]:
    """How a training ended, and what it said."""
    found: list[tuple[str, str]] = []
    declared = Retraining.model_validate(rule)
    training.start(declared, decision(), lambda _, how, said: found.append((how, said))).join(30)
    ((how, said),) = found
    return how, said


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_command_gets_the_request_and_the_decision() -> None:
    code = "import json, os, sys; print(json.load(sys.stdin)['until'], os.environ['PENSTOCK_DECISION'])"
    assert ended(command=python(code)) == ("has ended", f"2 {'d' * 32}\n")


@pytest.mark.parametrize(
    ("rule", "how"),
    [
        ({"command": python("print('no'); raise SystemExit(3)")}, "failed with status 3"),
        ({"command": ["/nowhere/train"]}, "could not be started: No such file or directory"),
        ({"command": python("import time; time.sleep(30)"), "seconds": 1}, "was ended after 1 s"),
        ({"webhook": "http://127.0.0.1:1/"}, "was not taken: "),
    ],
)
def test_how_it_failed_is_told(rule: dict[str, Any], how: str) -> None:
    assert ended(**rule)[0].startswith(how)


def test_a_webhook_is_posted_the_request_once_under_the_decisions_id() -> None:
    receiver = Receiver()
    try:
        assert ended(webhook=receiver.url)[0] == "was taken with status 200"
        (got,) = receiver.received
        assert (json.loads(got.body), got.key) == (REQUEST, "d" * 32)
    finally:
        receiver.close()


def test_how_it_ended_is_an_entry_of_the_audit() -> None:
    (step,) = training.told(decision(), "has ended", "done").steps
    assert (step.action, step.subject_kind, step.subject, step.why) == ("trained", "decision", "d" * 32, "has ended")
    assert json.loads(step.after or "")["said"] == "done"
