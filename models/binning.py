"""How a value finds its bin: the one rule that training, worker and monitor share, so that histograms can be compared.

A number's bin is the count of edges that are <= the number; a category's bin is its rank by frequency. A lookup table
makes this cheap for whole frames; it never changes the answer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]

QUANTILE_BINS = 32
TAILS = (0.0, 0.125, 1.0)  # where the tail bins begin outside the body, in widths of the body
BODY = (0.001, 0.999)  # quantiles of the reference between which the quantile bins lie
OWN_CATEGORIES = 32  # the most frequent categories have a bin each; the others that training knew share one
KNOWN_CATEGORIES = 1000
_SIZES = (1024, 2048, 4096, 8192)  # lookup cells per number column, the fewest that keep its edges apart
_ROWS = 2000  # rows binned at a time, so that the scratch memory stays in the cache


def edge_told(edge: float) -> str:
    """Return an edge for a person: one just beside 0, which parts 0 from what is more, as 0."""
    return f"{edge:.6g}" if abs(edge) >= sys.float_info.min else "0"


@dataclass(frozen=True, slots=True)
class Numbers:
    """Bins of a number or boolean: below the first edge, between edges, from the last edge on; then missing."""

    name: str
    item: int | None  # place in a list column (a probability vector), or None for a plain column
    edges: tuple[float, ...]

    @property
    def size(self) -> int:
        """Number of bins, missing included; missing is the last."""
        return len(self.edges) + 2

    def label(self, at: int) -> str:
        """Return the bin's name for a person."""
        return "missing" if at == self.size - 1 else self.range_label(at, at + 1)

    def range_label(self, first: int, end: int) -> str:
        """Return the name of the bins from `first` to before `end` together; missing is not one of them."""
        low = edge_told(self.edges[first - 1]) if first > 0 else None
        high = edge_told(self.edges[end - 1]) if end <= len(self.edges) else None
        if low is None:
            return "a number" if high is None else f"< {high}"
        return f">= {low}" if high is None else f"{low} .. {high}"


@dataclass(frozen=True, slots=True)
class Categories:
    """Bins of a category: the most frequent ones by rank, the other known ones together, new ones, missing."""

    name: str
    item: int | None
    values: tuple[str, ...]  # every known category, the most frequent first

    @property
    def own(self) -> int:
        return min(len(self.values), OWN_CATEGORIES)

    @property
    def size(self) -> int:
        """Number of bins: one per frequent category, then rare, new, missing."""
        return self.own + 3

    def label(self, at: int) -> str:
        """Return the bin's name for a person."""
        return self.values[at] if at < self.own else ("rare", "new", "missing")[at - self.own]


Bins = Numbers | Categories


def fit(name: str, item: int | None, series: pl.Series) -> Bins | None:
    """Choose the bins of a column from its values at training time; None for a type that is not profiled.

    Numbers and booleans get quantile bins, strings and enums categories; times, bytes, nested values are left out.
    """
    if is_category(series.dtype):
        return Categories(name, item, ranked(counts_of(series)))
    if is_number(series.dtype):
        return Numbers(name, item, number_edges(series.cast(pl.Float64).to_numpy()))
    return None


def is_category(dtype: pl.DataType) -> bool:
    """Say whether a column of this type is profiled by its categories."""
    return dtype in (pl.String, pl.Categorical, pl.Enum)


def is_number(dtype: pl.DataType) -> bool:
    """Say whether a column of this type is profiled by its quantiles."""
    return dtype.is_numeric() or dtype == pl.Boolean


def counts_of(series: pl.Series) -> pl.DataFrame:
    """Return how often each value of a category column is there: columns value and count."""
    return series.cast(pl.String).drop_nulls().rename("value").value_counts(name="count")


def ranked(counts: pl.DataFrame) -> tuple[str, ...]:
    """Return the categories that are known, the most frequent first; equally frequent ones by their text."""
    found = counts.sort("count", "value", descending=[True, False])["value"].head(KNOWN_CATEGORIES)
    return tuple(found.to_list())


def number_edges(values: Floats) -> tuple[float, ...]:
    """Return strictly increasing finite edges: quantile bins over the body of `values`, three tail bins a side.

    A value that alone fills a quantile bin gets a bin of its own. Of few distinct values each gets a bin.
    """
    values = np.sort(values[np.isfinite(values)] + 0.0)  # -0.0 becomes 0.0
    return edges_of(values, np.ones(len(values), np.int64), np.unique(values))


