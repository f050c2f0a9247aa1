"""How messages of one writer schema become the deployment's columns: by blocks, value by value, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.blocks import BlockCodec
from schemas.columns import Columns, Wrong, series_of, without
from schemas.errors import BlockFailed, SchemaRefused
from schemas.nodes import Node, parse
from schemas.resolve import Leaf, NeedsStrict, Source, leaves, sources
from schemas.strict import StrictReader, Undecodable, plain_schema, whole
from schemas.values import Reason, Rejection
from schemas.wire import fingerprint

Rows = npt.NDArray[np.int64]
Part = tuple[pl.DataFrame, Rows, list[Rejection]]  # frame, index in `datums` of each row, rejections


class Plan(Protocol):
    """Decodes the messages of one writer schema, given without their framing."""

    @property
    def fingerprint(self) -> str: ...

    def decode(self, datums: list[bytes]) -> Part: ...


@dataclass(frozen=True)
class Refusal:
    """A writer schema that is not read: every message of it is rejected with the same words."""

    reason: Reason
    detail: str
    exception: str
    columns: Mapping[str, pl.DataType]
    fingerprint: str = ""

    def decode(self, datums: list[bytes]) -> Part:
        rejected = [Rejection(row, self.reason, self.detail, self.exception) for row in range(len(datums))]
        return pl.DataFrame(schema=self.columns), np.empty(0, dtype=np.int64), rejected


def plan_for(reader: Node, schema: Any, columns: Mapping[str, pl.DataType]) -> Plan:
    """The plan of a writer schema as it stands in JSON. Never raises for what the schema says."""
    try:
        writer = parse(schema)
        StrictReader(plain_schema(writer))
        name = fingerprint(schema)
    except SchemaRefused as error:
        return Refusal("refused_schema", str(error), "SchemaRefused", columns)
    except Exception as error:  # fastavro raises many kinds for a schema it dislikes
        return Refusal("refused_schema", f"{type(error).__name__}: {error}", "SchemaRefused", columns)
    try:
        return _resolved(reader, writer, name)
    except SchemaRefused as error:
        return Refusal("unresolvable", str(error), "SchemaRefused", columns, name)


def _resolved(reader: Node, writer: Node, name: str) -> Plan:
    try:
        return BlockPlan(reader, writer, name)
    except NeedsStrict:
        return StrictPlan(reader, writer, name)


class BlockPlan:
    """Blocks first; strict fastavro judges what they leave."""

    def __init__(self, reader: Node, writer: Node, name: str) -> None:
        self.fingerprint = name
        found = sources(reader, writer)
        self._columns = Columns(found)
        self._codec = BlockCodec(writer)
        paths = [self._codec.physical.paths[source.path] for source in found if source.path is not None]
        names = [name for name, *steps in paths if not steps]
        self._all = list(self._codec.physical.dtypes)
        self._raw = names if len(names) == len(found) else None  # the raw columns, where they need no work to get at
        self._strict = StrictReader(self._codec.physical.schema())

    def decode(self, datums: list[bytes]) -> Part:
        try:
            frame, bad = self._codec.decode(datums)
        except BlockFailed:  # text that is not UTF-8, as far as known
            return self._decode_refused_block(datums)
        return self._decode_rest(datums, frame, bad)

    def _decode_refused_block(self, datums: list[bytes]) -> Part:
        """Take out the messages whose text is not UTF-8 and try again; failing that, judge every message."""
        try:
            good, bad = self._texts_apart(datums)
            frame, left = self._codec.decode([datums[row] for row in good.tolist()])
            return self._decode_rest(datums, frame, np.sort(np.concatenate([bad, good[left]])))
        except BlockFailed:
            everything = np.arange(len(datums))
            return self._decode_rest(datums, pl.DataFrame(schema=self._codec.physical.dtypes), everything)

    def _texts_apart(self, datums: list[bytes]) -> tuple[Rows, Rows]:
        """Indices of messages that a block may hold, and of those that it does not."""
        plain = self._codec.well_formed(datums)
        fine = np.flatnonzero(plain)
        wrong = self._codec.not_text([datums[row] for row in fine.tolist()])
        return np.delete(fine, wrong), np.sort(np.concatenate([np.flatnonzero(~plain), fine[wrong]]))

    def _decode_rest(self, datums: list[bytes], frame: pl.DataFrame, bad: Rows) -> Part:
        """Judge what the block left out, and turn raw columns into the deployment's."""
        rows = np.arange(len(datums), dtype=np.int64)
        rejected: list[Rejection] = []
        if len(bad):
            rows = np.delete(rows, bad)
            frame, rows, rejected = self._judge(datums, frame, rows, bad.tolist())
        columns, wrong = self._columns.finish(self._arranged(frame, len(rows)))
        return without(columns, rows, rejected, wrong)

    def _arranged(self, frame: pl.DataFrame, height: int) -> pl.DataFrame:
        """The raw columns that the deployment reads, in its order."""
        if self._raw is None:
            return self._columns.gather(height, lambda source: self._take(frame, source))
        return frame if self._raw == self._all else frame[self._raw]

    def _judge(self, datums: list[bytes], frame: pl.DataFrame, rows: Rows, bad: list[int]) -> Part:
        kept, records, rejected = read_all(self._strict, datums, bad)
        if not kept:
            return frame, rows, rejected
        try:
            late = self._codec.frame(records)
        except (pl.exceptions.PolarsError, OverflowError, TypeError):
            kept, records, wrong = _representable(self._codec.frame, kept, records)
            rejected += wrong
            late = self._codec.frame(records)
        rows = np.concatenate([rows, np.array(kept, dtype=np.int64)])
        order = np.argsort(rows)
        return (pl.concat([frame, late]) if frame.width else late)[order] if late.width else late, rows[order], rejected

    def _take(self, frame: pl.DataFrame, source: Source) -> pl.Series:
        assert source.path is not None
        name, *steps = self._codec.physical.paths[source.path]
        series = frame.get_column(name)
        for step in steps:
            series = series.struct.field(step)
        return series


