"""From the arrays that a model returns to the columns of the inference record."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.errors import ModelFailed
from models.manifest import Output

SERIES: dict[str, Any] = {
    "double": pl.Float64,
    "float": pl.Float32,
    "long": pl.Int64,
    "int": pl.Int32,
    "boolean": pl.Boolean,
    "string": pl.String,
}
NUMPY: dict[str, Any] = {"double": "f8", "float": "f4", "long": "i8", "int": "i4", "boolean": "?"}


def empty(output: Output) -> pl.Series:
    """The column of no rows."""
    return pl.Series(output.name, [], dtype=_dtype(output))


def series(output: Output, tensor: Any, rows: int) -> pl.Series:
    """The first rows of a graph output as the column of the inference record; raises ModelFailed when it is no such."""
    if not isinstance(tensor, np.ndarray) or tensor.ndim not in (1, 2) or len(tensor) < rows:
        shape = getattr(tensor, "shape", type(tensor).__name__)
        raise ModelFailed(f"output {output.tensor} has the shape {shape} for {rows} rows; it must have one row per row")
    if output.kind in ("vector", "map"):
        return _vector(output, tensor[:rows])
    return _scalar(output, tensor[:rows])


def said(error: Exception) -> str:
    """What an error of onnxruntime says, in one line of bounded length."""
    return " ".join(str(error).split())[:500] or type(error).__name__


def _dtype(output: Output) -> Any:
    return pl.List(pl.Float64) if output.kind in ("vector", "map") else SERIES[output.type]


def _vector(output: Output, tensor: npt.NDArray[Any]) -> pl.Series:
    width = len(output.classes) or (tensor.shape[1] if tensor.ndim == 2 else 1)
    if tensor.ndim != 2 or tensor.shape[1] != width:
        raise ModelFailed(f"output {output.tensor} has the shape {tensor.shape}; {width} columns are declared")
    return pl.Series(output.name, np.ascontiguousarray(tensor, "f8")).cast(pl.List(pl.Float64))


def _scalar(output: Output, tensor: npt.NDArray[Any]) -> pl.Series:
    if tensor.ndim == 2:
        column = output.column or 0
        if column >= tensor.shape[1] or (output.column is None and tensor.shape[1] != 1):
            raise ModelFailed(f"output {output.tensor} has {tensor.shape[1]} columns; the manifest reads one")
        tensor = tensor[:, column]
    if output.type == "string":
        return pl.Series(output.name, tensor.tolist(), dtype=pl.String)
    return pl.Series(output.name, np.ascontiguousarray(tensor, NUMPY[output.type]))
