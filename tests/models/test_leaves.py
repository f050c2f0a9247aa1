"""A hierarchy of models is one bundle: one digest, one contract, and leaves that are read one by one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import parts
from models.bundle import MODEL, SUMS, Bundle, parts_of
from models.errors import BundleAltered, BundleInvalid, ModelError, ModelRefused
from models.leaves import INDEX, Index, name_of, pack, part_of, unpack
from models.manifest import Manifest, Partitions
from models.repository import Repository
from tests.models import graphs
from tests.models.hierarchies import LEAVES, built, linear

FIXED = {"version": "11111111-2222-3333-4444-555555555555", "created": datetime(2026, 1, 1, tzinfo=UTC)}


def model_of(bundle: Bundle, path: tuple[Any, ...]) -> bytes:
    assert bundle.leaves is not None
    return bundle.leaves.model(dict(bundle.leaves.index.leaves)[path])


# one bundle


def test_a_bundle_holds_every_leaf_and_the_root_through_folder_and_zip(tmp_path: Path) -> None:
    bundle = built()
    for read in (bundle, Bundle.read(bundle.write(tmp_path / "folder")), Bundle.read(bundle.write(tmp_path / "b.zip"))):
        assert read == bundle
        assert read.model == linear(0)
        assert {path: model_of(read, path) for path in LEAVES} == LEAVES
    assert Bundle.read(bundle.to_zip()) == bundle


def test_the_manifest_tells_fields_output_and_numbers() -> None:
    partitions = built().manifest.partitions
    assert partitions is not None
    assert [(field.name, field.type) for field in partitions.fields] == [("country", "string"), ("city", "string")]
    assert (partitions.output, partitions.root) == ("partition", True)
    assert (partitions.leaves, partitions.models, partitions.bytes) == (3, 3, sum(map(len, LEAVES.values())))
    assert Manifest.from_json(built().manifest.to_json()).partitions == partitions
    last = built().manifest.fields[-1]
    assert (last.name, last.kind, last.avro) == ("partition", "label", "string")


def test_a_bundle_of_one_model_says_nothing_of_partitions() -> None:
    assert b"partitions" not in graphs.linear_bundle().manifest.to_json()  # so its digest is what it was
    assert graphs.linear_bundle().leaves is None


def test_equal_models_are_stored_once_and_keep_their_own_names() -> None:
    bundle = built(leaves={("DE",): linear(1), ("FR",): linear(1), ("FR", "Paris"): linear(2)})
    assert len([part for part in bundle.parts if part.endswith(".gz")]) == 2
    assert bundle.leaves is not None
    assert [path for path, _ in bundle.leaves.index.leaves] == [("DE",), ("FR",), ("FR", "Paris")]
    assert bundle.manifest.partitions is not None
    assert (bundle.manifest.partitions.leaves, bundle.manifest.partitions.models) == (3, 2)


def test_the_same_build_gives_the_same_bytes_in_whatever_order_leaves_come() -> None:
    backwards = dict(reversed(LEAVES.items()))
    assert built(**FIXED).to_zip() == built(leaves=backwards, **FIXED).to_zip()
    assert built(**FIXED).digest != built(leaves={**LEAVES, ("IT",): linear(9)}, **FIXED).digest


def test_leaves_may_come_one_by_one_with_values_of_numpy_and_without_tuples_for_one_field() -> None:
    def pairs() -> Iterator[tuple[Any, bytes]]:
        yield np.int64(7), linear(1)
        yield 8, linear(2)

    bundle = built(partition_by="store", leaves=pairs())
    assert bundle.leaves is not None
    assert [path for path, _ in bundle.leaves.index.leaves] == [(7,), (8,)]
    assert bundle.manifest.partitions is not None
    assert bundle.manifest.partitions.fields[0].type == "int64"


def test_without_a_root_the_first_leaf_is_what_the_manifest_describes(tmp_path: Path) -> None:
    bundle = built(model=None)
    assert MODEL not in bundle.parts
    assert bundle.model == LEAVES[("DE",)]
    assert bundle.manifest.partitions is not None
    assert not bundle.manifest.partitions.root
    assert Bundle.read(bundle.write(tmp_path / "b.zip")) == bundle


def test_sha256sum_and_gunzip_agree(tmp_path: Path) -> None:
    folder = built().write(tmp_path / "folder")
    done = subprocess.run(["sha256sum", "-c", SUMS], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    for file in (folder / "leaves").glob("*.gz"):
        assert hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest() == file.name.removesuffix(".onnx.gz")


def test_a_bundle_written_over_another_leaves_nothing_of_it_behind(tmp_path: Path) -> None:
    built().write(tmp_path / "folder")
    other = built(leaves={("IT", "Rome"): linear(5)})
    assert Bundle.read(other.write(tmp_path / "folder")) == other
    single = graphs.linear_bundle()
    assert Bundle.read(single.write(tmp_path / "folder")) == single


def test_a_bundle_may_be_written_over_the_file_that_it_is_read_from(tmp_path: Path) -> None:
    path = built().write(tmp_path / "b.zip")
    bundle = Bundle.read(path)
    assert bundle.write(path) == path
    assert Bundle.read(path) == bundle


def test_the_repository_and_its_cache_give_the_leaves_back(tmp_path: Path) -> None:
    repository = Repository(str(tmp_path / "models"), tmp_path / "cache")
    bundle = built()
    repository.add(bundle, ["production"])
    for _ in range(2):  # from the repository, then from the cache
        assert repository.load("hierarchy@production") == bundle
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".ref", ".zip"]


def test_leaves_are_read_after_the_file_of_the_cache_is_gone(tmp_path: Path) -> None:
    repository = Repository(str(tmp_path / "models"), tmp_path / "cache")
    repository.add(built(), ["production"])
    (tmp_path / "blocked").write_text("a file in the way")
    for cache in ("cache", "blocked"):
        bundle = Repository(str(tmp_path / "models"), tmp_path / cache).load("hierarchy@production")
        for file in (tmp_path / "cache").glob("*.zip"):
            file.unlink()
        assert model_of(bundle, ("DE", "Berlin")) == LEAVES[("DE", "Berlin")]


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = built()
    folder, whole = bundle.write(tmp_path / "folder"), len(bundle.to_zip())
    monkeypatch.setattr(parts, "ZIP_BYTES", whole)
    assert Bundle.read(bundle.write(tmp_path / "b.zip")) == Bundle.read(folder)
    for most in (whole - 1, 1000):
        monkeypatch.setattr(parts, "ZIP_BYTES", most)
        with pytest.raises(BundleInvalid, match="is too large for a bundle, which has 0 MiB at most as a zip: build"):
            bundle.write(tmp_path / "other.zip")
        repository = Repository(str(tmp_path / "models"), tmp_path / "cache")
        with pytest.raises(BundleInvalid, match="too large"):
            repository.add(folder, ["production"])
        assert repository.list() == []
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["b.zip"]


# names


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ((), ""),
        (("DE",), "DE"),
        (("DE", "Berlin"), "DE/Berlin"),
        (("a/b", "c"), "a%2Fb/c"),
        (("a", "b/c"), "a/b%2Fc"),
        (("50%", "%2F"), "50%25/%252F"),
        ((7, True, False), "7/true/false"),
    ],
)
def test_every_path_has_a_name_of_its_own(path: tuple[Any, ...], name: str) -> None:
    assert name_of(path) == name


# what is refused at the build


def other_input() -> bytes:
    return linear(1, name="y")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"leaves": {}}, "partition_by needs leaves"),
        ({"partition_by": []}, "leaves need partition_by"),
        ({"leaves": {(): linear(1)}}, r"leaf \[\] has 0 values"),
        ({"leaves": {("DE", "Berlin", "x"): linear(1)}}, "has 3 values, partition_by has 2 fields"),
        ({"leaves": {("DE",): linear(1)}}, "no leaf has a value of city: leave city out"),
        ({"leaves": {("DE", 1): linear(1), ("DE", "x"): linear(2)}}, "values of city are of the types int64, string"),
        ({"leaves": {("DE", ""): linear(1)}}, "an empty text names no leaf"),
        ({"leaves": {("DE", None): linear(1)}}, "None is neither text, integer nor boolean"),
        ({"leaves": {("DE", 1.5): linear(1)}}, "1.5 is neither text"),
        ({"leaves": {("DE", 2**63): linear(1)}}, "does not fit 64 bits"),
        ({"leaves": {("DE", "\ud800"): linear(1)}}, r"'\\ud800' has no UTF-8, so no event can have it"),
        ({"leaves": [(("DE", "x"), linear(1)), (["DE", "x"], linear(2))]}, "leaf DE/x is given twice"),
        ({"partition_by": ["country", "country"]}, "a field is listed twice"),
        ({"partition_output": "no name"}, "cannot be built: partitions.output"),
        ({"partition_output": "score"}, "outputs: a name is used twice"),
        ({"leaves": {("DE", "x"): b"nonsense"}}, "leaf DE/x: the model is not an ONNX file"),
        ({"leaves": {("DE", "x"): linear(1, columns=4)}}, "leaf DE/x: input x has 3 features in the manifest and 4"),
        ({"leaves": {("DE", "x"): other_input()}}, "leaf DE/x: the graph needs the input y, which the manifest lacks"),
        (
            {"leaves": {("DE", "x"): linear(1, wide=2)}},
            r"leaf DE/x: output score has rows of the shape \[2\], not \[1\]",
        ),
    ],
)
def test_a_wrong_hierarchy_says_what_is_wrong_and_where(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BundleInvalid, match=said):
        built(**wrong)


def test_every_leaf_that_breaks_the_contract_is_named_up_to_ten() -> None:
    leaves = {("DE", f"{place:02}"): linear(place, columns=4) for place in range(12)}
    with pytest.raises(BundleInvalid, match=r"(?s)leaf DE/00: .*leaf DE/09: .*and 2 more"):
        built(leaves=leaves)


def test_a_leaf_with_other_classes_is_refused() -> None:
    leaves = {"DE": relabelled(["a", "b", "d"])}
    with pytest.raises(BundleInvalid, match=r"leaf DE: its classes are a, b, d, not a, b, c"):
        built(model=graphs.zipmap(), features=list("abcd"), partition_by="country", leaves=leaves)


def relabelled(labels: list[str]) -> bytes:
    """The classifier of `graphs.zipmap` with other classes."""
    import onnx

    proto = onnx.ModelProto.FromString(graphs.zipmap())
    (node,) = [node for node in proto.graph.node if node.op_type == "ZipMap"]
    node.attribute[0].CopyFrom(onnx.helper.make_attribute("classlabels_strings", labels))
    return bytes(proto.SerializeToString())


def test_an_output_of_unknown_width_is_refused_because_leaves_could_differ_unseen() -> None:
    node = graphs.helper.make_node("Identity", ["x"], ["score"])
    vague = graphs.model([node], [graphs.floats("x", 2)], [graphs.floats("score", None)])
    declared = [{"name": "score", "tensor": "score", "kind": "vector", "classes": ["a", "b"]}]
    with pytest.raises(BundleInvalid, match="output score: the graph does not say how many columns"):
        built(model=vague, leaves={("DE", "x"): vague}, features=["a", "b"], outputs=declared)


def test_the_rules_for_graphs_hold_for_every_leaf() -> None:
    import onnx

    proto = onnx.ModelProto.FromString(linear(1))
    proto.graph.node[0].domain = "com.microsoft"
    with pytest.raises(ModelRefused, match=r"leaf DE/x: operator MatMul of domain com\.microsoft is not allowed"):
        built(leaves={("DE", "x"): bytes(proto.SerializeToString())})


def test_neither_model_nor_leaves_is_no_bundle() -> None:
    with pytest.raises(BundleInvalid, match="give model, or partition_by and leaves"):
        Bundle.build(name="nothing")


# altered bytes


def test_every_altered_byte_of_a_part_is_found() -> None:
    bundle = built()
    for part, content in bundle.parts.items():
        for place in range(0, len(content), 3):
            altered = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            with pytest.raises(BundleAltered):
                Bundle.of_parts({**bundle.parts, part: altered})


def resummed(bundle: Bundle, **changed: bytes | None) -> dict[str, bytes]:
    """The parts as somebody would put them together who wants them believed: with sums that fit."""
    parts = {part: content for part, content in bundle.parts.items() if part != SUMS}
    for part, content in changed.items():
        parts.pop(part, None)
        if content is not None:
            parts[part] = content
    leaves = {part: content for part, content in parts.items() if part.startswith("leaves/")}
    return parts_of(Manifest.from_json(parts["manifest.json"]), parts.get(MODEL), None, leaves)


def test_another_model_under_the_name_of_a_leaf_is_found_when_it_is_read() -> None:
    bundle = built()
    part = part_of(hashlib.sha256(LEAVES[("DE",)]).hexdigest())
    forged = Bundle.of_parts(resummed(bundle, **{part: pack(linear(99))}))
    with pytest.raises(BundleAltered, match="is not the model that it is named after"):
        model_of(forged, ("DE",))
    assert model_of(forged, ("FR",)) == LEAVES[("FR",)]


def test_a_part_that_would_unpack_to_gigabytes_is_cut_at_its_size() -> None:
    bomb = gzip.compress(bytes(50 << 20))
    with pytest.raises(BundleAltered):
        unpack(bomb, hashlib.sha256(bytes(50 << 20)).hexdigest(), 1000)


@pytest.mark.parametrize("part", [INDEX, MODEL, part_of(hashlib.sha256(LEAVES[("DE",)]).hexdigest())])
def test_a_missing_part_is_found(part: str) -> None:
    with pytest.raises(BundleInvalid, match=r"disagree about|lists other models|is missing"):
        Bundle.of_parts(resummed(built(), **{part: None}))


def test_a_leaf_too_many_is_found() -> None:
    stray = linear(77)
    with pytest.raises(BundleInvalid, match="lists other models"):
        Bundle.of_parts(resummed(built(), **{part_of(hashlib.sha256(stray).hexdigest()): pack(stray)}))
    single = graphs.linear_bundle()
    with pytest.raises(BundleInvalid, match="the manifest says nothing of the leaves"):
        Bundle.of_parts(resummed(single, **{part_of(hashlib.sha256(stray).hexdigest()): pack(stray)}))


A, B = "a" * 64, "b" * 64
INDEXES: list[tuple[Any, str]] = [
    ([], "is no index"),
    ({"leaves": [], "models": {}}, "no leaf has a value of city|as many as the manifest"),
    ({"leaves": [["DE", A]], "models": {A: 5}}, "is no index"),
    ({"leaves": [[["DE", "x"], A], [["DE", "x"], A]], "models": {A: 5}}, "listed twice"),
    ({"leaves": [[["DE", 1], A]], "models": {A: 5}}, "1 is no string"),
    ({"leaves": [[["DE", None], A]], "models": {A: 5}}, "None is no string"),
    ({"leaves": [[["DE", ""], A]], "models": {A: 5}}, "empty text"),
    ({"leaves": [[["DE", "\udfff"], A]], "models": {A: 5}}, "has no UTF-8"),
    ({"leaves": [[[], A]], "models": {A: 5}}, "has 0 values"),
    ({"leaves": [[["DE", "x", "y"], A]], "models": {A: 5}}, "has 3 values"),
    ({"leaves": [[["DE"], A]], "models": {A: 5}}, "no leaf has a value of city"),
    ({"leaves": [[["DE", "x"], B]], "models": {A: 5}}, "which is not listed"),
    ({"leaves": [[["DE", "x"], A]], "models": {A: 5, B: 5}}, "a model is listed that no leaf has"),
    ({"leaves": [[["DE", "x"], A]], "models": {A: 6}}, "not as many as the manifest says"),
    ({"leaves": [[["DE", "x"], A]], "models": {A: -1}}, "model a+ of -1 bytes"),
    ({"leaves": [[["DE", "x"], A]], "models": {A: True}}, "model a+ of True bytes"),
    ({"leaves": [[["DE", "x"], A]], "models": {A: 2 << 30}}, "model a+ of"),
    ({"leaves": [[["DE", "x"], "../../x"]], "models": {"../../x": 5}}, "model ../../x of"),
]


@pytest.mark.parametrize(("stated", "said"), INDEXES)
def test_an_index_that_makes_no_sense_is_refused(stated: Any, said: str) -> None:
    fields = [{"name": "country", "type": "string"}, {"name": "city", "type": "string"}]
    told = Partitions.model_validate({"fields": fields, "root": True, "leaves": 1, "models": 1, "bytes": 5})
    with pytest.raises(BundleInvalid, match=f"INDEX.json.*({said})"):
        Index.from_json(json.dumps(stated).encode(), told)


def test_an_index_is_read_as_it_was_written() -> None:
    bundle = built()
    assert bundle.leaves is not None
    assert bundle.manifest.partitions is not None
    assert Index.from_json(bundle.parts[INDEX], bundle.manifest.partitions) == bundle.leaves.index


@pytest.mark.parametrize("name", ["leaves/x.onnx.gz", "leaves/deep/INDEX.json", f"leaves/{A}.onnx", f"{A}.onnx.gz"])
def test_a_foreign_file_among_the_leaves_is_refused(tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO(built().to_zip())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(name, "x")
    with pytest.raises(BundleInvalid, match="does not belong in a bundle"):
        Bundle.read(buffer.getvalue())
    folder = built().write(tmp_path / "folder")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    with pytest.raises(BundleInvalid, match="does not belong in a bundle"):
        Bundle.read(folder)


def test_a_leaf_that_is_altered_on_the_disk_after_it_was_opened_is_found(tmp_path: Path) -> None:
    folder = built().write(tmp_path / "folder")
    bundle = Bundle.read(folder)
    digest = hashlib.sha256(LEAVES[("DE",)]).hexdigest()
    (folder / part_of(digest)).write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="is not the model that it is named after"):
        model_of(bundle, ("DE",))
    (folder / part_of(digest)).unlink()
    with pytest.raises(BundleAltered, match="cannot be read"):
        model_of(bundle, ("DE",))
