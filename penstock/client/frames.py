"""Whole frames as messages: columns as Avro blocks written by polars where they are plain, else fastavro row by row.

polars writes every field as `["null", T]`: neighbours of that shape share a block; a field that is never null has one
of its own, from which the branch of the union falls out together with the boundaries.
"""

from __future__ import annotations

import io
import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.client.errors import ClientError, EventInvalid
from penstock.client.fitting import unknown_field
from schemas.longs import read_long

if TYPE_CHECKING:
    import polars as pl

    from penstock.client.events import EventEncoder

ROWS = 8192  # per block: bounds the memory, and is past the point where more rows are any faster
_BOUNDARY = "__end"
_INTEGERS = {"int": "Int32", "long": "Int64"}
_SIMPLE = {
    "boolean": "Boolean",
    "string": "String",
    "bytes": "Binary",
    "float": "Float32",
    "double": "Float64",
    **_INTEGERS,
}
_INSTANTS = {"timestamp-millis": "ms", "timestamp-micros": "us"}


def encode(encoder: EventEncoder, frame: Any, first_row: int = 0) -> list[bytes]:
    """One message per row, in row order.

    Raises EventInvalid, with the row counted from `first_row`, before anything is returned; ClientError for another
    kind of object.
    """
    kind = type(frame).__module__.split(".")[0]
    if kind == "pandas":
        return encoder.encode_many(_pandas_rows(encoder, frame), first_row)
    if kind != "polars":
        raise ClientError(
            f"expected a polars or pandas DataFrame, found {type(frame).__name__}; use send_many for rows"
        )
    if hasattr(frame, "collect"):
        frame = frame.collect()
    fitted = fit(encoder, frame, first_row)
    if fitted is None:
        return encoder.encode_many(_dicts(frame), first_row)
    if any(isinstance(field["type"], list) and not _null_first(field["type"]) for field in encoder.fields):
        return [encoder.write(row) for row in _named_rows(_symbols(encoder, fitted))]
    nullable = [_null_first(field["type"]) for field in encoder.fields]
    return [value for part in fitted.iter_slices(ROWS) for value in encode_columns(part, nullable, encoder.header)]


def encode_columns(frame: pl.DataFrame, nullable: Sequence[bool], prefix: bytes) -> list[bytes]:
    """`prefix` + Avro datum per row: neighbouring nullable columns as one block, every other as one of its own."""
    parts: list[list[bytes]] = []
    names = list(zip(frame.columns, nullable, strict=True))
    for null, group in itertools.groupby(names, key=lambda pair: pair[1]):
        columns = [name for name, _ in group]
        parts += [_block(frame[columns], b"")] if null else [_block(frame[[name]], b"\x02") for name in columns]
    return list(map(b"".join, zip(itertools.repeat(prefix), *parts, strict=False)))


def _block(frame: pl.DataFrame, branch: bytes) -> list[bytes]:
    """The rows as Avro datums, through one Avro block in which every column is `["null", T]`.

    branch: what every row begins with and the schema does not have: the branch of the union, for a column without
    nulls. A random boundary behind every row keeps rows apart.
    """
    import polars as pl

    if not len(frame):
        return []
    nonce = secrets.token_bytes(8)
    out = io.BytesIO()
    frame.with_columns(pl.lit(nonce).alias(_BOUNDARY)).rechunk().write_avro(out)
    data = out.getvalue()
    at = data.index(data[-16:]) + 16  # the sync marker ends the header and the block
    count, at = read_long(data, at)
    size, at = read_long(data, at)
    boundary = b"\x02\x10" + nonce  # branch 1 of the union, 8 bytes, the nonce
    datums = data[at + len(branch) : at + size - len(boundary)].split(boundary + branch)
    if not len(datums) == count == len(frame):  # the nonce is in the data: once in 2^64, and the next one is not
        return _block(frame, branch)
    return datums


def fit(encoder: EventEncoder, frame: pl.DataFrame, first_row: int = 0) -> pl.DataFrame | None:
    """The frame's columns in the schema's order with the schema's types (times as integers, enums as indices).

    None where a field is nested or otherwise not a plain column; EventInvalid where a value does not fit.
    """
    import polars as pl

    for name in frame.columns:
        if name not in encoder.record.fields:
            raise EventInvalid(name, None, "a column of the schema", found=unknown_field(name, encoder.record.fields))
    columns = []
    for field in encoder.fields:
        name, kind, nullable = field["name"], *_unwrap(field["type"])
        if kind is None:
            return None
        words = encoder.record.fields[name].words
        if name not in frame.columns:
            if "default" not in field and not nullable:
                raise EventInvalid(name, None, words, found="the column is missing")
            default = field.get("default")
            default = default.encode("latin-1") if kind == "bytes" and default is not None else default
            series = pl.Series(name, [default] * len(frame))
        else:
            series = frame[name]
        columns.append(_fit_column(series, kind, nullable, words, first_row))
    return pl.DataFrame(columns)


