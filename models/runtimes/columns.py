"""From the columns of a frame to the arrays of a model: casts, missing values, and rows that a model cannot take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.contract import extents, nesting
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
            "wrong_shape": "send as many numbers as the model takes, in row-major order or nested as its rows are",
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
        if part.shape:
            return self._array(part, frame.get_column(part.features[0]), refusals)
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

    def _array(self, part: Input, column: pl.Series, refusals: Refusals) -> Array:
        """The tensor that one array field fills; rows that are refused hold zeros."""
        name = part.features[0]
        depth, _ = nesting(column.dtype)
        sizes = [math.prod(part.shape)] if depth == 1 else extents(part.shape)
        items, fits = flattened(column, sizes)
        nulls = column.is_null().to_numpy()
        refusals.add(nulls, "missing_value", f"{name} is null")
        refusals.add(~fits & ~nulls, "wrong_shape", f"{name} is no array of {' x '.join(map(str, sizes))}")
        width = math.prod(part.shape)
        holes = items.is_null().to_numpy() if items.null_count() else None
        values = items.fill_null(0).cast(POLARS[part.type]).to_numpy().reshape(-1, width)
        rows = np.flatnonzero(fits)
        if holes is not None:
            _refuse_at(rows, holes.reshape(-1, width), refusals, "missing_value", f"{name} holds null")
        if part.type in FLOATS and not self._passes:
            finite = np.isfinite(values)
            if not finite.all():
                _refuse_at(rows, ~finite, refusals, "not_finite", f"{name} holds a number that is not finite")
        if not fits.all():
            whole = np.zeros((len(fits), width), values.dtype)
            whole[fits] = values
            values = whole
        return values.reshape(len(fits), *part.shape)

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


def flattened(column: pl.Series, sizes: Sequence[int]) -> tuple[pl.Series, Mask]:
    """Return the items of the rows whose nested lists have just these lengths, one row after the other, and which."""
    fits = (column.list.len() == sizes[0]).fill_null(False).to_numpy().copy()
    if not fits.all():
        column = column.filter(fits)
    items = column.explode()
    if len(sizes) == 1:
        return items, fits
    deeper, good = flattened(items, sizes[1:])
    if good.all():
        return deeper, fits
    rows: Mask = np.all(good.reshape(-1, sizes[0]), axis=1)
    fits[fits] = rows
    return flattened(column.filter(pl.Series(rows)), sizes)[0], fits


def _refuse_at(rows: Array, wrong: Mask, refusals: Refusals, reason: Reason, what: str) -> None:
    mask = np.zeros(int(rows[-1]) + 1 if len(rows) else 0, np.bool_)
    mask[rows] = wrong.any(axis=1)
    refusals.add(mask, reason, what)


def _stand_in(value: Value | None, tensor: str) -> Any:
    """The declared value in the tensor's type; any value of the type where the row is refused anyway."""
    kind: Any = {"float": float, "double": float, "int64": int, "bool": bool, "string": str}[tensor]
    return kind() if value is None else kind(value)
