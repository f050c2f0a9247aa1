"""The reference: histograms of features and scores at training time; and the profiler, which counts live traffic alike.

Counts are integers, merging is addition and the empty tally is its identity: how events were spread over partitions,
batches and workers cannot change what the monitor sees. The worker needs numpy and polars only.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models import varint
from models.binning import Binner, Bins, Categories, Numbers, fit
from models.errors import ReferenceInvalid
from schemas import records

FORMAT = 1
PLACES = 16  # of a list column, such as a probability vector, this many places are profiled
HOUR_MS = 3_600_000
TICK_MS = 1000
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """How often each cell was hit; cells are the bins of all columns of one reference, end to end."""

    rows: int
    cells: Counts

    @classmethod
    def empty(cls, size: int) -> Tally:
        """Return the identity of `+` for tallies of `size` cells."""
        return cls(0, np.zeros(size, np.int64))

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.rows + other.rows, self.cells + other.cells)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and self.rows == other.rows and np.array_equal(self.cells, other.cells)


@dataclass(frozen=True, slots=True)
class Slice:
    """One column's place in a tally: cells `start` to `end`, whose last one is `missing`."""

    kind: str  # feature or output
    name: str  # as alerts show it: an output's place in a vector is `name[0]`
    bins: Bins
    start: int
    end: int


@dataclass(frozen=True)
class Reference:
    """Bins and counts of every profiled feature and output at training time.

    features, outputs: the bins of each column. tally: their counts over the training rows.
    """

    features: tuple[Bins, ...]
    outputs: tuple[Bins, ...]
    tally: Tally

    @classmethod
    def from_frame(cls, frame: pl.DataFrame, scores: pl.DataFrame | None = None) -> Reference:
        """Build a reference from training rows and, where known, the model's outputs for them (same number of rows).

        Columns that cannot be profiled (times, bytes, nested values) are left out.
        Raises ReferenceInvalid when nothing is left or the numbers of rows differ.
        """
        outputs = pl.DataFrame() if scores is None else scores
        if scores is not None and scores.height != frame.height:
            raise ReferenceInvalid(
                f"{frame.height} rows of features, but {scores.height} of scores: give one score per row"
            )
        features_bins, outputs_bins = tuple(_fitted(frame)), tuple(_fitted(outputs))
        if not features_bins + outputs_bins or not frame.height:
            raise ReferenceInvalid("there is nothing to profile: give rows with number, boolean or string columns")
        binner = Binner(features_bins + outputs_bins)
        cells = binner.cells(frame, outputs, len(features_bins))
        counts = np.bincount(cells.ravel(), minlength=binner.size)
        return cls(features_bins, outputs_bins, Tally(frame.height, counts))

    @classmethod
    def from_bytes(cls, data: bytes) -> Reference:
        """Read what `to_bytes` wrote. Raises ReferenceInvalid that says what is wrong with it."""
        try:
            document = json.loads(data)
            if document["format"] != FORMAT:
                raise ReferenceInvalid(
                    f"reference format {document['format']!r} is not {FORMAT}: build it with this version"
                )
            read = {kind: [_column(entry) for entry in document[kind]] for kind in ("features", "outputs")}
            counts = [count for _, part in read["features"] + read["outputs"] for count in part]
            tally = Tally(int(document["rows"]), np.array(counts, np.int64))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise ReferenceInvalid(f"the reference is damaged: {type(error).__name__}: {error}") from error
        features, outputs = (tuple(bins for bins, _ in read[kind]) for kind in ("features", "outputs"))
        return cls(features, outputs, tally)

    def to_bytes(self) -> bytes:
        """Return canonical JSON; the bundle keeps it."""
        counted = {"features": [], "outputs": []}  # type: dict[str, list[dict[str, Any]]]
        for part in self.slices:
            entry = _entry(part.bins) | {"counts": self.tally.cells[part.start : part.end].tolist()}
            counted[part.kind + "s"].append(entry)
        document = {"format": FORMAT, "rows": self.tally.rows, **counted}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @property
    def names(self) -> tuple[str, ...]:
        """The profiled features, in order."""
        return tuple(bins.name for bins in self.features)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of this reference's content; profiles carry it, so that unlike bins are never added."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """Where each column lies in a tally: features, then outputs."""
        columns = self.features + self.outputs
        ends = np.cumsum([bins.size for bins in columns]).tolist()
        kinds = ["feature"] * len(self.features) + ["output"] * len(self.outputs)
        return tuple(
            Slice(kind, bins.name if bins.item is None else f"{bins.name}[{bins.item}]", bins, end - bins.size, end)
            for kind, bins, end in zip(kinds, columns, ends, strict=True)
        )


