"""Scores frames with onnxruntime: load from bytes, prepare, run, terminate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.bundle import Bundle
from models.contract import column_mismatches
from models.describe import disagreements
from models.errors import BundleInvalid, ContractBroken, ModelFailed, ModelRefused, ModelTimedOut
from models.graph import examine
from models.manifest import Manifest, Output, Value
from models.runtimes.base import Prepared
from models.runtimes.columns import Columns
from models.runtimes.session import open_session, padded, run_options
from models.runtimes.watchdog import Watchdog
from models.sandbox import Bounds, warm_up

DEFAULT_BOUNDS = Bounds()
SERIES: dict[str, Any] = {
    "double": pl.Float64,
    "float": pl.Float32,
    "long": pl.Int64,
    "int": pl.Int32,
    "boolean": pl.Boolean,
    "string": pl.String,
}
NUMPY: dict[str, Any] = {"double": "f8", "float": "f4", "long": "i8", "int": "i4", "boolean": "?"}


def load(
    bundle: Bundle,
    columns: Mapping[str, Any],
    missing: Mapping[str, Value] | None = None,
    *,
    threads: int = 1,
    bounds: Bounds | None = DEFAULT_BOUNDS,
) -> OnnxModel:
    """Load a verified bundle for frames with these columns (name -> polars type).

    missing: what stands in for null, per feature, before the manifest's own. threads: of onnxruntime, within and
    between operators. bounds: of the warm-up in a subprocess, which comes first (0.2 s for a small model); None leaves
    it out, for bundles that were warmed up before.
    Raises ContractBroken with every mismatch between columns and model, BundleInvalid when manifest and graph disagree,
    ModelRefused when the model breaks a rule or cannot be loaded.
    """
    manifest = bundle.manifest
    examined = examine(bundle.model)
    if found := disagreements(manifest, examined):
        raise BundleInvalid(f"{manifest.ref}: {'; '.join(found)}: build the bundle again from this model")
    stand_ins = {**manifest.missing, **(missing or {})}
    if found := column_mismatches(columns, manifest, stand_ins):
        raise ContractBroken(found)
    if bounds is not None:
        warm_up(bundle, bounds, threads=threads)
    try:
        session = open_session(examined.model, threads)
    except Exception as error:
        raise ModelRefused(f"{manifest.ref} cannot be loaded: {error}") from error
    return OnnxModel(manifest, session, Columns(manifest.inputs, stand_ins, manifest.not_finite, columns))


class OnnxModel:
    """One loaded version; see `models.runtimes.base.Model` for its methods."""

    def __init__(self, manifest: Manifest, session: Any, columns: Columns) -> None:
        self.name, self.version = manifest.name, manifest.version
        self.outputs = tuple(output.field for output in manifest.outputs)
        self._columns = columns
        self._declared = manifest.outputs
        self._tensors = list(dict.fromkeys(output.tensor for output in manifest.outputs))
        self._session = session
        self._options = run_options()
        self._watchdog: Watchdog | None = Watchdog()

    def prepare(self, frame: pl.DataFrame) -> Prepared:
        return self._columns.prepare(frame)

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> pl.DataFrame:
        rows = len(next(iter(inputs.values())))
        if not rows:
            return pl.DataFrame([pl.Series(output.name, [], dtype=_dtype(output)) for output in self._declared])
        tensors = dict(zip(self._tensors, self._call(padded(inputs, rows), seconds), strict=True))
        return pl.DataFrame([_series(output, tensors[output.tensor], rows) for output in self._declared])

    def _call(self, inputs: dict[str, npt.NDArray[Any]], seconds: float) -> list[npt.NDArray[Any]]:
        watchdog = self._watchdog
        if watchdog is None:
            raise ModelFailed(f"{self.name}@{self.version} is closed")
        watchdog.begin(self._options, seconds)
        failure: Exception | None = None
        try:
            result: list[npt.NDArray[Any]] = self._session.run(self._tensors, inputs, self._options)
        except Exception as error:  # onnxruntime raises classes of its own, and TypeError or ValueError
            failure = error
        if watchdog.end():
            self._options = run_options()
            if failure is not None:
                raise ModelTimedOut(f"{self.name}@{self.version} took longer than {seconds:g} s") from failure
        if failure is not None:
            raise ModelFailed(f"{self.name}@{self.version} failed: {_message(failure)}") from failure
        return result

    def close(self) -> None:
        if self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = self._session = None


def _message(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


def _dtype(output: Output) -> Any:
    return pl.List(pl.Float64) if output.kind in ("vector", "map") else SERIES[output.type]


def _series(output: Output, tensor: Any, rows: int) -> pl.Series:
    """The first rows of a graph output as the column of the inference record; raises ModelFailed when it is no such."""
    if not isinstance(tensor, np.ndarray) or tensor.ndim not in (1, 2) or len(tensor) < rows:
        shape = getattr(tensor, "shape", type(tensor).__name__)
        raise ModelFailed(f"output {output.tensor} has the shape {shape} for {rows} rows; it must have one row per row")
    if output.kind in ("vector", "map"):
        return _vector(output, tensor[:rows])
    return _scalar(output, tensor[:rows])


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
