"""The inference record: what made it, where its event came from, the model's outputs and the echoed event fields.

A batch is encoded as one Avro block by polars and cut into messages, so no Python code runs per field. What is the same
for many rows (the lineage) stands first in the record, is encoded once per batch, and is put in front of every datum.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

import fastavro
import numpy as np
import polars as pl

from schemas.errors import InferenceRefused
from schemas.longs import read_long, write_long
from schemas.values import LINEAGE, Lineage, OutputField
from schemas.wire import fingerprint as fingerprint_of
from schemas.wire import single_object_header

SYNC = 16  # bytes of the marker that ends an Avro container's header and each of its blocks
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_CONSTANTS = {"revision": "long", "propensity": "double"}  # of the lineage; the others are strings
_DOUBLES = pl.List(pl.Float64())
_TIMESTAMP = {"type": "long", "logicalType": "timestamp-millis"}
_UNITS = {"ms": "millis", "us": "micros", "ns": "nanos"}
_NUMBERS: dict[str, tuple[pl.DataType, str]] = {
    "double": (pl.Float64(), "double"),
    "float": (pl.Float32(), "float"),
    "long": (pl.Int64(), "long"),
    "int": (pl.Int32(), "int"),
    "boolean": (pl.Boolean(), "boolean"),
    "string": (pl.String(), "string"),
}
_WRITTEN_AS: dict[type[pl.DataType], tuple[pl.DataType, str]] = {
    **{dtype.__class__: (dtype, avro) for dtype, avro in _NUMBERS.values()},
    pl.Binary: (pl.Binary(), "bytes"),
    pl.Enum: (pl.String(), "string"),
    pl.Categorical: (pl.String(), "string"),
    pl.Int8: (pl.Int32(), "int"),
    pl.Int16: (pl.Int32(), "int"),
    pl.UInt8: (pl.Int32(), "int"),
    pl.UInt16: (pl.Int32(), "int"),
    pl.UInt32: (pl.Int64(), "long"),
}


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: name and dtype (`source`) in frames, the dtype polars writes, field name and type in records."""

    name: str
    field: str
    source: pl.DataType
    dtype: pl.DataType
    avro: Any
    properties: dict[str, Any]

    def declaration(self) -> dict[str, Any]:
        return {"name": self.field, "type": ["null", self.avro], "default": None, **self.properties}


def _written_as(dtype: pl.DataType) -> tuple[pl.DataType, Any] | None:
    """Return the dtype that polars can write and its Avro type with the same bytes; None where there is none."""
    if isinstance(dtype, pl.List | pl.Array):
        inner = _written_as(dtype.inner if isinstance(dtype.inner, pl.DataType) else dtype.inner())
        return inner and (pl.List(inner[0]), {"type": "array", "items": ["null", inner[1]]})
    if isinstance(dtype, pl.Date):
        return pl.Date(), {"type": "int", "logicalType": "date"}
    if isinstance(dtype, pl.Datetime):
        kind = "timestamp" if dtype.time_zone else "local-timestamp"
        return pl.Int64(), {"type": "long", "logicalType": f"{kind}-{_UNITS[dtype.time_unit]}"}
    return _WRITTEN_AS.get(type(dtype))


def _output(field: OutputField) -> _Column:
    properties: dict[str, Any] = {"penstock.role": "output", "penstock.kind": field.kind}
    if field.classes:
        properties["classes"] = list(field.classes)
    if field.kind in ("vector", "map"):
        items = {"type": "array", "items": ["null", "double"]}
        return _Column(field.name, field.name, _DOUBLES, _DOUBLES, items, properties)
    if field.kind not in ("scalar", "label") or field.avro not in _NUMBERS:
        raise InferenceRefused(
            f"output {field.name!r}: kind {field.kind!r} of type {field.avro!r} cannot be published; "
            f"kinds are scalar, label, vector, map; types are {', '.join(_NUMBERS)}"
        )
    dtype, avro = _NUMBERS[field.avro]
    return _Column(field.name, field.name, dtype, dtype, avro, properties)