def _fitted(frame: pl.DataFrame) -> Iterator[Bins]:
    for series in frame:
        if isinstance(series.dtype, pl.List):
            lengths = series.list.len().max()
            for item in range(min(int(str(lengths or 0)), PLACES)):
                if bins := fit(series.name, item, series.list.get(item, null_on_oob=True)):
                    yield bins
        elif bins := fit(series.name, None, series):
            yield bins


def _entry(bins: Bins) -> dict[str, Any]:
    if isinstance(bins, Numbers):
        return {"kind": "number", "name": bins.name, "item": bins.item, "edges": list(bins.edges)}
    return {"kind": "category", "name": bins.name, "item": bins.item, "values": list(bins.values)}


def _column(entry: Mapping[str, Any]) -> tuple[Bins, list[int]]:
    name, item = str(entry["name"]), None if entry["item"] is None else int(entry["item"])
    bins: Bins
    if entry["kind"] == "number":
        edges = tuple(float(edge) for edge in entry["edges"])
        if not edges or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise ReferenceInvalid(f"the reference is damaged: the edges of {name} do not rise")
        bins = Numbers(name, item, edges)
    elif entry["kind"] == "category":
        bins = Categories(name, item, tuple(str(value) for value in entry["values"]))
        if len(set(bins.values)) < len(bins.values):
            raise ReferenceInvalid(f"the reference is damaged: a category of {name} appears twice")
    else:
        raise ReferenceInvalid(f"the reference is damaged: {name} is of kind {entry['kind']!r}")
    counts = [int(count) for count in entry["counts"]]
    if len(counts) != bins.size or min(counts) < 0:
        raise ReferenceInvalid(f"the reference is damaged: {name} has {len(counts)} counts for {bins.size} bins")
    return bins, counts


