"""A model that asks for too much ends as a refusal, in a process of its own; one that mixes up rows is refused too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models import waiting
from models.bundle import Bundle
from models.determinism import RowsInteract, examine_rows
from models.errors import BundleInvalid, ModelRefused
from models.sandbox import Bounds, prove, warm_up
from models.waiting import Waiting
from tests.models import graphs


def built(model: bytes, **manifest: Any) -> Bundle:
    return Bundle.build(**{"name": "m", "model": model, "features": ["x"], **manifest})


def test_a_good_model_is_proven_bitwise_with_the_onnxruntime_and_cpu_it_holds_for() -> None:
    import onnxruntime

    proof = prove(graphs.linear_bundle())
    assert proof["determinism"] == {"bitwise": True, "tolerance": 0.0, "rows": 512, "rounds": 8}
    assert proof["onnxruntime"] == onnxruntime.__version__
    assert proof["cpu"]
    assert proof["peak_bytes"] > 1 << 20


def test_a_model_of_a_hundred_bytes_that_asks_for_gigabytes_is_refused() -> None:
    model = graphs.hungry()
    assert len(model) < 250
    for call in (warm_up, prove):
        with pytest.raises(ModelRefused, match="needs more than 2048 MiB of memory"):
            call(built(model))


def test_the_same_model_passes_where_there_is_memory_enough() -> None:
    small = graphs.hungry().replace(np.int64(2**32).tobytes(), np.int64(2**20).tobytes())
    assert warm_up(built(small))["failure"] == ""


def test_a_model_that_loops_for_ever_is_ended_and_refused() -> None:
    with pytest.raises(ModelRefused, match="did not finish its warm-up in 2 s and was ended"):
        warm_up(built(graphs.looping(trips_from_input=False)), Bounds(seconds=2.0))


def test_a_model_that_gives_errors_is_refused_by_add_with_the_way_out_and_passes_with_an_example() -> None:
    table = graphs.model(
        [graphs.helper.make_node("Gather", ["table", "i"], ["score"])],
        [graphs.value("i", graphs.TensorProto.INT64, [None])],
        [graphs.value("score", graphs.TensorProto.FLOAT, [None])],
        [graphs.weights("table", np.zeros(1, "f4"))],
    )
    shifted = graphs.model(
        [
            graphs.helper.make_node("Sub", ["i", "by"], ["j"]),
            graphs.helper.make_node("Gather", ["table", "j"], ["score"]),
        ],
        [graphs.value("i", graphs.TensorProto.INT64, [None])],
        [graphs.value("score", graphs.TensorProto.FLOAT, [None])],
        [graphs.weights("table", np.zeros(1, "f4")), graphs.weights("by", np.array(100))],
    )
    assert prove(built(table))["failure"] == ""  # zeros do
    with pytest.raises(ModelRefused, match=r"error for every row .*indices.*example="):
        prove(built(shifted))
    assert "indices" in warm_up(built(shifted))["failure"]  # starting a worker is not stopped by rows we made up
    assert prove(built(shifted, example=[{"x": 100}]))["failure"] == ""


@pytest.mark.parametrize("model", [graphs.of_neighbours(), graphs.dice()])
def test_a_model_whose_rows_depend_on_more_than_themselves_is_refused(model: bytes) -> None:
    with pytest.raises(ModelRefused, match=r"other outputs in other batches .*must score each row by itself"):
        prove(built(model))


def test_the_sandbox_knows_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from models.waiting import _environment

    monkeypatch.setenv("PENSTOCK_KAFKA_SASL_PASSWORD", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "secret" not in str(_environment())
    assert os.environ["PATH"] == _environment()["PATH"]


# the comparison by itself


def rows(count: int = 300) -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.random.default_rng(5).normal(size=(count, 2))}


def test_rounding_that_depends_on_the_batch_becomes_a_tolerance() -> None:
    def run(inputs: Mapping[str, Any]) -> list[Any]:
        return [inputs["x"][:, 0] * (1 + (len(inputs["x"]) % 2) * 1e-9)]

    finding = examine_rows(run, rows())
    assert not finding.bitwise
    assert 1e-10 < finding.tolerance < 1e-7


def test_one_label_that_depends_on_the_batch_is_refused() -> None:
    def run(inputs: Mapping[str, Any]) -> list[Any]:
        labels = (inputs["x"][:, 0] > 0).astype("i8")
        labels[0] = len(labels)
        return [labels]

    with pytest.raises(RowsInteract, match="another label"):
        examine_rows(run, rows())


def test_nan_is_equal_to_nan_and_not_to_a_number() -> None:
    def steady(inputs: Mapping[str, Any]) -> list[Any]:
        return [np.where(inputs["x"][:, 0] > 0, np.nan, 1.0)]

    def fickle(inputs: Mapping[str, Any]) -> list[Any]:
        return [np.full(len(inputs["x"]), np.nan if len(inputs["x"]) % 2 else 1.0)]

    assert examine_rows(steady, rows()).bitwise
    with pytest.raises(RowsInteract):
        examine_rows(fickle, rows())


def test_strings_are_compared_too() -> None:
    def run(inputs: Mapping[str, Any]) -> list[Any]:
        return [np.array([f"{value:.3f}" for value in inputs["x"][:, 0]], object)]

    assert examine_rows(run, rows()).bitwise


def test_padding_is_what_makes_a_kernel_that_rounds_by_batch_size_bitwise() -> None:
    from models.runtimes.session import padded

    def kernel(inputs: Mapping[str, Any]) -> list[Any]:
        return [inputs["x"][:, 0] * (1 + (len(inputs["x"]) % 16 != 0) * 1e-9)]

    def run(inputs: Mapping[str, Any]) -> list[Any]:
        count = len(inputs["x"])
        return [output[:count] for output in kernel(padded(inputs, count))]

    assert examine_rows(run, rows()).bitwise
    assert not examine_rows(kernel, rows()).bitwise


@pytest.mark.parametrize(
    ("returncode", "stderr", "said"),
    [
        (-11, b"", r"crashed \(SIGSEGV\), perhaps for more than 2048 MiB"),
        (-24, b"", "more than 60 s of processor time"),
        (-9, b"", "or the system ended it"),
        (1, b"Traceback\nImportError: no onnxruntime\n", "ImportError: no onnxruntime"),
        (3, b"", "exit code 3"),
    ],
)
def test_a_sandbox_that_dies_says_of_what(
    monkeypatch: pytest.MonkeyPatch, returncode: int, stderr: bytes, said: str
) -> None:
    import subprocess

    died = subprocess.CompletedProcess([], returncode, b"", stderr)
    monkeypatch.setattr("models.sandbox.take", lambda: SimpleNamespace(ask=lambda *args: died))
    with pytest.raises(ModelRefused, match=f"did not survive its warm-up: .*{said}"):
        warm_up(graphs.linear_bundle())


def test_a_process_that_waits_answers_one_question_and_is_gone() -> None:
    waiting.prepare()
    first = waiting._ready
    assert first is not None
    waiting.prepare()
    assert waiting._ready is first  # one is enough
    folder = Path(first._folder.name)
    assert folder.exists()
    assert warm_up(graphs.linear_bundle())["failure"] == ""
    assert first._process.returncode == 0
    assert waiting._ready is None
    assert not folder.exists()
    assert warm_up(graphs.linear_bundle())["failure"] == ""  # by another one


def test_a_process_that_is_never_asked_ends_without_a_word_when_we_do() -> None:
    unasked = Waiting()
    answer = unasked.ask(b"", 30)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, b"", b"")


def test_a_process_that_takes_too_long_is_ended() -> None:
    import subprocess

    slow = Waiting()
    with pytest.raises(subprocess.TimeoutExpired):
        slow.ask(b"", 0.0)
    assert slow._process.returncode is not None
    assert slow._process.returncode < 0


def test_a_model_that_onnxruntime_does_not_load_is_refused_with_its_reason() -> None:
    node = graphs.helper.make_node("Gemm", ["x", "absent"], ["score"])
    broken = built(graphs.model([node], [graphs.floats("x")], [graphs.floats("score")]))
    with pytest.raises(ModelRefused, match=r"cannot be loaded: .*absent"):
        warm_up(broken)


def test_an_output_that_is_not_one_row_per_row_is_no_success() -> None:
    node = graphs.helper.make_node("ReduceSum", ["x"], ["score"], keepdims=1)
    summed = built(graphs.model([node], [graphs.floats("x")], [graphs.floats("score")]))
    assert "output score has the shape (1, 1) for 256 rows" in warm_up(summed)["failure"]


def test_the_sandboxs_process_imports_neither_polars_nor_onnx_nor_pydantic() -> None:
    import subprocess
    import sys

    code = "import sys, models.sandboxed; print([m for m in ('polars', 'onnx', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


# leaves of a hierarchy of models


def hierarchy(*leaves: bytes, **manifest: Any) -> Bundle:
    """A root, and leaves 0, 1, ... of one input column."""
    named = {f"leaf{number}": leaf for number, leaf in enumerate(leaves)}
    return built(graphs.linear(1), partition_by="k", leaves=named, **manifest)


def shifted(seed: int) -> bytes:
    return graphs.linear(1, seed=seed)


def test_the_proof_of_a_hierarchy_covers_every_leaf() -> None:
    proof = prove(hierarchy(*map(shifted, range(1, 30))))
    assert proof["leaves"] == 29
    assert proof["determinism"] == {"bitwise": True, "tolerance": 0.0, "rows": 512, "rounds": 8}
    assert "leaves" not in prove(graphs.linear_bundle())


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (graphs.hungry(), "leaf leaf1: it needs more than 2048 MiB of memory"),
        (graphs.of_neighbours(), r"leaf leaf1: the same rows got other outputs .*must score each row by itself"),
        (graphs.dice(), "leaf leaf1: the same rows got other outputs"),
        (
            graphs.model(
                [graphs.helper.make_node("Gemm", ["x", "absent"], ["score"])],
                [graphs.floats("x")],
                [graphs.floats("score")],
            ),
            r"leaf leaf1: it cannot be loaded: .*absent",
        ),
        (
            graphs.model(
                [graphs.helper.make_node("ReduceSum", ["x"], ["score"], keepdims=1)],
                [graphs.floats("x")],
                [graphs.floats("score")],
            ),
            r"leaf leaf1 gives an error for every row .*\(1, 1\) for 256 rows; put rows .*example=",
        ),
        (
            graphs.model(
                [
                    graphs.helper.make_node("Mul", ["x", "w"], ["y"]),
                    graphs.helper.make_node("ReduceMean", ["y"], ["mean"], axes=[0]),
                    graphs.helper.make_node("Sub", ["y", "mean"], ["score"]),
                ],
                [graphs.floats("x")],
                [graphs.floats("score")],
                [graphs.weights("w", np.ones(1, "f4"))],
            ),
            "leaf leaf1: the same rows got other outputs",  # within a tile of a shared graph
        ),
    ],
)
def test_a_bad_leaf_among_good_ones_is_refused_by_its_name(bad: bytes, said: str) -> None:
    with pytest.raises(ModelRefused, match=said):
        prove(hierarchy(shifted(1), bad, shifted(2)))


def test_a_leaf_that_loops_for_ever_is_ended_and_named() -> None:
    trips = {"model": graphs.looping(), "features": ["trips"], "partition_by": "k"}
    bundle = Bundle.build(name="m", leaves={"good": graphs.looping(), "bad": graphs.looping(False)}, **trips)
    with pytest.raises(ModelRefused, match=r"m@.*, leaf bad, did not finish its warm-up in 2(\.4)? s and was ended"):
        prove(bundle, Bounds(seconds=2.0))


def test_a_hierarchy_that_takes_too_long_altogether_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    def ask(question: bytes, seconds: float) -> None:
        assert seconds == pytest.approx(60 + 0.2 * 2)
        raise subprocess.TimeoutExpired("", seconds, output=b"0\n1\n")

    monkeypatch.setattr("models.sandbox.take", lambda: SimpleNamespace(ask=ask))
    with pytest.raises(ModelRefused, match=r"leaf leaf1, did not finish its warm-up in 60\.4 s"):
        prove(hierarchy(shifted(1), shifted(2)))


def test_a_sandbox_that_dies_over_a_leaf_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    died = subprocess.CompletedProcess([], -11, b"0\n1\n", b"")
    monkeypatch.setattr("models.sandbox.take", lambda: SimpleNamespace(ask=lambda *args: died))
    with pytest.raises(ModelRefused, match=r"leaf leaf1, did not survive its warm-up: it crashed \(SIGSEGV\)"):
        prove(hierarchy(shifted(1), shifted(2)))


def test_a_leaf_of_another_contract_is_refused_before_anything_runs() -> None:
    from models.bundle import parts_of
    from models.hierarchy import gather

    honest = hierarchy(shifted(1))
    gathered = gather("k", {"leaf0": graphs.linear(4)})
    assert honest.manifest.partitions is not None
    told = {"partitions": honest.manifest.partitions.model_copy(update=gathered.index.counts())}
    lying = Bundle.of_parts(parts_of(honest.manifest.model_copy(update=told), honest.model, None, gathered.parts))
    with pytest.raises(BundleInvalid, match="leaf leaf0: input x has 1 features in the manifest and 4 in the graph"):
        prove(lying)


def test_a_start_warms_up_a_few_leaves_of_many() -> None:
    assert warm_up(hierarchy(*map(shifted, range(1, 50))))["leaves"] == 13
    assert warm_up(hierarchy(shifted(1)))["leaves"] == 1
