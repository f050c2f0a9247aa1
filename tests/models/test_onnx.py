"""The ONNX runtime turns frames into outputs, refuses rows by policy, and never hangs."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.bundle import Bundle
from models.errors import BundleInvalid, ContractBroken, ModelFailed, ModelRefused, ModelTimedOut
from models.runtimes.onnx import OnnxModel, load
from models.runtimes.session import ROWS, open_session, run_options
from models.runtimes.watchdog import Watchdog
from tests.models import graphs

FLOATS = {"a": pl.Float64, "b": pl.Float64, "c": pl.Float64}
LINEAR = np.random.default_rng(0).normal(size=(3, 1)).astype("f4")


def opened(bundle: Bundle, columns: Any = None, missing: Any = None) -> OnnxModel:
    return load(bundle, columns or FLOATS, missing or {}, bounds=None)


def scored(model: OnnxModel, frame: pl.DataFrame, seconds: float = 30.0) -> pl.DataFrame:
    return model.run(model.prepare(frame).inputs, seconds)


def a_frame(rows: int = 5, **columns: Any) -> pl.DataFrame:
    rng = np.random.default_rng(rows)
    return pl.DataFrame({name: columns.get(name, rng.normal(size=rows)) for name in "abc"})


# one matrix of numbers


def test_a_frame_of_floats_is_scored() -> None:
    frame = a_frame(5)
    result = scored(opened(graphs.linear_bundle()), frame)
    expected = frame.to_numpy().astype("f4") @ LINEAR + np.float32(0.5)
    assert result.schema == {"score": pl.Float32}
    np.testing.assert_allclose(result["score"].to_numpy(), expected[:, 0], rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 1000])
def test_a_run_has_one_row_per_input_row_and_a_multiple_of_16_inside(rows: int) -> None:
    model = opened(graphs.linear_bundle())
    seen: list[int] = []
    session = model._session

    class Watched:
        def run(self, names: Any, inputs: Any, options: Any) -> Any:
            seen.append(len(inputs["x"]))
            return session.run(names, inputs, options)

    model._session = Watched()
    assert len(scored(model, a_frame(rows))) == rows
    assert seen == [-(-rows // ROWS) * ROWS]


def test_no_rows_are_no_run() -> None:
    result = scored(opened(graphs.linear_bundle()), a_frame(0))
    assert result.schema == {"score": pl.Float32}
    assert len(result) == 0


def test_other_columns_and_another_order_make_no_difference() -> None:
    frame = a_frame(4)
    shuffled = frame.select("c", pl.lit("x").alias("other"), "a", "b")
    model = opened(graphs.linear_bundle(), {**FLOATS, "other": pl.String})
    assert scored(model, shuffled).equals(scored(model, frame))


def test_ints_and_booleans_fill_a_matrix_of_floats() -> None:
    columns = {"a": pl.Int64, "b": pl.Boolean, "c": pl.Float32}
    frame = pl.DataFrame({"a": [1, 2], "b": [True, False], "c": [0.5, 1.5]}, schema=columns)
    model = opened(graphs.linear_bundle(), columns)
    floats = pl.DataFrame({"a": [1.0, 2.0], "b": [1.0, 0.0], "c": [0.5, 1.5]})
    assert scored(model, frame).equals(scored(opened(graphs.linear_bundle()), floats))


# missing values, NaN and infinities


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Int64, pl.Boolean])
def test_null_is_refused_where_no_value_stands_in_for_it(dtype: Any) -> None:
    frame = a_frame(3, b=[1, None, 0]).with_columns(pl.col("b").cast(dtype))
    prepared = opened(graphs.linear_bundle(), {**FLOATS, "b": dtype}).prepare(frame)
    assert prepared.rows is not None
    assert prepared.rows.tolist() == [0, 2]
    assert prepared.inputs["x"].shape == (2, 3)
    (refused,) = prepared.refused
    assert (refused.row, refused.reason) == (1, "missing_value")
    assert refused.detail.startswith("b is null; the model needs a value")


def test_the_deployments_stand_in_wins_over_the_bundles() -> None:
    bundle = graphs.linear_bundle(missing={"b": 1.0})
    frame = a_frame(2, b=[None, 1.0])
    for missing, expected in (({}, 1.0), ({"b": 7.0}, 7.0)):
        prepared = opened(bundle, missing=missing).prepare(frame)
        assert prepared.rows is None
        assert prepared.inputs["x"][:, 1].tolist() == [expected, 1.0]


def test_nan_may_stand_in_for_null_where_nan_itself_is_refused() -> None:
    prepared = opened(graphs.linear_bundle(missing={"b": float("nan")})).prepare(a_frame(2, b=[None, float("nan")]))
    assert np.isnan(prepared.inputs["x"][0, 1])
    assert [(r.row, r.reason) for r in prepared.refused] == [(1, "not_finite")]


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_what_is_not_finite_is_refused_unless_the_bundle_lets_it_pass(wild: float) -> None:
    frame = a_frame(3, c=[0.0, wild, 1.0])
    prepared = opened(graphs.linear_bundle()).prepare(frame)
    assert [(r.row, r.reason) for r in prepared.refused] == [(1, "not_finite")]
    assert "c is not a finite number" in prepared.refused[0].detail
    passing = opened(graphs.linear_bundle(not_finite="pass")).prepare(frame)
    assert (passing.rows, passing.refused) == (None, [])
    assert not np.isfinite(passing.inputs["x"][1, 2])


def test_null_is_refused_even_where_nan_may_pass() -> None:
    prepared = opened(graphs.linear_bundle(not_finite="pass")).prepare(a_frame(2, a=[None, float("nan")]))
    assert [(r.row, r.reason) for r in prepared.refused] == [(0, "missing_value")]


def test_a_row_with_several_faults_is_refused_once_and_names_them() -> None:
    prepared = opened(graphs.linear_bundle()).prepare(a_frame(1, a=[None], b=[None], c=[float("inf")]).cast(FLOATS))
    assert [r.row for r in prepared.refused] == [0]
    assert "a is null, b is null, c is not a finite number" in prepared.refused[0].detail
    assert len(prepared.inputs["x"]) == 0


# named tensors


def test_every_type_of_tensor_is_fed_and_read_back() -> None:
    bundle = Bundle.build(name="types", model=graphs.many_types(), missing={"a_string": "?", "an_int": -1})
    columns = {
        "a_float": pl.Float64,
        "a_double": pl.Float64,
        "an_int": pl.Int64,
        "a_bool": pl.Boolean,
        "a_string": pl.Enum(["x", "?"]),
    }
    rows = {"a_float": [0.5], "a_double": [0.1], "an_int": [2**53 + 1], "a_bool": [True], "a_string": ["x"]}
    frame = pl.DataFrame({name: [*values, None] for name, values in rows.items()}, schema=columns)
    model = opened(bundle, columns, {"a_float": 0.0, "a_double": 0.0, "a_bool": False})
    result = scored(model, frame)
    assert result.row(0) == (0.5, 0.1, 2**53 + 1, True, "x")
    assert result.row(1) == (0.0, 0.0, -1, False, "?")
    assert result.dtypes == [pl.Float32, pl.Float64, pl.Int64, pl.Boolean, pl.String]
    assert [(o.kind, o.avro) for o in model.outputs] == [
        ("scalar", "float"),
        ("scalar", "double"),
        ("scalar", "long"),
        ("scalar", "boolean"),
        ("label", "string"),
    ]


def test_an_input_of_rank_one_takes_one_feature() -> None:
    model = opened(Bundle.build(name="lookup", model=graphs.lookup(), features=["i"]), {"i": pl.Int32})
    assert scored(model, pl.DataFrame({"i": [3, 0]}, schema={"i": pl.Int32}))["score"].to_list() == [30.0, 0.0]


# outputs


def test_a_map_gives_the_same_numbers_as_the_dicts_of_its_zipmap() -> None:
    bundle = Bundle.build(name="zip", model=graphs.zipmap(), features=list("abcd"))
    frame = pl.DataFrame(np.random.default_rng(3).normal(size=(20, 4)), schema=list("abcd"))
    model = opened(bundle, dict.fromkeys("abcd", pl.Float64))
    result = scored(model, frame)
    dicts = open_session(graphs.zipmap()).run(["by_class"], {"x": frame.to_numpy().astype("f4")})[0]
    assert [o.kind for o in model.outputs] == ["label", "map"]
    assert model.outputs[1].classes == ("a", "b", "c")
    assert result["by_class"].dtype == pl.List(pl.Float64)
    assert result["by_class"].to_list() == [[row[c] for c in "abc"] for row in dicts]


def test_one_column_of_a_vector_can_be_the_score() -> None:
    outputs = [{"name": "p_b", "tensor": "by_class", "kind": "scalar", "type": "float", "column": 1}]
    bundle = Bundle.build(name="zip", model=graphs.zipmap(), features=list("abcd"), outputs=outputs)
    whole = Bundle.build(name="zip", model=graphs.zipmap(), features=list("abcd"), outputs={"by_class": "all"})
    frame = pl.DataFrame(np.random.default_rng(3).normal(size=(20, 4)), schema=list("abcd"))
    columns = dict.fromkeys("abcd", pl.Float64)
    one, every = scored(opened(bundle, columns), frame), scored(opened(whole, columns), frame)
    assert one.columns == ["p_b"]
    assert one["p_b"].to_list() == [row[1] for row in every["all"].to_list()]


# what goes wrong


def test_a_row_that_makes_the_model_fail_is_a_model_failure_and_the_next_run_is_well() -> None:
    model = opened(Bundle.build(name="lookup", model=graphs.lookup(), features=["i"]), {"i": pl.Int64})
    with pytest.raises(ModelFailed, match=r"lookup@.* failed: .*indices"):
        scored(model, pl.DataFrame({"i": [1, 99]}))
    assert scored(model, pl.DataFrame({"i": [1]}))["score"].to_list() == [10.0]


def test_a_run_that_loops_for_minutes_is_terminated_and_the_next_one_is_well(capfd: pytest.CaptureFixture[str]) -> None:
    model = opened(Bundle.build(name="loop", model=graphs.looping(), features=["trips"]), {"trips": pl.Int64})
    for _ in range(2):
        with pytest.raises(ModelTimedOut, match=r"loop@.* took longer than 0.3 s"):
            scored(model, pl.DataFrame({"trips": [5, 2**60]}), seconds=0.3)
        assert scored(model, pl.DataFrame({"trips": [5, 7]}), seconds=60.0)["score"].to_list() == [5.0, 7.0]
    assert capfd.readouterr().err == ""


def test_a_run_after_a_long_rest_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.runtimes.watchdog.IDLE_LOOKS", 1)
    monkeypatch.setattr("models.runtimes.watchdog.PERIOD", 0.01)
    model = opened(Bundle.build(name="loop", model=graphs.looping(), features=["trips"]), {"trips": pl.Int64})
    watchdog = model._timed.watchdog
    assert watchdog is not None
    while not watchdog._asleep:
        time.sleep(0.01)
    with pytest.raises(ModelTimedOut):
        scored(model, pl.DataFrame({"trips": [2**60]}), seconds=0.1)


def test_closing_ends_the_thread_and_is_harmless_twice() -> None:
    model = opened(graphs.linear_bundle())
    watchdog = model._timed.watchdog
    assert watchdog is not None
    model.close()
    model.close()
    assert watchdog._thread not in threading.enumerate()
    with pytest.raises(ModelFailed, match="is closed"):
        scored(model, a_frame())


def test_an_output_that_is_not_one_row_per_row_is_a_model_failure() -> None:
    summed = graphs.model(
        [graphs.helper.make_node("ReduceSum", ["x"], ["score"], keepdims=1)],
        [graphs.floats("x")],
        [graphs.floats("score")],
    )
    with pytest.raises(ModelFailed, match=r"output score has the shape \(1, 1\) for 3 rows"):
        scored(opened(Bundle.build(name="sum", model=summed, features=["a"])), a_frame(3))


def test_a_model_with_other_inputs_than_the_events_is_refused_with_every_mismatch() -> None:
    with pytest.raises(ContractBroken) as caught:
        opened(graphs.linear_bundle(), {"a": pl.String, "bb": pl.Float64, "c": pl.Float64})
    assert len(caught.value.mismatches) == 2


def test_a_manifest_that_disagrees_with_its_graph_is_refused() -> None:
    honest = graphs.linear_bundle()
    from models.bundle import parts_of

    lying = Bundle.of_parts(parts_of(honest.manifest, graphs.lookup(), None))
    with pytest.raises(BundleInvalid, match="needs the input index, which the manifest lacks"):
        opened(lying)


def test_a_model_that_cannot_be_loaded_is_refused_with_onnxruntimes_reason() -> None:
    broken = graphs.model(
        [graphs.helper.make_node("Gemm", ["x", "absent"], ["score"])], [graphs.floats("x")], [graphs.floats("score")]
    )
    with pytest.raises(ModelRefused, match="cannot be loaded"):
        opened(Bundle.build(name="broken", model=broken, features=["a"]))


def test_loading_warms_the_model_up_in_the_sandbox_first() -> None:
    bundle = Bundle.build(name="hungry", model=graphs.hungry(), features=["a"])
    with pytest.raises(ModelRefused, match="needs more than 2048 MiB of memory"):
        load(bundle, FLOATS, {})


def test_a_vector_of_another_width_than_declared_is_a_model_failure() -> None:
    node = graphs.helper.make_node("Identity", ["x"], ["y"])
    model = graphs.model([node], [graphs.floats("x", None)], [graphs.floats("y", None)])
    for output, said in (
        ({"kind": "vector", "classes": ["left", "right"]}, "2 columns are declared"),
        ({"kind": "scalar", "type": "float"}, "has 3 columns; the manifest reads one"),
    ):
        declared = [{"name": "y", "tensor": "y", **output}]
        bundle = Bundle.build(name="wide", model=model, features=["a", "b", "c"], outputs=declared)
        with pytest.raises(ModelFailed, match=said):
            scored(opened(bundle), a_frame(3))


def test_time_in_which_the_process_was_suspended_is_not_held_against_a_run() -> None:
    now = [0.0]
    watchdog = Watchdog(clock=lambda: now[0])
    watchdog.close()  # the looks are taken by hand
    options = run_options()
    watchdog.begin(options, 1.0)
    watchdog._look()
    now[0] += 100.0
    watchdog._look()
    assert not options.terminate
    for _ in range(10):
        now[0] += 0.1
        watchdog._look()
    assert options.terminate
    assert watchdog.end()
    watchdog.begin(run_options(), 1.0)
    watchdog._look()
    assert not watchdog.end()
