"""A bundle holds what it says, under one digest, however it is stored."""

from __future__ import annotations

import io
import subprocess
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

import penstock
from models.bundle import MODEL, SUMS, Bundle
from models.errors import BundleAltered, BundleInvalid
from models.manifest import Manifest, Training
from tests.models import graphs


@pytest.fixture
def bundle() -> Bundle:
    return graphs.linear_bundle(
        reference=b'{"features": {}}',
        tags=["candidate"],
        author="Ada",
        framework="scikit-learn",
        libraries={"scikit-learn": "1.9.1", "skl2onnx": "1.20.0"},
        training={"data": "flights 2013-01..03", "run_id": "run-7", "parameters": {"depth": 3, "rate": 0.1}},
        metrics={"auc": 0.71},
        missing={"a": 0.0},
        example=[{"a": 1.0, "b": 2.0, "c": None}],
    )


def test_the_manifest_keeps_everything_it_was_given_through_its_json(bundle: Bundle) -> None:
    manifest = Manifest.from_json(bundle.manifest.to_json())
    assert manifest == bundle.manifest
    assert (manifest.author, manifest.training.run_id, manifest.metrics) == ("Ada", "run-7", {"auc": 0.71})
    assert manifest.training.parameters == {"depth": 3, "rate": 0.1}
    assert manifest.graph.operators == {"Gemm": 1}
    assert manifest.graph.parameters == 4
    assert manifest.features == ["a", "b", "c"]
    assert manifest.reference is True


def test_the_range_of_the_training_data_is_kept_and_bundles_without_one_are_as_they_were(bundle: Bundle) -> None:
    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    training = Training(data="x", since=since, until=until)
    manifest = bundle.manifest.model_copy(update={"training": training})
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert b'"since"' not in bundle.manifest.to_json()
    assert b'"until"' not in bundle.manifest.to_json()
    with pytest.raises(ValidationError, match="cannot end"):
        Training(since=until, until=since)


def test_folder_and_zip_have_the_same_digest_and_the_same_content(bundle: Bundle, tmp_path: Path) -> None:
    read = [Bundle.read(bundle.write(tmp_path / name)) for name in ("folder", "file.zip")]
    assert read == [bundle, bundle]
    assert Bundle.read(bundle.to_zip()).digest == bundle.digest


def test_the_same_build_gives_the_same_bytes() -> None:
    fixed = {"version": "11111111-2222-3333-4444-555555555555", "created": datetime(2026, 1, 1, tzinfo=UTC)}
    assert graphs.linear_bundle(**fixed).to_zip() == graphs.linear_bundle(**fixed).to_zip()
    assert graphs.linear_bundle(**fixed).digest != graphs.linear_bundle(**fixed, author="Eve").digest


def test_sha256sum_agrees_with_the_sums(bundle: Bundle, tmp_path: Path) -> None:
    bundle.write(tmp_path / "folder")
    done = subprocess.run(["sha256sum", "-c", SUMS], cwd=tmp_path / "folder", capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_altered_byte_of_a_folder_is_found(bundle: Bundle) -> None:
    for part, content in bundle.parts.items():
        for place in range(len(content)):
            altered = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            with pytest.raises(BundleAltered, match=part if part != SUMS else "altered"):
                Bundle.of_parts({**bundle.parts, part: altered})


def test_an_altered_byte_of_a_zip_is_found_or_leaves_the_content_as_it_was() -> None:
    bundle = graphs.linear_bundle()
    archive, found = bundle.to_zip(), 0
    for place in range(len(archive)):
        altered = archive[:place] + bytes([archive[place] ^ 1]) + archive[place + 1 :]
        try:
            assert Bundle.read(altered).parts == bundle.parts  # such as a file's time inside the zip
        except BundleInvalid:
            found += 1
    assert found > sum(map(len, bundle.parts.values()))


def test_a_folder_with_an_altered_model_is_refused_by_name(bundle: Bundle, tmp_path: Path) -> None:
    folder = bundle.write(tmp_path / "folder")
    content = bytearray((folder / MODEL).read_bytes())
    content[20] ^= 1
    (folder / MODEL).write_bytes(content)
    with pytest.raises(BundleAltered, match=r"model\.onnx does not match SHA256SUMS"):
        Bundle.read(folder)


@pytest.mark.parametrize("name", ["extra.py", "../manifest.json", "model.onnx.data"])
def test_a_zip_with_a_foreign_file_is_refused(bundle: Bundle, name: str) -> None:
    buffer = io.BytesIO(bundle.to_zip())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(name, "x")
    with pytest.raises(BundleInvalid, match="does not belong in a bundle"):
        Bundle.read(buffer.getvalue())


def test_a_link_in_a_folder_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    folder = bundle.write(tmp_path / "folder")
    (folder / MODEL).rename(tmp_path / "elsewhere")
    (folder / MODEL).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleInvalid, match="does not belong"):
        Bundle.read(folder)


def test_a_zip_that_would_unpack_to_gigabytes_is_refused_before_it_is_unpacked() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * (5 << 20))
    with pytest.raises(BundleInvalid, match=r"manifest\.json has more than"):
        Bundle.read(buffer.getvalue())


@pytest.mark.parametrize(
    ("source", "said"), [(b"", "is no zip"), (b"PK\3\4 nonsense", "is no zip"), ("absent.zip", "cannot be read")]
)
def test_what_is_no_bundle_is_refused(source: bytes | str, said: str) -> None:
    with pytest.raises(BundleInvalid, match=said):
        Bundle.read(source)


def test_a_folder_without_a_manifest_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match=r"SHA256SUMS, manifest\.json, model\.onnx is missing"):
        Bundle.read(tmp_path)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"auther": "Ada"}, "auther"),
        ({"name": "../escape"}, "name"),
        ({"name": ".."}, "name"),
        ({"version": "one"}, "version"),
        ({"version": "11111111-2222-3333-4444-55555555555A"}, "version"),
        ({"tags": ["11111111-2222-3333-4444-555555555555"]}, "must not look like a version"),
        ({"missing": {"z": 0.0}}, "z is not a feature"),
        ({"features": ["a", "b"]}, "3 columns, but 2 features"),
        ({"features": ["a", "b", "b"]}, "listed twice"),
        ({"features": {"y": ["a"]}}, "no input y"),
        ({"outputs": {"nothing": "score"}}, "no output nothing; it has score"),
        ({"outputs": {"score": "not a name"}}, "cannot be built: name"),
        ({"created": datetime(2026, 1, 1)}, "created"),
        ({"model": b"nonsense"}, "not an ONNX file"),
        ({"model": b""}, "not an ONNX file"),
    ],
)
def test_a_wrong_build_says_what_is_wrong(manifest: dict[str, object], said: str) -> None:
    with pytest.raises(BundleInvalid, match=said):
        graphs.linear_bundle(**manifest)


def test_penstock_offers_the_bundle_and_nothing_else() -> None:
    assert penstock.Bundle is Bundle
    with pytest.raises(AttributeError, match="Bunde"):
        penstock.Bunde  # noqa: B018


def test_a_file_too_large_for_a_bundle_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.zip").open("wb") as file:
        file.truncate(4 << 30)  # sparse
    with pytest.raises(BundleInvalid, match="too large for a bundle"):
        Bundle.read(tmp_path / "huge.zip")
