"""How fast a model version is by itself, measured when it is loaded, and how much slower it is in use.

A run costs a fixed part and one for each row, so a time per row means something only for batches of one size. The
warm-up therefore times several sizes, and a batch is compared with what its own size took.
"""

from __future__ import annotations

import logging
import math
import statistics
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from models.contract import extents, nesting
from models.errors import ModelFailed
from models.manifest import Input, Manifest
from models.runtimes.base import Model

log = logging.getLogger(__name__)

SIZES = (16, 128, 1_024, 4_096)  # rows that are timed, and the largest batch
REPEATS = 5
MOST_VALUES = 1_000_000  # of a batch that is timed: its memory is bounded as that of real ones
MEASURE_SECONDS = 0.5  # that a measurement takes, about: it ends before a size that would take longer
WINDOW_SECONDS = 30.0  # over which the slow-down is taken
MOST_RUNS = 2_000  # of them that are kept
QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a run by its rows: ascending, at least one of each."""

    rows: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def row_seconds(self) -> float:
        """The time of a row in the largest batch that was timed."""
        return self.seconds[-1] / self.rows[-1]

    def expected(self, rows: int) -> float:
        """Return the seconds that a run of so many rows takes by itself: between two sizes on the line from one to the
        other, beyond the last in proportion.
        """
        if rows >= self.rows[-1]:
            return self.seconds[-1] * rows / self.rows[-1]
        place = bisect_left(self.rows, rows)
        if not place:
            return self.seconds[0]
        low, high = self.rows[place - 1], self.rows[place]
        share = (rows - low) / (high - low)
        return self.seconds[place - 1] * (1 - share) + self.seconds[place] * share


def measure(
    model: Model,
    manifest: Manifest,
    columns: Mapping[str, Any],
    most: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Pace | None:
    """Time a model that nobody else uses, on the example rows of its bundle, else on zeros; None where it scores none.

    columns: of the frames that it will get. most: rows of the largest batch. seconds: that a run may take.
    A hierarchy of models has none: what a batch costs there depends on how many leaves its rows have.
    """
    if manifest.partitions is not None:
        return None
    deadline = clock() + MEASURE_SECONDS
    rows, times = list[int](), list[float]()
    most = max(1, min(most, MOST_VALUES // sum(_width(part) for part in manifest.inputs)))
    try:
        for size in [*(each for each in SIZES if each < most), most]:
            if times and clock() + (REPEATS + 1) * times[-1] * size / rows[-1] > deadline:
                break
            taken = statistics.median(_timed(model, sample(manifest, columns, size), seconds, deadline, clock))
            rows.append(size)
            times.append(max(taken, times[-1] if times else 1e-9))
    except (ModelFailed, _NoRows, pl.exceptions.PolarsError, TypeError, ValueError) as error:
        log.debug("%s: batches beyond %d rows cannot be timed: %s", manifest.ref, rows[-1] if rows else 0, error)
    return Pace(tuple(rows), tuple(times)) if rows else None


class _NoRows(Exception):
    """The model takes none of the rows."""


def _timed(
    model: Model, frame: pl.DataFrame, seconds: float, deadline: float, clock: Callable[[], float]
) -> list[float]:
    """Return what some runs took; of a model that is slow only the first, which also allocates."""
    times = list[float]()
    for _ in range(REPEATS + 1):
        began = clock()
        prepared = model.prepare(frame)
        if prepared.rows is not None:
            raise _NoRows
        model.run(prepared.inputs, seconds)
        times.append(clock() - began)
        if clock() > deadline:
            break
    return times[1:] or times


def sample(manifest: Manifest, columns: Mapping[str, Any], rows: int) -> pl.DataFrame:
    """Return so many rows of the model's features: the bundle's examples again and again, zeros where it has none."""
    shapes = {feature: part.shape for part in manifest.inputs for feature in part.features}
    found = {}
    for name in manifest.features:
        dtype = columns[name]
        given = [each.get(name) for each in manifest.example]
        usable = [value for value in given if value is not None]
        values = usable or [_zero(dtype, shapes[name])]
        repeated = [values[row % len(values)] for row in range(min(rows, len(values)))]
        few = pl.Series(name, repeated, dtype=dtype, strict=False)
        found[name] = few[[row % len(few) for row in range(rows)]]
    return pl.DataFrame(found)


def _zero(dtype: Any, shape: Sequence[int]) -> Any:
    depth, item = nesting(dtype)
    if isinstance(item, pl.Enum):
        return item.categories[0]
    value: Any = "" if item == pl.String else False if item == pl.Boolean else 0
    sizes = extents(shape)
    for size in reversed(sizes if depth == len(sizes) else [math.prod(sizes)] if depth else []):
        value = [value] * size
    return value


def _width(part: Input) -> int:
    return math.prod(part.shape) if part.shape else len(part.features)


class Slowdown:
    """How much longer the runs of the last WINDOW_SECONDS took than the version by itself. Any thread may ask.

    clock: seconds of any origin.
    """

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace, self._clock = pace, clock
        self._lock = threading.Lock()
        self._runs: deque[tuple[float, float, int]] = deque(maxlen=MOST_RUNS)  # when, times as long, rows

    def ran(self, rows: int, seconds: float) -> None:
        """Note a run that scored so many rows."""
        if rows:
            with self._lock:
                self._runs.append((self._clock(), seconds / self.pace.expected(rows), rows))

    def p95(self) -> float | None:
        """Return the factor that 95 % of the rows did not exceed; None where nothing was scored."""
        with self._lock:
            oldest = self._clock() - WINDOW_SECONDS
            while self._runs and self._runs[0][0] < oldest:
                self._runs.popleft()
            runs = sorted((factor, rows) for _, factor, rows in self._runs)
        wanted = QUANTILE * sum(rows for _, rows in runs)
        for factor, rows in runs:
            wanted -= rows
            if wanted <= 0:
                return factor
        return None


def slowest(slowdowns: Mapping[str, Slowdown]) -> float | None:
    """Return the greatest slow-down of the arms that score."""
    return max((found for each in slowdowns.values() if (found := each.p95()) is not None), default=None)
