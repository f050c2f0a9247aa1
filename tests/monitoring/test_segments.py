"""Drift of one value of a segment: found, named, and only there."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl

from models.profiler import Profiler, Watermarks
from models.reference import Reference
from monitoring.budget import budget_of
from monitoring.profiles import ProfileFold
from monitoring.settings import Settings
from schemas import records
from tests.monitoring.traffic import START, fold_all
from tests.one_arm import OneArm

ROWS = 400


def events(rows: int, seed: int, shift: float = 0.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A twentieth of events are of the carrier DL; `shift` moves the scores of those only."""
    rng = np.random.default_rng(seed)
    carrier = rng.choice(["UA", "AA", "DL"], rows, p=[0.55, 0.4, 0.05])
    late = np.clip(rng.normal(0.5, 0.1, rows) + shift * (carrier == "DL"), 0, 1)
    return pl.DataFrame({"carrier": carrier, "wind": rng.normal(size=rows)}), pl.DataFrame({"late": late})


@cache
def reference(*segments: str) -> Reference:
    return Reference.from_frame(*events(60_000, 99), segments)


def alerts(known: Reference, ticks: int, shift: float) -> list[tuple[str, str]]:
    one = Profiler(known, deployment="flights", arm="active", model="late", version="v1")
    profiler = OneArm({"active": one}, Watermarks(clock=lambda: 2 * START))
    values: list[bytes] = []
    for tick in range(ticks):
        rows, said = events(ROWS, tick, shift)
        times = np.full(ROWS, START + 1000 * tick)
        values += profiler.profiles(rows, said, np.zeros(ROWS, np.int32), times)
    fold = ProfileFold("flights", {known.digest: known}, 1, Settings(design_effect=1.0))
    told = [records.decode("alert", out.value or b"") for out in fold_all(fold, values)]
    return [(each["kind"], each["name"]) for each in told if each["state"] == "opened"]


def test_a_change_of_one_value_of_a_segment_is_found_and_named_and_the_others_are_calm() -> None:
    found = alerts(reference("carrier"), 60, shift=0.05)
    assert found == [("output", "late where carrier is DL")]
    # without segments it is not found by then: a twentieth of the events hides it
    assert alerts(reference(), 60, shift=0.05) == []
    assert alerts(reference("carrier"), 60, shift=0.0) == []


def test_the_budget_counts_columns_apart_as_columns() -> None:
    names = [[part.name for part in reference(*each).slices] for each in ((), ("carrier",))]
    plain, apart = (budget_of(each, 1000, Settings(budget="deployment")) for each in names)
    assert len(apart.columns) == len(plain.columns) + 3
    # each has a smaller share of the same budget, so it needs more evidence
    assert apart.columns[0] > plain.columns[0]
