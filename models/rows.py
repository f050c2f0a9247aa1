"""Rows to try a model with before real events come: its examples, and made-up ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.runtimes.session import DTYPES

Array = npt.NDArray[Any]
MADE_UP = 256  # rows
Spec = Mapping[str, Any]  # name, type, rank, shape, features of one input, as the manifest has them


def tries(
    specs: Sequence[Spec], examples: Sequence[Mapping[str, Any]], missing: Mapping[str, Any], strings: Sequence[str]
) -> Iterator[dict[str, Array]]:
    """Batches to try, the likeliest to be scored first: the examples, random rows, zeros, ones.

    strings: texts that the graph knows, for string inputs.
    """
    if examples:
        yield {spec["name"]: _from_examples(spec, examples, missing) for spec in specs}
    rng = np.random.default_rng(0)
    yield {spec["name"]: _shaped(spec, _random(spec, rng, strings)) for spec in specs}
    for number in (0, 1):
        yield {spec["name"]: _shaped(spec, _constant(spec, number, strings)) for spec in specs}


def _width(spec: Spec) -> int:
    return math.prod(spec["shape"]) if spec["shape"] else len(spec["features"])


def _shaped(spec: Spec, matrix: Array) -> Array:
    if spec["shape"]:
        return matrix.reshape(len(matrix), *spec["shape"])
    return matrix if spec["rank"] == 2 else matrix[:, 0]


def _from_examples(spec: Spec, examples: Sequence[Mapping[str, Any]], missing: Mapping[str, Any]) -> Array:
    matrix = np.empty((len(examples), _width(spec)), DTYPES[spec["type"]])
    empty = {"string": "", "float": np.nan, "double": np.nan}.get(spec["type"], 0)
    for row, example in enumerate(examples):
        if spec["shape"]:
            matrix[row] = np.ravel(np.array(example[spec["features"][0]], DTYPES[spec["type"]]))
            continue
        for column, feature in enumerate(spec["features"]):
            value = example.get(feature)
            matrix[row, column] = missing.get(feature, empty) if value is None else value
    return _shaped(spec, matrix)


def _random(spec: Spec, rng: np.random.Generator, strings: Sequence[str]) -> Array:
    shape = (MADE_UP, _width(spec))
    if spec["type"] == "string":
        pool = np.array([*strings, ""], object)
        return pool[rng.integers(0, len(pool), shape)]
    if spec["type"] in ("float", "double"):
        return (rng.normal(size=shape) * 10.0 ** rng.integers(-1, 3, (MADE_UP, 1))).astype(DTYPES[spec["type"]])
    return rng.integers(0, 2 if spec["type"] == "bool" else 10, shape).astype(DTYPES[spec["type"]])


def _constant(spec: Spec, number: int, strings: Sequence[str]) -> Array:
    value: Any = number
    if spec["type"] == "string":
        value = strings[number % len(strings)] if strings else ""
    return np.full((MADE_UP, _width(spec)), value, DTYPES[spec["type"]])
