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
from schemas.values import Reason, Rejection

POLARS: dict[str, Any] = {
    "float": pl.Float32,
    "double": pl.Float64,
    "int64": pl.Int64,
    "bool": pl.Boolean,
    "string": pl.String,
}
FLOATS = ("float", "double")
Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Refusals:
    """Rows found wanting so far, with the reason of each."""

    reasons: dict[int, tuple[Reason, list[str]]] = field(default_factory=dict)

    def add(self, mask: Mask, reason: Reason, what: str) -> None:
        for row in np.flatnonzero(mask).tolist():
            self.reasons.setdefault(row, (reason, []))[1].append(what)

    def rejections(self, advice: Mapping[Reason, str]) -> list[Rejection]:
        return [
            Rejection(row, reason, f"{_listed(found)}; {advice[reason]}")
            for row, (reason, found) in sorted(self.reasons.items())
        ]


def _listed(found: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + rest


class Columns:
    """Prepares frames for the inputs of one model.

    A tensor of floats that comes from columns of numbers is one copy of the frame and one look at it: null becomes NaN
    on the way, so that a tensor that is finite has no missing value either. Only columns that are not are looked into.
    """

    def __init__(
        self, inputs: Sequence[Input], missing: Mapping[str, Value], not_finite: str, columns: Mapping[str, Any]
    ) -> None:
        self._inputs, self._missing, self._passes = list(inputs), dict(missing), not_finite == "pass"
        self._whole = {
            part.name for part in self._inputs if not any(columns[name] == pl.Boolean for name in part.features)
        }
        self._advice: dict[Reason, str] = {
            "missing_value": "the model needs a value: send one, or declare under `missing` what stands in for null",
            "not_finite": "the model takes finite numbers: send one, or build the bundle with not_finite='pass'",
        }

    def prepare(self, frame: pl.DataFrame) -> Prepared:
        """Arrays for the rows that the model takes, and a refusal for each of the others."""
        refusals = Refusals()
        inputs: Arrays = {part.name: self._tensor(part, frame, refusals) for part in self._inputs}
        if not refusals.reasons:
            return Prepared(inputs, None, [])
        kept = np.ones(len(frame), np.bool_)
        kept[list(refusals.reasons)] = False
        rows = np.flatnonzero(kept).astype(np.int64)
        return Prepared({name: a[rows] for name, a in inputs.items()}, rows, refusals.rejections(self._advice))

    def _tensor(self, part: Input, frame: pl.DataFrame, refusals: Refusals) -> Array:
        tensor = self._floats(part, frame, refusals) if part.type in FLOATS else self._others(part, frame, refusals)
        return tensor if part.rank == 2 else tensor[:, 0]

    def _floats(self, part: Input, frame: pl.DataFrame, refusals: Refusals) -> Array:
        features = frame if frame.columns == part.features else frame[part.features]
        if part.name not in self._whole:  # polars makes objects of booleans beside null
            features = features.cast(POLARS[part.type])
        with np.errstate(over="ignore"):  # what is too large for a float is not finite, and found below
            matrix: Array = features.to_numpy().astype(DTYPES[part.type], order="C")
        finite = np.isfinite(matrix)
        if not finite.all():
            for place in np.flatnonzero(~finite.all(axis=0)).tolist():
                name = part.features[place]
                self._mend(part, name, frame.get_column(name), matrix[:, place], refusals)
        return matrix

    def _mend(self, part: Input, name: str, column: pl.Series, values: Array, refusals: Refusals) -> None:
        """Put in what stands in for null, in place, and refuse what is missing or not finite."""
        nulls: Mask = np.isnan(values)  # every null is NaN here; with equal counts there is no other NaN
        if np.count_nonzero(nulls) != column.null_count():
            nulls = column.is_null().to_numpy()
        if not self._passes:
            wild = ~np.isfinite(values) & ~nulls  # NaN may stand in for null where the declaration says so
            refusals.add(wild, "not_finite", f"{name} is not a finite number")
        if nulls.any():
            values[nulls] = self._stand_in(part, name, nulls, refusals)

    def _others(self, part: Input, frame: pl.DataFrame, refusals: Refusals) -> Array:
        tensor = np.empty((len(frame), len(part.features)), DTYPES[part.type])
        for place, name in enumerate(part.features):
            column = frame.get_column(name).cast(POLARS[part.type])
            if column.null_count():
                column = column.fill_null(self._stand_in(part, name, column.is_null().to_numpy(), refusals))
            tensor[:, place] = column.to_numpy()
        return tensor

    def _stand_in(self, part: Input, name: str, nulls: Mask, refusals: Refusals) -> Any:
        if name not in self._missing:
            refusals.add(nulls, "missing_value", f"{name} is null")
        return _stand_in(self._missing.get(name), part.type)


def _stand_in(value: Value | None, tensor: str) -> Any:
    """The declared value in the tensor's type; any value of the type where the row is refused anyway."""
    kind: Any = {"float": float, "double": float, "int64": int, "bool": bool, "string": str}[tensor]
    return kind() if value is None else kind(value)
