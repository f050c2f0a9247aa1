"""What an ONNX graph is before anything runs it: examined against the written rules, described, and made cheap to read.

Model bytes are untrusted. They are parsed once, refused by name when they could reach outside themselves, and written
again: what a session loads is exactly what was examined here.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from models.errors import BundleInvalid, ModelRefused
from models.manifest import Graph

# The written allowlist. Both domains hold only operators that compute on their inputs; `com.microsoft` is not here
# because it holds operators that open files (EPContext) or run code of other providers.
ALLOWED_DOMAINS = frozenset({"ai.onnx", "ai.onnx.ml"})
MODEL_BYTES = 1 << 30  # a larger model is refused before it is parsed

TENSOR = onnx.TensorProto
TYPE_NAMES: dict[int, str] = {
    TENSOR.FLOAT: "float",
    TENSOR.DOUBLE: "double",
    TENSOR.FLOAT16: "float16",
    TENSOR.INT8: "int8",
    TENSOR.UINT8: "uint8",
    TENSOR.INT16: "int16",
    TENSOR.UINT16: "uint16",
    TENSOR.INT32: "int32",
    TENSOR.UINT32: "uint32",
    TENSOR.INT64: "int64",
    TENSOR.BOOL: "bool",
    TENSOR.STRING: "string",
}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the graph: tensor type, rank, and how many columns (None: not written in the graph).

    row: the shape of a row, empty where the graph leaves a dimension open.
    classes: for an output that a ZipMap makes, the keys of its maps; `zipped` says that there was one.
    """

    name: str
    type: str
    rank: int | None
    width: int | None
    row: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    zipped: bool = False


@dataclass(frozen=True, slots=True)
class Examined:
    """A model that keeps the rules.

    model: the bytes to load. class_labels: those of the graph's only classifier. strings: texts that the graph knows.
    """

    model: bytes
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    summary: Graph
    class_labels: tuple[str, ...]
    strings: tuple[str, ...]


def examine(model: bytes) -> Examined:
    """Check a model against the rules and describe it.

    Raises BundleInvalid when the bytes are no ONNX model, ModelRefused when it breaks a rule (external data, operator
    domain, training graph, batch dimension that is fixed).
    """
    proto = _parse(model)
    _refuse_reaching_outside(proto)
    summary = _summary(proto, len(model))
    labels = _class_labels(proto)
    zipped = _unzip_maps(proto)
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = tuple(_port(value, {}) for value in proto.graph.input if value.name not in weights)
    outputs = tuple(_port(value, zipped) for value in proto.graph.output)
    for port in inputs:
        _refuse_fixed_rows(proto, port)
    return Examined(proto.SerializeToString(), inputs, outputs, summary, labels, _strings(proto))


def _parse(model: bytes) -> onnx.ModelProto:
    if len(model) > MODEL_BYTES:
        raise ModelRefused(f"the model has {len(model)} bytes; {MODEL_BYTES} is the limit")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(model)
    except Exception as error:  # protobuf's DecodeError, which onnx does not name
        raise BundleInvalid(f"the model is not an ONNX file: {error}") from error
    if not proto.graph.output or not proto.opset_import:
        raise BundleInvalid("the model is not an ONNX file: it has no outputs or no operator set")
    proto.DiscardUnknownFields()
    for message in _messages(proto):
        if any(_is_no_text(field, value) for field, value in message.ListFields()):
            raise BundleInvalid("the model is not an ONNX file: a name in it is not UTF-8")
    return proto


def _is_no_text(field: Any, value: Any) -> bool:
    """Whether a text field holds bytes, as protobuf hands out what is not UTF-8."""
    if field.type != field.TYPE_STRING or isinstance(value, str):
        return False
    return isinstance(value, bytes) or any(isinstance(text, bytes) for text in value)


def _messages(root: Any) -> Iterator[Any]:
    """Every message inside, wherever it stands: subgraphs, attributes, functions and what later versions add."""
    stack: list[Any] = [root]
    while stack:
        message = stack.pop()
        yield message
        for _, value in message.ListFields():
            if hasattr(value, "ListFields"):
                stack.append(value)
            elif not isinstance(value, (str, bytes, int, float)) and len(value) and hasattr(value[0], "ListFields"):
                stack.extend(value)


