"""`penstock model`: put versions of models into the repository, look at them, point tags at them, take them away."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.common import repository_option, said_plainly

if TYPE_CHECKING:
    from models.manifest import Partitions
    from models.repository import Entry, Repository


def open_repository(url: str | None) -> Repository:
    """The repository of the option, the environment or this folder."""
    from models.repository import Repository
    from penstock.config import repository_url

    return Repository(repository_url(url))


@click.group("model")
def command() -> None:
    """Versions of models: add, list, show, tag, remove."""


@command.command()
@click.argument("bundle", type=click.Path(exists=True))
@click.option("--tag", "tags", multiple=True, help="Point this tag at the version too; may be repeated.")
@click.option("--seconds", default=60.0, show_default=True, help="Time that the model may take in the sandbox.")
@click.option("--memory", default="2GiB", show_default=True, help="Memory that the model may take in the sandbox.")
@repository_option
def add(bundle: str, tags: tuple[str, ...], seconds: float, memory: str, repository: str | None) -> None:
    """Verify, try and store BUNDLE (a folder or a .zip).

    It runs in a sandbox first, which also proves that a row scores the same whatever its batch.
    """
    with said_plainly():
        from models.bundle import Bundle
        from models.sandbox import Bounds, prove

        opened = open_repository(repository)
        read = Bundle.read(bundle)
        _check_graph(read)
        proof = prove(read, Bounds(seconds, _size(memory)))
        entry = opened.add(read, tags, proof)
        click.echo(f"added {entry.ref}")
        click.echo(f"  sha256       {entry.digest}")
        click.echo(f"  tags         {', '.join(entry.tags) or 'none'}")
        click.echo(f"  determinism  {_determinism(entry)}")


def _check_graph(bundle: Any) -> None:
    from models.describe import disagreements
    from models.errors import BundleInvalid
    from models.graph import examine

    if found := disagreements(bundle.manifest, examine(bundle.model)):
        raise BundleInvalid("\n".join(found))


def _size(text: str) -> int:
    units = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    number, unit = text[:-3], text[-3:]
    if unit not in units or not number.strip().isdigit():
        raise click.BadParameter(f"{text!r} is not a size: write 512MiB or 2GiB", param_hint="--memory")
    return int(number) * units[unit]


def _determinism(entry: Entry) -> str:
    proof = entry.proof
    finding = proof.get("determinism")
    if not finding:
        return "not proven"
    kind = "bitwise" if finding["bitwise"] else f"within {finding['tolerance']:.2g}"
    return (
        f"{kind}, over {finding['rows']} rows in {finding['rounds']} random splits and orders "
        f"(onnxruntime {proof['onnxruntime']}, {proof['cpu']})"
    )


@command.command("list")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per version and line.")
@repository_option
def list_(name: str | None, as_json: bool, repository: str | None) -> None:
    """All versions, or those of the model NAME, oldest first."""
    with said_plainly():
        entries = open_repository(repository).list(name)
        if as_json:
            for entry in entries:
                click.echo(json.dumps(_facts(entry)))
        elif entries:
            _print_table(entries)
        else:
            click.echo("no models yet: add one with `penstock model add BUNDLE`")


def _facts(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.manifest.name,
        "version": entry.manifest.version,
        "tags": list(entry.tags),
        "created": entry.manifest.created.isoformat(),
        "added": entry.added,
        "sha256": entry.digest,
        "proof": dict(entry.proof),
    }


def _print_table(entries: Iterable[Entry]) -> None:
    rows = [("MODEL", "VERSION", "TAGS", "CREATED", "FRAMEWORK", "DETERMINISM")]
    for entry in entries:
        manifest, finding = entry.manifest, entry.proof.get("determinism") or {}
        proven = "bitwise" if finding.get("bitwise") else f"{finding['tolerance']:.2g}" if finding else "not proven"
        created = manifest.created.strftime("%Y-%m-%d %H:%M")
        rows.append((manifest.name, manifest.version, ", ".join(entry.tags), created, manifest.framework, proven))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@command.command()
@click.argument("ref", metavar="NAME@TAG|NAME@VERSION")
@click.option("--json", "as_json", is_flag=True, help="The whole entry as JSON.")
@repository_option
def show(ref: str, as_json: bool, repository: str | None) -> None:
    """Everything about one version."""
    with said_plainly():
        entry = open_repository(repository).resolve(ref)
        if as_json:
            manifest = json.loads(entry.manifest.to_json())
            click.echo(json.dumps({**_facts(entry), "manifest": manifest}, indent=2))
            return
        for key, value in _page(entry):
            click.echo(f"{key:<12} {value}")


def _page(entry: Entry) -> Iterator[tuple[str, str]]:
    manifest = entry.manifest
    yield "model", entry.ref
    yield "tags", ", ".join(entry.tags) or "none"
    yield "sha256", entry.digest
    yield "created", f"{manifest.created.isoformat()} {'by ' + manifest.author if manifest.author else ''}".strip()
    yield "framework", ", ".join([manifest.framework, *(f"{k} {v}" for k, v in manifest.libraries.items())]).strip(", ")
    training = manifest.training
    yield "training", ", ".join(filter(None, [training.data, training.data_sha256, training.run_id])) or "not recorded"
    yield "metrics", ", ".join(f"{name} {value:g}" for name, value in manifest.metrics.items()) or "none"
    for part in manifest.inputs:
        yield "input", f"{part.name}: {part.type} of {', '.join(part.features)}"
    for output in manifest.outputs:
        classes = f" of {', '.join(output.classes)}" if output.classes else ""
        yield "output", f"{output.name}: {output.kind} {output.type}{classes}"
    if manifest.partitions:
        yield "leaves", _leaves(manifest.partitions)
    yield "graph", f"{sum(manifest.graph.operators.values())} operators, {manifest.graph.bytes} bytes"
    yield "reference", "in the bundle" if manifest.reference else "none"
    yield "determinism", _determinism(entry)


def _leaves(partitions: Partitions) -> str:
    fields = " > ".join(field.name for field in partitions.fields)
    size = f"{partitions.models:,} different models of {partitions.bytes / (1 << 20):,.1f} MiB"
    root = "below a root" if partitions.root else "without a root"
    return f"{partitions.leaves:,} by {fields}, {size}, {root}; named in {partitions.output}"


@command.command()
@click.argument("ref", metavar="NAME@TAG|NAME@VERSION")
@click.argument("tag")
@click.option("--remove", "take_off", is_flag=True, help="Take the tag off this version instead.")
@repository_option
def tag(ref: str, tag: str, take_off: bool, repository: str | None) -> None:
    """Point TAG at a version.

    Workers that follow the tag use that version when they start next.
    """
    with said_plainly():
        opened = open_repository(repository)
        manifest = opened.resolve(ref).manifest
        if take_off:
            opened.untag(manifest.name, manifest.version, tag)
            click.echo(f"took {tag} off {manifest.ref}")
        else:
            opened.tag(manifest.name, manifest.version, tag)
            click.echo(f"{manifest.name}@{tag} is now {manifest.version}")


@command.command()
@click.argument("ref", metavar="NAME@TAG|NAME@VERSION")
@click.option("--yes", is_flag=True, help="Do not ask.")
@repository_option
def remove(ref: str, yes: bool, repository: str | None) -> None:
    """Remove one version and its tags for good."""
    with said_plainly():
        opened = open_repository(repository)
        entry = opened.resolve(ref)
        tags = f" with the tags {', '.join(entry.tags)}" if entry.tags else ""
        if not yes:
            click.confirm(f"remove {entry.ref}{tags}?", abort=True)
        opened.remove(entry.manifest.name, entry.manifest.version)
        click.echo(f"removed {entry.ref}{tags}")
