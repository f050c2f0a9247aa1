"""What the audit is told of versions that come and go: decided from values, without Kafka."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from models.repository import Entry as Stored
from penstock import changes
from penstock.cloudevents import event_of
from penstock.history import history_of
from schemas.chain import verify_chain
from streams.registration import facts, finished, registered, removed
from tests.models import graphs
from tests.streams.test_rollout import Plane

TRAINING = {"data": "s3://flights/2013-q1.parquet", "data_sha256": "ab" * 32, "run_id": "run-7"}


def stored(**more: Any) -> Stored:
    known: dict[str, Any] = {"author": "Ada", "metrics": {"auc": 0.7}, "training": TRAINING}
    bundle = graphs.linear_bundle(**{**known, **more})
    return Stored(bundle.manifest, bundle.digest, {}, ("candidate",))


def test_a_version_and_the_run_that_made_it_are_told_the_run_first() -> None:
    plane, version = Plane(), stored()
    change = plane.take(registered(plane.world, version))
    assert [(step.action, step.subject_kind, step.subject) for step in change.steps] == [
        ("finish", "experiment", "run-7"),
        ("register", "model", "linear"),
    ]
    run, model = (json.loads(step.after or "") for step in change.steps)
    assert (run["metrics"], run["model"], run["version"]) == ({"auc": 0.7}, "linear", version.manifest.version)
    assert model == facts(version)
    assert (model["digest"], model["author"], model["tags"]) == (version.digest, "Ada", ["candidate"])
    assert model["training"] == TRAINING

    entries = plane.world.entries
    assert verify_chain(list(entries), plane.world.head) == []
    assert [event_of(each, "/x").type for each in entries] == [
        "io.penstock.experiment.finished",
        "io.penstock.model.registered",
    ]
    short = version.manifest.version[:8]
    assert [changes.summary(each) for each in entries] == [f"made linear {short}", f"{short} added"]
    assert len(history_of(entries).of("linear", version.manifest.version).registered) == 1


def test_what_was_told_is_not_told_again_and_another_version_of_the_same_run_is() -> None:
    plane, version = Plane(), stored()
    plane.take(registered(plane.world, version))
    assert registered(plane.world, version) is None
    assert registered(plane.world, replace(version, tags=("production",))) is None
    (step,) = plane.take(registered(plane.world, stored())).steps  # a uuid of its own
    assert step.action == "register"


def test_a_run_that_made_no_version_is_told_once() -> None:
    plane = Plane()
    plane.take(finished(plane.world, "run-8", {"auc": 0.6, "loss": float("inf")}))
    (entry,) = plane.world.entries
    assert (entry.action, entry.subject_kind, entry.subject) == ("finish", "experiment", "run-8")
    told = {"run_id": "run-8", "metrics": {"auc": 0.6, "loss": None}, "model": None, "version": None}
    assert json.loads(entry.after or "") == told
    assert changes.summary(entry) == "made no version"
    assert finished(plane.world, "run-8", {}) is None
    (step,) = plane.take(registered(plane.world, stored(training={"run_id": "run-8"}))).steps
    assert step.action == "register"


def test_a_version_without_a_run_is_told_alone() -> None:
    plane = Plane()
    (step,) = plane.take(registered(plane.world, stored(training={}))).steps
    assert step.action == "register"


def test_a_version_that_was_removed_is_told_of_and_may_come_back() -> None:
    plane, version = Plane(), stored()
    plane.take(registered(plane.world, version))
    (step,) = plane.take(removed(plane.world, version)).steps
    assert (step.action, step.after, json.loads(step.before or "")) == ("remove", None, facts(version))
    assert changes.summary(plane.world.entries[-1]) == f"{version.manifest.version[:8]} removed"
    assert removed(plane.world, version) is None
    (step,) = plane.take(registered(plane.world, version)).steps
    assert step.action == "register"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_json_has_no_number_for_is_null(value: float) -> None:
    plane = Plane()
    plane.take(registered(plane.world, stored(metrics={"auc": value})))
    assert [json.loads(entry.after or "")["metrics"] for entry in plane.world.entries] == [{"auc": None}] * 2
    assert all(event_of(entry, "/x").type.startswith("io.penstock.") for entry in plane.world.entries)


def test_entries_that_no_writer_of_ours_wrote_are_passed_over() -> None:
    plane, version = Plane(), stored()
    plane.take(registered(plane.world, version))
    spoilt = [replace(entry, after="[]") for entry in plane.world.entries]
    (step,) = (registered(replace(plane.world, entries=spoilt), version) or pytest.fail("nothing")).steps
    assert step.action == "register"
