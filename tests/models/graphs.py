"""Small ONNX models for tests, made with onnx.helper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.bundle import Bundle

Rows = Sequence[int | str | None]


def value(name: str, kind: int, shape: Rows) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def floats(name: str, columns: int | str | None = 1) -> onnx.ValueInfoProto:
    return value(name, TensorProto.FLOAT, [None, columns])


def weights(name: str, array: Any) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(array), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
) -> bytes:
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(initializers))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


def linear(columns: int = 3, seed: int = 0) -> bytes:
    """score = x . w + b, one matrix of floats."""
    rng = np.random.default_rng(seed)
    parts = [weights("w", rng.normal(size=(columns, 1)).astype("f4")), weights("b", np.array([0.5], "f4"))]
    node = helper.make_node("Gemm", ["x", "w", "b"], ["score"])
    return model([node], [floats("x", columns)], [floats("score")], parts)


def lookup(rows: int = 4) -> bytes:
    """score = table[index]; an index outside the table makes the whole run fail."""
    table = weights("table", np.arange(rows, dtype="f4") * 10)
    node = helper.make_node("Gather", ["table", "index"], ["score"], axis=0)
    return model(
        [node], [value("index", TensorProto.INT64, [None])], [value("score", TensorProto.FLOAT, [None])], [table]
    )


def looping(trips_from_input: bool = True) -> bytes:
    """score = x, after max(trips) turns of a loop (one input), or for ever."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["carried"], ["next"])],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("carried", TensorProto.FLOAT, [1]),
        ],
        [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [1])],
    )
    count = (
        [helper.make_node("ReduceMax", ["trips"], ["count"], keepdims=0)]
        if trips_from_input
        else [helper.make_node("Identity", ["ever"], ["count"])]
    )
    nodes = [
        *count,
        helper.make_node("Loop", ["count", "true", "zero"], ["last"], body=body),
        helper.make_node("Cast", ["trips"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["last", "zero"], ["nothing"]),
        helper.make_node("Add", ["number", "nothing"], ["score"]),
    ]
    parts = [
        weights("ever", np.array(2**62)),
        weights("true", np.array(True)),
        weights("zero", np.zeros(1, "f4")),
    ]
    return model(nodes, [value("trips", TensorProto.INT64, [None])], [value("score", TensorProto.FLOAT, [None])], parts)


def sum_after_loop() -> bytes:
    """score = the sum of each row of two floats, after as many turns of a loop as the largest of all is."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["carried"], ["next"])],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("carried", TensorProto.FLOAT, [1]),
        ],
        [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [1])],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["count"], to=TensorProto.INT64),
        helper.make_node("Loop", ["count", "true", "zero"], ["last"], body=body),
        helper.make_node("Mul", ["last", "zero"], ["nothing"]),
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=1),
        helper.make_node("Add", ["sum", "nothing"], ["score"]),
    ]
    parts = [weights("axes", np.array([1])), weights("true", np.array(True)), weights("zero", np.zeros(1, "f4"))]
    return model(nodes, [floats("x", 2)], [floats("score")], parts)


def many_types() -> bytes:
    """One input of every type, each handed through to an output of its own."""
    kinds = {
        "a_float": TensorProto.FLOAT,
        "a_double": TensorProto.DOUBLE,
        "an_int": TensorProto.INT64,
        "a_bool": TensorProto.BOOL,
        "a_string": TensorProto.STRING,
    }
    nodes = [helper.make_node("Identity", [name], [f"same_{name}"]) for name in kinds]
    return model(
        nodes,
        [value(name, kind, [None, 1]) for name, kind in kinds.items()],
        [value(f"same_{name}", kind, [None, 1]) for name, kind in kinds.items()],
    )


def hungry() -> bytes:
    """About a hundred bytes that ask for 16 GiB."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["score"]),
    ]
    return model(nodes, [floats("x")], [floats("score")], [weights("size", np.array([2**32]))])


def of_neighbours() -> bytes:
    """Each row minus the mean of its batch: a model that mixes up rows."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]),
        helper.make_node("Sub", ["x", "mean"], ["score"]),
    ]
    return model(nodes, [floats("x")], [floats("score")])


def dice() -> bytes:
    """A random number for each row."""
    return model([helper.make_node("RandomNormalLike", ["x"], ["score"])], [floats("x")], [floats("score")])


def zipmap() -> bytes:
    """A linear classifier of three classes whose probabilities a ZipMap turns into one dict per row."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["raw"]),
        helper.make_node("Softmax", ["raw"], ["probabilities"]),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
        helper.make_node(
            "ZipMap", ["probabilities"], ["by_class"], domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"]
        ),
    ]
    mapped = onnx.ValueInfoProto(name="by_class")
    mapped.type.sequence_type.elem_type.map_type.key_type = TensorProto.STRING
    mapped.type.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    return model(
        nodes,
        [floats("x", 4)],
        [value("label", TensorProto.INT64, [None]), mapped],
        [weights("w", rng.normal(size=(4, 3)).astype("f4"))],
    )


def linear_bundle(**manifest: Any) -> Bundle:
    return Bundle.build(**{"name": "linear", "model": linear(), "features": ["a", "b", "c"], **manifest})
