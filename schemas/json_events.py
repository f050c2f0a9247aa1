"""Events as JSON, validated against the deployment's schema: same columns, same rules, one value a field.

Plain JSON, not Avro's JSON encoding with its type names around union values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl

from schemas.columns import Columns, series_of, without
from schemas.json_fast import ODD, fast_reader, lists, plain_list
from schemas.json_values import record_reader
from schemas.nodes import Node
from schemas.resolve import Source, leaves
from schemas.strict import Undecodable
from schemas.values import Rejection


class JsonEvents:
    """Decodes JSON messages of one reader schema."""

    def __init__(self, reader: Node) -> None:
        self._leaves = leaves(reader)
        self._judge = record_reader(reader)
        self._fast = fast_reader(reader, self._leaves)
        self._at = {leaf.path: i for i, leaf in enumerate(self._leaves)}
        self._columns = Columns([Source(leaf, leaf.path, leaf.type) for leaf in self._leaves])

    def decode(self, values: Sequence[bytes]) -> tuple[pl.DataFrame, npt.NDArray[np.int64], list[Rejection]]:
        """(frame, message index of each row, rejections): row = index in `values`."""
        found: list[Sequence[Any]] = []
        rows: list[int] = []
        rejected: list[Rejection] = []
        read = self._fast or _judge_it
        for row, value in enumerate(values):
            try:
                event = read(value)
            except ODD:
                try:
                    event = self._one(value)
                except Undecodable as error:
                    rejected.append(Rejection(row, error.reason, error.detail, error.exception))
                    continue
            found.append(event)
            rows.append(row)
        columns = list(zip(*found, strict=True)) or [()] * len(self._leaves)

        def take(source: Source) -> pl.Series:
            return self._series(source, columns[self._at[source.leaf.path]])

        frame, wrong = self._columns.finish(self._columns.gather(len(found), take))
        return without(frame, np.array(rows, dtype=np.int64), rejected, wrong)

    def _series(self, source: Source, column: Sequence[Any]) -> pl.Series:
        if source.leaf.type.kind != "array":
            return series_of(column, source.leaf)
        found = lists(column, source.leaf.type) if self._fast is not None and column else None
        return series_of([plain_list(each) for each in column], source.leaf) if found is None else found

    def _one(self, value: bytes) -> Sequence[Any]:
        """One event by the judge. Raises Undecodable."""
        try:
            event = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise Undecodable("not_json", str(error), "JSONDecodeError") from None
        out: dict[tuple[str, ...], Any] = {}
        self._judge(event, (), out)
        return [out.get(leaf.path) for leaf in self._leaves]


def _judge_it(value: bytes) -> Sequence[Any]:
    raise ValueError("no fast reader for this schema")
