"""What the worker relies on in every runtime, as checks that a new runtime's tests run over its own bundles.

    @pytest.mark.parametrize("check", CHECKS)
    def test_the_runtime_keeps_the_contract(check):
        check(load, Case(bundle, columns, frame))

A check raises AssertionError that says what the worker relied on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from models.bundle import Bundle
from models.errors import ContractBroken, ModelFailed
from models.runtimes.base import Model

Loader = Callable[[Bundle, Mapping[str, Any], Mapping[str, Any]], Model]
SECONDS = 60.0
SIZES = (0, 1, 2, 15, 16, 17, 31)


@dataclass(frozen=True, slots=True)
class Case:
    """A bundle, the types of the columns it is fed from, and at least 32 rows without nulls that it scores."""

    bundle: Bundle
    columns: Mapping[str, Any]
    frame: pl.DataFrame


def _require(condition: object, relied_on: str) -> None:
    if not condition:
        raise AssertionError(relied_on)


def _score(model: Model, frame: pl.DataFrame) -> pl.DataFrame:
    return model.run(model.prepare(frame).inputs, SECONDS)


def check_outputs_are_those_declared(load: Loader, case: Case) -> None:
    """Names and order are the manifest's; vectors and maps have one place per class."""
    model = load(case.bundle, case.columns, {})
    result = _score(model, case.frame)
    declared = case.bundle.manifest.fields
    _require(result.columns == [output.name for output in declared], "the columns of a result are the declared outputs")
    _require(model.outputs == declared, "a model names its declared outputs")
    _require((model.name, model.version) == (case.bundle.manifest.name, case.bundle.manifest.version), "lineage")
    for output in declared:
        if output.kind in ("vector", "map") and output.classes:
            lengths = set(result[output.name].list.len().to_list())
            _require(lengths == {len(output.classes)}, f"{output.name} has one place per class in every row")
    model.close()


def check_every_number_of_rows_is_scored(load: Loader, case: Case) -> None:
    """One row out for each row in, none included."""
    model = load(case.bundle, case.columns, {})
    for rows in SIZES:
        result = _score(model, case.frame.head(rows))
        _require(len(result) == rows, f"{rows} rows in, {rows} rows out")
        _require(result.dtypes == _score(model, case.frame).dtypes, "types do not depend on the number of rows")
    model.close()


def check_rows_do_not_depend_on_their_batch(load: Loader, case: Case) -> None:
    """A slice of a batch scores as it did inside the batch: bisection and replay rest on it."""
    model = load(case.bundle, case.columns, {})
    whole, inputs = _score(model, case.frame), model.prepare(case.frame).inputs
    for start, stop in ((0, 1), (1, 4), (3, 20), (7, 32)):
        piece = model.run({name: array[start:stop] for name, array in inputs.items()}, SECONDS)
        _require(piece.equals(whole[start:stop]), f"rows {start} to {stop} score as they did in the whole batch")
    model.close()


def check_other_columns_do_not_matter(load: Loader, case: Case) -> None:
    """Columns are found by name, in any order and company."""
    model = load(case.bundle, {**case.columns, "penstock_other": pl.String}, {})
    shuffled = case.frame.select(pl.lit("x").alias("penstock_other"), *reversed(case.frame.columns))
    _require(_score(model, shuffled).equals(_score(model, case.frame)), "columns are found by name")
    model.close()


def check_null_is_refused_or_stood_in_for(load: Loader, case: Case) -> None:
    """A null without a stand-in costs its row, and no other; prepare does not raise."""
    model = load(case.bundle, case.columns, {})
    feature = case.bundle.manifest.features[0]
    holed = case.frame.with_columns(
        pl.when(pl.arange(0, pl.len()) == 3).then(None).otherwise(pl.col(feature)).alias(feature)
    )
    prepared = model.prepare(holed)
    if feature in case.bundle.manifest.missing:
        _require(prepared.rows is None and not prepared.refused, "a declared value stands in for null")
    else:
        found = [(refused.row, refused.reason) for refused in prepared.refused]
        _require(found == [(3, "missing_value")], "null is refused where the model needs a value")
        kept = np.delete(np.arange(len(holed)), 3)
        _require(prepared.rows is not None and np.array_equal(prepared.rows, kept), "the other rows are kept")
        rest = model.run(prepared.inputs, SECONDS)
        _require(rest.equals(_score(model, case.frame[kept])), "the other rows score as they would by themselves")
    model.close()


def check_events_without_a_feature_are_refused_at_load(load: Loader, case: Case) -> None:
    """A model never meets a frame that lacks what it needs."""
    feature = case.bundle.manifest.features[0]
    try:
        load(case.bundle, {name: dtype for name, dtype in case.columns.items() if name != feature}, {})
    except ContractBroken as error:
        _require(feature in str(error), "the mismatch names the feature")
    else:
        _require(False, "loading for events that lack a feature raises ContractBroken")


def check_closing_is_final_and_harmless(load: Loader, case: Case) -> None:
    """close() may be called twice; a run afterwards is a ModelFailed."""
    model = load(case.bundle, case.columns, {})
    inputs = model.prepare(case.frame).inputs
    model.close()
    model.close()
    try:
        model.run(inputs, SECONDS)
    except ModelFailed:
        return
    _require(False, "a run of a closed model raises ModelFailed")


CHECKS: tuple[Callable[[Loader, Case], None], ...] = tuple(
    value for name, value in sorted(globals().items()) if name.startswith("check_")
)
