"""The constant at the end of a fallback chain has every output of the models before it, and nothing else."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from models.errors import ContractBroken
from models.runtimes.constant import Constant
from schemas.values import OutputField

NUMBERS = tuple(OutputField(name, "scalar", name) for name in ("double", "float", "long", "int"))
OUTPUTS = (
    OutputField("score", "scalar", "double"),
    OutputField("label", "label", "string", ("late", "early")),
    OutputField("probabilities", "vector", "double", ("late", "early")),
)
VALUES: dict[str, Any] = {"score": 0.25, "label": "late", "probabilities": [0.25, 0.75]}


def test_every_row_has_the_same_outputs() -> None:
    model = Constant(OUTPUTS, VALUES)
    prepared = model.prepare(pl.DataFrame({"x": [None, 1.0, 2.0]}))
    assert (prepared.rows, prepared.refused) == (None, [])
    outputs = model.run(prepared.inputs, 1.0)
    assert outputs.to_dicts() == [VALUES] * 3
    assert outputs.schema == {"score": pl.Float64, "label": pl.String, "probabilities": pl.List(pl.Float64)}
    assert model.run(model.prepare(pl.DataFrame({"x": []})).inputs, 1.0).schema == outputs.schema


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": "high"}, "score: must be of type double, not 'high'"),
        ({"score": True}, "score: must be of type double"),
        ({"label": "cancelled"}, "label: must be one of late, early"),
        ({"probabilities": [1.0]}, "probabilities: must be a list of 2 numbers"),
        ({"probabilities": 1.0}, "probabilities: must be a list of 2 numbers"),
        ({"probability": 1.0}, "'probability' is no output of the active model; they are score, label"),
        ({"label": None}, "a value for the output 'label' is missing"),
    ],
)
def test_what_does_not_fit_the_outputs_is_named(change: dict[str, Any], said: str) -> None:
    values = {name: value for name, value in {**VALUES, **change}.items() if value is not None}
    with pytest.raises(ContractBroken) as caught:
        Constant(OUTPUTS, values)
    assert any(said in each for each in caught.value.mismatches), caught.value.mismatches


LARGEST: dict[str, Any] = {"double": 1.5e308, "float": 3.4e38, "long": 2**63 - 1, "int": -(2**31)}


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("number", [10**400, -(10**400), 2**1024], ids=["huge", "very negative", "just too large"])
def test_a_number_that_its_type_does_not_hold_is_named(name: str, number: int) -> None:
    with pytest.raises(ContractBroken, match=f"{name}: must be a number that a {name} can hold, not -?1"):
        Constant(NUMBERS, {**LARGEST, name: number})


@pytest.mark.parametrize(("name", "number"), [("float", 1e39), ("long", 2**63), ("int", 2**31), ("int", -(2**31) - 1)])
def test_the_first_number_beyond_the_range_is_refused_and_the_last_within_is_kept(name: str, number: float) -> None:
    model = Constant(NUMBERS, LARGEST)
    (row,) = model.run(model.prepare(pl.DataFrame({"x": [1]})).inputs, 1.0).to_dicts()
    assert row == {**LARGEST, "float": pytest.approx(3.4e38)}
    with pytest.raises(ContractBroken, match=f"{name}: must be a number that a {name} can hold"):
        Constant(NUMBERS, {**LARGEST, name: number})


def test_what_is_not_finite_may_be_a_constant() -> None:
    wild = {"double": float("nan"), "float": float("-inf")}
    model = Constant(NUMBERS, {**LARGEST, **wild})
    outputs = model.run(model.prepare(pl.DataFrame({"x": [1]})).inputs, 1.0)
    assert outputs["double"].is_nan().all()
    assert outputs["float"].item() == float("-inf")
