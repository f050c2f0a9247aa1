"""A manifest is derived from the graph, and held against it again before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper

from models.bundle import Bundle
from models.describe import disagreements
from models.errors import BundleInvalid
from models.graph import examine
from models.manifest import Input, Manifest, Output
from tests.models import graphs


def through(kind: int, shape_in: Any, shape_out: Any, name: str = "x") -> bytes:
    node = helper.make_node("Identity", [name], ["y:0"])
    return graphs.model([node], [graphs.value(name, kind, shape_in)], [graphs.value("y:0", kind, shape_out)])


def altered(manifest: Manifest, **changes: Any) -> Manifest:
    return Manifest.model_validate({**manifest.model_dump(), **changes})


def test_a_graph_name_that_is_no_field_name_becomes_one() -> None:
    bundle = Bundle.build(name="m", model=through(TensorProto.FLOAT, [None, 1], [None, 1]), features=["a"])
    assert [(output.name, output.tensor) for output in bundle.manifest.outputs] == [("y_0", "y:0")]


def test_a_matrix_of_unknown_width_takes_the_features_given_and_its_vector_must_be_declared() -> None:
    model = through(TensorProto.FLOAT, [None, None], [None, None])
    with pytest.raises(BundleInvalid, match=r"how many columns output y:0 has: declare it with outputs=\[\{"):
        Bundle.build(name="m", model=model, features=["a", "b"])
    declared = [{"name": "both", "tensor": "y:0", "kind": "vector", "classes": ["left", "right"]}]
    bundle = Bundle.build(name="m", model=model, features=["a", "b"], outputs=declared)
    assert disagreements(bundle.manifest, examine(model)) == []


def test_inputs_that_are_named_like_fields_need_no_features() -> None:
    assert Bundle.build(name="m", model=graphs.many_types()).manifest.features[0] == "a_float"
    with pytest.raises(BundleInvalid, match="give features as a mapping from input to fields"):
        Bundle.build(name="m", model=graphs.many_types(), features=["a", "b", "c", "d", "e"])


def test_an_input_of_a_type_that_no_event_has_is_refused() -> None:
    with pytest.raises(
        BundleInvalid, match="input x is of type uint8; possible are float, double, int64, bool, string"
    ):
        Bundle.build(name="m", model=through(TensorProto.UINT8, [None, 1], [None, 1]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": [Input(name="x", type="double", features=["a", "b", "c"])]}, "double in the manifest and float in"),
        ({"inputs": [Input(name="x", type="float", features=["a", "b"])]}, "2 features in the manifest and 3 in"),
        ({"inputs": [Input(name="x", type="float", features=["a"], rank=1)]}, "1 features in the manifest and 3 in"),
        ({"outputs": [Output(name="y", tensor="other", kind="scalar", type="float")]}, "no other; it has score"),
        (
            {"outputs": [Output(name="y", tensor="score", kind="scalar", type="string")]},
            "string in the manifest and float",
        ),
        ({"outputs": [Output(name="y", tensor="score", kind="map")]}, "not made by a ZipMap"),
        (
            {"outputs": [Output(name="y", tensor="score", kind="scalar", type="float", column=1)]},
            "column 1 of score, which has 1 columns",
        ),
    ],
)
def test_a_disagreement_is_named(changes: dict[str, Any], said: str) -> None:
    (found,) = disagreements(altered(graphs.linear_bundle().manifest, **changes), examine(graphs.linear()))
    assert said in found


def test_every_disagreement_is_listed() -> None:
    found = disagreements(graphs.linear_bundle().manifest, examine(graphs.lookup()))
    assert len(found) == 2


def test_a_manifest_and_its_parts_agree_about_the_reference() -> None:
    from models.bundle import REFERENCE, SUMS, _sums

    parts = {**graphs.linear_bundle().parts, REFERENCE: b"{}"}
    parts[SUMS] = _sums(parts)
    with pytest.raises(BundleInvalid, match=r"disagree about reference\.json"):
        Bundle.of_parts(parts)
