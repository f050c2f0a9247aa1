"""Declared labels: durations, shares, which fields and outputs belong together, and what is refused with a reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from monitoring.judging import task_of
from schemas.deployment import Deployment
from schemas.errors import LabelsUnusable
from schemas.labels import Labels, _task_of
from schemas.values import OutputField
from tests.declared import SHADOW, deployment

SCHEMA = {
    "type": "record",
    "name": "Label",
    "fields": [
        {"name": "late", "type": ["null", "boolean"]},
        {"name": "minutes", "type": "double"},
        {"name": "revenue", "type": {"type": "int"}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["a", "b"]}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "either", "type": ["int", "string"]},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}
PROBABILITY = OutputField("late_probability", "scalar", "double")
CLASS = OutputField("class", "label", "long")


def labels(**more: Any) -> Labels:
    return Labels.model_validate({"topic": "l", "schema": SCHEMA, "value": "late", **more})


def shadowed(**more: Any) -> Deployment:
    return deployment(SHADOW, **more)


@pytest.mark.parametrize(
    ("declared", "seconds"), [("3d", 259_200), ("12h", 43_200), ("90 s", 90), (30, 30), ("2w", 1_209_600), ("45", 45)]
)
def test_how_long_a_label_counts_is_seconds_or_has_a_unit(declared: str | int, seconds: int) -> None:
    assert labels(within=declared).within == seconds


@pytest.mark.parametrize("wrong", ["3 years", "soon", 0, "400d", -1])
def test_a_duration_that_is_none_is_refused(wrong: str | int) -> None:
    with pytest.raises(ValidationError, match="within"):
        labels(within=wrong)


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1.1}, {"partitions": 0}, {"task": "ranking"}, {"every": 1}])
def test_values_out_of_bounds_and_unknown_keys_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        labels(**wrong)


def test_a_field_has_one_place() -> None:
    with pytest.raises(ValidationError, match="late is named twice"):
        labels(numbers=["late"])


def test_labels_that_fit_their_schema_have_no_problems() -> None:
    assert labels(numbers=["minutes", "revenue"]).problems() == []
    assert labels(value="kind", task="multiclass").problems() == []
    assert labels(value="minutes", task="regression").problems() == []
    assert labels(value="minutes", task="binary").problems() == []


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"value": "lat"}, "labels.value: the label schema has no field 'lat'; it has late, minutes"),
        ({"numbers": ["income"]}, "labels.numbers: the label schema has no field 'income'"),
        ({"numbers": ["kind"]}, "labels.numbers: kind is enum, it must be one of int, long, float, double"),
        ({"value": "at"}, "labels.value: at is timestamp-millis"),
        ({"value": "either"}, "labels.value: either is a union"),
        ({"value": "tags"}, "labels.value: tags is array"),
        ({"task": "regression"}, "labels.task: regression needs a number, labels.value late is boolean"),
        ({"value": "minutes", "task": "multiclass"}, "labels.task: multiclass needs classes"),
    ],
    ids=str,
)
def test_what_the_schema_lacks_is_told_with_its_place(declared: dict[str, Any], told: str) -> None:
    (problem,) = labels(**declared).problems()
    assert told in problem


def test_a_schema_that_is_no_record_is_refused() -> None:
    assert labels(schema={"type": "string"}).problems() == ["labels.schema: it must be an Avro record schema"]


def test_a_schema_that_was_not_read_yet_is_asked_for_by_name() -> None:
    with pytest.raises(LabelsUnusable, match=r"label\.avsc was not read"):
        labels(schema="label.avsc").problems()


def test_the_only_output_needs_no_name() -> None:
    assert labels().output_of([PROBABILITY]) is PROBABILITY
    assert labels(output="class").output_of([PROBABILITY, CLASS]) is CLASS


@pytest.mark.parametrize("named", [{}, {"output": "score"}])
def test_of_several_outputs_those_there_are_are_named(named: dict[str, str]) -> None:
    with pytest.raises(LabelsUnusable, match="late_probability, class"):
        labels(**named).output_of([PROBABILITY, CLASS])


LABEL, NAME = CLASS, OutputField("name", "scalar", "string")
TWO, THREE = (OutputField("classes", "vector", "double", names) for names in (("a", "b"), ("a", "b", "c")))
UNKNOWN = OutputField("scores", "vector", "double")


@pytest.mark.parametrize(
    ("declared", "output", "told"),
    [
        ({"value": "late"}, NAME, "late is boolean; that is judged by a probability, .* its output name is string"),
        ({"value": "late"}, THREE, "two classes, but its output classes is a vector of 3 classes"),
        ({"value": "minutes", "task": "regression"}, UNKNOWN, "labels.task: regression; .* output scores is vector"),
        ({"value": "minutes", "task": "regression"}, NAME, "labels.task: regression; that is judged by a number"),
        ({"value": "kind"}, PROBABILITY, "kind is enum; that is judged by a class, but its output late_probability"),
        (
            {"value": "revenue", "task": "multiclass"},
            PROBABILITY,
            "labels.task: multiclass; .* is double: name",
        ),
    ],
)
def test_labels_that_cannot_be_the_truth_of_an_output_are_told(
    declared: dict[str, str], output: OutputField, told: str
) -> None:
    assert re.search(told, labels(**declared).misfit(output) or "")


@pytest.mark.parametrize(
    ("declared", "output"),
    [
        ({"value": "late"}, PROBABILITY),
        ({"value": "late"}, TWO),
        ({"value": "late"}, UNKNOWN),
        ({"value": "late"}, LABEL),
        ({"value": "minutes"}, PROBABILITY),
        ({"value": "revenue", "task": "multiclass"}, THREE),
        ({"value": "revenue", "task": "binary"}, PROBABILITY),
        ({"value": "kind"}, NAME),
        ({"value": "kind"}, LABEL),
    ],
)
def test_labels_that_can_be_are_not_told(declared: dict[str, str], output: OutputField) -> None:
    assert labels(**declared).misfit(output) is None


@pytest.mark.parametrize("output", [PROBABILITY, LABEL, NAME, TWO])
@pytest.mark.parametrize("value", ["late", "minutes", "revenue", "kind"])
@pytest.mark.parametrize("task", ["auto", "binary", "regression"])
def test_the_task_is_that_by_which_the_monitor_judges(output: OutputField, value: str, task: str) -> None:
    kinds = {"boolean": "boolean", "enum": "text"}
    truth = labels(value=value).kind
    said = output.kind if output.kind == "vector" else output.avro
    wide = ("double", 2) if output.kind == "vector" else (output.avro, 1)
    assert _task_of(task, truth, said) == task_of(task, kinds.get(truth, "double"), *wide)


def test_a_declaration_with_labels_comes_back_from_its_own_form() -> None:
    declared = {"topic": "l", "schema": SCHEMA, "value": "late", "within": "2h", "share": 0.25}
    made = shadowed(labels=declared, monitor={"segments": ["origin"]})
    assert Deployment.model_validate(made.to_dict()) == made
    assert made.to_dict()["labels"] == {**declared, "within": 7200}


def test_what_is_sampled_follows_from_labels_and_segments() -> None:
    declared = {"topic": "l", "schema": SCHEMA, "value": "late"}
    assert shadowed().sampling is None
    assert shadowed(monitor={}).sampling is None
    assert shadowed(labels={**declared, "share": 0.5, "partitions": 8}).sampling == (0.5, 8)
    assert shadowed(monitor={"segments": ["origin"]}).sampling == (1.0, 4)


@pytest.mark.parametrize(
    "topic", ["in", "out", "d.shadow", "d.samples", "d.profiles", "d.dead-letters", "d.dead-letters.shadow"]
)
def test_labels_need_a_topic_of_their_own(topic: str) -> None:
    with pytest.raises(ValidationError, match=r"labels: .* is a topic of this deployment's own"):
        shadowed(labels={"topic": topic, "schema": SCHEMA, "value": "late"})


def test_the_topic_of_samples_is_taken_where_there_are_samples() -> None:
    assert shadowed(output={"topic": "d.samples"}).sampling is None
    with pytest.raises(ValidationError, match=r"d\.samples is where the dead letters, profiles or samples"):
        shadowed(output={"topic": "d.samples"}, monitor={"segments": ["origin"]})


METRICS = {"gain": {"value": "revenue if score > 0.5 else -1", "min": -1, "max": 100}, "cost": "2 * late + minutes"}
SCORE = OutputField("score", "scalar", "float")


def test_metrics_say_which_fields_and_outputs_they_need() -> None:
    found = labels(metrics=METRICS, numbers=["revenue"])
    assert found.problems() == []
    assert (found.fields, found.outputs) == (["minutes"], ["score"])
    assert found.mismatches([SCORE, PROBABILITY]) == []
    assert found.metrics["cost"].value == "2 * late + minutes"
    assert labels().fields == labels().outputs == []
    assert shadowed(labels={"topic": "l", "schema": SCHEMA, "value": "late", "metrics": METRICS}).to_dict()["labels"][
        "metrics"
    ] == {"gain": METRICS["gain"], "cost": {"value": "2 * late + minutes"}}


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({"gain": "late +"}, "is no expression"),
        ({"gain": "sqrt(late)"}, "there is no function sqrt"),
        ({"gain": {"value": "late", "min": 0}}, "min and max: an interval needs both"),
        ({"gain": {"value": "late", "min": 1, "max": 0}}, r"max must lie 0\.001 above min or more"),
        ({"gain": {"value": "late", "min": 0, "max": 1e300}}, "less than or equal to"),
        ({"a gain": "late"}, "match pattern"),
        ({"gain": {"value": "late", "most": 1}}, "most"),
        ({"revenue": "late"}, "revenue is told as one of numbers already"),
        ({f"m{at}": "late" for at in range(21)}, "at most 20"),
    ],
    ids=str,
)
def test_metrics_that_cannot_be_reckoned_are_refused(metrics: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        labels(metrics=metrics, numbers=["revenue"])


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("label.income + late", "labels.metrics.gain: the label schema has no field 'income'; it has late, minutes"),
        ("late + label.kind", "labels.metrics.gain: kind is enum; expressions take int, long, float, double, boolean"),
        ("score * 2", "labels.metrics.gain: it names no field of the label"),
    ],
)
def test_what_the_label_lacks_of_a_metric_is_told_with_its_place(metric: str, told: str) -> None:
    (problem,) = labels(metrics={"gain": metric}).problems()
    assert problem.startswith(told)


@pytest.mark.parametrize(
    ("metric", "outputs", "told"),
    [
        ("late * scor", [SCORE], "neither the label nor the model has 'scor'; the label has at, either"),
        ("late * score", [OutputField("score", "vector", "double")], "the output score is a vector"),
        ("late * score", [OutputField("score", "label", "string")], "the output score is a string"),
        ("late * 2", [OutputField("late", "scalar", "double")], "write label.late or output.late"),
        ("late * output.gone", [SCORE], "neither the label nor the model has 'gone'"),
    ],
)
def test_what_a_model_lacks_of_a_metric_is_told_with_its_place(
    metric: str, outputs: list[OutputField], told: str
) -> None:
    (problem,) = labels(metrics={"gain": metric}).mismatches(outputs)
    assert problem.startswith("labels.metrics.gain: ")
    assert told in problem
