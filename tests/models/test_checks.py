"""The suite for runtimes: the ONNX runtime passes it, and a runtime with a fault does not."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.bundle import Bundle
from models.checks import CHECKS, Case
from models.runtimes import onnx
from models.runtimes.base import Prepared
from tests.models import graphs

load = partial(onnx.load, bounds=None)
FLOATS = dict.fromkeys("abcd", pl.Float64)
FRAME = pl.DataFrame(np.random.default_rng(0).normal(size=(40, 4)), schema=list("abcd"))
MIXED = pl.DataFrame(
    {
        "a_float": np.arange(40.0),
        "a_double": np.arange(40.0),
        "an_int": range(40),
        "a_bool": [True, False] * 20,
        "a_string": ["x", "y"] * 20,
    }
)
CASES = {
    "a matrix": Case(graphs.linear_bundle(), FLOATS, FRAME),
    "a stand-in": Case(graphs.linear_bundle(missing={"a": 0.0}), FLOATS, FRAME),
    "a map": Case(Bundle.build(name="zip", model=graphs.zipmap(), features=list("abcd")), FLOATS, FRAME),
    "an array": Case(
        Bundle.build(name="pixels", model=graphs.linear(4), features=["pixels"]),
        {"pixels": pl.List(pl.Float64)},
        pl.DataFrame({"pixels": FRAME.to_numpy().tolist()}),
    ),
    "named tensors": Case(Bundle.build(name="types", model=graphs.many_types()), dict(MIXED.schema), MIXED),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_onnx_runtime_keeps_the_contract(check: Any, case: Case) -> None:
    check(load, case)


class Faulty(onnx.OnnxModel):
    """One fault for each check."""

    def __init__(self, model: onnx.OnnxModel, fault: str) -> None:
        self.__dict__.update(model.__dict__)
        self._fault = fault

    def prepare(self, frame: pl.DataFrame) -> Prepared:
        if self._fault == "other_columns" and frame.columns[0] != "a":
            frame = frame.rename({"a": "b", "b": "a"})
        if self._fault == "null":
            frame = frame.fill_null(0.0)
        return super().prepare(frame)

    def run(self, inputs: Mapping[str, Any], seconds: float) -> pl.DataFrame:
        if self._fault == "closing" and self._timed.watchdog is None:
            return pl.DataFrame()
        result = super().run(inputs, seconds)
        if self._fault == "outputs":
            return result.rename({result.columns[0]: "other"})
        if self._fault == "every_number":
            return result.head(16)
        if self._fault == "rows_do_not":
            return result.with_columns(pl.all() + len(result))
        return result


@pytest.mark.parametrize("check", CHECKS)
def test_a_faulty_runtime_fails_the_check_for_its_fault(check: Any) -> None:
    name = check.__name__.removeprefix("check_")
    faults = ["outputs", "every_number", "rows_do_not", "other_columns", "null", "closing"]
    fault = next((fault for fault in faults if name.startswith(fault)), "at_load")

    def load_faulty(bundle: Bundle, columns: Any, missing: Any) -> Any:
        if fault == "at_load":
            columns = {**FLOATS, **columns}
        return Faulty(load(bundle, columns, missing), fault)

    with pytest.raises(AssertionError):
        check(load_faulty, CASES["a matrix"])
