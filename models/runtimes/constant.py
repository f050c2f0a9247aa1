"""The end of a fallback chain: the same outputs for every row, whatever is in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.errors import ContractBroken
from models.runtimes.base import Prepared
from schemas.deployment import CONSTANT
from schemas.values import OutputField

ROWS = "rows"
_TYPES: dict[str, tuple[type, ...]] = {
    "double": (float, int),
    "float": (float, int),
    "long": (int,),
    "int": (int,),
    "boolean": (bool,),
    "string": (str,),
}
_BEYOND = {"double": 2**1024 - 2**970, "float": 2**128 - 2**103, "long": 2**63, "int": 2**31}  # too large, from here on
_DTYPES: dict[str, pl.DataType] = {
    "double": pl.Float64(),
    "float": pl.Float32(),
    "long": pl.Int64(),
    "int": pl.Int32(),
    "boolean": pl.Boolean(),
    "string": pl.String(),
}


class Constant:
    """Declared values as a model; see `models.runtimes.base.Model` for its methods.

    Raises ContractBroken unless there is a value of its type for each of the outputs, and for nothing else.
    """

    name, version = CONSTANT, CONSTANT

    def __init__(self, outputs: Sequence[OutputField], values: Mapping[str, Any]) -> None:
        self.outputs = tuple(outputs)
        if problems := list(_problems(self.outputs, values)):
            raise ContractBroken(problems)
        self._row = pl.DataFrame([_series(output, values[output.name]) for output in self.outputs])

    def prepare(self, frame: pl.DataFrame) -> Prepared:
        return Prepared({ROWS: np.arange(len(frame))}, None, [])

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> pl.DataFrame:
        return self._row[[0] * len(inputs[ROWS])]

    def hurry(self, on: bool) -> None:
        """There is nothing that takes time."""

    def close(self) -> None:
        """There is nothing to let go of."""


def _problems(outputs: Sequence[OutputField], values: Mapping[str, Any]) -> list[str]:
    names = [output.name for output in outputs]
    found = [
        f"fallback constant: {name!r} is no output of the active model; they are {', '.join(names)}"
        for name in values
        if name not in names
    ]
    for output in outputs:
        if output.name not in values:
            found.append(f"fallback constant: a value for the output {output.name!r} is missing")
        elif (wanted := _mismatch(output, values[output.name])) is not None:
            found.append(f"fallback constant: {output.name}: must be {wanted}, not {values[output.name]!r:.80}")
    return found


def _mismatch(output: OutputField, value: Any) -> str | None:
    """Return what the value must be, where it is not."""
    if output.kind in ("vector", "map"):
        numbers = isinstance(value, list) and all(_is(each, "double") and _fits(each, "double") for each in value)
        if numbers and len(value) in (len(output.classes), len(value) if not output.classes else -1):
            return None
        return f"a list of {len(output.classes) or 'some'} numbers"
    if output.kind == "label" and output.classes and str(value) not in output.classes:
        return f"one of {', '.join(output.classes)}"
    if not _is(value, output.avro):
        return f"of type {output.avro}"
    return None if _fits(value, output.avro) else f"a number that a {output.avro} can hold"


def _is(value: Any, avro: str) -> bool:
    return isinstance(value, _TYPES[avro]) and (avro == "boolean" or not isinstance(value, bool))


def _fits(value: Any, avro: str) -> bool:
    beyond = _BEYOND.get(avro)
    return beyond is None or -beyond <= value < beyond or (isinstance(value, float) and not math.isfinite(value))


def _series(output: OutputField, value: Any) -> pl.Series:
    if output.kind in ("vector", "map"):
        return pl.Series(output.name, [[float(each) for each in value]], dtype=pl.List(pl.Float64))
    return pl.Series(output.name, [value], dtype=_DTYPES[output.avro])
