"""`penstock model` and `penstock validate` as a user types them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from click.testing import CliRunner, Result

from models.bundle import MODEL, Bundle
from models.reference import Reference
from models.repository import Repository
from penstock.cli import main
from tests.models import graphs, hierarchies

FIELDS = [{"name": name, "type": ["null", "double"]} for name in "abc"] + [
    {"name": "carrier", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_REPOSITORY", str(tmp_path / "models"))
    monkeypatch.delenv("PENSTOCK_BOOTSTRAP_SERVERS", raising=False)
    return str(tmp_path / "models")


def penstock(*arguments: str, answer: str | None = None) -> Result:
    result = CliRunner().invoke(main, arguments, input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception  # no traceback
    return result


def said(*arguments: str, answer: str | None = None) -> str:
    result = penstock(*arguments, answer=answer)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    result = penstock(*arguments)
    assert result.exit_code == 2
    return result.output


@pytest.fixture
def added(url: str) -> Bundle:
    bundle = graphs.linear_bundle(
        tags=["candidate"], framework="scikit-learn", author="Ada", metrics={"auc": 0.7}, training={"run_id": "run-7"}
    )
    Repository(url).add(bundle)
    return bundle


# model


@pytest.mark.parametrize("name", ["bundle.zip", "folder"])
def test_add_proves_the_model_and_says_where_it_stands(url: str, tmp_path: Path, name: str) -> None:
    bundle = graphs.linear_bundle(tags=["candidate"])
    output = said("model", "add", str(bundle.write(tmp_path / name)), "--tag", "production")
    assert f"added {bundle.manifest.ref}" in output
    assert bundle.digest in output
    assert re.search(r"tags +candidate, production", output)
    assert re.search(r"determinism  bitwise, over 512 rows in 8 random splits and orders \(onnxruntime 1", output)
    assert Repository(url).resolve("linear@production").proof["determinism"]["bitwise"]
    assert "no Kafka broker is known: only the repository was changed" in output


def test_add_changes_nothing_while_the_broker_that_is_named_does_not_answer(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.control.REACH_SECONDS", 0.5)
    monkeypatch.setenv("PENSTOCK_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    bundle = str(graphs.linear_bundle().write(tmp_path / "m.zip"))
    output = " ".join(refused("model", "add", bundle).split())
    assert "no Kafka broker answers at 127.0.0.1:1" in output
    assert "Nothing was changed; --repository-only changes the repository alone" in output
    assert not (tmp_path / "models").exists()
    assert "added linear@" in said("model", "add", bundle, "--repository-only")
    assert "no Kafka broker answers" in refused("model", "remove", f"linear@{version(url)}", "--yes")
    assert "removed linear@" in said("model", "remove", f"linear@{version(url)}", "--yes", "--repository-only")


def version(url: str) -> str:
    (entry,) = Repository(url).list()
    return entry.manifest.version


def test_add_refuses_a_bundle_with_an_altered_byte(url: str, tmp_path: Path) -> None:
    folder = graphs.linear_bundle().write(tmp_path / "folder")
    content = bytearray((folder / MODEL).read_bytes())
    content[-1] ^= 1
    (folder / MODEL).write_bytes(content)
    assert "Error: the bundle was altered: model.onnx does not match" in refused("model", "add", str(folder))
    assert Repository(url).list() == []


@pytest.mark.parametrize(
    ("model", "options", "complaint"),
    [
        (graphs.hungry(), ["--memory", "512MiB"], "needs more than 512 MiB of memory"),
        (graphs.looping(trips_from_input=False), ["--seconds", "1.5"], "did not finish its warm-up in 1.5 s"),
        (graphs.dice(), [], "must score each row by itself"),
    ],
)
def test_add_refuses_what_the_sandbox_refuses(
    url: str, tmp_path: Path, model: bytes, options: list[str], complaint: str
) -> None:
    path = Bundle.build(name="m", model=model, features=["x"]).write(tmp_path / "m.zip")
    assert complaint in refused("model", "add", str(path), *options)
    assert Repository(url).list() == []


def test_add_refuses_a_manifest_that_disagrees_with_the_graph(url: str, tmp_path: Path) -> None:
    from models.bundle import parts_of

    lying = Bundle.of_parts(parts_of(graphs.linear_bundle().manifest, graphs.lookup(), None))
    output = refused("model", "add", str(lying.write(tmp_path / "m.zip")))
    assert "needs the input index, which the manifest lacks" in output
    assert "declares the input x, which the graph lacks" in output


def test_a_size_without_a_unit_is_refused(url: str, tmp_path: Path) -> None:
    result = penstock("model", "add", str(graphs.linear_bundle().write(tmp_path / "m.zip")), "--memory", "5")
    assert result.exit_code == 2
    assert "write 512MiB or 2GiB" in result.output


def test_list_shows_versions_with_their_tags(added: Bundle) -> None:
    output = said("model", "list")
    assert added.manifest.version in output
    assert "candidate" in output
    (line,) = said("model", "list", "linear", "--json").splitlines()
    assert json.loads(line)["sha256"] == added.digest
    assert "penstock model add" in said("model", "list", "other")


def test_show_tells_everything_about_a_version(added: Bundle) -> None:
    output = said("model", "show", "linear@candidate")
    for fact in ("Ada", "scikit-learn", "run-7", "auc 0.7", "x: float of a, b, c", "score: scalar float", added.digest):
        assert fact in output
    assert json.loads(said("model", "show", "linear@candidate", "--json"))["manifest"]["author"] == "Ada"


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_BOOTSTRAP_SERVERS", raising=False)


def test_show_without_a_broker_says_that_deployments_are_not_known(added: Bundle, alone: None) -> None:
    assert "deployed       not known: no Kafka broker is known" in said("model", "show", "linear@candidate")
    facts = json.loads(said("model", "show", "linear@candidate", "--json"))
    assert facts["history"] is None
    assert "no Kafka broker is known" in facts["not_known"][0]


def test_show_makes_a_model_card_in_markdown(added: Bundle, alone: None) -> None:
    page = said("model", "show", "linear@candidate", "--markdown")
    assert page.startswith(f"# Model card: {added.manifest.ref}\n\n## Model details\n")
    assert "| auc | 0.7 |" in page


def test_show_takes_one_form_only(added: Bundle) -> None:
    result = penstock("model", "show", "linear@candidate", "--json", "--markdown")
    assert (result.exit_code, "not both" in result.output) == (2, True)


def test_show_of_an_altered_bundle_says_so_and_shows_the_rest(url: str, alone: None) -> None:
    reference = Reference.from_frame(pl.DataFrame({"a": [1.0, 2.0]})).to_bytes()
    Repository(url).add(graphs.linear_bundle(reference=reference, author="Ada"), ["candidate"])
    assert re.search(r"data rows +2 \(", said("model", "show", "linear@candidate"))
    (file,) = Path(url).glob("linear/*/bundle.zip")
    file.write_bytes(file.read_bytes()[:-1])
    for cached in Path(".penstock/cache/models").glob("*.zip"):
        cached.unlink()
    output = said("model", "show", "linear@candidate")
    assert "reference      not known: " in output
    assert "Ada" in output


def test_a_hierarchy_of_models_is_proven_and_shown(url: str, tmp_path: Path) -> None:
    bundle = hierarchies.built(tags=["candidate"])
    output = said("model", "add", str(bundle.write(tmp_path / "bundle.zip")))
    assert "determinism  bitwise" in output
    assert Repository(url).resolve("hierarchy@candidate").proof["leaves"] == 3
    size = bundle.manifest.partitions.bytes / (1 << 20)  # type: ignore[union-attr]
    shown = said("model", "show", "hierarchy@candidate")
    assert re.search(rf"leaves +3 by country > city, 3 different models of {size:.1f} MiB, below a root; named", shown)
    partitions = json.loads(said("model", "show", "hierarchy@candidate", "--json"))["manifest"]["partitions"]
    assert [field["name"] for field in partitions["fields"]] == ["country", "city"]
    assert "leaves" not in said("model", "show", added_single(url))


def added_single(url: str) -> str:
    return Repository(url).add(graphs.linear_bundle()).ref


def test_events_that_do_not_tell_leaves_apart_are_found(url: str, tmp_path: Path) -> None:
    bundle = hierarchies.built(partition_by=["carrier", "gate"], tags=["candidate"])
    Repository(url).add(bundle)
    arms = [{"role": "active", "model": "hierarchy@candidate"}]
    output = refused("validate", a_deployment(tmp_path, arms=arms))
    assert "field 'gate', by which model hierarchy is partitioned, is not a field of the event schema" in output
    gate = {"name": "gate", "type": ["null", "string"], "default": None}
    assert "can run" in said("validate", a_deployment(tmp_path, [*FIELDS, gate], arms=arms))


def test_a_field_echoed_under_the_name_of_the_leaves_is_found(url: str, tmp_path: Path) -> None:
    Repository(url).add(hierarchies.built(partition_by="carrier", leaves={"UA": hierarchies.linear(1)}), ["candidate"])
    partition = {"name": "partition", "type": "string"}
    echoing = {"topic": "test.inferences", "echo": ["partition"]}
    arms = [{"role": "active", "model": "hierarchy@candidate"}]
    output = refused("validate", a_deployment(tmp_path, [*FIELDS, partition], arms=arms, output=echoing))
    assert "echo 'partition': output 'partition' has the name 'partition' too" in output


def test_tag_moves_a_tag_and_takes_it_off(added: Bundle, url: str) -> None:
    version = added.manifest.version
    assert f"linear@production is now {version}" in said("model", "tag", f"linear@{version}", "production")
    assert f"took production off linear@{version}" in said("model", "tag", "linear@candidate", "production", "--remove")
    assert "tags: candidate" in refused("model", "show", "linear@production")


def test_tag_takes_name_and_version_apart_and_says_that_no_deployment_followed(added: Bundle) -> None:
    version = added.manifest.version
    output = said("model", "tag", "linear", version, "production")
    assert f"linear@production is now {version}" in output
    assert "no Kafka broker is known: deployments that follow linear@production were not changed" in output
    assert "no Kafka" not in said("model", "tag", "linear", version, "production", "--repository-only")


@pytest.mark.parametrize("words", [["linear"], ["linear@candidate", "v", "production"], ["a", "b", "c", "d"]])
def test_tag_needs_a_version_and_a_tag(added: Bundle, words: list[str]) -> None:
    result = penstock("model", "tag", *words)
    assert result.exit_code == 2
    assert "give a version and a tag: NAME@VERSION TAG, or NAME VERSION TAG" in result.output


def test_a_note_needs_a_broker_and_a_text(added: Bundle) -> None:
    assert "no Kafka broker is known" in refused("model", "note", "linear@candidate", "trained on a bad day")
    assert penstock("model", "note", "linear@candidate", " ").exit_code == 2


def test_remove_asks_first(added: Bundle, url: str) -> None:
    assert penstock("model", "remove", "linear@candidate", answer="n\n").exit_code == 1
    assert len(Repository(url).list()) == 1
    assert "with the tags candidate" in said("model", "remove", "linear@candidate", answer="y\n")
    assert Repository(url).list() == []


@pytest.mark.parametrize("command", [["show"], ["remove", "--yes"], ["tag"]])
def test_what_is_not_there_is_an_error_that_says_what_is(added: Bundle, command: list[str]) -> None:
    tail = ["stable"] if command == ["tag"] else []
    assert "no model 'liner'; it has linear" in refused("model", *command, "liner@candidate", *tail)


def test_an_absent_repository_says_how_to_get_one(url: str) -> None:
    assert "there is no repository at" in refused("model", "show", "linear@candidate")


# validate


def a_deployment(folder: Path, fields: Any = FIELDS, **changes: Any) -> str:
    (folder / "event.avsc").write_text(json.dumps({"type": "record", "name": "Event", "fields": fields}))
    declared = {
        "name": "test",
        "input": {"topic": "test.events", "schema": "event.avsc", "event_time": "at"},
        "output": {"topic": "test.inferences", "echo": ["carrier"]},
        "arms": [{"role": "active", "model": "linear@candidate"}],
        **changes,
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(declared))
    return str(folder / "test.yaml")


def test_a_deployment_that_fits_can_run(added: Bundle, tmp_path: Path) -> None:
    output = said("validate", a_deployment(tmp_path, missing={"a": 0.0}))
    assert "test can run (active linear@candidate)" in output


def test_every_mismatch_is_listed_at_once(url: str, tmp_path: Path) -> None:
    Repository(url).add(graphs.linear_bundle(features=["distance", "b", "c"]), ["candidate"])
    fields = [{"name": "distnace", "type": "double"}, {"name": "b", "type": "string"}, *FIELDS[2:]]
    shadow = {"role": "shadow", "model": "linear@absent", "topic": "test.shadow"}
    path = a_deployment(
        tmp_path, fields, arms=[{"role": "active", "model": "linear@candidate"}, shadow], missing={"c": "high"}
    )
    output = refused("validate", path)
    assert "arm active (linear@candidate): feature 'distance' of input 'x'" in output
    assert "did you mean 'distnace'?" in output
    assert "feature 'b' of input 'x' of model linear is a float tensor, but the event field is String" in output
    assert "missing.c: 'high' cannot stand in for a float" in output
    assert "arm shadow (linear@absent): model linear has no version or tag 'absent'" in output
    assert "Error: 4 problems; nothing was started" in output


def test_an_output_named_like_lineage_is_found(url: str, tmp_path: Path) -> None:
    Repository(url).add(graphs.linear_bundle(outputs={"score": "version"}, tags=["candidate"]))
    assert "version" in refused("validate", a_deployment(tmp_path))


def test_arms_that_share_a_topic_must_share_their_outputs(added: Bundle, url: str, tmp_path: Path) -> None:
    Repository(url).add(graphs.linear_bundle(name="other", outputs={"score": "points"}, tags=["candidate"]))
    arms = [
        {"role": "active", "model": "linear@candidate"},
        {"role": "canary", "model": "other@candidate", "percent": 5},
    ]
    output = refused("validate", a_deployment(tmp_path, arms=arms))
    assert "its outputs are ['points'] and not ['score'], or of other types; try it as a shadow" in output


def test_a_monitor_without_a_reference_is_found(added: Bundle, tmp_path: Path) -> None:
    output = refused("validate", a_deployment(tmp_path, missing={"a": 0.0}, monitor={}))
    assert "monitor: " in output
    assert "has no reference profile" in output


def test_an_event_time_that_is_no_time_is_found(added: Bundle, tmp_path: Path) -> None:
    declared = {"topic": "test.events", "schema": "event.avsc", "event_time": "carrier"}
    assert "input.event_time: 'carrier' is String; declare it as" in refused(
        "validate", a_deployment(tmp_path, input=declared)
    )


def test_a_recursive_event_schema_is_refused_by_name(added: Bundle, tmp_path: Path) -> None:
    fields = [*FIELDS, {"name": "next", "type": ["null", "Event"]}]
    assert "input.schema: " in refused("validate", a_deployment(tmp_path, fields))


def test_an_altered_bundle_in_the_repository_is_found(added: Bundle, url: str, tmp_path: Path) -> None:
    (file,) = Path(url).glob("linear/*/bundle.zip")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert "was altered" in refused("validate", a_deployment(tmp_path))


def test_a_typo_in_the_declaration_names_the_right_key(added: Bundle, tmp_path: Path) -> None:
    assert "did you mean 'latency_ms'?" in refused("validate", a_deployment(tmp_path, latency_sm=20))
