"""Columns of samples and labels as they stand in records: bytes for whole columns, so that no value costs a call.

A column is a polars series of numbers, booleans, text, or vectors of one width. What has no missing values keeps its
type; integers and booleans with missing ones come back as doubles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models import frames, varint

Column = dict[str, Any]
Pack = Callable[[int, int], Column]
NUMBERS: dict[str, np.dtype[Any]] = {
    "double": np.dtype("<f8"),
    "float": np.dtype("<f4"),
    "long": np.dtype("<i8"),
    "boolean": np.dtype("?"),
}
LONGS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
SCALARS = (pl.Float64, pl.Float32, *LONGS, pl.Boolean)
TEXTS: tuple[type[pl.DataType], ...] = (pl.String, pl.Enum, pl.Categorical)


def fits(dtype: pl.DataType) -> bool:
    """Say whether a column of this type can be packed."""
    if isinstance(dtype, pl.List | pl.Array):
        return dtype.inner in SCALARS
    return dtype in (*SCALARS, *TEXTS)


def packer(name: str, series: pl.Series) -> Pack:
    """Return what packs rows from one to another one. Raises ValueError for a type that does not fit."""
    dtype = series.dtype
    if not fits(dtype):
        raise ValueError(f"{name}: values of {dtype} cannot be sampled")
    if isinstance(dtype, pl.List | pl.Array):
        return _vectors(name, series)
    if dtype in TEXTS:
        return _texts(name, series)
    if series.null_count() and not dtype.is_float():
        series, dtype = series.cast(pl.Float64), pl.Float64()
    kind = "boolean" if dtype == pl.Boolean else "float" if dtype == pl.Float32 else "double"
    if dtype in LONGS:
        kind = "long"
    values = series.to_numpy().astype(NUMBERS[kind], copy=False)
    return lambda start, end: _column(name, kind, values[start:end].tobytes())


def pack(name: str, series: pl.Series) -> Column:
    """Return the column as a record's. Raises ValueError for a type that does not fit."""
    return packer(name, series)(0, len(series))


def unpack(column: Mapping[str, Any], rows: int) -> pl.Series:
    """Return the column of a record of so many rows. Raises ValueError where its bytes are not that."""
    name, kind, values, width = column["name"], column["kind"], column["values"], column["width"]
    if width < 0 or (width != 1 and kind != "double"):
        raise ValueError(f"{name}: a column of kind {kind} cannot be {width} wide")
    if kind == "text":
        return _text_of(name, _counted(name, varint.unpack(values), rows), column["texts"])
    if kind not in NUMBERS:
        raise ValueError(f"{name}: there are no columns of kind {kind!r}")
    if len(values) != rows * width * NUMBERS[kind].itemsize:
        raise ValueError(f"{name}: {len(values)} bytes are not {rows} x {width} values of kind {kind}")
    if kind == "boolean" and values.translate(None, b"\0\1"):
        raise ValueError(f"{name}: a byte is neither 0 nor 1")
    found = np.frombuffer(values, NUMBERS[kind])
    if width == 1:
        return pl.Series(name, found)
    return pl.Series(name, found.reshape(rows, width).tolist(), pl.List(pl.Float64))


def pack_keys(keys: Sequence[bytes]) -> dict[str, bytes]:
    """Return the fields of a record that hold the keys."""
    sizes = np.fromiter(map(len, keys), np.int64, len(keys))
    return {"key_sizes": varint.pack(sizes), "keys": b"".join(keys)}


def unpack_keys(record: Mapping[str, Any]) -> list[bytes]:
    """Return the keys of a record. Raises ValueError where their bytes do not add up."""
    whole = record["keys"]
    sizes = _counted("keys", varint.unpack(record["key_sizes"]), record["rows"])
    ends = np.cumsum(sizes)
    if (int(ends[-1]) if len(ends) else 0) != len(whole) or (sizes > len(whole)).any():
        raise ValueError(f"keys: {len(whole)} bytes are not what their sizes add up to")
    return [whole[start:end] for start, end in zip((ends - sizes).tolist(), ends.tolist(), strict=True)]


def unpack_longs(record: Mapping[str, Any], name: str) -> npt.NDArray[np.int64]:
    """Return a field of deltas of a record. Raises ValueError where it has not a value for each row."""
    return _counted(name, varint.unpack_deltas(record[name]), record["rows"])


