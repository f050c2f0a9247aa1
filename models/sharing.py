"""Which models of a hierarchy can share a session, and their graph and weights apart from each other.

What decides is the model alone: it must run in the same way, and so give the same bits, whatever others there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
from onnx import numpy_helper

from models.graph import TENSOR, Examined
from models.programs import PREFIX, Program, Weights

WEIGHTS_BYTES = 128 << 10  # larger weights are not copied for every 16 rows: such a model has a session of its own
GRAPH_BYTES = 32 << 10  # what is more than that holds numbers of its own, such as trees
LEAST_OPSET = 11
LIFTED = (TENSOR.FLOAT, TENSOR.DOUBLE)
# Operators that take weights as inputs as well as as constants, and the places of their inputs that may be weights.
TAKES: dict[str, range] = {
    "Add": range(2),
    "BatchNormalization": range(1, 5),
    "Conv": range(1, 3),
    "Div": range(2),
    "Gather": range(1),
    "Gemm": range(3),
    "LayerNormalization": range(1, 3),
    "MatMul": range(2),
    "Mul": range(2),
    "PRelu": range(1, 2),
    "Sub": range(2),
}


def program_of(examined: Examined) -> Program:
    """Return what a session runs for an examined model: a shared graph where it can be, else its own."""
    proto = onnx.ModelProto.FromString(examined.model)
    names = _liftable(proto)
    if not names or not _can_share(proto):
        return Program(examined.model)
    lifted = {tensor.name: tensor for tensor in proto.graph.initializer if tensor.name in names}
    arrays = [numpy_helper.to_array(tensor) for tensor in lifted.values()]
    weights: Weights = tuple(array.copy(order="C")[None] for array in arrays)
    graph = _shared(proto, list(lifted.values()))
    program = Program(graph, tuple(lifted), weights)
    if program.size > WEIGHTS_BYTES or len(graph) > GRAPH_BYTES:
        return Program(examined.model)
    return program


def _can_share(proto: onnx.ModelProto) -> bool:
    graph = proto.graph
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    weights = {tensor.name for tensor in graph.initializer}
    ends = [*(value for value in graph.input if value.name not in weights), *graph.output]
    names = [value.name for value in ends]
    return (
        opset >= LEAST_OPSET
        and not proto.functions
        and not graph.sparse_initializer
        and len(set(names)) == len(names)
        and not any(value.type.tensor_type.elem_type == TENSOR.STRING for value in ends)
        and not any(name.startswith(PREFIX) for node in graph.node for name in (*node.input, *node.output))
    )


def _liftable(proto: onnx.ModelProto) -> set[str]:
    """The weights of which every use may be an input, so that taking them out of the graph changes no operator."""
    graph = proto.graph
    found = {t.name for t in graph.initializer if t.data_type in LIFTED and all(dim > 0 for dim in t.dims)}
    found -= {value.name for value in graph.output}
    used = set()
    for node in graph.node:
        places = TAKES.get(node.op_type, range(0)) if node.domain in ("", "ai.onnx") else range(0)
        found -= {name for place, name in enumerate(node.input) if place not in places}
        used |= set(node.input)
        for inner in _inner_graphs(node):
            found -= {name for each in inner.node for name in each.input} | {value.name for value in inner.output}
    return found & used


def _inner_graphs(node: onnx.NodeProto) -> Iterator[Any]:
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield graph
            for inner in graph.node:
                yield from _inner_graphs(inner)


def _shared(proto: onnx.ModelProto, lifted: list[onnx.TensorProto]) -> bytes:
    """The graph that goes over tiles of rows and weights; what only describes the model is left out."""
    names = {tensor.name for tensor in lifted}
    body = onnx.GraphProto()
    body.CopyFrom(proto.graph)
    body.name, body.doc_string = "tile", ""
    kept = [tensor for tensor in body.initializer if tensor.name not in names]
    del body.initializer[:]
    body.initializer.extend(kept)
    weights = {tensor.name for tensor in proto.graph.initializer}
    rows = [value for value in proto.graph.input if value.name not in weights]
    inputs = [*rows, *(onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in lifted)]
    del body.input[:]
    body.input.extend(inputs)
    node = onnx.helper.make_node(
        "Scan",
        [PREFIX + value.name for value in inputs],
        [PREFIX + value.name for value in body.output],
        body=body,
        num_scan_inputs=len(inputs),
    )
    outputs = [_of_tiles(value) for value in body.output]
    graph = onnx.helper.make_graph([node], "tiles", [_of_tiles(value) for value in inputs], outputs)
    whole = onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=max(proto.ir_version, 7))
    whole.producer_name = ""
    return bytes(whole.SerializeToString(deterministic=True))


def _of_tiles(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return onnx.helper.make_tensor_value_info(PREFIX + value.name, tensor.elem_type, None)
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    return onnx.helper.make_tensor_value_info(PREFIX + value.name, tensor.elem_type, [None, *dims])
