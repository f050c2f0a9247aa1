"""What a session runs for one model of many: a graph of its own, or a graph that many models share and its own weights.

Thousands of small models are mostly one graph with other numbers. A session of each would cost 75 KiB beside its
weights, and its run mostly waits for memory that no cache holds. So the graph is loaded once, with the weights as
inputs, and one run goes over many tiles of 16 rows, each with the weights of its model: onnxruntime's Scan. A row gets
the same bits whatever other tiles there are. `models.sharing` says which models can be run so.

Imports neither onnx nor polars, so that the sandbox's subprocess starts quickly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from models.runtimes.session import ROWS

Array = npt.NDArray[Any]
Weights = tuple[Array, ...]

PREFIX = "tiles/"  # of the names of inputs and outputs of a shared graph, whose first dimension is the tiles


@dataclass(frozen=True)
class Program:
    """graph: the ONNX bytes to load. names, weights: the inputs of a shared graph that are this model's, and their
    values, each with a first dimension of 1; empty where the graph is the model's own.
    """

    graph: bytes
    names: tuple[str, ...] = ()
    weights: Weights = ()

    @property
    def shared(self) -> bool:
        return bool(self.names)

    @property
    def size(self) -> int:
        """The bytes of the weights."""
        return sum(array.nbytes for array in self.weights)

    @cached_property
    def key(self) -> str:
        """What programs that share a graph have in common."""
        return hashlib.sha256(self.graph).hexdigest()

    def pack(self) -> bytes:
        """The program as bytes, for the sandbox."""
        kinds = [[name, array.dtype.str, array.shape] for name, array in zip(self.names, self.weights, strict=True)]
        head = json.dumps({"graph": len(self.graph), "weights": kinds}).encode()
        parts = [len(head).to_bytes(8, "big"), head, self.graph, *(array.tobytes() for array in self.weights)]
        return b"".join(parts)

    @classmethod
    def unpack(cls, data: bytes) -> Program:
        """Read what `pack` wrote."""
        at = 8 + int.from_bytes(data[:8], "big")
        head = json.loads(data[8:at])
        graph, at = data[at : at + head["graph"]], at + head["graph"]
        names, weights = [], []
        for name, kind, shape in head["weights"]:
            array = np.frombuffer(data, np.dtype(kind), int(np.prod(shape)), at).reshape(shape)
            names.append(name)
            weights.append(array)
            at += array.nbytes
        return cls(graph, tuple(names), tuple(weights))


def feeds(names: Sequence[str], weights: Sequence[Weights], tiles: Mapping[str, Array]) -> dict[str, Array]:
    """Return the inputs of a shared graph. weights: those of each tile; tiles: rows in tiles, [tiles, 16, ...]."""
    stacked = (np.concatenate(column) for column in zip(*weights, strict=True))
    return {PREFIX + name: array for name, array in [*tiles.items(), *zip(names, stacked, strict=True)]}


def in_tiles(rows: Array) -> Array:
    """Return rows, whose number is a multiple of 16, in tiles."""
    return rows.reshape(-1, ROWS, *rows.shape[1:])


def in_rows(tiles: Any, count: int) -> Array:
    """Return the rows of an output of `count` tiles; raises ValueError when it has not one row for each row."""
    shape = getattr(tiles, "shape", type(tiles).__name__)
    if shape[:2] != (count, ROWS):
        raise ValueError(f"an output has the shape {shape} for {count} times {ROWS} rows")
    rows: Array = tiles.reshape(-1, *shape[2:])
    return rows