class StrictPlan:
    """Value by value: fastavro resolves each message to the deployment's schema."""

    def __init__(self, reader: Node, writer: Node, name: str) -> None:
        self.fingerprint = name
        full = whole(reader, writer)
        self._reader = StrictReader(plain_schema(writer), plain_schema(full or reader), skips=full is None)
        self._columns = Columns([Source(leaf, leaf.path, leaf.type) for leaf in leaves(reader)])

    def decode(self, datums: list[bytes]) -> Part:
        kept, records, rejected = read_all(self._reader, datums, range(len(datums)))
        try:
            columns, wrong = self._build(records)
        except (pl.exceptions.PolarsError, OverflowError, TypeError, KeyError):
            kept, records, unfit = _representable(self._build, kept, records)
            rejected += unfit
            columns, wrong = self._build(records)
        return without(columns, np.array(kept, dtype=np.int64), rejected, wrong)

    def _build(self, records: list[dict[str, Any]]) -> tuple[pl.DataFrame, list[Wrong]]:
        return self._columns.finish(self._columns.gather(len(records), lambda source: _gather(records, source.leaf)))


def _gather(records: list[dict[str, Any]], leaf: Leaf) -> pl.Series:
    found: list[Any] = records
    for step in leaf.path:
        found = [None if value is None else value.get(step) for value in found]
    if leaf.type.kind in ("bytes", "fixed"):
        found = [value.encode("latin-1") if isinstance(value, str) else value for value in found]  # a default in JSON
    return series_of(found, leaf)


def read_all(
    strict: StrictReader, datums: Sequence[bytes], indices: Sequence[int] | range
) -> tuple[list[int], list[dict[str, Any]], list[Rejection]]:
    """(indices accepted, their values, rejections of the others)."""
    kept: list[int] = []
    records: list[dict[str, Any]] = []
    rejected: list[Rejection] = []
    for index in indices:
        try:
            records.append(strict.read(datums[index]))
            kept.append(index)
        except Undecodable as error:
            rejected.append(Rejection(index, error.reason, error.detail, error.exception))
    return kept, records, rejected


def _representable(
    make: Any, kept: list[int], records: list[dict[str, Any]]
) -> tuple[list[int], list[dict[str, Any]], list[Rejection]]:
    """Leave out records with values that no column holds, such as numbers above 64 bits."""
    rows, fine, rejected = [], [], []
    for index, record in zip(kept, records, strict=True):
        try:
            make([record])
        except Exception as error:  # polars raises many kinds for values it cannot hold
            rejected.append(Rejection(index, "malformed", f"a value fits no column: {error}", type(error).__name__))
        else:
            rows.append(index)
            fine.append(record)
    return rows, fine, rejected
