"""From the columns of a frame to the arrays of a model: casts, missing values, and rows that a model cannot take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.manifest import Input, Value
from models.runtimes.base import Arrays, Prepared
from models.runtimes.session import DTYPES
from schemas.values import Rejection

POLARS: dict[str, Any] = {
    "float": pl.Float32,
    "double": pl.Float64,
    "int64": pl.Int64,
    "bool": pl.Boolean,
    "string": pl.String,
}
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Refusals:
    """Rows found wanting so far, with the reason of each."""

    reasons: dict[int, tuple[str, list[str]]] = field(default_factory=dict)

    def add(self, mask: Mask, reason: str, what: str) -> None:
        for row in np.flatnonzero(mask).tolist():
            self.reasons.setdefault(row, (reason, []))[1].append(what)

    def rejections(self, advice: Mapping[str, str]) -> list[Rejection]:
        return [
            Rejection(row, reason, f"{_listed(found)}; {advice[reason]}")
            for row, (reason, found) in sorted(self.reasons.items())
        ]


def _listed(found: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + rest


class Columns:
    """Prepares frames for the inputs of one model.

    A model with one matrix of numbers, fed by float columns, takes the short way: one copy of the frame and one look
    at it. Null becomes NaN on that way, so that a matrix that is finite has no missing value either.
    """

    def __init__(
        self, inputs: Sequence[Input], missing: Mapping[str, Value], not_finite: str, columns: Mapping[str, Any]
    ) -> None:
        self._inputs, self._missing, self._passes = list(inputs), dict(missing), not_finite == "pass"
        only = self._inputs[0]
        floats = all(columns[name] in (pl.Float32, pl.Float64) for name in only.features)
        short = len(self._inputs) == 1 and only.rank == 2 and only.type in ("float", "double") and floats
        self._matrix = only if short else None
        self._features = only.features
        self._advice = {
            "missing_value": "the model needs a value: send one, or declare under `missing` what stands in for null",
            "not_finite": "the model takes finite numbers: send one, or build the bundle with not_finite='pass'",
        }

    def prepare(self, frame: pl.DataFrame) -> Prepared:
        """Arrays for the rows that the model takes, and a refusal for each of the others."""
        if self._matrix is not None and len(frame):
            matrix = self._short_way(self._matrix, frame)
            if np.isfinite(matrix).all():
                return Prepared({self._matrix.name: matrix}, None, [])
        return self._long_way(frame)

    def _short_way(self, matrix: Input, frame: pl.DataFrame) -> npt.NDArray[Any]:
        features = frame if frame.columns == self._features else frame[self._features]
        with np.errstate(over="ignore"):
            return features.to_numpy().astype(DTYPES[matrix.type], order="C")

    def _long_way(self, frame: pl.DataFrame) -> Prepared:
        refusals = Refusals()
        inputs: Arrays = {part.name: self._tensor(part, frame, refusals) for part in self._inputs}
        if not refusals.reasons:
            return Prepared(inputs, None, [])
        kept = np.ones(len(frame), np.bool_)
        kept[list(refusals.reasons)] = False
        rows = np.flatnonzero(kept).astype(np.int64)
        return Prepared({name: a[rows] for name, a in inputs.items()}, rows, refusals.rejections(self._advice))

    def _tensor(self, part: Input, frame: pl.DataFrame, refusals: Refusals) -> npt.NDArray[Any]:
        tensor = np.empty((len(frame), len(part.features)), DTYPES[part.type])
        for place, name in enumerate(part.features):
            tensor[:, place] = self._column(part, name, frame.get_column(name), refusals)
        return tensor if part.rank == 2 else tensor[:, 0]

    def _column(self, part: Input, name: str, column: pl.Series, refusals: Refusals) -> npt.NDArray[Any]:
        nulls = column.is_null().to_numpy() if column.null_count() else None
        cast = column.cast(POLARS[part.type], strict=False)
        if nulls is not None:
            if name not in self._missing:
                refusals.add(nulls, "missing_value", f"{name} is null")
            cast = cast.fill_null(_stand_in(self._missing.get(name), part.type))
        array = cast.to_numpy()
        if part.type in ("float", "double") and not self._passes:
            wild = ~np.isfinite(array)
            if nulls is not None:
                wild &= ~nulls  # NaN may stand in for null where the declaration says so
            if wild.any():
                refusals.add(wild, "not_finite", f"{name} is not a finite number")
        return array


def _stand_in(value: Value | None, tensor: str) -> Any:
    """The declared value in the tensor's type; any value of the type where the row is refused anyway."""
    kind: Any = {"float": float, "double": float, "int64": int, "bool": bool, "string": str}[tensor]
    return kind() if value is None else kind(value)
