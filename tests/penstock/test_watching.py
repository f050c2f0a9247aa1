"""What a monitor folds for which declaration."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from monitoring.profiles import ProfileFold
from monitoring.setup import Topics, Wiring
from penstock.watching import asking_of, comparing_of, joining_of, judging_of, quality_of, sources_of, topics_beside
from schemas.deployment import Deployment
from tests.declared import deployment as a_deployment

LABEL = {"type": "record", "name": "L", "fields": [{"name": "late", "type": ["null", "boolean"]}]}
PRICE = {"type": "record", "name": "L", "fields": [{"name": "late", "type": "double"}]}


def declared(**more: Any) -> Deployment:
    flights = {"name": "flights", "input": {"topic": "events", "schema": "event.avsc"}, "monitor": {}}
    return a_deployment(**{**flights, **more})


def labels(schema: dict[str, Any] = LABEL, **more: Any) -> dict[str, Any]:
    return {"topic": "labels", "schema": schema, "value": "late", **more}


def roles(deployment: Deployment) -> dict[str, str]:
    quality = quality_of(deployment)
    wiring = Wiring("flights", "flights.profiles", "events", {}, quality=quality)
    topics = Topics(4, 1, 1, {"labels": 3, "flights.samples": 2})
    fold: Any = ProfileFold("flights", {}, 4)
    writers: Any = SimpleNamespace()
    return {
        each.role: f"{each.topic}/{each.partitions}" for each in sources_of(deployment, wiring, topics, fold, writers)
    }


def test_without_labels_and_segments_profiles_are_all_there_is() -> None:
    assert roles(declared()) == {"profiles": "flights.profiles/1"}


def test_segments_alone_are_folded_without_labels() -> None:
    assert roles(declared(monitor={"segments": ["origin"]})) == {
        "profiles": "flights.profiles/1",
        "samples": "flights.samples/2",
        "quality": "flights.quality/1",
    }


def test_labels_are_copied_joined_and_told(tmp_path: Path) -> None:
    assert roles(declared(labels=labels())) == {
        "profiles": "flights.profiles/1",
        "labels": "labels/3",
        "samples": "flights.samples/2",
        "quality": "flights.quality/1",
    }


def test_the_join_carries_what_metrics_need() -> None:
    fields = [{"name": "late", "type": "boolean"}, *({"name": name, "type": "double"} for name in ("fee", "revenue"))]
    schema = {"type": "record", "name": "L", "fields": fields}
    metrics = {"gain": {"value": "revenue - label.fee if score > 0.5 else 0", "min": 0, "max": 9}, "fees": "fee * 2"}
    deployment = declared(labels=labels(schema, numbers=["revenue"], metrics=metrics))
    quality = quality_of(deployment)
    assert quality is not None
    joining = joining_of(deployment, quality, 3)
    assert (joining.numbers, joining.fields, joining.outputs) == (("revenue",), ("fee",), ("score",))
    assert [each.told for each in joining.formulas] == ["fees", "gain\x1f0.0\x1f9.0"]
    assert [each.fields for each in joining.formulas] == [("revenue", "fee")] * 2


@pytest.mark.parametrize(("schema", "kind"), [(LABEL, "boolean"), (PRICE, "double")])
def test_the_join_follows_the_declaration(schema: dict[str, Any], kind: str) -> None:
    deployment = declared(labels=labels(schema, within="2h", output="late", error_range=5.0))
    quality = quality_of(deployment)
    assert quality is not None
    joining = joining_of(deployment, quality, 3)
    assert (joining.within, joining.output, joining.truth, joining.labels, joining.error_range) == (
        7200,
        "late",
        kind,
        3,
        5,
    )
    assert (quality.labels, quality.letters) == ("labels", "flights.labels.dead-letters")


def test_what_is_usual_follows_the_declaration() -> None:
    quality = {"errors": 0.12, "worse": 0.01, "labels_silent": "6h", "divergence": False, "scores": True}
    deployment = declared(monitor={"quality": quality, "design_effect": 2, "retrain_after": "3d"}, labels=labels())
    assert deployment.monitor is not None
    comparisons, requests = topics_beside(deployment)
    wiring = Wiring("flights", "flights.profiles", "events", {}, comparisons=comparisons, retraining=requests)
    judging = judging_of(deployment, deployment.monitor, 2, 60, wiring)
    assert (judging.usual.errors, judging.usual.worse, judging.usual.first) == (0.12, 0.01, 2000)
    assert (judging.silent_ms, judging.divergence, judging.design_effect) == (6 * 3_600_000, False, 2.0)
    assert judging.asking == asking_of(deployment, wiring)
    assert judging.asking is not None
    assert (judging.asking.after_ms, judging.asking.events) == (3 * 86_400_000, "events")
    assert (judging.asking.labels, judging.asking.topic) == ("labels", "penstock.retraining")
    assert judging.comparing == comparing_of(wiring)
    assert (judging.scores, judging.stated) == (True, None)


def test_bundles_are_asked_how_good_versions_are_where_that_is_declared() -> None:
    deployment = declared(monitor={"quality": {"errors": "bundle"}}, labels=labels())
    assert deployment.monitor is not None
    bundle = SimpleNamespace(manifest=SimpleNamespace(metrics={"accuracy": 0.75}))
    models: Any = SimpleNamespace(load=lambda ref: {"late@v1": bundle}[ref])
    judging = judging_of(deployment, deployment.monitor, 2, 60, Wiring("f", "p", "e", {}), models)
    assert judging.stated is not None
    assert judging.stated("late", "v1") == 0.25
    assert (judging.usual.errors, judging.scores, judging.divergence) == (None, False, True)


def test_without_a_declared_time_nobody_asks_for_a_new_version() -> None:
    deployment = declared(labels=labels())
    assert topics_beside(deployment) == ("penstock.comparisons", "")
    assert deployment.monitor is not None
    comparisons, requests = topics_beside(deployment)
    wiring = Wiring("flights", "flights.profiles", "events", {}, comparisons=comparisons, retraining=requests)
    judging = judging_of(deployment, deployment.monitor, 2, 600, wiring)
    assert (judging.asking, judging.silent_ms, judging.usual.errors) == (None, 3_600_000, None)
    assert comparing_of(Wiring("flights", "flights.profiles", "events", {})) is None
