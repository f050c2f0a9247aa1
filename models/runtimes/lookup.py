"""Which leaf of a hierarchy scores each row of a frame: the most specific one that exists, found a column at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.leaves import Key, Path
from models.manifest import PartitionField

Numbers = npt.NDArray[np.int64]
UNKNOWN = -1  # the code of null, and of a value that no path has


class Lookup:
    """Finds leaves by the values of their fields, from the top. leaves: their paths, numbered from 1; 0 is the root.

    Every row has one: where a value is null, or no path goes on with it, the row belongs to the last leaf on its way.
    """

    def __init__(self, fields: Sequence[PartitionField], leaves: Sequence[Path]) -> None:
        numbers = {path: number for number, path in enumerate(leaves, 1)}
        nodes: dict[Path, int] = {(): 0}  # every beginning of a path, whether it has a model of its own or not
        leaf_of = [0]
        for path in leaves:
            for length in range(1, len(path) + 1):
                if (node := path[:length]) not in nodes:
                    nodes[node] = len(nodes)
                    leaf_of.append(numbers.get(node, leaf_of[nodes[node[:-1]]]))
        self._leaf_of = np.array(leaf_of, np.int64)
        self._levels = [_Level(field, [p for p in nodes if len(p) == at], nodes) for at, field in enumerate(fields, 1)]

    def leaf_of(self, frame: pl.DataFrame) -> Numbers:
        """Return the number of each row's leaf."""
        node = np.zeros(len(frame), np.int64)
        for level in self._levels:  # what a level steps from are nodes of the one above: who missed a step stays
            below = level.step(node, frame)
            node = np.where(below == UNKNOWN, node, below)
        found: Numbers = self._leaf_of[node]
        return found


class _Level:
    """The steps from the nodes of one level to those of the next, by the value of one field."""

    def __init__(self, field: PartitionField, paths: Sequence[Path], nodes: dict[Path, int]) -> None:
        self._name = field.name
        self._codes = _Texts(_last(paths)) if field.type == "string" else _Numbers(_last(paths))
        steps = sorted(
            (nodes[path[:-1]] * self._codes.count + self._codes.known[path[-1]], nodes[path]) for path in paths
        )
        self._from = np.array([step for step, _ in steps], np.int64)
        self._to = np.array([node for _, node in steps], np.int64)

    def step(self, node: Numbers, frame: pl.DataFrame) -> Numbers:
        """Return the node below each row's node, UNKNOWN where there is none."""
        code = self._codes.of(frame.get_column(self._name))
        wanted = node * self._codes.count + code
        at = np.minimum(np.searchsorted(self._from, wanted), len(self._from) - 1)
        there = (code != UNKNOWN) & (self._from[at] == wanted)
        return np.where(there, self._to[at], UNKNOWN)


def _last(paths: Iterable[Path]) -> list[Any]:
    return sorted({path[-1] for path in paths})


class _Texts:
    """Codes of the values of a field of text."""

    def __init__(self, values: Sequence[str]) -> None:
        self.known: dict[Key, int] = {value: code for code, value in enumerate(values)}
        self.count = len(values)
        self._enum = pl.Enum(values)

    def of(self, column: pl.Series) -> Numbers:
        if column.dtype != pl.String:
            column = column.cast(pl.String)
        codes = column.cast(self._enum, strict=False).to_physical().cast(pl.Int64)
        found: Numbers = codes.fill_null(UNKNOWN).to_numpy()
        return found


class _Numbers:
    """Codes of the values of a field of integers or booleans."""

    def __init__(self, values: Sequence[int]) -> None:
        self.known: dict[Key, int] = {value: code for code, value in enumerate(values)}
        self.count = len(values)
        self._values = np.array(values, np.int64)

    def of(self, column: pl.Series) -> Numbers:
        known = column.is_not_null().to_numpy()
        values = column.cast(pl.Int64).fill_null(0).to_numpy()
        at = np.minimum(np.searchsorted(self._values, values), self.count - 1)
        return np.where(known & (self._values[at] == values), at, UNKNOWN)
