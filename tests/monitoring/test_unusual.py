"""Events that are unusual in several features at once raise one alert, which no feature raises alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl

from models.profiler import Profiler, Watermarks
from models.reference import Reference
from monitoring.profiles import ProfileFold
from monitoring.settings import Settings
from schemas import records
from tests.monitoring.traffic import START, fold_all
from tests.one_arm import OneArm

ROWS, COLUMNS = 400, 12


def events(rows: int, seed: int, odd: float = 0.0) -> pl.DataFrame:
    """Of a share of events all features lie at their edges at once; each feature alone is as ever."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, COLUMNS))
    count = int(rows * odd)
    if count:
        edge = np.sort(values, axis=0)
        for at in range(COLUMNS):  # the same values, but the extreme ones all in the same rows
            values[:, at] = np.concatenate((edge[:count, at], rng.permutation(edge[count:, at])))
    return pl.DataFrame({f"x{at}": values[:, at] for at in range(COLUMNS)})


@cache
def reference(unusual: bool) -> Reference:
    return Reference.from_frame(events(60_000, 99), unusual=unusual)


def told(known: Reference, odd: float) -> list[dict[str, object]]:
    one = Profiler(known, deployment="flights", arm="active", model="late", version="v1")
    profiler, values = OneArm({"active": one}, Watermarks(clock=lambda: 2 * START)), list[bytes]()
    for tick in range(40):
        times = np.full(ROWS, START + 1000 * tick)
        values += profiler.profiles(events(ROWS, tick, odd), pl.DataFrame(), np.zeros(ROWS, np.int32), times)
    fold = ProfileFold("flights", {known.digest: known}, 1, Settings(design_effect=1.0))
    found = [records.decode("alert", out.value or b"") for out in fold_all(fold, values)]
    return [each for each in found if each["state"] == "opened"]


def test_events_that_are_odd_in_all_features_at_once_are_found_though_no_feature_moved() -> None:
    (alert,) = told(reference(True), odd=0.02)
    assert (alert["kind"], alert["name"]) == ("group", "unusual")
    assert "came together as they did not in training" in str(alert["action"])
    assert told(reference(False), odd=0.02) == []
    assert told(reference(True), odd=0.0) == []
