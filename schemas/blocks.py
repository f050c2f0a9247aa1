"""A batch of messages as one frame: concatenated Avro datums are the body of one container block, read at once in Rust.

Behind every datum stands a nonce that no producer can know. It comes back intact on every row only if each datum ended
exactly where its message ended: neighbours cannot mix. Before that, `schemas.screen` takes out the messages that
are not well formed, so that one bad message does not cost the batch. Records of doubles, floats and booleans alone
need no reader at all: every message has the same width and the batch is a matrix.

The frame holds physical columns `c0`, `c1`, ...: int, enum and long are Int64, dates and timestamps too; nullable
records stay structs. `schemas.columns` turns them into the deployment's columns.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.columns import RAW
from schemas.errors import BlockFailed
from schemas.longs import write_long
from schemas.nodes import Node
from schemas.resolve import NeedsStrict
from schemas.screen import PADDING, Mask, compile_screen

END = "end"
_SYNC = b"S" * PADDING  # behind the last datum
_NONCE = 8
_MATRIX = {"double": "<f8", "float": "<f4", "boolean": "?"}


@dataclass
class Physical:
    """The writer's record as the block reader sees it: same bytes, fewer types, names `c0`, `c1`, ..."""

    fields: list[dict[str, Any]] = field(default_factory=list)
    dtypes: dict[str, pl.DataType] = field(default_factory=dict)
    paths: dict[tuple[str, ...], tuple[str, ...]] = field(
        default_factory=dict
    )  # writer's field -> column, struct fields
    kinds: list[Node] = field(default_factory=list)
    count: int = 0

    def fresh(self) -> str:
        self.count += 1
        return f"c{self.count - 1}"

    def schema(self) -> dict[str, Any]:
        return {"type": "record", "name": "Block", "fields": self.fields}


def physical(writer: Node) -> Physical:
    """Flatten a writer's record. Raises NeedsStrict for what the block reader does not know."""
    made = Physical()
    _flatten(made, writer, (), (), made.fields, made.dtypes)
    return made


def _flatten(
    made: Physical,
    record: Node,
    at: tuple[str, ...],
    column: tuple[str, ...],
    fields: list[dict[str, Any]],
    dtypes: dict[str, pl.DataType],
) -> None:
    for part in record.fields:
        here = (*at, part.name)
        if part.type.kind == "record":
            _flatten(made, part.type, here, column, fields, dtypes)
        elif part.type.kind != "null":
            name = made.fresh()
            avro, dtype = _type(made, part.type, here, (*column, name))
            made.paths[here] = (*column, name)
            made.kinds.append(part.type)
            fields.append({"name": name, "type": avro})
            dtypes[name] = dtype


def _type(made: Physical, node: Node, at: tuple[str, ...], column: tuple[str, ...]) -> tuple[Any, pl.DataType]:
    if node.kind == "union":
        inner, _ = node.nullable()
        if inner.kind in ("union", "null") or len(node.branches) != 2:
            raise NeedsStrict
        avro, dtype = _type(made, inner, at, column)
        return ["null" if branch.kind == "null" else avro for branch in node.branches], dtype
    if node.kind == "record":
        fields: list[dict[str, Any]] = []
        dtypes: dict[str, pl.DataType] = {}
        _flatten(made, node, at, column, fields, dtypes)
        if not fields:
            raise NeedsStrict
        return {"type": "record", "name": f"R{made.fresh()}", "fields": fields}, pl.Struct(dtypes)
    if node.kind == "array" and node.items is not None:
        if node.items.kind in ("record", "array") or node.items.nullable()[0].kind in ("record", "array"):
            raise NeedsStrict
        avro, dtype = _type(made, node.items, at, column)
        return {"type": "array", "items": avro}, pl.List(dtype)
    if node.kind == "fixed" and node.size:
        return {"type": "fixed", "name": f"F{made.fresh()}", "size": node.size}, pl.Binary()
    if node.kind not in RAW or node.kind == "fixed":
        raise NeedsStrict
    return {"int": "long", "enum": "long"}.get(node.kind, node.kind), RAW[node.kind]


