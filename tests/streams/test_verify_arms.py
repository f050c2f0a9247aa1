"""A fallback must have its reason: what the assigned arm takes now was not refused then, unless that cannot be seen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from schemas.deployment import Deployment
from schemas.values import Reason, Rejection
from streams.arms import Made
from streams.batch import Batch, batch_of
from streams.findings import Findings
from streams.memory import StoredMessage
from streams.recorded import Maker
from streams.scorer import Scored
from streams.swaps import Spans
from streams.verify_arms import ArmJudge
from streams.versions import Declaration, Version

ROWS = 6
DEPLOYMENT = Deployment.model_validate(
    {
        "name": "d",
        "input": {"topic": "in", "schema": "event.avsc"},
        "output": {"topic": "out"},
        "arms": [{"role": "active", "model": "m@production"}],
        "fallback": [{"constant": {"score": 0.5}}],
    }
)
REVISION = Declaration(DEPLOYMENT, {}).revision


def maker(arm: str, why: str) -> Maker:
    return Maker("d", REVISION, "in", Made(arm, "active", 1.0, why, "m", "v"))


def judged(why: str, refuses: Reason | None = None, *, leaves: bool = False) -> Findings:
    """What is found of inferences of the constant, where the active model now refuses every event, or takes it."""

    def score(batch: Batch) -> Scored:
        nothing: Any = None
        rejected = [Rejection(row, refuses, "refused") for row in range(len(batch))] if refuses else []
        return Scored([], None, rejected, nothing, nothing)

    scorer: Any = SimpleNamespace(score=score)
    codec: Any = None
    version = Version(scorer, codec, frozenset(), 0.0, {}, leaves)
    findings = Findings("in", "out", "letters", {0: (0, ROWS)})
    recorded: Any = SimpleNamespace(makers=[maker("active", "")], places=lambda batch, row: ("event", "record"))
    versions: Any = SimpleNamespace(
        declared={REVISION: Declaration(DEPLOYMENT, {})},
        get=lambda each: version if each.made.arm == "active" else None,
    )
    batch = batch_of([StoredMessage((b"v", b"k", 0, offset, 5, None)) for offset in range(ROWS)])
    ArmJudge(findings, recorded, versions, Spans()).judge(batch, np.arange(ROWS), maker("constant", why))
    return findings


def counts(findings: Findings) -> tuple[int, int]:
    return findings.counts["wrong_arm"], findings.counts["on_trust"]


@pytest.mark.parametrize("leaves", [False, True])
def test_a_reason_that_the_model_gives_again_is_one(leaves: bool) -> None:
    assert counts(judged("missing_value", "missing_value", leaves=leaves)) == (0, 0)
    assert counts(judged("model_failed", "model_failed", leaves=leaves)) == (0, 0)


@pytest.mark.parametrize("leaves", [False, True])
def test_a_reason_that_the_model_does_not_give_is_none(leaves: bool) -> None:
    assert counts(judged("missing_value", leaves=leaves)) == (ROWS, 0)
    assert counts(judged("model_failed", "missing_value", leaves=leaves)) == (ROWS, 0)


def test_a_leaf_that_could_not_be_loaded_may_be_there_again() -> None:
    assert counts(judged("model_failed", leaves=True)) == (0, ROWS)
    assert counts(judged("model_failed", leaves=False)) == (ROWS, 0)  # the control: a model that is one cannot be away


@pytest.mark.parametrize("why", ["model_timed_out", "circuit_open"])
def test_what_depends_on_the_moment_is_taken_on_trust(why: str) -> None:
    assert counts(judged(why)) == (0, ROWS)