def edges_of(values: Floats, weights: Cells, distinct: Floats) -> tuple[float, ...]:
    """Return the same of a summary of a column.

    values: finite and sorted; weights: how many of the column's values each stands for. distinct: sorted, all that the
    column has, or more than QUANTILE_BINS of them.
    """
    if not len(values):
        return (0.0,)
    with np.errstate(over="ignore", invalid="ignore"):
        body = _few(distinct) if len(distinct) <= QUANTILE_BINS else _quantiles(values, weights)
        body = body[np.isfinite(body)]
        low, high = body.min(), body.max()
        width = high - low if len(distinct) > 1 else max(abs(high), 1.0)
        tails = [edge for share in TAILS for edge in (low - share * width, high + share * width)]
    edges = np.unique(np.concatenate((body, tails)))
    return tuple(float(edge) for edge in edges[np.isfinite(edges)])


def _few(distinct: Floats) -> Floats:
    middles = distinct[:-1] / 2 + distinct[1:] / 2
    return np.concatenate(([distinct[0]], middles, [np.nextafter(distinct[-1], np.inf)]))


def _quantiles(values: Floats, weights: Cells) -> Floats:
    ends = np.cumsum(weights)
    ranks = np.floor((ends[-1] - 1) * np.linspace(*BODY, QUANTILE_BINS + 1)).astype(np.int64)
    body = values[np.searchsorted(ends, ranks, side="right")]
    body[-1] = np.nextafter(body[-1], np.inf)
    repeated = body[1:][body[1:] == body[:-1]]
    return np.concatenate((body, np.nextafter(repeated, np.inf)))


def column_of(series: Mapping[str, pl.Series], bins: Bins, rows: int) -> pl.Series:
    """Return a bin set's column of a frame; a column or place that the frame lacks is all missing."""
    found = series.get(bins.name)
    if found is None:
        return pl.Series(bins.name, [None], pl.Float64).new_from_index(0, rows)
    if bins.item is not None and isinstance(found.dtype, pl.List):
        return found.list.get(bins.item, null_on_oob=True)
    return found


class Binner:
    """Bins whole frames: every value of every column becomes a cell number, counted through all columns."""

    def __init__(self, columns: Sequence[Bins]) -> None:
        self._columns = columns
        self.starts = np.cumsum([0, *(bins.size for bins in columns)])  # first cell of each column; the last entry: all
        self._numbers = [at for at, bins in enumerate(columns) if isinstance(bins, Numbers)]
        self._ranks = [(at, _Ranks(bins)) for at, bins in enumerate(columns) if isinstance(bins, Categories)]
        self._table = _Table(
            [bins for bins in columns if isinstance(bins, Numbers)], [int(self.starts[at]) for at in self._numbers]
        )
        self.rows = np.argsort(
            [*self._numbers, *(at for at, _ in self._ranks)], kind="stable"
        ).tolist()  # of each column
        self._cells = np.empty(len(columns) * _ROWS, np.int64)

    @property
    def size(self) -> int:
        """Number of cells of all columns together."""
        return int(self.starts[-1])

    def cells(self, features: pl.DataFrame, outputs: pl.DataFrame, split: int) -> Cells:
        """Return the cell of each value, shape (columns, rows); `rows` says which row a column has.

        The first `split` columns are of `features`, the others of `outputs`; both have the same height.
        """
        result, start = np.empty((len(self._columns), features.height), np.int64), 0
        for block in self.blocks(features, outputs, split):
            result[:, start : start + block.shape[1]] = block
            start += block.shape[1]
        return result

    def blocks(self, features: pl.DataFrame, outputs: pl.DataFrame, split: int) -> Iterator[Cells]:
        """Yield the same in blocks of rows, each in the memory of the one before it."""
        rows, count = features.height, len(self._numbers)
        found, made = ({part.name: part for part in frame.get_columns()} for frame in (features, outputs))
        series = [column_of(found if at < split else made, bins, rows) for at, bins in enumerate(self._columns)]
        numbers = [as_floats(series[at]) for at in self._numbers]
        others = [(ranks.bins(series[at]), self.starts[at]) for at, ranks in self._ranks]
        for start in range(0, rows, _ROWS):
            end = min(start + _ROWS, rows)
            cells = self._cells[: len(self._columns) * (end - start)].reshape(len(self._columns), end - start)
            if numbers:
                self._table.fill([column[start:end] for column in numbers], cells[:count])
            for row, (bins, first) in enumerate(others, count):
                np.add(bins[start:end], first, out=cells[row])
            yield cells


def as_floats(series: pl.Series) -> Floats:
    """Return a column as doubles with NaN for null and for what is not a number."""
    if series.dtype == pl.Float64 and not series.null_count():
        return series.to_numpy()
    return series.cast(pl.Float64, strict=False).to_numpy()


