"""The repository keeps versions as they were added, moves tags, and starts workers while it is away."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest

from models import repository as module
from models.bundle import Bundle
from models.errors import BundleAltered, BundleInvalid, ModelNotFound, RepositoryUnavailable
from models.repository import Repository
from tests.models import graphs


@pytest.fixture(params=["folder", "memory"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Repository:
    url = str(tmp_path / "models") if request.param == "folder" else f"memory://{tmp_path.name}/models"
    return Repository(url, tmp_path / "cache")


def version_of(repository: Repository, ref: str) -> str:
    return repository.resolve(ref).manifest.version


def test_what_was_added_is_loaded_bit_for_bit(repository: Repository, tmp_path: Path) -> None:
    bundle = graphs.linear_bundle(reference=b"{}")
    entry = repository.add(bundle.write(tmp_path / "bundle.zip"), proof={"determinism": {"bitwise": True}})
    assert (entry.digest, entry.manifest) == (bundle.digest, bundle.manifest)
    assert entry.proof == {"determinism": {"bitwise": True}}
    for _ in range(2):  # from the repository, then from the cache
        assert repository.load(bundle.manifest.ref) == bundle


def test_the_latest_version_with_the_tag_is_used(repository: Repository) -> None:
    first, second = graphs.linear_bundle(tags=["candidate"]), graphs.linear_bundle()
    repository.add(first)
    assert version_of(repository, "linear@candidate") == first.manifest.version
    repository.add(second, ["candidate"])
    assert version_of(repository, "linear@candidate") == second.manifest.version


def test_a_tag_moves_to_an_older_version_and_back_when_it_is_taken_off(repository: Repository) -> None:
    first, second = (repository.add(graphs.linear_bundle(), ["production"]).manifest.version for _ in range(2))
    repository.tag("linear", first, "production")
    assert version_of(repository, "linear@production") == first
    repository.untag("linear", first, "production")
    assert version_of(repository, "linear@production") == second
    with pytest.raises(ModelNotFound, match="does not have the tag"):
        repository.untag("linear", first, "production")


def test_a_tag_put_on_later_wins_though_the_clock_went_back(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (repository.add(graphs.linear_bundle()).manifest.version for _ in range(2))
    repository.tag("linear", first, "production")
    past = module.now().replace(year=2020)
    monkeypatch.setattr(module, "now", lambda: past)
    repository.tag("linear", second, "production")
    assert version_of(repository, "linear@production") == second


def test_the_list_is_in_order_and_can_be_narrowed(repository: Repository) -> None:
    refs = [repository.add(graphs.linear_bundle(name=name)).ref for name in ("b", "a", "b")]
    assert [entry.manifest.name for entry in repository.list()] == ["a", "b", "b"]
    assert {entry.ref for entry in repository.list("b")} == {refs[0], refs[2]}
    assert repository.list("c") == []


def test_adding_twice_changes_nothing_and_another_bundle_of_the_same_version_is_refused(repository: Repository) -> None:
    bundle = graphs.linear_bundle()
    assert repository.add(bundle).added == repository.add(bundle).added
    other = graphs.linear_bundle(version=bundle.manifest.version, author="Eve")
    with pytest.raises(BundleInvalid, match="with other content: build the bundle with a new version"):
        repository.add(other)
    assert repository.load(bundle.manifest.ref).manifest.author == ""


def test_a_removed_version_is_gone_with_its_tags_and_the_others_stay(repository: Repository) -> None:
    first, second = (repository.add(graphs.linear_bundle(), ["production"]).manifest.version for _ in range(2))
    repository.remove("linear", second)
    assert version_of(repository, "linear@production") == first
    for ref in (f"linear@{second}", "linear@absent"):
        with pytest.raises(ModelNotFound, match=f"tags: production; latest versions: {first}"):
            repository.resolve(ref)
    with pytest.raises(ModelNotFound):
        repository.remove("linear", second)


@pytest.mark.parametrize("ref", ["linear", "@production", "linear@", ""])
def test_a_reference_without_a_tag_is_refused(repository: Repository, ref: str) -> None:
    with pytest.raises(ModelNotFound, match="write NAME@TAG or NAME@VERSION"):
        repository.resolve(ref)


def test_an_unknown_model_names_those_that_are_there(repository: Repository) -> None:
    repository.add(graphs.linear_bundle())
    with pytest.raises(ModelNotFound, match=r"no model 'liner'; it has linear"):
        repository.resolve("liner@production")


@pytest.mark.parametrize("tag", ["", "a/b", "..", "-x", "11111111-2222-3333-4444-555555555555"])
def test_a_tag_that_is_no_name_is_refused(repository: Repository, tag: str) -> None:
    entry = repository.add(graphs.linear_bundle())
    with pytest.raises(BundleInvalid, match="cannot be a tag"):
        repository.tag("linear", entry.manifest.version, tag)


def test_a_tag_on_an_absent_version_is_refused(repository: Repository) -> None:
    with pytest.raises(ModelNotFound):
        repository.tag("linear", "11111111-2222-3333-4444-555555555555", "production")


# altered bytes, and a repository that is away


def stored(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"linear/*/{name}")
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def kept(folder: Path, tmp_path: Path) -> Repository:
    repository = Repository(str(folder), tmp_path / "cache")
    repository.add(graphs.linear_bundle(), ["production"])
    return repository


def test_every_altered_byte_of_a_stored_bundle_is_found(kept: Repository, folder: Path) -> None:
    file = stored(folder, "bundle.zip")
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(BundleInvalid):
            kept.load("linear@production")
    file.write_bytes(content)
    assert kept.load("linear@production").manifest.name == "linear"


def test_another_whole_bundle_in_the_place_of_the_stored_one_is_found(kept: Repository, folder: Path) -> None:
    stored(folder, "bundle.zip").write_bytes(graphs.linear_bundle(author="Eve").to_zip())
    with pytest.raises(BundleAltered, match="was altered; add the version again"):
        kept.load("linear@production")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"manifest": {}, "digest": "", "proof": {}, "added": ""}'])
def test_a_nonsensical_entry_is_refused_by_its_place(kept: Repository, folder: Path, content: str) -> None:
    stored(folder, "entry.json").write_text(content)
    with pytest.raises(BundleAltered, match=r"entry\.json is not what `penstock model add` wrote"):
        kept.resolve("linear@production")


def test_an_altered_cache_is_not_believed(kept: Repository, tmp_path: Path) -> None:
    bundle = kept.load("linear@production")
    (file,) = (tmp_path / "cache").glob("*.zip")
    file.write_bytes(graphs.linear_bundle(author="Eve").to_zip())
    assert kept.load("linear@production") == bundle


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ftp://ada:s3cret@127.0.0.1:1/models", "ftp://127.0.0.1:1/models"),
        ("ftp://127.0.0.1:1/models", "ftp://127.0.0.1:1/models"),
        ("models@v2/here", "models@v2/here"),
        ("/data/models@v2", "/data/models@v2"),
    ],
)
def test_a_password_in_the_address_stands_in_no_message(url: str, shown: str) -> None:
    """Messages go into logs, and what a slot refuses into a topic that others read."""
    assert Repository(url).url == shown
    with pytest.raises((RepositoryUnavailable, ModelNotFound)) as found:
        Repository(url).resolve("sum@production")
    assert shown in str(found.value)
    assert "s3cret" not in str(found.value)


def test_what_the_cache_has_needs_no_file_system_that_connects(tmp_path: Path) -> None:
    """Some, as that of FTP, connect where they are made."""
    bundle = graphs.linear_bundle()
    here = Repository(str(tmp_path / "models"), tmp_path / "cache")
    here.add(bundle)
    here.load(bundle.manifest.ref)
    away = Repository("ftp://127.0.0.1:1/models", tmp_path / "cache")
    assert away.load_pinned(bundle.manifest.ref, bundle.digest).digest == bundle.digest
    with pytest.raises(RepositoryUnavailable, match=r"the repository ftp://127\.0\.0\.1:1/models does not answer"):
        away.load_pinned(bundle.manifest.ref, "another")


def test_a_worker_starts_from_the_cache_while_the_repository_is_away(
    kept: Repository, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = kept.load("linear@production")
    shutil.move(folder, folder.with_name("away"))
    assert kept.load("linear@production") == bundle
    assert "does not answer" in caplog.text
    with pytest.raises(RepositoryUnavailable, match=r"the cache .* does not know linear@stable; add the model"):
        kept.load("linear@stable")


def test_a_file_system_that_fails_is_unavailable_and_not_empty(
    kept: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(fsspec.implementations.local.LocalFileSystem, "glob", fail)
    monkeypatch.setattr(fsspec.implementations.local.LocalFileSystem, "exists", fail)
    for call in (kept.list, lambda: kept.resolve("linear@production")):
        with pytest.raises(RepositoryUnavailable, match="does not answer: no"):
            call()


def test_a_cache_that_cannot_be_written_is_a_warning(
    kept: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    assert isinstance(kept.load("linear@production"), Bundle)
    assert "cannot be written" in caplog.text


def test_a_cache_without_room_is_a_warning(
    kept: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    assert isinstance(kept.load("linear@production"), Bundle)
    assert "cannot be written" in caplog.text
    assert "100 are free" in caplog.text
    assert not [*(tmp_path / "cache").glob("*.zip")]


def test_a_version_without_its_bundle_is_not_found(kept: Repository, folder: Path) -> None:
    stored(folder, "bundle.zip").unlink()
    with pytest.raises(ModelNotFound, match=r"has no bundle\.zip in .*; add the version again"):
        kept.load("linear@production")


def test_nothing_of_a_fetch_stays_in_the_cache(kept: Repository, tmp_path: Path) -> None:
    kept.load("linear@production")
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".ref", ".zip"]


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(RepositoryUnavailable, match="nonsense"):
        Repository("nonsense://models")


def test_a_half_written_version_is_invisible(kept: Repository, folder: Path) -> None:
    stored(folder, "entry.json").unlink()
    assert kept.list() == []
    with pytest.raises(ModelNotFound):
        kept.load("linear@production")


def test_the_entry_is_plain_json(kept: Repository, folder: Path) -> None:
    entry = json.loads(stored(folder, "entry.json").read_text())
    assert set(entry) == {"digest", "added", "proof", "manifest"}


def test_nan_as_a_stand_in_survives_the_repository(kept: Repository) -> None:
    entry = kept.add(graphs.linear_bundle(name="trees", missing={"a": float("nan")}))
    assert str(kept.resolve(entry.ref).manifest.missing["a"]) == "nan"
    assert str(kept.load(entry.ref).manifest.missing["a"]) == "nan"


def versioned(version: str) -> Bundle:
    bundle = graphs.linear_bundle()
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"version": version}))


def test_the_beginning_of_a_version_is_enough_where_it_tells_it_from_others(repository: Repository) -> None:
    first, second, third = (f"{start}-9491-53d3-975e-8e89c9f6ddf4" for start in ("2ed57e49", "2ed57e49", "11112222"))
    second = second.replace("9491", "9492")
    for version in (first, second, third):
        repository.add(versioned(version))
    assert version_of(repository, "linear@11112222") == third
    assert version_of(repository, f"linear@{first[:13]}") == first
    assert version_of(repository, f"linear@{second[:-1]}") == second
    with pytest.raises(ModelNotFound, match=f"2 versions of model linear begin with 2ed57e49: {first}, {second}; wri"):
        repository.resolve("linear@2ed57e49")
    for nothing in ("1111222", "11112223", "*", "11112222*", "other@11112222"):  # too short, of none, no patterns
        with pytest.raises(ModelNotFound):
            repository.resolve(nothing if "@" in nothing else f"linear@{nothing}")
    repository.tag("linear", first, "11112222")
    assert version_of(repository, "linear@11112222") == first  # a tag goes before
