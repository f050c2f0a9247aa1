"""The constant at the end of a fallback chain has every output of the models before it, and nothing else."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from models.errors import ContractBroken
from models.runtimes.constant import Constant
from schemas.values import OutputField

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
