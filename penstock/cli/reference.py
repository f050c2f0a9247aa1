"""`penstock reference`: make a reference profile of training rows or past events, look at it, put it into a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.common import (
    counted,
    open_repository,
    registry_option,
    repository_option,
    said_plainly,
    schemas_option,
    servers_option,
)

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.reference import Reference
    from penstock.references import Besides, Made

out_option = click.option("--out", type=click.Path(path_type=Path), default="reference.json", show_default=True)
force_option = click.option("--force", is_flag=True, help="Replace the file that is there.")


@click.group("reference")
def command() -> None:
    """Reference profiles, with which the monitor compares live traffic: build, show, attach."""


@command.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--model", metavar="REF|BUNDLE", help="Profile the fields that this version reads, and what it answers.")
@click.option("--scores/--no-scores", default=True, help="With --model and files: let it score the rows, or do not.")
@click.option("--feature", "features", multiple=True, metavar="COLUMN", help="Profile this column; may be repeated.")
@click.option(
    "--output", "outputs", multiple=True, metavar="NAME[=COLUMN]", help="An output of the model in the files."
)
@click.option(
    "--segment", "segments", multiple=True, metavar="COLUMN", help="Count outputs apart by its values; may be repeated."
)
@click.option("--apart", multiple=True, metavar="COLUMN", help="With --segment: count this feature apart, too.")
@click.option("--unusual/--no-unusual", default=True, help="Count how unusual the features of an event are together.")
@click.option("--deployment", metavar="NAME|FILE", help="Profile events that this deployment scored, not files.")
@click.option("--from", "begin", help="First event: a time, day, '7d ago', or PARTITION:OFFSET[,...].")
@click.option("--to", "end", default="now", show_default=True, help="First event that is left out, in the same form.")
@click.option("--arm", default="active", show_default=True, help="Whose inferences are the outputs.")
@out_option
@force_option
@servers_option
@repository_option
@registry_option
@schemas_option
def build(
    files: tuple[Path, ...],
    model: str | None,
    scores: bool,
    features: tuple[str, ...],
    outputs: tuple[str, ...],
    segments: tuple[str, ...],
    apart: tuple[str, ...],
    unusual: bool,
    deployment: str | None,
    begin: str | None,
    end: str,
    arm: str,
    out: Path,
    force: bool,
    bootstrap_servers: str | None,
    repository: str | None,
    registry: str | None,
    schema_folder: Path | None,
) -> None:
    """Make a reference profile of FILES (Parquet, CSV, or folders of them), or of events that a deployment scored.

    Files: with --model, the fields that the model reads and its answers, which are computed here; otherwise the columns
    named by --feature (all, if none is) and --output. A deployment: the events between --from and --to that the arm's
    version scored, decoded as its workers decode them, and the outputs that were published. Memory does not grow with
    the rows; `penstock reference attach` puts the file into a bundle.
    """
    _check_words(files, deployment, begin, model, features, outputs)
    if apart and not segments:
        raise click.UsageError("--apart says what is counted by the values of a segment: name one with --segment")
    from penstock.references import Besides

    with said_plainly():
        _check_free(out, force)
        besides = Besides(segments, apart, unusual)
        if deployment is not None:
            place = (bootstrap_servers, repository, registry, schema_folder)
            made = _of_topic(deployment, arm, model, (str(begin), end), place, besides)
        else:
            made = _of_files(files, model, scores, features, outputs, besides, repository)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(made.reference.to_bytes())
    for note in made.notes:
        click.echo(note)
    columns = counted(len(made.reference.slices), "column")
    click.echo(f"wrote {out}: reference {made.reference.digest} of {made.reference.tally.rows:,} rows, {columns}")


def _check_words(
    files: tuple[Path, ...],
    deployment: str | None,
    begin: str | None,
    model: str | None,
    features: tuple[str, ...],
    outputs: tuple[str, ...],
) -> None:
    """Raise UsageError for options that do not go together."""
    if bool(files) == (deployment is not None):
        raise click.UsageError("give files of training rows, or --deployment with --from, and not both")
    if deployment is not None and begin is None:
        raise click.UsageError("say with --from where the events begin, such as '7d ago'")
    if deployment is not None and (features or outputs):
        raise click.UsageError("--feature and --output are for files: of a deployment the model's fields are profiled")
    if model is not None and features:
        raise click.UsageError("--model says which columns are features: leave out --feature, or --model")


def _check_free(path: Path, force: bool) -> None:
    from penstock.errors import ConfigError

    if path.exists() and not force:
        raise ConfigError(f"{path} is there already: name another file with --out, or add --force to replace it")


def _of_files(
    files: tuple[Path, ...],
    model: str | None,
    scores: bool,
    features: tuple[str, ...],
    outputs: tuple[str, ...],
    besides: Besides,
    repository: str | None,
) -> Made:
    from penstock import references
    from penstock.training_rows import TrainingFiles

    found = TrainingFiles.found(files)
    named = dict(_named(text) for text in outputs)
    if model is None:
        chosen = features or [name for name in found.columns if name not in named.values()]
        return references.of_files(found, chosen, named, besides)
    bundle = _bundle(model, repository)
    if named or not scores:
        return references.of_files(found, bundle.manifest.features, named, besides)
    return references.of_scored_files(found, bundle, besides)


def _named(text: str) -> tuple[str, str]:
    name, _, column = text.partition("=")
    if not name or text.endswith("="):
        raise click.BadParameter(f"{text!r}: write NAME or NAME=COLUMN", param_hint="--output")
    return name, column or name


def _of_topic(
    deployment: str,
    arm: str,
    model: str | None,
    ends: tuple[str, str],
    place: tuple[Any, ...],
    besides: Besides,
) -> Made:
    from penstock import references
    from penstock.cli.rescore import wanted_of
    from penstock.config import kafka_settings, repository_url
    from streams.reading import Point

    servers, repository, registry, schema_folder = place
    begin, end = map(Point.parse, ends)
    return references.of_topic(
        references.Past(
            kafka=kafka_settings(servers),
            repository=repository_url(repository),
            wanted=wanted_of(deployment, servers),
            arm=arm,
            model=model,
            begin=begin,
            end=end,
            registry=registry,
            schema_folder=schema_folder,
        ),
        besides,
    )


def _bundle(ref: str, repository: str | None) -> Bundle:
    """Return the bundle in a folder or zip file, else the repository's under this reference."""
    from models.bundle import Bundle

    return Bundle.read(ref) if Path(ref).exists() else open_repository(repository).load(ref)


