"""Stand-ins for decoder and model: an event is the text of a number, and the model doubles it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from models.errors import ModelFailed, ModelTimedOut
from models.runtimes.base import Prepared
from schemas.decode import Decoded
from schemas.errors import SourceUnavailable
from schemas.inference import InferenceCodec, Lineage
from schemas.values import OutputField, Rejection
from streams.arms import Made
from streams.runner import Runner
from streams.scorer import Alone, Scorer

MADE = Made("active", "active", 1.0, "", "doubler", "v1")
CODEC = InferenceCodec("fake", (OutputField("double", "scalar", "double"),), [])


class NumberDecoder:
    """Decodes `b"12"` to 12; anything else is malformed. `down` counts how often the schema source is unavailable."""

    def __init__(self, down: int = 0) -> None:
        self.down = down

    broken_checks: Mapping[str, int] = {"number": 2}

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        if self.down:
            self.down -= 1
            raise SourceUnavailable("the registry does not answer")
        good = [row for row, value in enumerate(values) if value is not None and value.lstrip(b"-").isdigit()]
        bad = sorted(set(range(len(values))) - set(good))
        rejected = [Rejection(row, "malformed", "is no number") for row in bad]
        frame = pl.DataFrame({"number": pl.Series([float(values[row] or b"") for row in good], dtype=pl.Float64)})
        return Decoded(frame, np.array(good, np.int64) if bad else None, rejected, ("abc",), None)


class Doubler:
    """Refuses negative numbers, fails on every 13 and hangs on every 17."""

    name, version = "doubler", "v1"
    outputs = CODEC_OUTPUTS = (OutputField("double", "scalar", "double"),)

    def __init__(self) -> None:
        self.runs = 0

    def prepare(self, frame: pl.DataFrame) -> Prepared:
        numbers = frame["number"].to_numpy()
        good = np.flatnonzero(numbers >= 0)
        refused = [Rejection(int(row), "missing_value", "is negative") for row in np.flatnonzero(numbers < 0)]
        return Prepared({"x": numbers[good]}, good if refused else None, refused)

    def run(self, inputs: Mapping[str, npt.NDArray[Any]], seconds: float) -> pl.DataFrame:
        self.runs += 1
        if (inputs["x"] == 13).any():
            raise ModelFailed("cannot do 13")
        if (inputs["x"] == 17).any():
            raise ModelTimedOut("thinks for ever about 17")
        return pl.DataFrame({"double": inputs["x"] * 2})

    def close(self) -> None:
        """There is nothing to close."""


def scorer(decoder: Any = None, **options: Any) -> Scorer:
    lineage, clock = Lineage("fake", 1, "", "", "", "", "in"), options.get("clock", time.perf_counter)
    alone = Alone(Runner(Doubler(), options.pop("model_seconds", 10.0), clock), MADE)
    return Scorer(decoder or NumberDecoder(), alone, CODEC, lineage, **options)
