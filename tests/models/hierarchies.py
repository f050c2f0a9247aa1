"""Hierarchies of small models for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.bundle import Bundle
from tests.models import graphs


def linear(seed: int, columns: int = 3, wide: int = 1, name: str = "x") -> bytes:
    """score = x . w, with other weights for each seed."""
    rng = np.random.default_rng(seed)
    node = graphs.helper.make_node("MatMul", [name, "w"], ["score"])
    table = graphs.weights("w", rng.normal(size=(columns, wide)).astype("f4"))
    return graphs.model([node], [graphs.floats(name, columns)], [graphs.floats("score", wide)], [table])


LEAVES = {("DE",): linear(1), ("DE", "Berlin"): linear(2), ("FR",): linear(3)}


def built(**given: Any) -> Bundle:
    """A root, three leaves by country and city, and three features."""
    common = {"name": "hierarchy", "model": linear(0), "features": ["a", "b", "c"]}
    return Bundle.build(**{**common, "partition_by": ["country", "city"], "leaves": LEAVES, **given})
