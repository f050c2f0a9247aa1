"""Scores frames with a hierarchy of models: each row by the most specific leaf there is, all rows of a model at once.

The rows of a run are put in the order of their models, so that each model has one run over rows that lie together,
padded as those of a single model are; then the outputs are put back. The same row gets the same bits in any company,
because its leaf is a matter of the row alone, and how its model runs does not depend on the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.bundle import Bundle
from models.errors import ModelFailed, ModelRefused, RowsFailed
from models.frames import chosen
from models.graph import Examined, examine
from models.hierarchy import differences, row_shapes
from models.leaves import name_of
from models.runtimes import outputs
from models.runtimes.base import Arrays, Counts, Model, Prepared
from models.runtimes.columns import Columns
from models.runtimes.groups import groups_of
from models.runtimes.leafruns import Runner
from models.runtimes.lookup import Lookup
from models.runtimes.sessions import Sessions
from schemas.values import Rejection

LEAF = ""  # the name under which a run's inputs have the number of each row's leaf: no input of a graph has none
Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]


class PartitionedModel:
    """One loaded version with leaves; see `models.runtimes.base.Model` for its methods.

    described: the model that the manifest describes. memory: bytes that sessions may take. Raises ModelRefused when
    that model cannot be loaded.
    """

    def __init__(
        self,
        bundle: Bundle,
        described: Examined,
        columns: Columns,
        *,
        threads: int,
        memory: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        manifest, leaves, partitions = bundle.manifest, bundle.leaves, bundle.manifest.partitions
        assert leaves is not None
        assert partitions is not None
        self.name, self.version, self.outputs = manifest.name, manifest.version, manifest.fields
        self._manifest, self._leaves, self._partitions, self._columns = manifest, leaves, partitions, columns
        self._described, self._root = described, bundle.model
        paths = [path for path, _ in leaves.index.leaves]
        self._lookup = Lookup(partitions.fields, paths)
        self._names = pl.Series(partitions.output, ["", *map(name_of, paths)], dtype=pl.String)
        self._models = leaves.digests  # model number 0 is the root, 1 the first of these
        numbers = {digest: number for number, digest in enumerate(self._models, 1)}
        self._model_of = np.array([0, *(numbers[digest] for _, digest in leaves.index.leaves)], np.int64)
        places = leaves.places
        called = ["the root", *(f"leaf {places[digest]}" for digest in self._models)]
        self._sessions = Sessions(self._examined, memory, threads)
        shapes = _known(row_shapes(manifest, described), bundle)
        self._runner = Runner(self._sessions, shapes, called, manifest.ref, clock)
        self._open_first()

    def prepare(self, frame: pl.DataFrame) -> Prepared:
        prepared = self._columns.prepare(frame)
        leaf = self._lookup.leaf_of(frame)
        kept = leaf if prepared.rows is None else leaf[prepared.rows]
        inputs: Arrays = {**prepared.inputs, LEAF: kept}
        if self._partitions.root or kept.all():
            return Prepared(inputs, prepared.rows, prepared.refused)
        rows = np.arange(len(frame)) if prepared.rows is None else prepared.rows
        taken = np.flatnonzero(kept)
        refused = [*prepared.refused, *self._homeless(frame, rows[kept == 0])]
        inputs = {name: array[taken] for name, array in inputs.items()}
        return Prepared(inputs, rows[taken], sorted(refused, key=lambda each: each.row))

    def run(self, inputs: Mapping[str, Array], seconds: float) -> pl.DataFrame:
        """Score prepared rows, or any selection of them. Each model's run may take `seconds`.

        Raises ModelFailed when all rows failed for one reason, else RowsFailed. Models are run until one alone had to
        be terminated, or until `seconds` have passed, loading included; twice that where models had to be told apart.
        """
        if self._runner.closed:
            raise ModelFailed(f"{self._manifest.ref} is closed")
        leaf = inputs[LEAF]
        groups = groups_of(self._model_of[leaf], self._sessions)
        done = self._runner.score({name: array for name, array in inputs.items() if name != LEAF}, groups, seconds)
        rows = groups.chosen(done.scored)
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        frame = self._frame(done.arrays, order, leaf[rows])
        if len(groups) == 1 and done.failed:
            raise done.failed[0][1]
        if len(rows) < len(leaf):
            failed = [(groups.of(group), error) for group, error in done.failed]
            raise RowsFailed(frame, rows, failed, np.sort(groups.chosen(done.untried)))
        return frame

    def sessions(self) -> Counts:
        """Sessions made, evicted and there now."""
        return self._sessions.counts()

    def hurry(self, on: bool) -> None:
        self._runner.hurry(on)

    def close(self) -> None:
        self._runner.close()

    def _frame(self, arrays: Sequence[Sequence[Array]], order: Rows, leaf: Rows) -> pl.DataFrame:
        """The columns of the inference record; `order` puts the arrays' rows in the order of the run's."""
        declared = self._manifest.outputs
        if not len(order):
            return pl.DataFrame([*map(outputs.empty, declared), self._names.head(0)])
        whole = [np.concatenate(column)[order] for column in zip(*arrays, strict=True)]
        tensors = dict(zip(self._runner.tensors, whole, strict=True))
        columns = [outputs.series(output, tensors[output.tensor], len(order)) for output in declared]
        return pl.DataFrame([*columns, chosen(self._names, leaf)])

    # ---- models

    def _examined(self, model: int) -> Examined:
        """Read and examine a model: what the bundle's author checked may have been put together by somebody else."""
        if model == 0:
            return examine(self._root)
        examined = examine(self._leaves.model(self._models[model - 1]))
        if found := [*differences(self._manifest, self._described, examined)]:
            raise ModelRefused("; ".join(found))
        return examined

    def _open_first(self) -> None:
        try:
            self._sessions.get(0 if self._partitions.root else 1)
        except Exception as error:
            self._runner.close()
            raise ModelRefused(f"{self._manifest.ref} cannot be loaded: {outputs.said(error)}") from error

    def _homeless(self, frame: pl.DataFrame, rows: Rows) -> Iterator[Rejection]:
        names = [level.name for level in self._partitions.fields]
        for row, values in zip(rows.tolist(), frame.select(names)[rows].iter_rows(), strict=True):
            told = ", ".join(f"{name} {value!r:.100}" for name, value in zip(names, values, strict=True))
            yield Rejection(
                row,
                "missing_partition",
                f"no leaf of the model is for {told}, and it has no root; build the bundle with `model`, or with such "
                "a leaf",
            )


def _known(shapes: Mapping[str, tuple[int, ...] | None], bundle: Bundle) -> dict[str, tuple[int, ...]]:
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    if len(known) < len(shapes):
        raise ModelRefused(f"{bundle.manifest.ref}: an output does not say how many columns it has; build it again")
    return known


def counts_of(models: Iterable[Model]) -> Counts:
    """Return the counts of all hierarchies among some models; of one that several arms have, once."""
    loaded = {id(model): model for model in models if isinstance(model, PartitionedModel)}
    each = [model.sessions() for model in loaded.values()]
    return Counts(*(sum(column) for column in zip(*map(astuple, each), strict=True))) if each else Counts()
