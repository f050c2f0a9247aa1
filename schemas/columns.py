"""Raw values to the deployment's columns: promotions, enums, logical types, and the rows that do not fit.

Raw means as Avro encodes it: numbers, text, bytes, enum indices. Both Avro paths and JSON end here, so that a value
becomes the same cell whichever way it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.nodes import Node
from schemas.resolve import Leaf, Source
from schemas.values import Rejection

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Wrong = tuple[Mask, str, str]  # rows that do not fit, reason, detail
INT_LEAST, INT_MOST = -(1 << 31), (1 << 31) - 1
_UNIT = {"millis": 1_000, "micros": 1_000_000, "nanos": 1_000_000_000}
# What polars reads a type as; int and enum are read wide, and their range is checked on the column.
RAW: dict[str, pl.DataType] = {
    "boolean": pl.Boolean(),
    "int": pl.Int64(),
    "long": pl.Int64(),
    "enum": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "string": pl.String(),
    "bytes": pl.Binary(),
    "fixed": pl.Binary(),
}


def build(
    height: int, sources: Iterable[Source], take: Callable[[Source], pl.Series]
) -> tuple[pl.DataFrame, list[Wrong]]:
    """All columns, one row per message, and which rows do not fit; a cell of such a row is null or meaningless."""
    columns: list[pl.Series] = []
    wrong: list[Wrong] = []
    for source in sources:
        if source.path is None:
            columns.append(constant(source, height))
            continue
        series = _convert(take(source), source, wrong)
        if not source.leaf.nullable and series.null_count():
            wrong.append(
                (
                    series.is_null().to_numpy(),
                    "wrong_type",
                    f"{source.leaf.name} is null, which its type does not allow",
                )
            )
        columns.append(series.alias(source.leaf.name))
    return pl.DataFrame(columns), wrong


def constant(source: Source, height: int) -> pl.Series:
    """A default, or null, as a column of this many rows."""
    leaf, value = source.leaf, source.constant
    if value is not None and leaf.type.kind == "enum":
        value = leaf.type.symbols.index(value)
    if value is None or leaf.type.kind == "array":
        one = pl.Series([value], dtype=leaf.dtype)
    else:
        one = _convert(pl.Series([value], dtype=RAW[leaf.type.kind]), Source(leaf, (), leaf.type), [])
    return one.new_from_index(0, height).alias(leaf.name)


def _convert(series: pl.Series, source: Source, wrong: list[Wrong]) -> pl.Series:
    leaf, writer = source.leaf, source.type
    assert writer is not None
    if writer.kind == "enum":
        return _enum(series, leaf, writer, wrong)
    if leaf.type.kind == "array":
        return _array(series, leaf, writer, wrong)
    if writer.kind == "int":
        _range(series, leaf.name, wrong)
    if leaf.type.kind == "string" and writer.kind == "bytes":
        return _text(series, leaf, wrong)
    if "decimal" in (leaf.type.logical, writer.logical):
        return _decimal(series, leaf, writer, wrong)
    if leaf.type.kind == "float" and writer.kind in ("int", "long"):
        series = series.cast(pl.Float64())  # as the strict path: a Python float first
    return _logical(series, leaf, writer, wrong)


def _range(series: pl.Series, name: str, wrong: list[Wrong]) -> None:
    least, most = series.min(), series.max()
    if isinstance(least, int) and isinstance(most, int) and (least < INT_LEAST or most > INT_MOST):
        mask = ~series.is_between(INT_LEAST, INT_MOST).fill_null(True)
        wrong.append((mask.to_numpy(), "malformed", f"{name} is an int outside 32 bits"))


def _logical(series: pl.Series, leaf: Leaf, writer: Node, wrong: list[Wrong]) -> pl.Series:
    ours, theirs = leaf.type.logical.rpartition("-")[2], writer.logical.rpartition("-")[2]
    if ours in _UNIT and theirs in _UNIT and ours != theirs and "time" in leaf.type.logical:
        series = _rescale(series, leaf, _UNIT[ours], _UNIT[theirs], wrong)
    if series.dtype == leaf.dtype:
        return series
    if series.dtype == pl.Int64() and leaf.dtype in (pl.Int32(), pl.Date()):
        series = series.cast(pl.Int32(), strict=False)
    return series.cast(leaf.dtype, strict=False)


def _rescale(series: pl.Series, leaf: Leaf, ours: int, theirs: int, wrong: list[Wrong]) -> pl.Series:
    """Timestamps of another unit, rounded towards the past; what does not fit 64 bits is wrong."""
    if ours < theirs:
        return series // (theirs // ours)
    factor = ours // theirs
    limit = ((1 << 63) - 1) // factor
    fits = series.is_between(-limit, limit).fill_null(True)
    if not fits.all():
        wrong.append(((~fits).to_numpy(), "malformed", f"{leaf.name} does not fit its unit of time"))
        series = pl.Series([v if ok else None for v, ok in zip(series, fits, strict=True)], dtype=pl.Int64())
    return series * factor


def _text(series: pl.Series, leaf: Leaf, wrong: list[Wrong]) -> pl.Series:
    try:
        text = series.cast(pl.String(), strict=False)
    except pl.exceptions.ComputeError:
        text = pl.Series([None if raw is None else _utf8(raw) for raw in series], dtype=pl.String())
    if text.null_count() != series.null_count():
        mask = (text.is_null() & series.is_not_null()).to_numpy()
        wrong.append((mask, "malformed", f"{leaf.name} is not UTF-8"))
    return text


def _utf8(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _enum(series: pl.Series, leaf: Leaf, writer: Node, wrong: list[Wrong]) -> pl.Series:
    """Indices of the writer's symbols as the reader's enum; an unknown symbol becomes its default, or is wrong."""
    symbols = lookup(leaf.type, writer, leaf.dtype)
    index = series.to_numpy() if not series.null_count() else series.fill_null(0).to_numpy()
    if index.min(initial=0) < 0 or index.max(initial=0) >= len(symbols):
        inside = (index >= 0) & (index < len(symbols))
        wrong.append((~inside, "malformed", f"{leaf.name} has no symbol of this index"))
        series = pl.Series(np.where(inside, index, 0)).set(series.is_null(), None)
    column = symbols.gather(series)
    if symbols.null_count() and column.null_count() != series.null_count():
        mask = (column.is_null() & series.is_not_null()).to_numpy()
        wrong.append((mask, "unresolvable", f"{leaf.name} is a symbol that the deployment's enum does not have"))
    return column


@lru_cache(maxsize=1024)
def lookup(reader: Node, writer: Node, dtype: pl.DataType) -> pl.Series:
    """The reader's symbol for each of the writer's, null where it has none."""
    default = reader.default if reader.default in reader.symbols else None
    known = set(reader.symbols)
    return pl.Series([symbol if symbol in known else default for symbol in writer.symbols], dtype=dtype)


def _array(series: pl.Series, leaf: Leaf, writer: Node, wrong: list[Wrong]) -> pl.Series:
    if series.dtype == leaf.dtype:
        return series
    items = writer.items.nullable()[0] if writer.items else writer
    if items.kind == "int" and not items.logical:
        low, high = series.list.min(), series.list.max()
        mask = ((low < INT_LEAST) | (high > INT_MOST)).fill_null(False)
        if mask.any():
            wrong.append((mask.to_numpy(), "malformed", f"{leaf.name} has an int outside 32 bits"))
            series = series.zip_with(~mask, pl.Series([None], dtype=series.dtype))
    return series.cast(leaf.dtype)


def _decimal(series: pl.Series, leaf: Leaf, writer: Node, wrong: list[Wrong]) -> pl.Series:
    """The double nearest to the exact decimal; digits beyond the declared precision are wrong."""
    form = writer if writer.logical == "decimal" else leaf.type
    if leaf.type.logical != "decimal":
        return series
    limit, scale = 10**form.precision, 10**form.scale
    values = [None if raw is None else decimal_value(raw, limit, scale) for raw in series]
    if any(value is not None and value != value for value in values):
        mask = np.array([value is not None and value != value for value in values])
        wrong.append((mask, "malformed", f"{leaf.name} has more than {form.precision} digits"))
    return pl.Series(values, dtype=pl.Float64())


def decimal_value(raw: bytes, limit: int, scale: int) -> float:
    """NaN stands for too many digits, which no decimal can otherwise be."""
    if len(raw) > 512:
        return float("nan")
    number = int.from_bytes(raw, "big", signed=True)
    try:
        return number / scale if abs(number) < limit else float("nan")
    except OverflowError:
        return float("nan")


def series_of(values: Sequence[Any], leaf: Leaf) -> pl.Series:
    """Raw values of the strict path or JSON, as the reader's type gives them (enums as symbols), as a raw column."""
    kind = leaf.type.kind
    if kind == "enum":
        index: dict[Any, int | None] = {symbol: i for i, symbol in enumerate(leaf.type.symbols)}
        index[None] = None
        return pl.Series([index[value] for value in values], dtype=RAW[kind])
    if kind == "array":
        assert leaf.type.items is not None
        return pl.Series(values, dtype=pl.List(raw_dtype(leaf.type.items)), strict=True)
    if kind == "float":
        return pl.Series(values, dtype=pl.Float64())
    return pl.Series(values, dtype=RAW[kind])


def raw_dtype(node: Node) -> pl.DataType:
    """The type of raw values inside arrays, where enums stand as text and dates as 32-bit days."""
    node, _ = node.nullable()
    if node.kind == "array" and node.items is not None:
        return pl.List(raw_dtype(node.items))
    if node.kind == "record":
        return pl.Struct({part.name: raw_dtype(part.type) for part in node.fields})
    if node.kind == "enum":
        return pl.String()
    return pl.Int32() if node.logical == "date" else RAW[node.kind]


def without(
    frame: pl.DataFrame, rows: Rows, rejected: list[Rejection], wrong: list[Wrong]
) -> tuple[pl.DataFrame, Rows, list[Rejection]]:
    """Drop the rows that do not fit, each with the first reason found."""
    if not wrong:
        return frame, rows, rejected
    out = np.zeros(len(rows), dtype=bool)
    for mask, reason, detail in wrong:
        for row in np.flatnonzero(mask & ~out).tolist():
            rejected.append(Rejection(int(rows[row]), reason, detail))
        out |= mask
    return frame.filter(~out), rows[~out], rejected
