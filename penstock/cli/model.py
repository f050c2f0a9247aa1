"""`penstock model`: put versions of models into the repository, look at them, tag them, take them away."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from penstock.cli import control
from penstock.cli.card import show
from penstock.cli.common import open_repository, repository_option, said_plainly, servers_option
from penstock.cli.moving import Move, tagged

if TYPE_CHECKING:
    from models.repository import Entry


@click.group("model")
def command() -> None:
    """Versions of models: add, list, show, tag, note, remove; and runs that made none: finish."""


@command.command()
@click.argument("bundle", type=click.Path(exists=True))
@click.option("--tag", "tags", multiple=True, help="Point this tag at the version too; may be repeated.")
@click.option("--seconds", default=60.0, show_default=True, help="Time that the model may take in the sandbox.")
@click.option("--memory", default="2GiB", show_default=True, help="Memory that the model may take in the sandbox.")
@click.option("--repository-only", is_flag=True, help="Tell the audit nothing, and leave deployments as they are.")
@control.change_options
@repository_option
def add(
    bundle: str,
    tags: tuple[str, ...],
    seconds: float,
    memory: str,
    repository_only: bool,
    why: str,
    by: str | None,
    bootstrap_servers: str | None,
    repository: str | None,
) -> None:
    """Verify, try and store BUNDLE (a folder or a .zip), and let the deployments that follow its tags use it.

    It runs in a sandbox first, which also proves that a row scores the same whatever its batch. Where a Kafka broker is
    known, the audit tells of the version and of the training run that made it, and tags move as `penstock model tag`
    moves them.
    """
    with said_plainly():
        from models.bundle import Bundle
        from models.sandbox import Bounds, prove
        from penstock.cli.adding import Adding

        opened = open_repository(repository)
        read = Bundle.read(bundle)
        _check_graph(read)
        adding = Adding.of(opened, read, tags)
        told = not repository_only and control.broker_known(bootstrap_servers)
        if told:
            adding.check(bootstrap_servers)
        adding.store(prove(read, Bounds(seconds, _size(memory))))
        if told:
            adding.tell(bootstrap_servers, by, why)
        elif not repository_only:
            click.echo("no Kafka broker is known: only the repository was changed, and the audit tells nothing of it")


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


@command.command("list")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per version and line.")
@repository_option
def list_(name: str | None, as_json: bool, repository: str | None) -> None:
    """All versions, or those of the model NAME, oldest first."""
    with said_plainly():
        from penstock.card import summary

        entries = open_repository(repository).list(name)
        if as_json:
            for entry in entries:
                click.echo(json.dumps(summary(entry)))
        elif entries:
            _print_table(entries)
        else:
            click.echo("no models yet: add one with `penstock model add BUNDLE`")


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


command.add_command(show)


@command.command()
@click.argument("words", nargs=-1, required=True, metavar="{NAME@VERSION|NAME@TAG|NAME VERSION} TAG")
@click.option("--remove", "take_off", is_flag=True, help="Take the tag off this version instead.")
@click.option("--repository-only", is_flag=True, help="Leave deployments that follow the tag as they are.")
@control.change_options
@repository_option
def tag(
    words: tuple[str, ...],
    take_off: bool,
    repository_only: bool,
    why: str,
    by: str | None,
    bootstrap_servers: str | None,
    repository: str | None,
) -> None:
    """Point TAG at a version, and let the deployments that follow it use that version.

    First in the repository, then in the control topic, where a Kafka broker is known. A worker that was started with a
    YAML file uses the version when it starts next.
    """
    ref, tag = _words(words)
    with said_plainly():
        opened = open_repository(repository)
        manifest = opened.resolve(ref).manifest
        move = Move.of(opened, manifest.name, tag, "untag" if take_off else "tag")
        follow = not repository_only and control.broker_known(bootstrap_servers)
        if follow and not take_off:
            move.check(control.look_first(bootstrap_servers), tagged(opened, manifest.ref))
        if take_off:
            opened.untag(manifest.name, manifest.version, tag)
            click.echo(f"took {tag} off {manifest.ref}")
        else:
            opened.tag(manifest.name, manifest.version, tag)
            click.echo(f"{manifest.name}@{tag} is now {manifest.version}")
        if follow:
            move.follow(bootstrap_servers, by, why)
        elif not repository_only:
            click.echo(f"no Kafka broker is known: deployments that follow {manifest.name}@{tag} were not changed")


def _words(words: tuple[str, ...]) -> tuple[str, str]:
    if len(words) == 3 and "@" not in words[0]:
        return f"{words[0]}@{words[1]}", words[2]
    if len(words) != 2:
        raise click.UsageError("give a version and a tag: NAME@VERSION TAG, or NAME VERSION TAG")
    return words[0], words[1]


@command.command()
@click.argument("ref", metavar="NAME@TAG|NAME@VERSION")
@click.argument("text")
@control.by_option
@servers_option
@repository_option
def note(ref: str, text: str, by: str | None, bootstrap_servers: str | None, repository: str | None) -> None:
    """Write the remark TEXT about a version into the audit, where `penstock history` shows it."""
    from streams.rollout import noted

    if not text.strip():
        raise click.UsageError("the note is empty: write what others should know of this version")
    with said_plainly():
        manifest = open_repository(repository).resolve(ref).manifest
        written = control.write(
            bootstrap_servers, lambda world: noted(manifest.name, manifest.version, text.strip()), by, ""
        )
        assert written is not None
        click.echo(f"noted about {manifest.ref} (entry {written.head.sequence} of the audit)")


@command.command()
@click.argument("run")
@click.option("--metric", "stated", multiple=True, metavar="NAME=VALUE", help="What it reached; may be repeated.")
@control.change_options
def finish(run: str, stated: tuple[str, ...], why: str, by: str | None, bootstrap_servers: str | None) -> None:
    """Write into the audit that the training run RUN ended and made no version.

    One that made a version is told by `penstock model add`, by the `run_id` of its bundle.
    """
    from streams.registration import finished

    metrics = dict(map(_metric, stated))
    if not run.strip():
        raise click.UsageError("the run has no name: write the id that your training gives it")
    with said_plainly():
        written = control.write(bootstrap_servers, lambda world: finished(world, run, metrics), by, why, whole=True)
        told = f"entry {written.head.sequence} of the audit" if written else "the audit has that already, and keeps it"
        click.echo(f"run {run} finished ({told})")


def _metric(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        if name.strip() and math.isfinite(number := float(value)):
            return name, number
        raise ValueError
    except ValueError:
        raise click.BadParameter(f"{text!r} is no metric: write auc=0.74", param_hint="--metric") from None


@command.command()
@click.argument("ref", metavar="NAME@TAG|NAME@VERSION")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Remove it although a deployment has it, or would go back to it.")
@click.option("--repository-only", is_flag=True, help="Tell the audit nothing, and do not look who has it.")
@control.change_options
@repository_option
def remove(
    ref: str,
    yes: bool,
    force: bool,
    repository_only: bool,
    why: str,
    by: str | None,
    bootstrap_servers: str | None,
    repository: str | None,
) -> None:
    """Remove one version and its tags for good.

    Refused while a deployment under control has it in an arm or its fallback chain, or `penstock rollback` would go
    back to it.
    """
    with said_plainly():
        opened = open_repository(repository)
        entry = opened.resolve(ref)
        tags = f" with the tags {', '.join(entry.tags)}" if entry.tags else ""
        told = not repository_only and control.broker_known(bootstrap_servers)
        if told:
            _refuse_wanted(entry, bootstrap_servers, force=force)
        if not yes:
            click.confirm(f"remove {entry.ref}{tags}?", abort=True)
        opened.remove(entry.manifest.name, entry.manifest.version)
        click.echo(f"removed {entry.ref}{tags}")
        if told:
            _tell_removed(entry, bootstrap_servers, by, why)


def _refuse_wanted(entry: Entry, servers: str | None, *, force: bool) -> None:
    """Raise VersionWanted where deployments have a version or would go back to it; with `force` only say so."""
    from penstock.errors import VersionWanted
    from streams.holders import holders_of

    held = holders_of(control.look_first(servers), entry.ref, entry.digest)
    if not held:
        return
    told = (
        f"{entry.ref} is in {', '.join(held)}, and control asks for it: a worker that has it not in its cache will not "
        "find it"
    )
    if not force:
        raise VersionWanted(f"{told}. Change the deployment first, or add --force; nothing was removed")
    click.echo(told, err=True)


def _tell_removed(entry: Entry, servers: str | None, by: str | None, why: str) -> None:
    from schemas.errors import Explained
    from streams.registration import removed

    try:
        control.write(servers, lambda world: removed(world, entry), by, why, whole=True)
    except Explained as error:
        raise click.ClickException(f"{error}\nThe version was removed, which the audit was not told") from error