def _refuse_reaching_outside(proto: onnx.ModelProto) -> None:
    if proto.training_info:
        raise ModelRefused("the model carries a training graph; export it for inference only")
    own = {function.domain for function in proto.functions}
    for message in _messages(proto):
        if isinstance(message, onnx.TensorProto):
            if message.data_location == TENSOR.EXTERNAL or message.external_data:
                raise ModelRefused(
                    f"tensor {message.name!r} keeps its data in another file; save the model with its data inside "
                    "(onnx.save with save_as_external_data=False)"
                )
        elif isinstance(message, onnx.NodeProto):
            domain = message.domain or "ai.onnx"
            if domain not in ALLOWED_DOMAINS and domain not in own:
                raise ModelRefused(
                    f"operator {message.op_type} of domain {domain} is not allowed; allowed are the domains "
                    f"{', '.join(sorted(ALLOWED_DOMAINS))}: convert the model with standard operators"
                )


def _summary(proto: onnx.ModelProto, size: int) -> Graph:
    nodes = (message.op_type for message in _messages(proto) if isinstance(message, onnx.NodeProto))
    numbers = 0
    for tensor in proto.graph.initializer:
        count = 1
        for dim in tensor.dims:
            count *= max(dim, 0)
        numbers += count
    return Graph(
        ir_version=proto.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        operators=dict(sorted(Counter(nodes).items())),
        parameters=numbers,
        bytes=size,
    )


def _labels_of(node: onnx.NodeProto) -> tuple[str, ...]:
    for attribute in node.attribute:
        if attribute.name in ("classlabels_int64s", "classlabels_ints") and attribute.ints:
            return tuple(str(label) for label in attribute.ints)
        if attribute.name == "classlabels_strings" and attribute.strings:
            return tuple(label.decode("utf-8", "replace") for label in attribute.strings)
    return ()


def _class_labels(proto: onnx.ModelProto) -> tuple[str, ...]:
    found = {_labels_of(node) for node in proto.graph.node} - {()}
    return found.pop() if len(found) == 1 else ()


def _strings(proto: onnx.ModelProto, most: int = 1000) -> tuple[str, ...]:
    texts = (text for node in proto.graph.node for attribute in node.attribute for text in attribute.strings)
    return tuple(dict.fromkeys(text.decode("utf-8", "replace") for text in itertools.islice(texts, most)))


def _unzip_maps(proto: onnx.ModelProto) -> dict[str, tuple[str, ...]]:
    """Replace every ZipMap at an output by the tensor that it would turn into one dict per row; return the classes.

    The numbers are the same, and they arrive as one array instead of one Python dict per row.
    """
    graph = proto.graph
    results = {value.name: value for value in graph.output}
    zipped: dict[str, tuple[str, ...]] = {}
    for node in graph.node:
        name = node.output[0] if node.output else ""
        if (node.op_type, node.domain) != ("ZipMap", "ai.onnx.ml") or name not in results:
            continue
        labels = _labels_of(node)
        zipped[name] = labels
        node.CopyFrom(onnx.helper.make_node("Identity", list(node.input), [name], name=node.name))
        if not any(entry.domain in ("", "ai.onnx") for entry in proto.opset_import):
            proto.opset_import.append(onnx.helper.make_opsetid("", 13))  # converters of trees import `ai.onnx.ml` only
        results[name].CopyFrom(onnx.helper.make_tensor_value_info(name, TENSOR.FLOAT, [None, len(labels)]))
    return zipped


def _port(value: onnx.ValueInfoProto, zipped: dict[str, tuple[str, ...]]) -> Port:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise ModelRefused(
            f"{value.name} is a {kind or 'value without type'}; only tensors and maps of ZipMap are read"
        )
    tensor = value.type.tensor_type
    if tensor.elem_type not in TYPE_NAMES:
        raise ModelRefused(f"{value.name} has element type {tensor.elem_type}, which is not supported")
    rank = len(tensor.shape.dim) if tensor.HasField("shape") else None
    width = None
    if rank == 2 and tensor.shape.dim[1].dim_value > 0:
        width = tensor.shape.dim[1].dim_value
    row = tuple(dim.dim_value for dim in tensor.shape.dim[1:])
    row = row if all(size > 0 for size in row) else ()
    classes = zipped.get(value.name, ())
    return Port(value.name, TYPE_NAMES[tensor.elem_type], rank, width, row, classes, value.name in zipped)


def _refuse_fixed_rows(proto: onnx.ModelProto, port: Port) -> None:
    value = next(value for value in proto.graph.input if value.name == port.name)
    dims: Sequence[Any] = value.type.tensor_type.shape.dim
    if port.rank not in (1, 2) and not port.row:
        raise ModelRefused(
            f"input {port.name} has rank {port.rank}; inputs are [rows], [rows, features], or have a row of fixed shape"
        )
    if dims[0].dim_value > 0:
        raise ModelRefused(
            f"input {port.name} takes exactly {dims[0].dim_value} rows; export the model with a free first dimension"
        )
