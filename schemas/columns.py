"""Raw values to the deployment's columns: promotions, enums, logical types, and the rows that do not fit.

Raw means as Avro encodes it: numbers, text, bytes, enum indices. Both Avro paths and JSON end here, so that a value
becomes the same cell whichever way it came.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.nodes import Node
from schemas.resolve import Leaf, Source
from schemas.values import Reason, Rejection

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Wrong = tuple[Mask, Reason, str]  # rows that do not fit, reason, detail
Change = Callable[[pl.Series, list[Wrong]], pl.Series]  # a raw series to a column, noting the rows that do not fit
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


class Columns:
    """The deployment's columns out of raw ones, for one list of sources.

    What a raw series still needs is decided here, once: in a small batch that takes longer than doing it.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._names = [source.leaf.name for source in sources]
        self._sources = [(source, constant(source) if source.path is None else None) for source in sources]
        self._steps: list[tuple[int, str, Change | None, bool]] = []
        for at, source in enumerate(sources):
            if source.path is not None:
                change = change_of(source)
                checked = not source.leaf.nullable and (source.nulls or change is not None)
                if change is not None or checked:
                    self._steps.append((at, source.leaf.name, change, checked))

    def gather(self, height: int, take: Callable[[Source], pl.Series]) -> pl.DataFrame:
        """A frame of raw columns, one by one; constants are what they are to be."""
        series = [take(source) if one is None else one.new_from_index(0, height) for source, one in self._sources]
        return pl.DataFrame(height=height).hstack(list(map(pl.Series.alias, series, self._names)))

    def finish(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[Wrong]]:
        """The columns and the rows that do not fit, whose cells are null or mean nothing.

        frame: a raw column for each source in order, whatever its name. It becomes the frame that is returned.
        """
        wrong: list[Wrong] = []
        for at, name, change, checked in self._steps:
            series = frame.to_series(at)
            if change is not None:
                series = change(series, wrong)
                frame.replace_column(at, series)
            if checked and series.null_count():
                wrong.append(
                    (series.is_null().to_numpy(), "wrong_type", f"{name} is null, which its type does not allow")
                )
        frame.columns = self._names
        return frame, wrong


def constant(source: Source) -> pl.Series:
    """A default, or null, as a column of one row."""
    leaf, value = source.leaf, source.constant
    if value is not None and leaf.type.kind == "enum":
        value = leaf.type.symbols.index(value)
    if value is None or leaf.type.kind == "array":
        return pl.Series([value], dtype=leaf.dtype)
    raw = pl.Series([value], dtype=RAW[leaf.type.kind])
    change = change_of(Source(leaf, (), leaf.type))
    return raw if change is None else change(raw, [])


def change_of(source: Source) -> Change | None:
    """What makes the column of a raw series; None where the series is the column."""
    leaf, writer = source.leaf, source.type
    assert writer is not None
    if writer.kind == "enum":
        return partial(_enum, leaf, lookup(leaf, writer))
    if leaf.type.kind == "array":
        return partial(_array, leaf, writer)
    if leaf.type.kind == "string" and writer.kind == "bytes":
        return partial(_text, leaf)
    if leaf.type.logical == "decimal":
        return partial(_decimal, leaf, writer if writer.logical == "decimal" else leaf.type)
    return _number(leaf, writer)


def _number(leaf: Leaf, writer: Node) -> Change | None:
    """Numbers and times, and whatever else a cast makes right."""
    narrow = writer.kind == "int"
    ours, theirs = leaf.type.logical.rpartition("-")[2], writer.logical.rpartition("-")[2]
    rescaled = ours in _UNIT and theirs in _UNIT and ours != theirs and "time" in leaf.type.logical
    casts: list[pl.DataType] = [] if leaf.dtype == RAW[writer.kind] else [leaf.dtype]
    if writer.kind in ("int", "long") and leaf.dtype == pl.Float32():
        casts.insert(0, pl.Float64())  # as the strict path: a Python float first
    if leaf.dtype == pl.Date():
        casts.insert(0, pl.Int32())
    if not narrow and not rescaled and not casts:
        return None

    def change(series: pl.Series, wrong: list[Wrong]) -> pl.Series:
        if narrow:
            _range(leaf, series, wrong)
        if rescaled:
            series = _rescale(leaf, _UNIT[ours], _UNIT[theirs], series, wrong)
        for dtype in casts:
            series = series.cast(dtype, strict=False)
        return series

    return change


def _range(leaf: Leaf, series: pl.Series, wrong: list[Wrong]) -> None:
    least, most = series.min(), series.max()
    if isinstance(least, int) and isinstance(most, int) and (least < INT_LEAST or most > INT_MOST):
        mask = ~series.is_between(INT_LEAST, INT_MOST).fill_null(True)
        wrong.append((mask.to_numpy(), "malformed", f"{leaf.name} is an int outside 32 bits"))


def _rescale(leaf: Leaf, ours: int, theirs: int, series: pl.Series, wrong: list[Wrong]) -> pl.Series:
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


def _text(leaf: Leaf, series: pl.Series, wrong: list[Wrong]) -> pl.Series:
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


def _enum(leaf: Leaf, symbols: pl.Series, series: pl.Series, wrong: list[Wrong]) -> pl.Series:
    """Indices of the writer's symbols as the reader's enum; an unknown symbol becomes its default, or is wrong."""
    least, most = series.min(), series.max()
    if isinstance(least, int) and isinstance(most, int) and (least < 0 or most >= len(symbols)):
        outside = ~series.is_between(0, len(symbols) - 1).fill_null(True)
        wrong.append((outside.to_numpy(), "malformed", f"{leaf.name} has no symbol of this index"))
        series = series.set(outside, None)
    column = symbols[series.cast(pl.UInt32())]
    if symbols.null_count() and column.null_count() != series.null_count():
        mask = (column.is_null() & series.is_not_null()).to_numpy()
        wrong.append((mask, "unresolvable", f"{leaf.name} is a symbol that the deployment's enum does not have"))
    return column


def lookup(leaf: Leaf, writer: Node) -> pl.Series:
    """The reader's symbol for each of the writer's, null where it has none."""
    known = set(leaf.type.symbols)
    default = leaf.type.default if leaf.type.default in known else None
    return pl.Series([symbol if symbol in known else default for symbol in writer.symbols], dtype=leaf.dtype)


def _array(leaf: Leaf, writer: Node, series: pl.Series, wrong: list[Wrong]) -> pl.Series:
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


def _decimal(leaf: Leaf, form: Node, series: pl.Series, wrong: list[Wrong]) -> pl.Series:
    """The double nearest to the exact decimal; digits beyond the declared precision are wrong."""
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
        return pl.Series(values, dtype=pl.Float64()).cast(pl.Float32(), strict=False)
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
