"""Models are refused by name before anything runs them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.errors import BundleInvalid, ModelRefused
from models.graph import examine
from tests.models import graphs


def external(name: str = "w") -> onnx.TensorProto:
    tensor = graphs.weights(name, np.ones((3, 1), "f4"))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def changed(edit: object) -> bytes:
    proto = onnx.load_from_string(graphs.linear())
    edit(proto)  # type: ignore[operator]
    return bytes(proto.SerializeToString())


def in_an_initializer(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(external())


def in_a_sparse_initializer(proto: onnx.ModelProto) -> None:
    proto.graph.sparse_initializer.append(
        onnx.SparseTensorProto(values=external(), indices=graphs.weights("i", np.zeros(1, "i8")), dims=[3, 1])
    )


def in_an_attribute(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Constant", [], ["c"], value=external()))


def in_a_list_attribute(proto: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(onnx.AttributeProto(name="many", type=onnx.AttributeProto.TENSORS, tensors=[external()]))
    proto.graph.node.append(node)


def in_a_subgraph(proto: onnx.ModelProto) -> None:
    branch = helper.make_graph([], "branch", [], [graphs.floats("w")], [external()])
    proto.graph.node.append(helper.make_node("If", ["go"], ["c"], then_branch=branch, else_branch=branch))


def in_a_subgraph_of_a_subgraph(proto: onnx.ModelProto) -> None:
    in_a_subgraph(proto)
    outer = helper.make_graph([proto.graph.node.pop()], "outer", [], [graphs.floats("c")])
    proto.graph.node.append(helper.make_node("If", ["go"], ["d"], then_branch=outer, else_branch=outer))


def in_a_function(proto: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=external())
    opsets = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("own", "F", [], ["c"], [node], opsets))


PLACES = [
    in_an_initializer,
    in_a_sparse_initializer,
    in_an_attribute,
    in_a_list_attribute,
    in_a_subgraph,
    in_a_subgraph_of_a_subgraph,
    in_a_function,
]


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_refused_wherever_it_hides(place: object) -> None:
    with pytest.raises(ModelRefused, match="'w' keeps its data in another file"):
        examine(changed(place))


def test_an_external_location_is_refused_even_when_the_tensor_says_it_is_inside() -> None:
    def edit(proto: onnx.ModelProto) -> None:
        proto.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")

    with pytest.raises(ModelRefused, match="another file"):
        examine(changed(edit))


@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.preview.training", "evil"])
def test_an_operator_of_another_domain_is_refused_by_name(domain: str) -> None:
    def edit(proto: onnx.ModelProto) -> None:
        proto.graph.node[0].domain = domain

    with pytest.raises(
        ModelRefused, match=f"Gemm of domain {domain} is not allowed; allowed are .*ai.onnx, ai.onnx.ml"
    ):
        examine(changed(edit))


def test_an_operator_of_another_domain_is_refused_in_a_subgraph_too() -> None:
    def edit(proto: onnx.ModelProto) -> None:
        node = helper.make_node("EPContext", [], ["c"], domain="com.microsoft")
        branch = helper.make_graph([node], "branch", [], [graphs.floats("c")])
        proto.graph.node.append(helper.make_node("If", ["go"], ["d"], then_branch=branch, else_branch=branch))

    with pytest.raises(ModelRefused, match="EPContext"):
        examine(changed(edit))


def test_a_training_graph_is_refused() -> None:
    with pytest.raises(ModelRefused, match="training"):
        examine(changed(lambda proto: proto.training_info.add()))


def test_a_fixed_number_of_rows_is_refused_with_the_way_out() -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = (graphs.value(name, TensorProto.FLOAT, [1, 3]) for name in "xy")
    with pytest.raises(ModelRefused, match="exactly 1 rows; export the model with a free first dimension"):
        examine(graphs.model([node], [x], [y]))


def test_a_row_of_free_shape_is_refused() -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = (graphs.value(name, TensorProto.FLOAT, [None, 3, "h", 8]) for name in "xy")
    with pytest.raises(ModelRefused, match=r"rank 4; .* have a row of fixed shape"):
        examine(graphs.model([node], [x], [y]))


def test_bytes_that_are_no_model_are_no_bundle() -> None:
    for bytes_ in (b"", b"\x00" * 40, b"ORTM" * 10, graphs.linear()[:-30]):
        with pytest.raises(BundleInvalid):
            examine(bytes_)


def test_unknown_fields_do_not_reach_the_session() -> None:
    smuggled = b"\xfa\x3f\x04evil"  # field 1023, which no version of ONNX has
    assert examine(graphs.linear() + smuggled).model == examine(graphs.linear()).model


def test_the_summary_tells_what_the_graph_is_made_of() -> None:
    summary = examine(graphs.looping()).summary
    assert summary.operators["Loop"] == 1
    assert summary.operators["Sin"] == 1  # inside the loop's body
    assert summary.opsets == {"ai.onnx": 17, "ai.onnx.ml": 3}
    assert summary.bytes == len(graphs.looping())


def test_a_map_becomes_a_tensor_with_the_same_classes() -> None:
    port = examine(graphs.zipmap()).outputs[1]
    assert (port.zipped, port.classes, port.width) == (True, ("a", "b", "c"), 3)
