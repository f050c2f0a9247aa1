"""Hierarchies of small models for tests: of models with sessions of their own, and of such that share a graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from models.bundle import Bundle
from models.runtimes import onnx
from models.runtimes.partitioned import PartitionedModel
from tests.models import graphs

load = partial(onnx.load, bounds=None)
TEXTS = {"country": pl.String, "city": pl.String}
COLUMNS = {**dict.fromkeys("abc", pl.Float64), **TEXTS}
WAYS = [("DE", "Berlin"), ("DE", "Bonn"), ("FR", None), ("IT", "Rome"), (None, "Berlin")]
NAMES = ["DE/Berlin", "DE", "FR", "", ""]
PATHS = [("DE",), ("DE", "Berlin"), ("FR",)]


def linear(seed: int, columns: int = 3, wide: int = 1, name: str = "x") -> bytes:
    """score = x . w, with other weights for each seed: models of one shape share a graph."""
    rng = np.random.default_rng(seed)
    node = graphs.helper.make_node("MatMul", [name, "w"], ["score"])
    table = graphs.weights("w", rng.normal(size=(columns, wide)).astype("f4"))
    return graphs.model([node], [graphs.floats(name, columns)], [graphs.floats("score", wide)], [table])


def regressor(seed: int) -> bytes:
    """The same with the weights as attributes, as scikit-learn's models have them: each has a session of its own."""
    rng = np.random.default_rng(seed)
    node = graphs.helper.make_node(
        "LinearRegressor", ["x"], ["score"], domain="ai.onnx.ml", coefficients=rng.normal(size=3).tolist()
    )
    return graphs.model([node], [graphs.floats("x", 3)], [graphs.floats("score")])


def squared(seed: int) -> bytes:
    """score = (x . w) * (x . w)."""
    table = graphs.weights("w", np.random.default_rng(seed).normal(size=(3, 1)).astype("f4"))
    nodes = [
        graphs.helper.make_node("MatMul", ["x", "w"], ["root"]),
        graphs.helper.make_node("Mul", ["root", "root"], ["score"]),
    ]
    return graphs.model(nodes, [graphs.floats("x", 3)], [graphs.floats("score")], [table])


KINDS: dict[str, Callable[[int], bytes]] = {"shared": linear, "own": regressor}
LEAVES = {path: linear(seed) for seed, path in enumerate(PATHS, 1)}


def built(kind: str = "shared", **given: Any) -> Bundle:
    """A root, three leaves by country and city, and three features."""
    make = KINDS[kind]
    leaves = {path: make(seed) for seed, path in enumerate(PATHS, 1)}
    common = {"name": "hierarchy", "model": make(0), "features": ["a", "b", "c"], "leaves": leaves}
    return Bundle.build(**{**common, "partition_by": ["country", "city"], **given})


def a_frame(rows: int = 40, **columns: Any) -> pl.DataFrame:
    rng = np.random.default_rng(rows)
    ways = [WAYS[place % len(WAYS)] for place in range(rows)]
    values = {name: rng.normal(size=rows) for name in "abc"}
    places = {"country": [way[0] for way in ways], "city": [way[1] for way in ways]}
    return pl.DataFrame({**values, **places, **columns}, schema={**COLUMNS, **dict.fromkeys(columns)})


def opened(bundle: Bundle | None = None, columns: Any = None, **given: Any) -> PartitionedModel:
    model = load(bundle or built(), columns or COLUMNS, {}, **given)
    assert isinstance(model, PartitionedModel)
    return model


def scored(model: PartitionedModel, frame: pl.DataFrame, seconds: float = 60.0) -> pl.DataFrame:
    return model.run(model.prepare(frame).inputs, seconds)