def _echo(name: str, dtype: pl.DataType) -> _Column:
    written = _written_as(dtype)
    if written is None:
        raise InferenceRefused(f"echo {name!r}: values of {dtype} cannot be published; take it out of output.echo")
    field = name.replace(".", "_")
    properties = {"penstock.role": "echo"} | ({} if field == name else {"penstock.path": name})
    return _Column(name, field, dtype, *written, properties)


def _columns(outputs: Sequence[OutputField], echo: Sequence[tuple[str, pl.DataType]]) -> tuple[_Column, ...]:
    return (
        _Column("source_partition", "source_partition", pl.Int32(), pl.Int32(), "int", {}),
        _Column("source_offset", "source_offset", pl.Int64(), pl.Int64(), "long", {}),
        _Column("event_time", "event_time", pl.Datetime("ms", "UTC"), pl.Int64(), _TIMESTAMP, {}),
        *map(_output, outputs),
        *(_echo(name, dtype) for name, dtype in echo),
    )


def _refuse_names(columns: Sequence[_Column]) -> None:
    """Raise InferenceRefused with every name that is no Avro name or stands twice."""
    problems = []
    owner: dict[str, str] = dict.fromkeys(LINEAGE, "the lineage")
    for column in columns:
        role = column.properties.get("penstock.role", "lineage")
        what = "the lineage" if role == "lineage" else f"{role} {column.name!r}"
        if not NAME.fullmatch(column.field):
            problems.append(f"{what}: not a name that Avro allows (letters, digits, _); rename it")
        if column.field in owner:
            problems.append(f"{what}: {owner[column.field]} has the name {column.field!r} too; rename or leave out one")
        owner.setdefault(column.field, what)
    if problems:
        raise InferenceRefused("; ".join(problems))


def _schema(deployment: str, columns: Sequence[_Column]) -> dict[str, Any]:
    """Return the record's schema.

    Logical types, classes and roles are no part of a fingerprint, yet a reader goes wrong without them: a digest of
    them stands in the record's name, so that two schemas that differ only there have two fingerprints.
    """
    constants = [{"name": name, "type": _CONSTANTS.get(name, "string")} for name in LINEAGE]
    fields = [*constants, *(column.declaration() for column in columns)]
    digest = sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
    words = re.sub(r"[^A-Za-z0-9_]", "_", deployment)
    return {
        "type": "record",
        "name": f"Inference_{digest}",
        "namespace": f"penstock.{words if NAME.fullmatch(words) else '_' + words}",
        "doc": f"An inference of the deployment {deployment}.",
        "fields": fields,
    }


class InferenceCodec:
    """Frames of scored rows <-> inference records, for one set of outputs and echoed fields.

    columns: the frame's columns in order. dtypes: what `encode` takes without a cast; others are cast, strictly.
    Raises InferenceRefused naming every clash of names and every type that cannot be published.
    """

    def __init__(
        self, deployment: str, outputs: Sequence[OutputField], echo: Sequence[tuple[str, pl.DataType]]
    ) -> None:
        self._parts = parts = _columns(outputs, echo)
        _refuse_names(parts)
        self.columns: tuple[str, ...] = tuple(column.name for column in parts)
        self.dtypes: dict[str, pl.DataType] = {column.name: column.dtype for column in parts}
        self.schema: dict[str, Any] = _schema(deployment, parts)
        self.fingerprint: str = fingerprint_of(self.schema)
        self._header = single_object_header(self.fingerprint)
        self._parsed = fastavro.parse_schema(self.schema)
        self._names = list(self.columns)
        self._frame_schema = pl.Schema(self.dtypes)

    def prefix(self, lineage: Lineage) -> bytes:
        """Return the bytes in front of every datum of a batch: the single-object header and the constant fields."""
        out = [self._header]
        for name in LINEAGE:
            value = getattr(lineage, name)
            if isinstance(value, int):
                out.append(write_long(value))
            elif isinstance(value, float):
                out.append(struct.pack("<d", value))
            else:
                text = value.encode()
                out += (write_long(len(text)), text)
        return b"".join(out)

    def encode(self, frame: pl.DataFrame, prefixes: bytes | Sequence[bytes]) -> list[bytes]:
        """Return one message a row: the row's prefix (one for all, or one each) and its datum.

        Raises InferenceRefused when the frame has other columns or values that do not fit their type.
        """
        if frame.schema != self._frame_schema:
            frame = self._cast(frame)
        if frame.height == 0:
            return []
        datums = _datums(frame)
        if isinstance(prefixes, bytes):
            return [prefixes + datum for datum in datums]
        return [prefix + datum for prefix, datum in zip(prefixes, datums, strict=True)]

    def decode(self, value: bytes) -> dict[str, Any]:
        """Return the record as fastavro reads it. For tests and tools: one message at a time."""
        head = len(self._header)
        if value[:head] != self._header:
            found, wanted = value[:head].hex(), self._header.hex()
            raise InferenceRefused(f"not an inference of this schema: begins with {found}, not {wanted}")
        source = io.BytesIO(value[head:])
        record = cast(dict[str, Any], fastavro.schemaless_reader(source, self._parsed, None))
        if source.read(1):
            raise InferenceRefused("an inference with trailing bytes")
        return record

    def _cast(self, frame: pl.DataFrame) -> pl.DataFrame:
        if frame.columns != self._names:
            raise InferenceRefused(f"the frame has the columns {frame.columns}, an inference needs {self._names}")
        return pl.DataFrame([_cast(frame[part.name], part) for part in self._parts])


