"""The reference: histograms of features and scores at training time; models.profiler counts live traffic alike.

Counts are integers, merging is addition and the empty tally is its identity: how events were spread over partitions,
batches and workers cannot change what the monitor sees. The worker needs numpy and polars only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models import varint
from models.binning import Bins, Categories, Numbers, fit, number_edges
from models.counting import Counter
from models.errors import ReferenceInvalid
from models.segments import Segment, check, chosen, layout
from models.unusual import KIND, NAME, Surprise, is_known, surprises, weights_of

FORMAT = 1
EXTENDED = 2  # the format of those that have segments, or count how unusual rows are
PLACES = 16  # of a list column, such as a probability vector, this many places are profiled
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

    kind: str  # feature or output; group of what is told of all features together
    name: str  # as alerts show it: an output's place in a vector is `name[0]`
    bins: Bins
    start: int
    end: int
    segment: str = ""  # of a column apart: the feature by whose values it is counted, ...
    value: str = ""  # ... and the value; the name tells both


@dataclass(frozen=True)
class Reference:
    """Bins and counts of every profiled feature and output at training time.

    features, outputs: the bins of each column. tally: their counts over the training rows. segments: features by whose
    values columns are counted apart, too. unusual: the bins of how unusual a row's features are together; None where
    that is not counted.
    """

    features: tuple[Bins, ...]
    outputs: tuple[Bins, ...]
    tally: Tally
    segments: tuple[Segment, ...] = ()
    unusual: Numbers | None = None

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        scores: pl.DataFrame | None = None,
        segments: Sequence[str] = (),
        apart: Sequence[str] = (),
        unusual: bool = False,
    ) -> Reference:
        """Build a reference from training rows and, where known, the model's outputs for them (same number of rows).

        segments: features by whose values all outputs, and the features in `apart`, are counted apart, too. unusual:
        how unusual the features of a row are together is counted, too, from two features and 1,000 rows on. Columns
        that cannot be profiled (times, bytes, nested values) are left out. Raises ReferenceInvalid when nothing is
        left, the numbers of rows differ, or segments cannot be told apart.
        """
        outputs = pl.DataFrame() if scores is None else scores
        if scores is not None and scores.height != frame.height:
            raise ReferenceInvalid(
                f"{frame.height} rows of features, but {scores.height} of scores: give one score per row"
            )
        features_bins, outputs_bins = tuple(_fitted(frame)), tuple(_fitted(outputs))
        if not features_bins + outputs_bins or not frame.height:
            raise ReferenceInvalid("there is nothing to profile: give rows with number, boolean or string columns")
        counts = Counter(features_bins, outputs_bins).count(frame, outputs)[0]
        made = chosen(features_bins, outputs_bins, counts, segments, apart)
        told = None
        if unusual and is_known(features_bins, frame.height):
            told = Numbers(NAME, None, number_edges(surprises(features_bins, counts, frame)))
        bare = cls(features_bins, outputs_bins, Tally(frame.height, counts), made, told)
        return replace(bare, tally=Tally(frame.height, bare.counter.count(frame, outputs)[0])) if made or told else bare

    @classmethod
    def from_bytes(cls, data: bytes) -> Reference:
        """Read what `to_bytes` wrote. Raises ReferenceInvalid that says what is wrong with it."""
        try:
            document = json.loads(data)
            if document["format"] not in (FORMAT, EXTENDED):
                raise ReferenceInvalid(
                    f"reference format {document['format']!r} is neither {FORMAT} nor {EXTENDED}: build it with this "
                    "version"
                )
            read = {kind: [_column(entry) for entry in document[kind]] for kind in ("features", "outputs")}
            features, outputs = (tuple(bins for bins, _ in read[kind]) for kind in ("features", "outputs"))
            counts = [count for _, part in read["features"] + read["outputs"] for count in part]
            segments, more = _segments(document.get("segments", []), (*features, *outputs), len(features))
            unusual, last = _unusual(document.get("unusual"))
            tally = Tally(int(document["rows"]), np.array(counts + more + last, np.int64))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise ReferenceInvalid(f"the reference is damaged: {type(error).__name__}: {error}") from error
        return cls(features, outputs, tally, segments, unusual)

    def to_bytes(self) -> bytes:
        """Return canonical JSON; the bundle keeps it."""
        counted = {"features": [], "outputs": []}  # type: dict[str, list[dict[str, Any]]]
        for part in self._plain:
            entry = _entry(part.bins) | {"counts": self.tally.cells[part.start : part.end].tolist()}
            counted[part.kind + "s"].append(entry)
        document = {"format": FORMAT, "rows": self.tally.rows, **counted}
        if self.segments:
            document |= {"format": EXTENDED, "segments": list(self._segment_entries())}
        if self.unusual is not None:
            counts = self.tally.cells[-self.unusual.size :].tolist()
            document |= {"format": EXTENDED, "unusual": {"edges": list(self.unusual.edges), "counts": counts}}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @property
    def names(self) -> tuple[str, ...]:
        """The profiled features, in order."""
        return tuple(bins.name for bins in self.features)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of this reference's content; profiles carry it, so that unlike bins are never added."""
        return hashlib.sha256(self.to_bytes()).hexdigest()[:16]

    def _segment_entries(self) -> Iterator[dict[str, Any]]:
        lengths = [each.cells(self.features + self.outputs) for each in self.segments]
        last = self.unusual.size if self.unusual is not None else 0
        ends = (len(self.tally.cells) - last - sum(lengths) + np.cumsum(lengths)).tolist()
        for segment, length, end in zip(self.segments, lengths, ends, strict=True):
            yield {
                "feature": self.features[segment.place].name,
                "groups": [list(group) for group in segment.groups],
                "columns": list(segment.columns),
                "counts": self.tally.cells[end - length : end].tolist(),
            }

    @property
    def counter(self) -> Counter:
        """A new counter of frames in these cells."""
        columns, surprise = self.features + self.outputs, None
        if self.unusual is not None:
            size = sum(bins.size for bins in columns)
            surprise = Surprise(self.unusual, weights_of(self.features, self.tally.cells, size))
        return Counter(self.features, self.outputs, self.segments, surprise)

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """Where each column lies in a tally: features, outputs, columns apart by segments, how unusual rows are."""
        plain, columns = self._plain, self.features + self.outputs
        found = list(plain)
        for part in layout(columns, self.segments):
            feature, whole = columns[part.segment.place], plain[part.column]
            value = part.segment.label(feature, part.value)
            name = f"{whole.name} where {feature.name} is {value}"
            found.append(Slice(whole.kind, name, whole.bins, part.start, part.end, feature.name, value))
        if self.unusual is not None:
            start = found[-1].end
            found.append(Slice(KIND, NAME, self.unusual, start, start + self.unusual.size))
        return tuple(found)

    @cached_property
    def _plain(self) -> tuple[Slice, ...]:
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


def _segments(
    entries: Sequence[Mapping[str, Any]], columns: Sequence[Bins], features: int
) -> tuple[tuple[Segment, ...], list[int]]:
    """Return the segments of a document, and the counts of all their columns apart."""
    names = {bins.name: at for at, bins in enumerate(columns[:features]) if bins.item is None}
    found, counts = [], list[int]()
    for entry in entries:
        groups = tuple((int(first), int(end)) for first, end in entry["groups"])
        found.append(Segment(names[entry["feature"]], groups, tuple(int(at) for at in entry["columns"])))
    check(columns, features, found)
    for segment, entry in zip(found, entries, strict=True):
        mine = [int(count) for count in entry["counts"]]
        if len(mine) != segment.cells(columns) or min(mine) < 0:
            raise ReferenceInvalid("the reference is damaged: a segment's counts do not fit its columns")
        counts += mine
    return tuple(found), counts


def _unusual(entry: Mapping[str, Any] | None) -> tuple[Numbers | None, list[int]]:
    """Return the bins of how unusual rows are, and their counts."""
    if entry is None:
        return None, []
    bins, counts = _column({"kind": "number", "name": NAME, "item": None, **entry})
    assert isinstance(bins, Numbers)
    return bins, counts


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