class BlockCodec:
    """Decodes batches of one writer schema."""

    def __init__(self, writer: Node) -> None:
        self.physical = physical(writer)
        self._writer = writer
        self._texts: BlockCodec | None = None  # built when it is first needed
        self._screen = compile_screen(writer)
        self._width = writer.least
        self._matrix = self._structure() if self.physical.kinds else None
        self._container = self._container_header()

    def decode(self, datums: list[bytes]) -> tuple[pl.DataFrame, npt.NDArray[np.int64]]:
        """Frame of the plainly good messages and the indices of the others. Raises BlockFailed."""
        if not datums:
            return self.frame([]), np.empty(0, dtype=np.int64)
        if self._matrix is not None:
            return self._decode_matrix(datums, self._matrix)
        return self._decode_block(datums)

    def _structure(self) -> np.dtype[Any] | None:
        """The row of a matrix, where every message has the same width; None otherwise."""
        formats = [_MATRIX.get(node.kind) for node in self.physical.kinds]
        if None in formats:
            return None
        sizes = np.cumsum([0, *(np.dtype(part).itemsize for part in formats if part)])
        spec = {"names": list(self.physical.dtypes), "formats": formats, "offsets": list(sizes[:-1])}
        return np.dtype({**spec, "itemsize": int(sizes[-1])})  # type: ignore[call-overload, no-any-return]

    def _decode_matrix(self, datums: list[bytes], row: np.dtype[Any]) -> tuple[pl.DataFrame, npt.NDArray[np.int64]]:
        good = np.fromiter(map(len, datums), dtype=np.int64, count=len(datums)) == self._width
        if not good.all():
            datums = [datum for datum, fits in zip(datums, good.tolist(), strict=True) if fits]
        table = np.frombuffer(b"".join(datums), dtype=np.uint8).reshape(len(datums), self._width)
        bits = [i for i, node in enumerate(self.physical.kinds) if node.kind == "boolean"]
        if bits:
            offsets = [row.fields[f"c{i}"][1] for i in bits] if row.fields else []
            fine = (table[:, offsets] <= 1).all(axis=1)
            if not fine.all():
                table = np.ascontiguousarray(table[fine])
                good[np.flatnonzero(good)[~fine]] = False
        return self._columns(table, row), np.flatnonzero(~good)

    def _columns(self, table: npt.NDArray[np.uint8], row: np.dtype[Any]) -> pl.DataFrame:
        names = self.physical.dtypes
        if all(node.kind == "double" for node in self.physical.kinds):
            height = len(table)
            flat = pl.Series(table.view("<f8").T.reshape(-1))
            # One series cut into columns: to make a series of an array costs several times as much as to cut one.
            columns = [flat.slice(i * height, height).alias(name) for i, name in enumerate(names)]
            return pl.DataFrame(height=height).hstack(columns)
        rows = table.reshape(-1).view(row)
        return pl.DataFrame([pl.Series(name, np.ascontiguousarray(rows[name])) for name in names])

    def _container_header(self) -> bytes:
        fields = [*self.physical.fields, {"name": END, "type": "double"}]
        out = io.BytesIO()
        fastavro.writer(out, {"type": "record", "name": "Block", "fields": fields}, [], sync_marker=_SYNC)
        return out.getvalue()

    def _decode_block(self, datums: list[bytes]) -> tuple[pl.DataFrame, npt.NDArray[np.int64]]:
        nonce = _nonce()
        block = self._block(datums, nonce)
        good = self._plain(datums, block)
        bad = np.flatnonzero(~good)
        if len(bad):
            datums = [datum for datum, fits in zip(datums, good.tolist(), strict=True) if fits]
            block = self._block(datums, nonce)
        return self._read(len(datums), block, nonce), bad

    def _block(self, datums: list[bytes], nonce: bytes) -> bytes:
        """A container of one block: the datums with the nonce behind each."""
        body = nonce.join([*datums, _SYNC])
        return b"".join((self._container, write_long(len(datums)), write_long(len(body) - len(_SYNC)), body))

    def _plain(self, datums: list[bytes], block: bytes) -> Mask:
        """Mask of the well-formed datums. They are looked at where they stand in the block, which saves a copy."""
        sizes = np.fromiter(map(len, datums), dtype=np.int64, count=len(datums))
        ends = np.cumsum(sizes + _NONCE) - _NONCE
        ends += len(block) - len(_SYNC) - _NONCE - ends[-1]
        return self._screen(block, ends - sizes, ends)

    def well_formed(self, datums: list[bytes]) -> Mask:
        """Mask of the messages that are plainly good but for the encoding of their text."""
        return self._plain(datums, self._block(datums, bytes(_NONCE)))

    def _read(self, count: int, block: bytes, nonce: bytes) -> pl.DataFrame:
        if not count or not self.physical.fields:
            return pl.DataFrame(schema=self.physical.dtypes) if not count else pl.DataFrame(height=count)
        frame = _guarded(lambda: pl.read_avro(io.BytesIO(block)))
        if frame.drop_in_place(END).to_numpy().tobytes() != nonce * count:
            raise BlockFailed("a datum does not end where its message ends")
        return frame

    def not_text(self, datums: list[bytes]) -> npt.NDArray[np.int64]:
        """Messages whose text is not UTF-8, found by reading top-level text as bytes. Raises BlockFailed."""
        if self._texts is None:
            self._texts = BlockCodec(_texts_as_bytes(self._writer))
        frame, _ = self._texts.decode(datums)
        if len(frame) != len(datums):
            raise BlockFailed("some messages are not well formed")
        wrong: set[int] = set()
        for series in frame.get_columns():
            if series.dtype == pl.Binary() and self.physical.dtypes[series.name] == pl.String():
                wrong.update(row for row, raw in enumerate(series.to_list()) if raw is not None and not _is_text(raw))
        return np.array(sorted(wrong), dtype=np.int64)

    def frame(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        """Physical frame of records that the strict path read with the physical schema."""
        if not self.physical.fields:
            return pl.DataFrame(height=len(rows))
        series = [pl.Series(n, [row[n] for row in rows], dtype=t) for n, t in self.physical.dtypes.items()]
        return pl.DataFrame(series)


def _texts_as_bytes(node: Node) -> Node:
    """The same bytes with bytes instead of strings, outside arrays."""
    if node.kind == "string":
        return replace(node, kind="bytes", logical="")
    fields = tuple(replace(part, type=_texts_as_bytes(part.type)) for part in node.fields)
    return replace(node, fields=fields, branches=tuple(map(_texts_as_bytes, node.branches)))


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _guarded(read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """Errors and panics of the block reader as BlockFailed; a PanicException is not even an Exception."""
    try:
        return read()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, OverflowError) as error:
        raise BlockFailed(f"{type(error).__name__}: {error}") from None


def _nonce() -> bytes:
    """Eight unpredictable bytes that are an ordinary double (not NaN, whose bits a copy may change)."""
    raw = bytearray(secrets.token_bytes(_NONCE))
    raw[7] = (raw[7] & 0x80) | 0x3F
    return bytes(raw)


__all__ = ["BlockCodec", "Mask", "physical"]
