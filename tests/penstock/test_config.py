"""What is wrong with a deployment's file is said by its place, and where keys do not go together without the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.config import load_deployment
from schemas.errors import DeploymentInvalid

SCHEMA = {"type": "record", "name": "E", "fields": [{"name": "a", "type": "double"}]}
ACTIVE = {"role": "active", "model": "m@production"}


LABEL = {"type": "record", "name": "L", "fields": [{"name": "late", "type": "boolean"}]}


def written(folder: Path, **given: Any) -> None:
    (folder / "e.avsc").write_text(json.dumps(SCHEMA))
    (folder / "label.avsc").write_text(json.dumps(LABEL))
    whole = {"name": "d", "input": {"topic": "in", "schema": "e.avsc"}, "output": {"topic": "out"}, "arms": [ACTIVE]}
    (folder / "d.yaml").write_text(yaml.safe_dump({**whole, **given}))


def refused(folder: Path, **given: Any) -> str:
    written(folder, **given)
    with pytest.raises(DeploymentInvalid) as caught:
        load_deployment(folder / "d.yaml")
    return str(caught.value).replace(str(folder), "")


@pytest.mark.parametrize(
    ("key", "value", "asked"),
    [
        ("percent", 0, "must be above 0"),
        ("percent", 100, "must be below 100"),
        ("percent", float("nan"), "must be below 100"),
        ("percent", "5%", "must be a number, without a unit"),
        ("model", "m", "must be NAME@TAG or NAME@VERSION"),
        ("name", "Second One", "must begin with a lower-case letter or a digit, and go on with these, '_' and '-'"),
        ("role", "cannary", "must be 'active', 'canary', 'challenger', 'all' or 'shadow'; did you mean 'canary'?"),
    ],
)
def test_a_wrong_value_is_said_with_its_place(tmp_path: Path, key: str, value: object, asked: str) -> None:
    said = refused(tmp_path, arms=[ACTIVE, {"role": "canary", "model": "m@candidate", "percent": 5, key: value}])
    assert said.startswith(f"/d.yaml: arms.1.{key} (counted from 0): {asked}")
    assert said.endswith(f"(found {value!r})")


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        ("m@v1", "fallback: must be a list: write [ ] around it (found 'm@v1')"),
        ([{"const": {}}], "fallback.0.constant (counted from 0): is required"),
        (["m"], "fallback.0 (counted from 0): must be "),
    ],
)
def test_a_wrong_fallback_is_one_line(tmp_path: Path, fallback: object, said: str) -> None:
    found = refused(tmp_path, fallback=fallback)
    assert found.startswith(f"/d.yaml: {said}")
    assert "constrained" not in found


def test_values_that_do_not_go_together_are_said_without_all_of_the_file(tmp_path: Path) -> None:
    arms = [ACTIVE, *({"role": role, "model": "m@candidate", "percent": 50} for role in ("canary", "challenger"))]
    assert refused(tmp_path, arms=arms) == (
        "/d.yaml: arms: canary and challenger have 100 percent together; nothing is left for active; lower them"
    )
    assert refused(tmp_path, output={"topic": "in"}) == (
        "/d.yaml: in is the input topic and one that inferences go to: each would come back as an event; give "
        "output.topic, or the shadow, another topic"
    )


def test_the_schema_of_labels_comes_with_the_declaration_and_its_path_is_gone(tmp_path: Path) -> None:
    for schema in ("label.avsc", LABEL):
        written(tmp_path, labels={"topic": "l", "schema": schema, "value": "late"})
        labels = load_deployment(tmp_path / "d.yaml").deployment.labels
        assert labels is not None
        assert labels.reader == LABEL


def test_what_labels_and_segments_name_must_be_there(tmp_path: Path) -> None:
    labels = {"topic": "l", "schema": "label.avsc", "value": "lat"}
    assert refused(tmp_path, labels=labels, monitor={"segments": ["b"]}) == (
        "/d.yaml: monitor.segments: the event schema has no field 'b'; known are a\n"
        "/d.yaml: labels.value: the label schema has no field 'lat'; it has late"
    )
    assert refused(tmp_path, monitor={"fairness": ["b"]}) == (
        "/d.yaml: monitor.fairness: the event schema has no field 'b'; known are a"
    )
    assert "labels.schema: /l.avsc cannot be read" in refused(tmp_path, labels={**labels, "schema": "l.avsc"})
