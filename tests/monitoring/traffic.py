"""Made-up traffic with a reference and its profiles, for the monitor's tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import polars as pl

from models.profiler import Profiler, Watermarks
from models.reference import Reference
from monitoring.folds import Folding, Out, Record
from monitoring.profiles import ProfileFold
from schemas import records
from tests.one_arm import OneArm

START = 1_700_000_000_000  # ms of record time
DEPLOYMENT = "flights"
Alerts = dict[tuple[bytes, str], bytes]  # records by key, state and number


def events(rows: int, seed: int, shift: float = 0.0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Features and scores; `shift` in standard deviations moves wind, and the score with it."""
    rng = np.random.default_rng(seed)
    features = pl.DataFrame(
        {
            "wind": rng.normal(shift, 1, rows),
            "rain": rng.exponential(1, rows),
            "carrier": rng.choice(["UA", "AA", "DL"], rows),
        }
    )
    return features, pl.DataFrame({"late": np.clip(rng.normal(0.5 + shift / 20, 0.1, rows), 0, 1)})


@cache
def reference() -> Reference:
    return Reference.from_frame(*events(20_000, 99))


def profiler(deployment: str = DEPLOYMENT, arm: str = "active", version: str = "v1") -> OneArm:
    """What counts the traffic of a worker of one arm."""
    one = Profiler(reference(), deployment=deployment, arm=arm, model="late", version=version)
    return OneArm({arm: one}, Watermarks(clock=lambda: 2 * START))


@dataclass
class Batches:
    """Profiles of batches of `rows` events, one batch a tick, spread over `sources` partitions."""

    profiler: OneArm
    rows: int = 200
    sources: int = 4
    tick: int = 0
    seed: int = field(default=0)

    def batch(self, shift: float = 0.0) -> list[bytes]:
        """The profiles of the next tick."""
        features, scores = events(self.rows, self.seed + self.tick, shift)
        partitions = (np.arange(self.rows) % self.sources).astype(np.int32)
        times = np.full(self.rows, START + 1000 * self.tick)
        self.tick += 1
        return self.profiler.profiles(features, scores, partitions, times)

    def batches(self, count: int, shift: float = 0.0) -> Iterator[bytes]:
        for _ in range(count):
            yield from self.batch(shift)


def fold_all(fold: ProfileFold, values: list[bytes], every: int = 0) -> list[Out]:
    """What follows from a log; `every` so many records the fold starts over from its snapshot."""
    folding, outs = Folding(fold, 0, 0), []
    for offset, value in enumerate(values):
        outs += folding.apply(Record(0, offset, b"k", value))
        if every and offset % every == 0:
            folding = Folding(fold, 0, folding.position, folding.dump())
    return outs


def state_of(value: bytes) -> str:
    """Return which record of its episode an alert is."""
    alert = records.decode("alert", value)
    return f"{alert['state']}, record {alert['number']}"


def by_state(outs: list[Out]) -> Alerts:
    return {(out.key or b"", state_of(out.value or b"")): out.value or b"" for out in outs}


def told(outs: list[Out]) -> list[tuple[str, str, str]]:
    """What the alerts say in short: state, detector, name."""
    found = [records.decode("alert", out.value) for out in outs]
    return [(alert["state"], alert["detector"], alert["name"]) for alert in found]
