"""Scores frames with onnxruntime: load from bytes, prepare, run, terminate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import polars as pl

from models.bundle import Bundle
from models.contract import column_mismatches
from models.describe import disagreements
from models.errors import BundleInvalid, ContractBroken, ModelRefused
from models.graph import examine
from models.manifest import Manifest, Value
from models.runtimes import outputs
from models.runtimes.base import Prepared
from models.runtimes.columns import Columns
from models.runtimes.partitioned import PartitionedModel
from models.runtimes.session import open_session, padded
from models.runtimes.sessions import MEMORY
from models.runtimes.timed import Timed
from models.sandbox import Bounds, warm_up

DEFAULT_BOUNDS = Bounds()


def load(
    bundle: Bundle,
    columns: Mapping[str, Any],
    missing: Mapping[str, Value] | None = None,
    *,
    threads: int = 1,
    bounds: Bounds | None = DEFAULT_BOUNDS,
    memory: int = MEMORY,
) -> OnnxModel | PartitionedModel:
    """Load a verified bundle for frames with these columns (name -> polars type).

    missing: what stands in for null, per feature, before the manifest's own. threads: of onnxruntime, within and
    between operators. bounds: of the warm-up in a subprocess, which comes first (0.2 s for a small model); None leaves
    it out, for bundles that were warmed up before. memory: bytes that the sessions of a hierarchy of models may take.
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
    prepared = Columns(manifest.inputs, stand_ins, manifest.not_finite, columns)
    if bundle.leaves is not None:
        return PartitionedModel(bundle, examined, prepared, threads=threads, memory=memory)
    try:
        session = open_session(examined.model, threads)
    except Exception as error:
        raise ModelRefused(f"{manifest.ref} cannot be loaded: {error}") from error
    return OnnxModel(manifest, session, prepared)


class OnnxModel:
    """One loaded version; see `models.runtimes.base.Model` for its methods."""

    def __init__(self, manifest: Manifest, session: Any, columns: Columns) -> None:
        self.name, self.version = manifest.name, manifest.version
        self.outputs = manifest.fields
        self._columns = columns
        self._declared = manifest.outputs
        self._tensors = list(dict.fromkeys(output.tensor for output in manifest.outputs))
        self._session = session
        self._timed = Timed(lambda: manifest.ref)

    def prepare(self, frame: pl.DataFrame) -> Prepared:
        return self._columns.prepare(frame)

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> pl.DataFrame:
        rows = len(next(iter(inputs.values())))
        if not rows:
            return pl.DataFrame([outputs.empty(output) for output in self._declared])
        arrays = self._timed.run(self._session, self._tensors, padded(inputs, rows), seconds)
        tensors = dict(zip(self._tensors, arrays, strict=True))
        return pl.DataFrame([outputs.series(output, tensors[output.tensor], rows) for output in self._declared])

    def hurry(self, on: bool) -> None:
        self._timed.hurry(on)

    def close(self) -> None:
        self._timed.close()
        self._session = None
