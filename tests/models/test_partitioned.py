"""A hierarchy of models scores each row by its leaf, with the bits that the row gets alone, in bounded memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models import sharing
from models.bundle import Bundle
from models.checks import CHECKS, Case
from models.errors import (
    LeafUnavailable,
    ModelFailed,
    ModelTimedOut,
    RowsFailed,
)
from models.leaves import part_of
from models.runtimes import groups, leafruns
from models.runtimes.partitioned import PartitionedModel
from tests.models import graphs
from tests.models.hierarchies import (
    COLUMNS,
    KINDS,
    LEAVES,
    NAMES,
    TEXTS,
    a_frame,
    built,
    linear,
    load,
    opened,
    regressor,
    scored,
    squared,
)
from tests.models.test_arrays import image


def by_itself(frame: pl.DataFrame, kind: str) -> list[float]:
    """The scores of a frame's rows, each by a runtime of its leaf's model alone."""
    models = dict(zip(["", "DE", "DE/Berlin", "FR"], map(KINDS[kind], range(4)), strict=True))
    alone = {
        name: load(Bundle.build(name="m", model=model, features=["a", "b", "c"]), COLUMNS, {})
        for name, model in models.items()
    }
    scores = []
    for row, name in enumerate(NAMES[place % len(NAMES)] for place in range(len(frame))):
        single = alone[name]
        scores.append(single.run(single.prepare(frame[row]).inputs, 60.0)["score"].item())
    return scores


# the right leaf, the right row, the same bits


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_is_scored_by_the_most_specific_leaf_which_is_named(kind: str) -> None:
    result = scored(opened(built(kind)), a_frame(5))
    assert result.columns == ["score", "partition"]
    assert result["partition"].to_list() == NAMES
    np.testing.assert_allclose(result["score"].to_numpy(), by_itself(a_frame(5), kind), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 7, 16, 100, 3000])
def test_rows_have_the_bits_that_they_have_alone_in_the_order_in_which_they_came(rows: int, kind: str) -> None:
    model, frame = opened(built(kind)), a_frame(rows)
    whole = scored(model, frame)
    for row in range(0, rows, max(1, rows // 50)):
        assert scored(model, frame[row]).equals(whole[row])
    shuffled = np.random.default_rng(0).permutation(rows)
    assert scored(model, frame[shuffled]).equals(whole[shuffled])


def test_a_session_of_its_own_gives_a_leaf_the_bits_of_a_bundle_of_one_model() -> None:
    assert scored(opened(built("own")), a_frame(50))["score"].to_list() == by_itself(a_frame(50), "own")


@pytest.mark.parametrize("kind", KINDS)
def test_a_grouping_that_mixes_rows_up_is_found_by_scoring_them_alone(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    alone = by_itself(a_frame(40), kind)
    chosen = groups.Groups.chosen
    monkeypatch.setattr(groups.Groups, "chosen", lambda self, some: np.roll(chosen(self, some), 1))
    found = scored(opened(built(kind)), a_frame(40))["score"].to_numpy()
    assert not np.allclose(found, alone, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tiles", [1, 3])
def test_how_many_tiles_run_together_makes_no_difference(
    monkeypatch: pytest.MonkeyPatch, tiles: int, kind: str
) -> None:
    whole = scored(opened(built(kind)), a_frame(300))
    monkeypatch.setattr(groups, "GROUP_ROWS", 16 * tiles)
    monkeypatch.setattr(leafruns, "RUN_TILES", tiles)
    assert scored(opened(built(kind)), a_frame(300)).equals(whole)


def test_weights_of_a_run_are_few_enough_to_be_copied() -> None:
    assert leafruns.RUN_TILES * sharing.WEIGHTS_BYTES <= 8 << 20


def test_models_that_share_a_graph_are_one_run() -> None:
    model = opened()
    runs: list[int] = []
    run = model._runner._timed.run

    def counted(session: Any, tensors: Any, inputs: Any, seconds: float) -> Any:
        runs.append(len(next(iter(inputs.values()))))
        return run(session, tensors, inputs, seconds)

    model._runner._timed.run = counted  # type: ignore[method-assign]
    scored(model, a_frame(40))
    assert runs == [4]  # tiles: 8 rows of three leaves each, 16 of the root


def test_hierarchies_of_both_kinds_and_of_several_graphs_are_scored() -> None:
    leaves = {("DE",): regressor(1), ("DE", "Berlin"): squared(2), ("FR",): linear(3)}
    model = opened(built(leaves=leaves))
    frame = a_frame(60)
    whole = scored(model, frame)
    matrix = frame.select("a", "b", "c").to_numpy().astype("f4")
    weights = [np.random.default_rng(seed).normal(size=3).astype("f4") for seed in range(4)]
    for row, name in enumerate(whole["partition"]):
        wanted = matrix[row] @ weights[["", "DE", "DE/Berlin", "FR"].index(name)]
        wanted = wanted * wanted if name == "DE/Berlin" else wanted
        assert whole["score"][row] == pytest.approx(wanted, rel=1e-4, abs=1e-5)
        assert scored(model, frame[row]).equals(whole[row])


def test_large_runs_are_copied_chunk_by_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scored(opened(), a_frame(300))
    monkeypatch.setattr(groups, "CHUNK_ROWS", 16)
    assert scored(opened(), a_frame(300)).equals(whole)


def test_equal_models_score_together_and_are_told_apart() -> None:
    bundle = built(leaves={("DE",): linear(1), ("FR",): linear(1), ("FR", "Paris"): linear(2)})
    model = opened(bundle)
    frame = a_frame(2, country=["DE", "FR"], city=[None, None])
    assert scored(model, frame)["partition"].to_list() == ["DE", "FR"]
    assert model.sessions().made == 2  # the root, and one for both


FLOATS4 = {**dict.fromkeys("abcd", pl.Float64), **TEXTS}
TYPES = {
    "a_float": pl.Float64,
    "a_double": pl.Float64,
    "an_int": pl.Int64,
    "a_bool": pl.Boolean,
    "a_string": pl.String,
    **TEXTS,
}
PLACES = a_frame(40).select("country", "city")
MIXED = pl.DataFrame(
    {
        "a_float": np.arange(40.0),
        "a_double": np.arange(40.0),
        "an_int": range(40),
        "a_bool": [True, False] * 20,
        "a_string": ["x", "y"] * 20,
    }
).hstack(PLACES)
NUMBERS4 = pl.DataFrame(np.random.default_rng(0).normal(size=(40, 4)), schema=list("abcd"))


def reweighted(seed: int) -> bytes:
    """The classifier of `graphs.zipmap` with other weights."""
    import onnx as library

    proto = library.ModelProto.FromString(graphs.zipmap())
    table = np.random.default_rng(seed).normal(size=(4, 3)).astype("f4")
    proto.graph.initializer[0].CopyFrom(graphs.weights("w", table))
    return bytes(proto.SerializeToString())


def hierarchy_of(models: list[bytes], **given: Any) -> Bundle:
    leaves = dict(zip([("DE",), ("DE", "Berlin"), ("FR", "Paris")], models[1:], strict=False))
    return Bundle.build(name="h", model=models[0], partition_by=["country", "city"], leaves=leaves, **given)


CASES = {
    "a matrix": Case(built(), COLUMNS, a_frame()),
    "models with sessions of their own": Case(built("own"), COLUMNS, a_frame()),
    "a stand-in": Case(built(missing={"a": 0.0}), COLUMNS, a_frame()),
    "no room": Case(built(), COLUMNS, a_frame()),
    "no room for sessions": Case(built("own"), COLUMNS, a_frame()),
    "leaves without a root": Case(
        built(model=None), COLUMNS, a_frame(country=["DE", "FR"] * 20, city=["Berlin", "x"] * 20)
    ),
    "maps and labels": Case(
        hierarchy_of([reweighted(seed) for seed in range(4)], features=list("abcd")),
        FLOATS4,
        NUMBERS4.hstack(PLACES),
    ),
    "images": Case(
        hierarchy_of([image((2, 3)), image((2, 3)).replace(b"\0\0\x80\x3f", b"\0\0\xa0\x3f", 1)] * 2, features=["p"]),
        {"p": pl.List(pl.List(pl.Float64)), **TEXTS},
        pl.DataFrame({"p": np.random.default_rng(0).normal(size=(40, 2, 3)).tolist()}).hstack(PLACES),
    ),
    "several inputs of every type": Case(hierarchy_of([graphs.many_types()] * 4), TYPES, MIXED),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", CASES)
def test_the_runtime_keeps_the_contract(check: Any, name: str) -> None:
    memory = 1 if name.startswith("no room") else 1 << 30
    check(lambda bundle, columns, missing: load(bundle, columns, missing, memory=memory), CASES[name])


def test_leaves_of_images_score_by_their_own_weights() -> None:
    case = CASES["images"]
    result = scored(opened(case.bundle, case.columns), case.frame)
    rows = np.array(case.frame["p"].to_list()).reshape(40, 6)
    table = np.arange(1, 7, dtype="f8")
    other = np.where(table == 1, 1.25, table)
    wanted = [
        row @ (table if name in ("", "DE/Berlin") else other)
        for row, name in zip(rows, result["partition"], strict=True)
    ]
    assert set(result["partition"]) == {"", "DE", "DE/Berlin"}
    np.testing.assert_allclose(result["score"].to_numpy(), wanted, rtol=1e-5)


# rows that no model is for


def test_without_a_root_rows_that_no_leaf_is_for_are_refused_and_the_others_are_scored() -> None:
    frame = a_frame(6, a=[1.0, 1.0, 1.0, 1.0, 1.0, None])
    prepared = opened(built(model=None)).prepare(frame)
    assert prepared.rows is not None
    assert prepared.rows.tolist() == [0, 1, 2]
    assert [(r.row, r.reason) for r in prepared.refused] == [
        (3, "missing_partition"),
        (4, "missing_partition"),
        (5, "missing_value"),
    ]
    assert "no leaf of the model is for country 'IT', city 'Rome', and it has no root" in prepared.refused[0].detail
    assert "country None" in prepared.refused[1].detail


def test_models_are_examined_again_when_they_are_loaded() -> None:
    """A bundle that somebody else put together may hold what `Bundle.build` refuses."""
    from models.bundle import parts_of
    from models.hierarchy import gather

    gathered = gather("country", {"DE": linear(1, columns=4)})
    honest = built(partition_by="country", leaves={"DE": linear(1)})
    told = {"partitions": honest.manifest.partitions.model_copy(update=gathered.index.counts())}
    lying = Bundle.of_parts(parts_of(honest.manifest.model_copy(update=told), honest.model, None, gathered.parts))
    model = opened(lying)
    with pytest.raises(LeafUnavailable, match="leaf DE, cannot be loaded: input x has 3 features in the manifest and"):
        scored(model, a_frame(1))


# leaves that fail


def test_a_leaf_that_cannot_be_loaded_fails_its_own_rows_and_is_tried_again(tmp_path: Path) -> None:
    folder = built().write(tmp_path / "folder")
    model = opened(Bundle.read(folder))
    part = folder / part_of(hashlib.sha256(LEAVES[("DE",)]).hexdigest())
    content = part.read_bytes()
    part.write_bytes(b"nonsense")
    with pytest.raises(RowsFailed) as caught:
        scored(model, a_frame(10))
    ((rows, error),) = caught.value.failed
    assert rows.tolist() == [1, 6]
    assert isinstance(error, LeafUnavailable)
    assert "hierarchy@" in str(error)
    assert "leaf DE, cannot be loaded: leaves/" in str(error)
    assert caught.value.scored.tolist() == [0, 2, 3, 4, 5, 7, 8, 9]
    assert caught.value.untried.tolist() == []
    assert caught.value.outputs["partition"].to_list() == [name for name in NAMES * 2 if name != "DE"]
    with pytest.raises(LeafUnavailable):  # alone, so for all of the run
        scored(model, a_frame(10)[1])
    part.write_bytes(content)
    assert scored(model, a_frame(10))["partition"].to_list() == NAMES * 2


def tables(**sizes: int) -> Bundle:
    """Models that look a number up in a table: one outside of it fails the run."""
    leaves = {name: graphs.lookup(size) for name, size in sizes.items()}
    return Bundle.build(name="h", model=graphs.lookup(100), partition_by="country", leaves=leaves)


def test_a_row_that_makes_its_leaf_fail_fails_the_rows_of_that_leaf_only() -> None:
    model = opened(tables(DE=4, FR=50), {"index": pl.Int64, "country": pl.String})
    frame = pl.DataFrame({"index": [3, 60, 1, 9, 2], "country": ["DE", "IT", "FR", "DE", "DE"]})
    with pytest.raises(RowsFailed, match=r"h@.*, leaf DE, failed: .*indices") as caught:
        scored(model, frame)
    assert caught.value.scored.tolist() == [1, 2]
    assert caught.value.outputs.rows() == [(600.0, ""), (10.0, "FR")]
    assert [rows.tolist() for rows, _ in caught.value.failed] == [[0, 3, 4]]
    with pytest.raises(ModelFailed, match="leaf DE, failed") as alone:
        scored(model, frame[3])
    assert type(alone.value) is ModelFailed


def test_a_run_ends_with_the_leaf_that_hangs_and_says_what_it_did_not_come_to() -> None:
    columns = {"trips": pl.Int64, "country": pl.String}
    leaves = {"DE": graphs.looping(), "FR": graphs.looping().replace(b"test", b"tost")}
    bundle = Bundle.build(
        name="h", model=graphs.looping().replace(b"test", b"tast"), features=["trips"], partition_by="country",
        leaves=leaves,
    )  # fmt: skip
    model = opened(bundle, columns)
    frame = pl.DataFrame({"trips": [5, 2**60, 6, 7], "country": ["IT", "DE", "FR", "IT"]})
    with pytest.raises(RowsFailed) as caught:
        scored(model, frame, seconds=0.3)
    ((rows, error),) = caught.value.failed
    assert (rows.tolist(), type(error)) == ([1], ModelTimedOut)
    assert "leaf DE, took longer than 0.3 s" in str(error)
    assert caught.value.scored.tolist() == [0, 3]
    assert caught.value.untried.tolist() == [2]
    assert scored(model, frame[[0, 2, 3]])["score"].to_list() == [5.0, 6.0, 7.0]


def test_a_run_that_loads_for_too_long_stops_between_leaves_and_goes_on_in_the_next() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    bundle = built("own")
    plain = opened(bundle)
    from models.graph import examine

    model = PartitionedModel(bundle, examine(bundle.model), plain._columns, threads=1, memory=1 << 30, clock=clock)
    inputs = model.prepare(a_frame(5)).inputs
    with pytest.raises(RowsFailed, match="were not tried in the time of a run") as caught:
        model.run(inputs, 1.5)
    assert caught.value.failed == []
    assert len(caught.value.scored) + len(caught.value.untried) == 5
    assert len(caught.value.untried) > 0
    rest = {name: array[caught.value.untried] for name, array in inputs.items()}
    assert len(model.run(rest, 60.0)) == len(caught.value.untried)


class Slow:
    """In the place of a session's runs: a model takes some seconds by a clock of its own, and is terminated in time."""

    def __init__(self, bundle: Bundle, seconds: float) -> None:
        self.now, self.seconds, self.terminated = 0.0, seconds, 0
        from models.graph import examine

        columns = opened(bundle)._columns
        self.model = PartitionedModel(
            bundle, examine(bundle.model), columns, threads=1, memory=1 << 30, clock=lambda: self.now
        )
        self._run = self.model._runner._timed.run
        self.model._runner._timed.run = self.run  # type: ignore[method-assign]

    def run(self, session: Any, tensors: Any, inputs: Any, seconds: float) -> Any:
        takes = self.seconds * len(next(iter(inputs.values())))  # tiles
        self.now += min(takes, seconds)
        if takes > seconds:
            self.terminated += 1
            raise ModelTimedOut("took longer")
        return self._run(session, tensors, inputs, 60.0)


