"""Models of one graph share a session where their weights can be its inputs, and score as each would by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks import networks
from models import sharing
from models.graph import examine
from models.programs import PREFIX, Program, feeds, in_rows, in_tiles
from models.runtimes.session import open_session
from models.sharing import program_of
from tests.models import graphs
from tests.models.hierarchies import linear, regressor

helper, FLOAT = graphs.helper, graphs.TensorProto.FLOAT


def program(model: bytes) -> Program:
    return program_of(examine(model))


def run(programs: list[Program], rows: Any, name: str = "score") -> Any:
    """The rows of an output, 16 rows for each program."""
    session = open_session(programs[0].graph, many=True)
    given = feeds(programs[0].names, [each.weights for each in programs], {"x": in_tiles(rows)})
    return in_rows(session.run([PREFIX + name], given)[0], len(programs))


def perceptron(seed: int) -> bytes:
    return networks.perceptron([3, 8, 1], seed=seed)


@pytest.mark.parametrize("make", [linear, perceptron])
def test_models_that_differ_in_weights_only_share_a_graph(make: Any) -> None:
    first, second = program(make(1)), program(make(2))
    assert first.shared
    assert first.key == second.key
    assert first.names == second.names
    assert first.size == sum(array.nbytes for array in first.weights)
    assert any(not np.array_equal(a, b) for a, b in zip(first.weights, second.weights, strict=True))


def test_what_only_describes_a_model_keeps_nobody_apart() -> None:
    proto = onnx.ModelProto.FromString(linear(1))
    proto.graph.name, proto.doc_string, proto.producer_name = "other", "trained on Monday", "exporter"
    proto.metadata_props.append(onnx.StringStringEntryProto(key="run", value="7"))
    assert program(bytes(proto.SerializeToString())).key == program(linear(2)).key


@pytest.mark.parametrize("make", [linear, perceptron])
def test_each_tile_is_scored_with_the_weights_of_its_model(make: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(48, 3)).astype("f4")
    found = run([program(make(seed)) for seed in range(3)], rows)
    for seed in range(3):
        some = slice(16 * seed, 16 * seed + 16)
        alone = open_session(make(seed)).run(None, {"x": rows[some]})[0]
        np.testing.assert_allclose(found[some], alone, rtol=1e-5, atol=1e-6)


def test_a_tile_has_the_same_bits_in_any_company() -> None:
    rng = np.random.default_rng(0)
    programs = [program(networks.perceptron([30, 64, 64, 1], seed=seed)) for seed in range(40)]
    rows = rng.normal(size=(640, 30)).astype("f4")
    whole = run(programs, rows)
    order = rng.permutation(40)
    tiles = in_tiles(rows)[order].reshape(-1, 30)
    again = run([programs[place] for place in order], tiles)
    np.testing.assert_array_equal(in_tiles(again), in_tiles(whole)[order])
    for place in (0, 17, 39):
        some = slice(16 * place, 16 * place + 16)
        np.testing.assert_array_equal(run([programs[place]], rows[some]), whole[some])


def test_a_program_is_packed_and_unpacked() -> None:
    for each in (program(perceptron(1)), program(regressor(1))):
        back = Program.unpack(each.pack())
        assert (back.graph, back.names, back.key) == (each.graph, each.names, each.key)
        for mine, theirs in zip(back.weights, each.weights, strict=True):
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype


def one_node(kind: str, *weights: Any, **attributes: Any) -> bytes:
    """An operator on x [rows, 3] with these weights w0, w1, ..."""
    names = [f"w{place}" for place in range(len(weights))]
    node = helper.make_node(kind, ["x", *names], ["score"], **attributes)
    tensors = [graphs.weights(name, array) for name, array in zip(names, weights, strict=True)]
    return graphs.model([node], [graphs.floats("x", 3)], [graphs.floats("score", 3)], tensors)


VECTOR = np.ones(3, "f4")


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (one_node("Mul", VECTOR), ("w0",)),
        (one_node("Div", np.float32(2.0)), ("w0",)),
        (one_node("BatchNormalization", VECTOR, VECTOR, VECTOR, VECTOR), ("w0", "w1", "w2", "w3")),
        (one_node("LayerNormalization", VECTOR, VECTOR), ("w0", "w1")),
        (one_node("PRelu", VECTOR), ("w0",)),
        (one_node("Gemm", np.ones((3, 3), "f4"), VECTOR), ("w0", "w1")),
    ],
)
def test_operators_that_take_weights_as_inputs_give_what_they_gave(model: bytes, names: Any) -> None:
    shared = program(model)
    assert shared.names == names
    rows = np.random.default_rng(0).normal(size=(32, 3)).astype("f4")
    alone = open_session(model).run(None, {"x": rows})[0]
    np.testing.assert_allclose(run([shared, shared], rows), alone, rtol=1e-5, atol=1e-6)


def with_opset(model: bytes, version: int) -> bytes:
    proto = onnx.ModelProto.FromString(model)
    proto.opset_import[0].version = version
    return bytes(proto.SerializeToString())


def renamed(model: bytes, old: str, new: str) -> bytes:
    proto = onnx.ModelProto.FromString(model)
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = new if name == old else name
    for value in (*proto.graph.output, *proto.graph.initializer):
        value.name = new if value.name == old else value.name
    return bytes(proto.SerializeToString())


def branching() -> bytes:
    """A weight that is used inside of a branch only."""
    branch = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])], "then", [], [graphs.value("y", FLOAT, [None, 3])]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["z"])], "else", [], [graphs.value("z", FLOAT, [None, 3])]
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "least"], ["is_more"]),
        helper.make_node("If", ["is_more"], ["score"], then_branch=branch, else_branch=other),
    ]
    tensors = [graphs.weights("w", VECTOR), graphs.weights("least", np.float32(0))]
    return graphs.model(nodes, [graphs.floats("x", 3)], [graphs.floats("score", 3)], tensors)


def constant_beside() -> bytes:
    """The weight is an output, too."""
    proto = onnx.ModelProto.FromString(one_node("Mul", VECTOR))
    proto.graph.output.append(graphs.value("w0", FLOAT, [3]))
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(regressor(1), id="weights that are attributes"),
        pytest.param(networks.trees(3, 2, 2), id="trees"),
        pytest.param(graphs.many_types(), id="no weights"),
        pytest.param(one_node("Clip", np.float32(0), np.float32(1)), id="weights that may have to be constants"),
        pytest.param(branching(), id="weights inside of a branch"),
        pytest.param(constant_beside(), id="a weight that is an output"),
        pytest.param(with_opset(linear(1), 9), id="an old operator set"),
        pytest.param(networks.perceptron([30, 256, 256, 1]), id="large weights"),
        pytest.param(renamed(linear(1), "w", PREFIX + "w"), id="names that we use"),
    ],
)
def test_other_models_have_a_session_of_their_own(model: bytes) -> None:
    found = program(model)
    assert not found.shared
    assert found.graph == examine(model).model
    assert found.size == 0


def test_a_graph_that_holds_many_numbers_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert program(linear(1)).shared
    monkeypatch.setattr(sharing, "GRAPH_BYTES", 100)
    assert not program(linear(1)).shared


def test_constants_that_stay_tell_graphs_apart() -> None:
    def clipped(most: float) -> bytes:
        nodes = [
            helper.make_node("Mul", ["x", "w"], ["y"]),
            helper.make_node("Clip", ["y", "", "most"], ["score"]),
        ]
        tensors = [graphs.weights("w", VECTOR), graphs.weights("most", np.float32(most))]
        return graphs.model(nodes, [graphs.floats("x", 3)], [graphs.floats("score", 3)], tensors)

    assert program(clipped(1.0)).names == ("w",)
    assert program(clipped(1.0)).key != program(clipped(2.0)).key


def test_an_output_that_is_not_a_row_per_row_is_found() -> None:
    with pytest.raises(ValueError, match=r"has the shape \(2, 1\) for 2 times 16 rows"):
        in_rows(np.zeros((2, 1)), 2)
    assert in_rows(np.zeros((2, 16, 5)), 2).shape == (32, 5)
    assert in_rows(np.zeros((2, 16)), 2).shape == (32,)