@command.command()
@click.argument("reference", metavar="FILE|BUNDLE|NAME@VERSION")
@click.option("--column", "columns", multiple=True, metavar="NAME", help="Show this column only; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@repository_option
def show(reference: str, columns: tuple[str, ...], as_json: bool, repository: str | None) -> None:
    """The columns of a reference profile, their bins, and the share of the rows in each."""
    with said_plainly():
        from penstock import reference_page

        read = _read(reference, repository)
        if as_json:
            click.echo(json.dumps(reference_page.content(read, columns), indent=2))
        else:
            click.echo(reference_page.text(read, columns), nl=False)


def _parsed(path: Path) -> Reference:
    """Return the reference of a file. Raises ReferenceInvalid that names it."""
    from models.errors import ReferenceInvalid
    from models.reference import Reference

    try:
        return Reference.from_bytes(path.read_bytes())
    except ReferenceInvalid as error:
        raise ReferenceInvalid(f"{path}: {error}") from error


def _read(text: str, repository: str | None) -> Reference:
    from models.errors import ReferenceInvalid
    from models.reference import Reference

    path = Path(text)
    if path.is_file() and path.suffix != ".zip":
        return _parsed(path)
    found = _bundle(text, repository).reference
    if found is None:
        raise ReferenceInvalid(
            f"{text} has no reference profile: make one with `penstock reference build` and put it in with "
            "`penstock reference attach`"
        )
    return Reference.from_bytes(found)


@command.command()
@click.argument("reference", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("bundle", metavar="BUNDLE|NAME@VERSION")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new bundle: a .zip, or a folder.")
@force_option
@repository_option
def attach(reference: Path, bundle: str, out: Path, force: bool, repository: str | None) -> None:
    """Write a new version of BUNDLE whose reference profile is REFERENCE; the model stays the same, bit for bit.

    A version never changes, so the new one has an identity of its own; `penstock model add` stores it.
    """
    with said_plainly():
        _check_free(out, force and out.suffix == ".zip")
        made = _bundle(bundle, repository).with_reference(reference.read_bytes())
        made.write(out)
    click.echo(f"wrote {out}: {made.manifest.ref}")
    click.echo(f"  sha256       {made.digest}")