MANY = {f"c{place:02}": linear(place) for place in range(40)}
OF_MANY = pl.DataFrame({**{name: np.arange(40.0) for name in "abc"}, "country": list(MANY)})


def test_models_that_are_too_slow_together_are_run_one_by_one_but_not_for_ever() -> None:
    slow = Slow(built(partition_by="country", leaves=MANY), seconds=3.0)
    inputs = slow.model.prepare(OF_MANY).inputs
    rows, turns = np.arange(40), 0
    while len(rows):
        began = slow.now
        with pytest.raises(RowsFailed) as caught:
            slow.model.run({name: array[rows] for name, array in inputs.items()}, 8.0)
        assert slow.now - began <= 3 * 8.0
        assert caught.value.failed == []
        assert len(caught.value.scored)
        rows, turns = rows[caught.value.untried], turns + 1
        if len(rows) <= 2:  # these are quick enough together
            break
    assert slow.terminated == turns


def test_a_leaf_with_many_rows_runs_in_parts_and_keeps_those_that_were_scored() -> None:
    slow = Slow(built(partition_by="country", leaves={"DE": linear(1)}), seconds=0.1)
    frame = a_frame(3000, country=["DE"] * 3000)
    inputs = slow.model.prepare(frame).inputs
    with pytest.raises(RowsFailed) as caught:
        slow.model.run(inputs, 8.0)
    assert slow.now <= 2 * 8.0
    assert (caught.value.failed, slow.terminated) == ([], 0)
    assert caught.value.scored.tolist() == list(range(2048))  # two parts in 12.8 s: the second begins before the 8 s
    rest = {name: array[caught.value.untried] for name, array in inputs.items()}
    assert len(slow.model.run(rest, 8.0)) == 3000 - 2048


def test_outputs_of_another_shape_fail_the_rows_of_their_leaf() -> None:
    whole = graphs.helper.make_node("ReduceSum", ["x"], ["score"], keepdims=1)
    summed = graphs.model([whole], [graphs.floats("x", 3)], [graphs.floats("score")])
    model = opened(built(leaves={("DE", "x"): linear(1), ("FR",): summed}))
    with pytest.raises(RowsFailed, match=r"leaf FR, failed: the outputs score have the shapes \[\(1, 1\)\] for 2 rows"):
        scored(model, a_frame(10))
    nodes = [graphs.helper.make_node("Mul", ["x", "w"], ["y"]), graphs.helper.make_node("ReduceSum", ["y"], ["score"])]
    weighted = graphs.model(
        nodes, [graphs.floats("x", 3)], [graphs.floats("score")], [graphs.weights("w", np.ones(3, "f4"))]
    )
    model = opened(built(leaves={("DE", "x"): linear(1), ("FR",): weighted}))
    with pytest.raises(RowsFailed, match=r"leaf FR, failed: an output has the shape \(1, 1, 1\) for 1 times 16 rows"):
        scored(model, a_frame(10))
