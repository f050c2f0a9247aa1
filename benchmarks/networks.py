"""ONNX models with random weights: what they say means nothing, what they cost is what is measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def perceptron(widths: Sequence[int], scales: Sequence[float] = (), seed: int = 0) -> bytes:
    """Return a multi-layer perceptron with a sigmoid: x [n, widths[0]] to score [n, 1].

    scales: of each feature, so that no large number decides the score alone.
    """
    nodes, weights, last = _layers("x", widths, seed, scales)
    nodes.append(helper.make_node("Sigmoid", [last], ["score"]))
    return _model(nodes, weights, ["n", widths[0]])


def classifier(shape: Sequence[int], widths: Sequence[int], seed: int = 0) -> bytes:
    """Return a perceptron over arrays: x [n, *shape] to score [n, 1], the probability of the likeliest class."""
    nodes, weights, last = _layers("flat", [int(np.prod(shape)), *widths], seed)
    nodes.insert(0, helper.make_node("Flatten", ["x"], ["flat"]))
    nodes.append(helper.make_node("Softmax", [last], ["classes"], axis=1))
    nodes.append(helper.make_node("ReduceMax", ["classes"], ["score"], axes=[1], keepdims=1))
    return _model(nodes, weights, ["n", *shape])


def trees(width: int, count: int, depth: int, seed: int = 0) -> bytes:
    """Return `count` complete regression trees over [n, width], their sum as score [n, 1]."""
    rng = np.random.default_rng(seed)
    inner, whole = 2**depth - 1, 2 ** (depth + 1) - 1
    ids = np.arange(whole)
    leaf = ids >= inner
    nodes: dict[str, list[Any]] = {
        "treeids": np.repeat(np.arange(count), whole).tolist(),
        "nodeids": np.tile(ids, count).tolist(),
        "featureids": np.where(np.tile(leaf, count), 0, rng.integers(0, width, count * whole)).tolist(),
        "values": np.where(np.tile(leaf, count), 0, rng.normal(size=count * whole)).tolist(),
        "modes": np.tile(np.where(leaf, "LEAF", "BRANCH_LEQ"), count).tolist(),
        "truenodeids": np.tile(np.where(leaf, 0, 2 * ids + 1), count).tolist(),
        "falsenodeids": np.tile(np.where(leaf, 0, 2 * ids + 2), count).tolist(),
    }
    leaves = int(leaf.sum())
    targets: dict[str, list[Any]] = {
        "treeids": np.repeat(np.arange(count), leaves).tolist(),
        "nodeids": np.tile(ids[leaf], count).tolist(),
        "ids": [0] * (count * leaves),
        "weights": rng.normal(scale=0.1, size=count * leaves).tolist(),
    }
    attributes: dict[str, Any] = {f"nodes_{name}": values for name, values in nodes.items()}
    attributes |= {f"target_{name}": values for name, values in targets.items()}
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["score"],
        domain="ai.onnx.ml",
        n_targets=1,
        **attributes,
    )
    return _model([node], [], ["n", width], helper.make_opsetid("ai.onnx.ml", 3))


def padded(width: int, size: int, seed: int = 0) -> bytes:
    """Return a small perceptron with a table of about `size` bytes, of which each row reads one line."""
    nodes, weights, last = _layers("x", [width, 64, 1], seed)
    lines = max(1, size // 256)
    table = np.zeros((lines, 64), "f4")
    weights += [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([0], "i8"), "line"),
        numpy_helper.from_array(np.array([1], "i8"), "axis"),
    ]
    nodes += [
        helper.make_node("Gather", ["table", "line"], ["picked"]),
        helper.make_node("ReduceSum", ["picked", "axis"], ["extra"], keepdims=1),
        helper.make_node("Add", [last, "extra"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["score"]),
    ]
    return _model(nodes, weights, ["n", width])


def failing(width: int, seed: int = 0) -> bytes:
    """Return a perceptron that fails on each row whose first feature is not 0: it loads, warms up, and is of no use."""
    nodes, weights, last = _layers("x", [width, 64, 1], seed)
    weights += [
        numpy_helper.from_array(np.zeros((1, 1), "f4"), "table"),
        numpy_helper.from_array(np.array([0], "i8"), "first"),
        numpy_helper.from_array(np.array(1e6, "f4"), "large"),
    ]
    nodes += [
        helper.make_node("Gather", ["x", "first"], ["column"], axis=1),
        helper.make_node("Mul", ["column", "large"], ["far"]),
        helper.make_node("Cast", ["far"], ["line"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["line", "flat"], ["lines"]),
        helper.make_node("Gather", ["table", "lines"], ["extra"]),  # the table has one line
        helper.make_node("Add", [last, "extra"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["score"]),
    ]
    weights.append(numpy_helper.from_array(np.array([-1], "i8"), "flat"))
    return _model(nodes, weights, ["n", width])


def _layers(
    last: str, widths: Sequence[int], seed: int, scales: Sequence[float] = ()
) -> tuple[list[Any], list[Any], str]:
    """Return dense layers with a ReLU between, their weights, and the name of what comes out."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], []
    for i, shape in enumerate(itertools.pairwise(widths)):
        if i:
            nodes.append(helper.make_node("Relu", [last], [f"a{i}"]))
            last = f"a{i}"
        drawn = rng.normal(0, shape[0] ** -0.5, shape)
        if scales and not i:
            drawn *= np.array(scales)[:, None]
        weights.append(numpy_helper.from_array(drawn.astype("f4"), f"w{i}"))
        weights.append(numpy_helper.from_array(np.zeros(shape[1], "f4"), f"b{i}"))
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"g{i}"]))
        last = f"g{i}"
    return nodes, weights, last


def _model(nodes: list[Any], weights: list[Any], shape: Sequence[int | str], *opsets: Any) -> bytes:
    graph = helper.make_graph(
        nodes,
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), *opsets], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