def _column(name: str, kind: str, values: bytes, width: int = 1, texts: Sequence[str] = ()) -> Column:
    return {"name": name, "kind": kind, "width": width, "values": values, "texts": texts}


def _vectors(name: str, series: pl.Series) -> Pack:
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    lengths = series.list.len().fill_null(0)
    width = int(lengths.max() or 0)  # type: ignore[arg-type]
    if int(lengths.min() or 0) != width:  # type: ignore[arg-type]
        places = pl.Series([list(range(width))]).new_from_index(0, len(series))
        series = series.fill_null([]).list.gather(places, null_on_oob=True)
    flat = series.list.explode() if width else pl.Series([], dtype=pl.Float64)
    values = flat.cast(pl.Float64).to_numpy().astype(NUMBERS["double"], copy=False)
    return lambda start, end: _column(name, "double", values[start * width : end * width].tobytes(), width)


def _texts(name: str, series: pl.Series) -> Pack:
    """Look at the texts once; each part has only those that it holds."""
    series = series.cast(pl.String)
    texts = series.unique(maintain_order=True).drop_nulls()
    codes = series.cast(pl.Enum(texts)).to_physical().cast(pl.Int64)
    places = (codes.fill_null(-1) if codes.null_count() else codes).to_numpy() + 1

    def part(start: int, end: int) -> Column:
        own, held = places[start:end], np.zeros(len(texts) + 1, np.int64)
        held[own] = 1
        held[0] = 0  # missing
        used = (np.flatnonzero(held) - 1).tolist()
        return _column(name, "text", varint.pack(np.cumsum(held)[own]), texts=[listed[at] for at in used])

    listed = texts.to_list()
    return part


def _text_of(name: str, codes: npt.NDArray[np.int64], texts: Sequence[str]) -> pl.Series:
    if len(codes) and int(codes.max()) > len(texts):
        raise ValueError(f"{name}: a text of {len(texts)} has the number {int(codes.max())}")
    return frames.chosen(pl.Series(name, [None, *texts], pl.String), codes)


def _counted(name: str, values: npt.NDArray[np.int64], rows: int) -> npt.NDArray[np.int64]:
    if len(values) != rows:
        raise ValueError(f"{name}: {len(values)} values are not {rows}")
    return values


def unpack_parts(columns: Sequence[Mapping[str, Any]], rows: npt.NDArray[np.int64]) -> pl.Series:
    """Return a column of many records, of one name, kind and width, end to end. rows: of each, shape (records,).

    Raises ValueError where the bytes of any are not that.
    """
    first, values = columns[0], [column["values"] for column in columns]
    name, kind, width = first["name"], first["kind"], first["width"]
    if kind == "text" and width == 1:
        texts = np.fromiter((len(column["texts"]) for column in columns), np.int64, len(columns))
        codes, most = varint.unpack_parts(values, rows), np.repeat(texts, rows)
        if (codes > most).any():
            raise ValueError(f"{name}: a text has a number beyond those there are")
        codes += np.repeat(np.cumsum(texts) - texts, rows) * (codes > 0)
        return _text_of(name, codes, [text for column in columns for text in column["texts"]])
    size = width * NUMBERS[kind].itemsize if kind in NUMBERS else 0
    if any(len(each) != count * size for each, count in zip(values, rows.tolist(), strict=True)):
        raise ValueError(f"{name}: a record has not the bytes of its rows")
    return unpack({**first, "values": b"".join(values)}, int(rows.sum()))


def unpack_keys_parts(found: Sequence[Mapping[str, Any]], rows: npt.NDArray[np.int64]) -> list[bytes]:
    """Return the keys of many records end to end. Raises ValueError where the bytes of any do not add up."""
    sizes = varint.unpack_parts([record["key_sizes"] for record in found], rows)
    lengths = np.fromiter((len(record["keys"]) for record in found), np.int64, len(found))
    bounds, last = np.concatenate(([0], np.cumsum(sizes))), np.cumsum(rows)
    if (sizes > np.repeat(lengths, rows)).any() or (bounds[last] - bounds[last - rows] != lengths).any():
        raise ValueError("keys: the bytes of a record are not what their sizes add up to")
    whole, places = b"".join(record["keys"] for record in found), bounds.tolist()
    return [whole[start:end] for start, end in pairwise(places)]
