"""A reference from more rows than memory holds: bins from summaries in a first pass, exact counts in a second one.

Features and outputs come from sources of their own, each read twice, because a reference counts every column for
itself. What counts is what counts live traffic (`models.counting.Counter`), so equal rows fall into equal bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from models.binning import Bins, Categories, Numbers, edges_of, is_category, is_number, ranked
from models.counting import Counter
from models.errors import ReferenceInvalid
from models.reference import PLACES, Counts, Reference, Tally
from models.segments import chosen
from models.sketch import Frequencies, Quantiles
from models.unusual import NAME, is_known, surprises

Source = Callable[[], Iterator[pl.DataFrame]]  # gives the same rows each time it is called
Place = tuple[str, int | None]  # a column, and the place in its lists


def build(
    features: Source,
    outputs: Source | None = None,
    segments: Sequence[str] = (),
    apart: Sequence[str] = (),
    unusual: bool = False,
) -> Reference:
    """Return the reference of training rows and, where known, of a model's outputs for them, in chunks.

    segments, apart, unusual: as of `Reference.from_frame`; with segments both sources have their rows in one order.

    Up to models.sketch.VALUES rows and CATEGORIES different texts a column it is what `Reference.from_frame` gives; of
    more, edges lie beside the true quantiles by as little as models.sketch tells; the counts are exact all the same.
    Raises ReferenceInvalid for rows without a column that can be profiled, for numbers of rows that differ, and for a
    source that gives other rows the second time.
    """
    answers = _profiled(outputs, "outputs") if outputs is not None else ((), Tally.empty(0))
    columns, tally = _profiled(features, "features")
    if outputs is not None and answers[1].rows != tally.rows:
        raise ReferenceInvalid(
            f"{tally.rows:,} rows of features, but {answers[1].rows:,} of outputs: each row needs one output"
        )
    if not columns + answers[0] or not tally.rows:
        raise ReferenceInvalid("there is nothing to profile: give rows with number, boolean or text columns")
    cells = np.concatenate((tally.cells, answers[1].cells))
    found = chosen(columns, answers[0], cells, segments, apart)
    told = _surprising(features, columns, cells) if unusual and is_known(columns, tally.rows) else None
    bare = Reference(columns, answers[0], Tally(tally.rows, cells), found, told)
    if not found and told is None:
        return bare
    counter = bare.counter
    cells = np.zeros(counter.size, np.int64)
    for frame, said in together(features, outputs):
        cells += counter.count(frame, said)[0]
    return replace(bare, tally=Tally(tally.rows, cells))


def _surprising(features: Source, columns: tuple[Bins, ...], counts: Counts) -> Numbers:
    """Return the bins of how unusual rows are. counts: of the columns, features first."""
    sketch = Quantiles()
    for frame in features():
        sketch.add(surprises(columns, counts, frame))
    return Numbers(NAME, None, edges_of(*sketch.summary(), sketch.distinct))


def together(features: Source, outputs: Source | None) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Yield the rows of both sources side by side, however each cuts them into chunks."""
    if outputs is None:
        yield from ((frame, pl.DataFrame()) for frame in features())
        return
    left, right = (filter(len, source()) for source in (features, outputs))
    mine, theirs = pl.DataFrame(), pl.DataFrame()
    while True:
        mine = mine if len(mine) else next(left, mine)
        theirs = theirs if len(theirs) else next(right, theirs)
        rows = min(len(mine), len(theirs))
        if not rows:
            return
        yield mine[:rows], theirs[:rows]
        mine, theirs = mine[rows:], theirs[rows:]


def _profiled(source: Source, what: str) -> tuple[tuple[Bins, ...], Tally]:
    fitter, rows = Fitter(), 0
    for frame in source():
        fitter.add(frame)
        rows += frame.height
    columns = fitter.bins()
    counts, again = _counted(source, columns)
    if again != rows:
        raise ReferenceInvalid(
            f"the {what} were {rows:,} rows when read first and {again:,} when read again: something writes or removes "
            "them meanwhile; name a range or files that stay as they are"
        )
    return columns, Tally(rows, counts)


def _counted(source: Source, columns: tuple[Bins, ...]) -> tuple[Counts, int]:
    """Return how often each cell is hit, and the number of rows."""
    counter = Counter(columns, ())
    counts, rows, nothing = np.zeros(counter.size, np.int64), 0, pl.DataFrame()
    for frame in source():
        rows += frame.height
        if columns and frame.height:
            counts += counter.count(frame, nothing)[0]
    return counts, rows


class Fitter:
    """Chooses the bins of columns from chunks of their values, in memory that hardly grows with the rows."""

    def __init__(self) -> None:
        self._summaries: dict[Place, Quantiles | Frequencies] = {}
        self._columns: dict[str, None] = {}  # in the order in which they were met

    def add(self, frame: pl.DataFrame) -> None:
        """Take a chunk. Raises ReferenceInvalid where a column is of another kind than before."""
        for series in frame:
            self._columns.setdefault(series.name)
            if isinstance(series.dtype, pl.List):
                longest = int(str(series.list.len().max() or 0))
                for item in range(min(longest, PLACES)):
                    self._take((series.name, item), series.list.get(item, null_on_oob=True))
            else:
                self._take((series.name, None), series)

    def bins(self) -> tuple[Bins, ...]:
        """Return the bins of every column that can be profiled, in the order of the columns."""
        order = {name: at for at, name in enumerate(self._columns)}
        places = sorted(self._summaries, key=lambda place: (order[place[0]], place[1] or 0))
        return tuple(_bins(*place, self._summaries[place]) for place in places)

    def _take(self, place: Place, series: pl.Series) -> None:
        if not (is_category(series.dtype) or is_number(series.dtype)):
            return
        kind = Frequencies if is_category(series.dtype) else Quantiles
        known = self._summaries.setdefault(place, kind())
        if not isinstance(known, kind):
            raise ReferenceInvalid(
                f"column {place[0]} is text in some rows and a number in others: give it one type in all files"
            )
        if isinstance(known, Frequencies):
            known.add(series)
        else:
            known.add(series.cast(pl.Float64).to_numpy())


def _bins(name: str, item: int | None, summary: Quantiles | Frequencies) -> Bins:
    if isinstance(summary, Frequencies):
        return Categories(name, item, ranked(summary.counts))
    return Numbers(name, item, edges_of(*summary.summary(), summary.distinct))