class _Ranks:
    """Bins of one category column."""

    def __init__(self, bins: Categories) -> None:
        self._dtype = pl.Enum(bins.values)
        own, known = bins.own, len(bins.values)
        table = np.minimum(np.arange(known + 2), own)  # own bins, then rare
        table[known], table[known + 1] = own + 1, own + 2  # new, missing
        self._table, self._new = table, known

    def bins(self, series: pl.Series) -> Cells:
        if series.dtype != pl.String:
            series = series.cast(pl.String, strict=False)
        ranks = series.cast(self._dtype, strict=False).to_physical().cast(pl.Int64)
        codes = ranks.fill_null(self._new).to_numpy()
        if series.null_count():
            codes = np.where(series.is_null().to_numpy(), self._new + 1, codes)
        found: Cells = self._table[codes]
        return found


class _Table:
    """Lookup tables over all number columns: a value's place on an even grid gives its bin but for at most one edge."""

    def __init__(self, columns: Sequence[Numbers], starts: Sequence[int]) -> None:
        grids = [_grid(np.array(bins.edges)) for bins in columns]
        sizes = [size for _, _, size in grids]
        offsets = np.cumsum([0, *(size + 1 for size in sizes)])  # each column's places, then one for missing
        self._low = np.array([[low] for low, _, _ in grids])
        self._scale = np.array([[scale] for _, scale, _ in grids])
        self._first = np.array([[float(offset)] for offset in offsets[:-1]])
        self._last = self._first + np.array([[size - 1.0] for size in sizes])
        self._missing = self._last + 1.0
        self._cell = np.zeros(offsets[-1], np.int64)
        self._edge = np.full(offsets[-1], np.nan)  # compares as false, also with infinity
        self._searched = []  # columns whose edges no grid keeps apart
        for at, (bins, start) in enumerate(zip(columns, starts, strict=True)):
            edges, size, begin = np.array(bins.edges), sizes[at], offsets[at]
            places = _places(edges, *grids[at], begin)
            if len(np.unique(places)) < len(places):
                self._searched.append((at, edges, start))
            self._cell[begin : begin + size] = start + np.searchsorted(places, np.arange(size))
            self._edge[begin + places] = edges
            self._cell[begin + size] = start + len(edges) + 1
        room = len(columns) * _ROWS
        self._floats = [np.empty(room) for _ in range(3)]  # values, places, edges: used again for each block
        self._at, self._above = np.empty(room, np.int64), np.empty(room, np.bool_)

    def fill(self, columns: Sequence[Floats], out: Cells) -> None:
        """Write the cell of each value, shape (columns, rows). columns: the values, NaN where missing."""
        values, places, edges = (each[: out.size].reshape(out.shape) for each in self._floats)
        at, above = (each[: out.size].reshape(out.shape) for each in (self._at, self._above))
        for row, column in enumerate(columns):
            values[row] = column
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(values, self._low, out=places)
            places *= self._scale
        places += self._first + 1.0
        np.maximum(places, self._first, out=places)
        np.minimum(places, self._last, out=places)
        np.fmin(places, self._missing, out=places)  # NaN becomes the place for missing
        np.copyto(at, places, casting="unsafe")
        np.take(self._cell, at, out=out, mode="clip")  # they are all within; other modes would copy
        np.take(self._edge, at, out=edges, mode="clip")
        np.greater_equal(values, edges, out=above)
        out += above
        for row, found, start in self._searched:
            out[row] = start + np.where(
                np.isnan(values[row]), len(found) + 1, np.searchsorted(found, values[row], side="right")
            )


def _grid(edges: Floats) -> tuple[float, float, int]:
    """Return (low, scale, places) of the smallest grid that keeps the edges apart, or the largest there is."""
    low = float(edges[0])
    with np.errstate(over="ignore"):
        width = float(edges[-1] - edges[0])
    if not 1e-250 < width < 1e250:
        return low, 1.0, _SIZES[0]
    for size in _SIZES:
        scale = (size - 3) / width
        places = _places(edges, low, scale, size)
        if len(np.unique(places)) == len(places):
            break
    return low, scale, size


def _places(edges: Floats, low: float, scale: float, size: int, first: int = 0) -> Cells:
    """Return the place of each edge, as `_Table.fill` finds that of a value. first: of the column, in the table."""
    with np.errstate(over="ignore"):
        return np.minimum((edges - low) * scale + (first + 1.0), first + size - 1.0).astype(np.int64) - first
