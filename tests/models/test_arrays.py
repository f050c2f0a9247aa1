"""One array field fills a tensor: embeddings, images; flat in row-major order, or nested as the rows are."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from onnx import TensorProto, helper

from models.bundle import Bundle
from models.errors import BundleInvalid, ContractBroken
from models.manifest import Input
from models.runtimes.onnx import OnnxModel, load
from models.sandbox import Bounds
from tests.models import graphs

FLAT, NESTED = pl.List(pl.Float64), pl.List(pl.List(pl.Float32))
ROWS = np.random.default_rng(3).normal(size=(5, 2, 3)).astype("f4")


def image(shape: tuple[int, ...] = (1, 2, 3), kind: int = TensorProto.FLOAT) -> bytes:
    """score = the sum of a row, weighted by place, so that an order that is not row-major shows."""
    weights = graphs.weights("w", np.arange(1, 7, dtype="f4" if kind == TensorProto.FLOAT else "i8").reshape(6, 1))
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["score"])]
    return graphs.model(
        nodes, [graphs.value("x", kind, [None, *shape])], [graphs.value("score", kind, [None, 1])], [weights]
    )


def opened(columns: dict[str, Any], model: bytes | None = None, **manifest: Any) -> OnnxModel:
    bundle = Bundle.build(name="image", model=model or image(), features=["pixels"], **manifest)
    return load(bundle, columns, {}, bounds=None)


def expected(rows: Any = ROWS) -> Any:
    return np.reshape(rows, (-1, 6)) @ np.arange(1, 7)


def test_the_shape_of_a_row_is_read_from_the_graph() -> None:
    (part,) = Bundle.build(name="image", model=image(), features=["pixels"]).manifest.inputs
    assert (part.features, part.shape) == (["pixels"], [1, 2, 3])
    (part,) = Bundle.build(name="m", model=graphs.linear(6), features=["embedding"]).manifest.inputs
    assert part.shape == [6]


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3), (3, 1, 2)])
def test_a_flat_array_fills_any_shape_in_row_major_order(shape: tuple[int, ...]) -> None:
    model = opened({"pixels": FLAT}, image(shape))
    prepared = model.prepare(pl.DataFrame({"pixels": ROWS.reshape(5, 6).tolist()}))
    assert prepared.rows is None
    assert prepared.inputs["x"].shape == (5, *shape)
    np.testing.assert_allclose(model.run(prepared.inputs, 30)["score"].to_numpy(), expected(), rtol=1e-5)


def test_a_nested_array_has_the_rows_and_columns_of_the_shape() -> None:
    model = opened({"pixels": NESTED})
    prepared = model.prepare(pl.DataFrame({"pixels": pl.Series(ROWS.tolist(), dtype=NESTED)}))
    np.testing.assert_allclose(model.run(prepared.inputs, 30)["score"].to_numpy(), expected(), rtol=1e-5)


def test_integers_fill_a_tensor_of_integers() -> None:
    model = opened({"pixels": pl.List(pl.Int32)}, image(kind=TensorProto.INT64))
    whole = np.arange(12).reshape(2, 6)
    prepared = model.prepare(pl.DataFrame({"pixels": pl.Series(whole.tolist(), dtype=pl.List(pl.Int32))}))
    assert model.run(prepared.inputs, 30)["score"].to_list() == expected(whole).tolist()


def test_each_row_that_does_not_fit_is_refused_with_its_reason_and_the_others_are_scored() -> None:
    good = ROWS[0].ravel().tolist()
    rows = [good, None, good[:5], [*good, 1.0], [], [*good[:5], None], [*good[:5], float("inf")], good]
    model = opened({"pixels": FLAT})
    prepared = model.prepare(pl.DataFrame({"pixels": pl.Series(rows, dtype=FLAT)}))
    assert prepared.rows is not None
    assert prepared.rows.tolist() == [0, 7]
    found = {refused.row: refused.reason for refused in prepared.refused}
    assert found == {1: "missing_value", **dict.fromkeys((2, 3, 4), "wrong_shape"), 5: "missing_value", 6: "not_finite"}
    assert "pixels is no array of 6; send as many numbers" in prepared.refused[1].detail
    np.testing.assert_allclose(model.run(prepared.inputs, 30)["score"].to_numpy(), expected(ROWS[[0, 0]]), rtol=1e-5)


def test_ragged_rows_are_refused() -> None:
    a, b = ROWS[0].tolist(), ROWS[1].tolist()
    rows = [a, [a[0] + [1.0], a[1][:2]], [a[0]], [a[0], None], b]
    prepared = opened({"pixels": NESTED}).prepare(pl.DataFrame({"pixels": pl.Series(rows, dtype=NESTED)}))
    assert prepared.rows is not None
    assert prepared.rows.tolist() == [0, 4]
    assert {refused.reason for refused in prepared.refused} == {"wrong_shape"}
    np.testing.assert_array_equal(prepared.inputs["x"], np.stack([ROWS[0], ROWS[1]])[:, None])


def test_no_row_that_fits_leaves_nothing_to_score() -> None:
    prepared = opened({"pixels": FLAT}).prepare(pl.DataFrame({"pixels": pl.Series([[1.0], None], dtype=FLAT)}))
    assert prepared.inputs["x"].shape == (0, 1, 2, 3)
    assert len(prepared.refused) == 2


def test_numbers_that_are_not_finite_pass_where_the_bundle_lets_them() -> None:
    model = opened({"pixels": FLAT}, not_finite="pass")
    prepared = model.prepare(pl.DataFrame({"pixels": [[float("inf")] * 6]}))
    assert prepared.rows is None


@pytest.mark.parametrize("dtype", [pl.Float64, pl.List(pl.String), pl.List(pl.List(pl.List(pl.Float64)))])
def test_a_field_that_cannot_fill_the_tensor_is_refused_at_load(dtype: Any) -> None:
    with pytest.raises(ContractBroken, match=r"has rows of the shape \[1, 2, 3\], .* declare it as array of double"):
        opened({"pixels": dtype})


def test_an_array_has_no_stand_in() -> None:
    with pytest.raises(ContractBroken, match="nothing stands in for an array"):
        opened({"pixels": FLAT}, missing={"pixels": 0.0})


def test_several_fields_do_not_fill_an_image() -> None:
    with pytest.raises(BundleInvalid, match=r"rows of the shape \[1, 2, 3\]: one array field fills it"):
        Bundle.build(name="image", model=image(), features=["a", "b"])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [({"features": ["a", "b"]}, "one array fills"), ({"type": "string"}, "not string"), ({"shape": [0]}, "greater")],
)
def test_a_shape_that_makes_no_sense_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Input.model_validate({"name": "x", "type": "float", "features": ["a"], "shape": [6], **wrong})


def test_an_output_with_the_shape_of_an_image_says_what_to_do() -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = (graphs.value(name, TensorProto.FLOAT, [None, 3, 8, 8]) for name in "xy")
    with pytest.raises(BundleInvalid, match="output y has rank 4: let the model end in a Flatten"):
        Bundle.build(name="image", model=graphs.model([node], [x], [y]), features=["pixels"])


def test_a_model_of_arrays_is_warmed_up_with_its_examples() -> None:
    example = [{"pixels": ROWS[0].tolist()}, {"pixels": ROWS[1].ravel().tolist()}]
    bundle = Bundle.build(name="image", model=image(), features=["pixels"], example=example)
    load(bundle, {"pixels": FLAT}, {}, bounds=Bounds()).close()