def _unwrap(kind: Any) -> tuple[Any, bool]:
    """(plain type, may be null); (None, ...) for what is not one plain type."""
    if isinstance(kind, list):
        branches = [branch for branch in kind if branch != "null"]
        if len(branches) != 1 or len(branches) == len(kind):
            return None, False
        return _unwrap(branches[0])[0], True
    if isinstance(kind, str):
        return (kind if kind in _SIMPLE else None), False
    if not isinstance(kind["type"], str):
        return _unwrap(kind["type"])
    logical = kind.get("logicalType")
    if kind["type"] == "enum" or logical in _INSTANTS or logical == "date":
        return kind, False
    return (kind["type"] if logical is None and kind["type"] in _SIMPLE else None), False


def _null_first(kind: Any) -> bool:
    return isinstance(kind, list) and len(kind) == 2 and kind[0] == "null"


def _dtype(kind: Any) -> Any:
    """The polars type that polars writes as this Avro type (an enum's index and times are integers on the wire)."""
    import polars as pl

    if isinstance(kind, str):
        return getattr(pl, _SIMPLE[kind])
    return pl.Int64 if kind.get("logicalType") in _INSTANTS else pl.Int32


def _fit_column(series: pl.Series, kind: Any, nullable: bool, words: str, first_row: int) -> pl.Series:
    import polars as pl

    if series.dtype == pl.Null:
        fitted = pl.Series(series.name, [None] * len(series), dtype=_dtype(kind))
    else:
        fitted = _convert(series, kind, words)
    wrong = fitted.is_null() if not nullable else fitted.is_null() & series.is_not_null()
    if wrong.any():
        row = wrong.to_list().index(True)
        raise EventInvalid(series.name, series[row], words, place=f"row {first_row + row}")
    return fitted


def _convert(series: pl.Series, kind: Any, words: str) -> pl.Series:
    """The column in the type to be written, null where a value does not fit; EventInvalid for a column that cannot."""
    import polars as pl

    have, want = series.dtype, _dtype(kind)
    if isinstance(kind, dict):
        if kind["type"] == "enum" and have in (pl.String, pl.Enum, pl.Categorical):
            symbols = pl.Series(kind["symbols"], dtype=pl.String)
            indices = pl.Series(range(len(symbols)), dtype=pl.Int32)
            return series.cast(pl.String).replace_strict(symbols, indices, default=None, return_dtype=pl.Int32)
        if have == pl.Datetime and kind.get("logicalType") in _INSTANTS:
            unit: Any = _INSTANTS[kind["logicalType"]]
            return series.dt.cast_time_unit(unit).to_physical().cast(pl.Int64)
        if have == pl.Date and kind.get("logicalType") == "date":
            return series.to_physical().cast(pl.Int32)
        if kind["type"] != "enum" and have.is_integer():
            return series.cast(want, strict=False)
    elif have == want:
        return series
    elif (kind in _INTEGERS or kind in ("float", "double")) and have.is_integer():
        return series.cast(want, strict=False)
    elif kind in ("float", "double") and have.is_float():
        fitted = series.cast(want, strict=False)
        return (
            pl.select(pl.when(fitted.is_infinite() & series.is_finite()).then(None).otherwise(fitted))
            .to_series()
            .alias(series.name)
        )
    elif kind == "string" and have in (pl.Enum, pl.Categorical):
        return series.cast(pl.String)
    raise EventInvalid(series.name, None, words, found=f"found a column of type {have}; cast it first")


def _symbols(encoder: EventEncoder, fitted: pl.DataFrame) -> pl.DataFrame:
    """Enum indices as the symbols that fastavro wants."""
    import polars as pl

    def symbols(name: str, kind: Any) -> pl.Expr:
        if not isinstance(kind, dict) or kind["type"] != "enum":
            return pl.col(name)
        return pl.col(name).replace_strict(list(range(len(kind["symbols"]))), kind["symbols"], return_dtype=pl.String)

    return fitted.select(symbols(field["name"], _unwrap(field["type"])[0]) for field in encoder.fields)


def _named_rows(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    names = frame.columns
    for part in frame.iter_slices(ROWS):
        for row in part.rows():
            yield dict(zip(names, row, strict=True))


def _dicts(frame: pl.DataFrame) -> Iterator[Mapping[str, Any]]:
    """Rows of a frame with nested columns, for the checks of single events."""
    import polars as pl

    zone = [
        pl.col(name).dt.replace_time_zone("UTC")
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is None
    ]
    return frame.with_columns(zone).iter_rows(named=True)


def _pandas_rows(encoder: EventEncoder, frame: Any) -> Iterator[Mapping[str, Any]]:
    """Rows of a pandas frame: its missing values become null, whole floats in a column of integers become integers."""
    columns = {}
    for name in frame.columns:
        column = frame[name]
        expected = encoder.record.fields.get(name)
        dtype = str(column.dtype)
        if dtype.startswith("datetime64") and getattr(column.dtype, "tz", None) is None:
            column = column.dt.tz_localize("UTC")
        if dtype.startswith("float") and expected is not None and expected.fits(1) and not expected.fits(1.5):
            whole = column.isna() | (column % 1 == 0)
            column = column.astype("Int64") if whole.all() else column
        columns[str(name)] = column.astype(object).where(column.notna(), None).tolist()
    names = list(columns)
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(names, row, strict=True))
