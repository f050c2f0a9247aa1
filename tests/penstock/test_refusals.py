"""One rule for exit codes: a file that is missing or broken is refused with 2 by every command, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from penstock.cli import main

# Words of each command that is given files; FILE stands for the one in question. A deployment's file comes first.
WORDS = {
    "apply deployment": "apply FILE",
    "autoscale deployment": "autoscale FILE --max 2",
    "bench deployment": "bench FILE",
    "controller policies": "controller FILE",
    "deadletters list name": "deadletters list FILE",
    "deadletters replay name": "deadletters replay FILE",
    "deadletters show name": "deadletters show FILE 0:1",
    "model add bundle": "model add FILE",
    "monitor deployment": "monitor FILE",
    "produce deployment": "produce events.jsonl --deployment FILE",
    "produce files": "produce FILE --topic events --schema event.avsc",
    "produce schema": "produce events.jsonl --topic events --schema FILE",
    "quarantine deployment": "quarantine FILE --list",
    "reference attach reference": "reference attach FILE bundle.zip --out new.zip",
    "reference build deployment": "reference build --deployment FILE --from yesterday --out reference.json",
    "reference build files": "reference build FILE --model bundle.zip --out reference.json",
    "reference show reference": "reference show FILE",
    "report deployment": "report FILE",
    "rescore deployment": "rescore FILE --model m@production --from yesterday --to now",
    "simulate policy": "simulate FILE",
    "validate deployment": "validate FILE",
    "verify files": "verify --deployment FILE",
    "watch topic": "watch FILE",
    "worker deployment": "worker FILE",
}
NOT_READ_AT_ONCE = {"out", "save", "schema_folder"}  # what is written, and a folder that is looked into when needed
# what is in these is known only while events are sent, and once the bundle is read
LATER = {"produce files", "reference attach reference"}
BESIDE = {"bench files": "a deployment's file that is whole comes first", "reference attach bundle": "a reference does"}
SERVERS = {"PENSTOCK_BOOTSTRAP_SERVERS": "127.0.0.1:1"}  # nobody answers there, and nobody is to be asked


def commands(command: click.Command, words: Sequence[str] = ()) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(words), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, [*words, name])


def takes_file(command: click.Command, each: click.Parameter) -> bool:
    metavar = each.make_metavar(click.Context(command))
    named = isinstance(each.type, click.Path) or "FILE" in metavar or "BUNDLE" in metavar
    return named or (each.name == "name" and "deployment" in (command.help or "") and "YAML" in (command.help or ""))


def test_every_parameter_that_is_a_file_is_walked() -> None:
    found = {
        f"{words} {each.name}"
        for words, command in commands(main)
        for each in command.params
        if takes_file(command, each) and each.name not in NOT_READ_AT_ONCE
    }
    assert found - {"reference build model"} <= WORDS.keys() | BESIDE.keys()
    assert {words.rsplit(" ", 1)[0] for words in WORDS} <= {words for words, _ in commands(main)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "events.jsonl").write_text("{}\n")
    (tmp_path / "event.avsc").write_text('{"type": "record", "name": "E", "fields": []}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


FILES = {"missing.yaml": None, "broken.yaml": "name: [\n  - :", "empty.yaml": ""}
CASES = [
    pytest.param(words, name, id=f"{parameter} {name}")
    for parameter, words in WORDS.items()
    for name, content in FILES.items()
    if content is None or parameter not in LATER
]


@pytest.mark.parametrize(("words", "name"), CASES)
def test_a_file_that_is_missing_or_broken_is_refused_with_2(folder: Path, words: str, name: str) -> None:
    if (content := FILES[name]) is not None:
        (folder / name).write_text(content)
    result = CliRunner(env=SERVERS).invoke(main, words.replace("FILE", name).split())
    assert result.exit_code == 2, (result.output, result.exception)
    assert name in result.output
    assert "Traceback" not in result.output
