"""Profiles of several arms: each counts its own rows, and the ticks of all close together."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from models.profiler import Profiler, Profilers, Watermarks
from models.reference import Reference
from schemas import records

NOW = 1_700_000_000_000
ROWS = 400


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(0)
    return Reference.from_frame(pl.DataFrame({"x": rng.random(500)}), pl.DataFrame({"score": rng.random(500)}))


def made(reference: Reference) -> Profilers:
    each = {
        arm: Profiler(reference, deployment="flights", arm=arm, model="flights", version=arm)
        for arm in ("active", "canary")
    }
    return Profilers(each, Watermarks(clock=lambda: NOW + 10_000))


def read(values: list[bytes]) -> list[dict[str, Any]]:
    return [records.decode("profile", value) for value in values]


def batch(seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame, outputs = pl.DataFrame({"x": rng.random(ROWS)}), pl.DataFrame({"score": rng.random(ROWS)})
    return frame, outputs, rng.integers(0, 4, ROWS).astype(np.int32), NOW + rng.integers(0, 3_000, ROWS)


def test_each_arm_counts_the_rows_that_it_scored(reference: Reference) -> None:
    frame, outputs, partitions, times = batch()
    arm_of = np.arange(ROWS) % 3  # the last is another reason of the canary's
    found = read(made(reference).profiles(frame, outputs, partitions, times, ["active", "canary", "canary"], arm_of))
    rows = {arm: sum(each["rows"] for each in found if each["arm"] == arm) for arm in ("active", "canary")}
    assert rows == {"active": int((arm_of == 0).sum()), "canary": int((arm_of > 0).sum())}
    for arm in rows:  # what another tells of its own rows is the same that it tells when it is alone
        own = (arm_of == 0) == (arm == "active")
        one = Profilers({arm: made(reference)._profilers[arm]}, Watermarks(clock=lambda: NOW + 10_000))
        alone = read(one.profiles(frame.filter(own), outputs.filter(own), partitions[own], times[own], [arm]))
        cells = [(each["partition"], each["tick"], each["cells"]) for each in alone if each["rows"]]
        assert cells == [(e["partition"], e["tick"], e["cells"]) for e in found if e["arm"] == arm and e["rows"]]


def test_an_arm_without_rows_says_that_a_partition_has_passed_once_a_tick(reference: Reference) -> None:
    profilers = made(reference)
    rows = pl.DataFrame({"x": [0.5]}), pl.DataFrame({"score": [0.5]})

    def told(ms: int) -> list[tuple[str, int, int]]:
        values = profilers.profiles(*rows, np.zeros(1, np.int32), np.array([NOW + ms]), ["active"])
        return [(each["arm"], each["rows"], each["watermark"] - NOW) for each in read(values)]

    assert told(0) == [("active", 1, 0), ("canary", 0, 0)]
    assert told(500) == [("active", 1, 500)]
    assert told(1_000) == [("active", 1, 1_000), ("canary", 0, 1_000)]
    profilers.forget()  # what was told may not have been committed
    assert told(1_001) == [("active", 1, 1_001), ("canary", 0, 1_001)]


def test_rows_of_an_arm_that_is_not_watched_move_the_others_on(reference: Reference) -> None:
    rows = pl.DataFrame({"x": [0.5]}), pl.DataFrame({"score": [0.5]})
    found = read(made(reference).profiles(*rows, np.zeros(1, np.int32), np.array([NOW]), ["constant"]))
    assert [(each["arm"], each["rows"], each["watermark"]) for each in found] == [
        ("active", 0, NOW),
        ("canary", 0, NOW),
    ]


def test_an_idle_partition_is_told_for_every_arm_each_time(reference: Reference) -> None:
    profilers = made(reference)
    for ms in (0, 1):
        found = read(profilers.progress([0, 2], NOW + ms))
        assert [(e["arm"], e["partition"], e["watermark"]) for e in found] == [
            (arm, partition, NOW + ms) for arm in ("active", "canary") for partition in (0, 2)
        ]