def _fits(have: pl.DataType, want: pl.DataType) -> bool:
    """Whether a cast keeps what a value means: no number cut to an integer, nothing turned into text."""
    if isinstance(have, pl.List | pl.Array) and isinstance(want, pl.List | pl.Array):
        return _fits(cast(pl.DataType, have.inner), cast(pl.DataType, want.inner))
    if isinstance(want, pl.String | pl.Enum | pl.Categorical):
        return isinstance(have, pl.String | pl.Enum | pl.Categorical | pl.Null)
    if isinstance(want, pl.Datetime):
        return isinstance(have, pl.Datetime) and (have.time_zone is None) == (want.time_zone is None)
    if want.is_float():
        return have.is_numeric() or isinstance(have, pl.Null)
    return type(have) is type(want) or isinstance(have, pl.Null) or (want.is_integer() and have.is_integer())


def _cast(column: pl.Series, part: _Column) -> pl.Series:
    """Return the column as polars can write it. Raises InferenceRefused when that would change a value."""
    if column.dtype == part.dtype:
        return column
    problem = "that would change what it means"
    if _fits(column.dtype, part.source):
        try:
            return column.cast(part.source, strict=True).cast(part.dtype, strict=True)
        except pl.exceptions.PolarsError as error:
            problem = str(error)
    raise InferenceRefused(f"column {part.name!r}: {column.dtype} cannot be written as {part.source}: {problem}")


def _datums(frame: pl.DataFrame, entropy: Callable[[int], bytes] = os.urandom) -> list[bytes]:
    """Return the Avro datum of each row: one block written by polars, cut where a random number ends each row.

    Events and models cannot know the number. Should it stand in a datum by chance, the count shows: another is drawn.
    """
    while True:
        nonce = bytearray(entropy(8))
        nonce[7] &= 0xBF  # not all bits of the exponent set: never a NaN, whose bits a copy may change
        end = pl.Series("__end", np.frombuffer(nonce, "<f8")).new_from_index(0, frame.height)
        out = io.BytesIO()
        frame.hstack([end]).rechunk().write_avro(out)
        datums = _body(out.getvalue()).split(b"\x02" + nonce)  # the branch of ["null", "double"], then the double
        if len(datums) == frame.height + 1 and not datums.pop():
            return datums


def _body(container: bytes) -> bytes:
    """Return the content of a container's one block."""
    marker = container[-SYNC:]
    at = container.index(marker) + SYNC
    _, at = read_long(container, at)  # the number of rows
    _, at = read_long(container, at)  # and of bytes
    return container[at:-SYNC]


__all__ = ["LINEAGE", "InferenceCodec", "Lineage"]