def wall_ms() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Profiler:
    """Counts the batches of one arm and version of a worker as profile records.

    A record is the delta of one (source partition, tick) in one batch: it is published in the batch's own transaction,
    and the monitor adds the deltas up. Each carries the highest record time seen in its partition, which closes ticks.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        deployment: str,
        arm: str,
        model: str,
        version: str,
        tick_ms: int = TICK_MS,
        clock: Callable[[], int] = wall_ms,
    ) -> None:
        self._binner = Binner(reference.features + reference.outputs)
        self._split = len(reference.features)
        self._tick_ms, self._clock = tick_ms, clock
        self._high: dict[int, int] = {}  # source partition -> highest record time seen, ms
        self._constant = {
            "deployment": deployment,
            "arm": arm,
            "model": model,
            "version": version,
            "reference": reference.digest,
            "tick_ms": tick_ms,
        }

    def profiles(
        self,
        frame: pl.DataFrame,
        outputs: pl.DataFrame,
        partitions: npt.NDArray[np.int32],
        timestamps: npt.NDArray[np.int64],
    ) -> list[bytes]:
        """Return encoded profile records of one scored batch, one per (source partition, tick), partitions in order.

        frame, outputs: features and outputs, one row per scored event; partitions, timestamps: the event's source
        partition and record time in ms. Times in the future, absent (-1) or more than an hour behind their partition
        are clamped and counted.
        """
        if not frame.height:
            return []
        cells = self._binner.cells(frame, outputs, self._split)
        before = dict(self._high)
        times, clamped = self._clamped(partitions, timestamps)
        ticks = times // self._tick_ms
        codes, groups = _group(partitions, ticks)
        size = self._binner.size
        if len(groups) > 1:
            cells += codes * size
        counts = np.bincount(cells.ravel(), minlength=size * len(groups)).reshape(len(groups), size)
        rows = np.bincount(codes, minlength=len(groups)).tolist()
        bad = np.bincount(codes, weights=clamped, minlength=len(groups)).tolist()
        last = {
            partition: at for at, (partition, _) in enumerate(groups)
        }  # only this record may tell of the batch's end
        return [
            self._record(
                *(partition, tick, self._high[partition] if last[partition] == at else before.get(partition, 0)),
                *(counts[at], rows[at], int(bad[at])),
            )
            for at, (partition, tick) in enumerate(groups)
        ]

    def forget(self) -> None:
        """Forget how far the partitions were profiled: after an aborted transaction or a rebalance."""
        self._high.clear()

    def progress(self, partitions: Sequence[int], now_ms: int) -> list[bytes]:
        """Return records that say: every event of these partitions up to `now_ms` was profiled; for an idle worker."""
        for partition in partitions:
            self._high[partition] = max(now_ms, self._high.get(partition, now_ms))
        nothing = np.zeros(0, np.int64)
        return [
            self._record(partition, self._high[partition] // self._tick_ms, self._high[partition], nothing, 0, 0)
            for partition in partitions
        ]

    def _clamped(
        self, partitions: npt.NDArray[np.int32], timestamps: npt.NDArray[np.int64]
    ) -> tuple[Counts, npt.NDArray[np.bool_]]:
        """Return record times within reason and which rows were changed; remembers each partition's highest."""
        now = self._clock() + self._tick_ms
        times = np.minimum(timestamps, now)
        for partition in np.unique(partitions).tolist():
            own = partitions == partition
            high = max(int(times[own].max()), self._high.get(partition, -1))
            if high < 0:
                high = now
            self._high[partition] = high
            times[own] = np.maximum(times[own], high - HOUR_MS)
        return times, times != timestamps

    def _record(self, partition: int, tick: int, watermark: int, counts: Counts, rows: int, clamped: int) -> bytes:
        cells = np.flatnonzero(counts)
        record = {
            **self._constant,
            "partition": partition,
            "tick": tick,
            "watermark": watermark,
            "rows": rows,
            "clamped": clamped,
            "cells": _packed(cells, counts[cells]),
        }
        return records.encode("profile", record)


def _group(partitions: npt.NDArray[np.int32], ticks: Counts) -> tuple[Counts, list[tuple[int, int]]]:
    """Return each row's group number and the groups' (partition, tick), in order."""
    first, span = int(ticks.min()), int(ticks.max() - ticks.min()) + 1
    keys = partitions.astype(np.int64) * span + (ticks - first)
    if (keys == keys[0]).all():
        found, codes = keys[:1], np.zeros(len(keys), np.int64)
    else:
        found, codes = np.unique(keys, return_inverse=True)
    return codes, [(int(key // span), int(key % span) + first) for key in found.tolist()]


def _packed(cells: Counts, counts: Counts) -> bytes:
    pairs = np.empty(2 * len(cells), np.int64)
    pairs[::2], pairs[1::2] = cells, counts
    pairs[2::2] -= cells[:-1]
    return varint.pack(pairs)


def tally_of(record: Mapping[str, Any], size: int) -> Tally:
    """Return a decoded profile record's counts, `size` cells long.

    Raises ReferenceInvalid when the record cannot belong to a reference of this size.
    """
    try:
        pairs = varint.unpack(record["cells"])
    except ValueError as error:
        raise ReferenceInvalid(f"a profile's counts are damaged: {error}") from error
    cells, counts = np.cumsum(pairs[::2]), pairs[1::2]
    if len(pairs) % 2 or (len(cells) and (cells.min() < 0 or cells.max() >= size)):
        raise ReferenceInvalid(f"a profile's counts do not fit a reference of {size} cells")
    dense = np.zeros(size, np.int64)
    np.add.at(dense, cells, counts)
    return Tally(int(record["rows"]), dense)
