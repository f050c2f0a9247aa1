"""`penstock apply`: make a deployment's YAML file the desired state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli import control
from penstock.cli.common import open_repository, repository_option, said_plainly, servers_option

if TYPE_CHECKING:
    from models.repository import Entry, Repository
    from penstock.config import Loaded
    from schemas.control import ArmState
    from streams.control_writer import Decide
    from streams.rollout import Change, World


@click.command("apply")
@click.argument("deployment", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@control.why_option
@control.by_option
@click.option(
    "--expect-revision",
    type=click.IntRange(0),
    metavar="N",
    help="Refuse if the deployment is not at this revision; 0: if it is there at all.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@servers_option
@repository_option
def command(
    deployment: Path,
    why: str,
    by: str | None,
    expect_revision: int | None,
    dry_run: bool,
    bootstrap_servers: str | None,
    repository: str | None,
) -> None:
    """Make DEPLOYMENT (a YAML file) the desired state of the deployment that it names.

    Its models are checked as `penstock validate` does, and its references resolved to versions: a tag that `penstock
    model` moves later is followed. A file that asks for what is there already changes nothing.
    """
    from penstock.config import load_deployment

    with said_plainly():
        loaded, opened = load_deployment(deployment), open_repository(repository)
        arms = _resolved(loaded, opened)
        decide = _decide(loaded, arms, expect_revision)
        if dry_run:
            _preview(loaded, decide, bootstrap_servers)
            return
        written = control.write(bootstrap_servers, decide, by, why, whole=True)
        control.show(written, f"{loaded.deployment.name} is already as {deployment} asks; nothing was changed")
        while written is not None and _moved(loaded, opened, arms):
            arms = _resolved(loaded, opened)
            decide = _after(written.states[0].revision, _decide(loaded, arms, None))
            written = control.write(bootstrap_servers, decide, by, why)
            control.show(written, f"a tag moved meanwhile, and {loaded.deployment.name} has followed it already")


def _moved(loaded: Loaded, repository: Repository, arms: list[ArmState]) -> bool:
    """Say whether a reference means another version by now.

    Who moves a tag changes the repository first and then the deployments that follow it: what was applied in between,
    by what the tag meant before, would stay behind.
    """
    from models.errors import ModelError

    try:
        found = _entries(repository, list(loaded.deployment.references.values()))
    except ModelError as error:
        click.echo(f"it was not looked whether a tag moved meanwhile: {error}", err=True)
        return False
    return any(arm.ref in found and found[arm.ref].digest != arm.digest for arm in arms)


def _after(revision: int, decide: Decide) -> Decide:
    """Return `decide`, but changing nothing where somebody else changed the deployment since its revision."""

    def decided(world: World) -> Change | None:
        change = decide(world)
        old = change.steps[0].old if change else None
        return change if old is not None and old.revision == revision else None

    return decided


def _decide(loaded: Loaded, arms: list[ArmState], expect_revision: int | None) -> Decide:
    from streams.rollout import applied

    return lambda world: applied(world, loaded.deployment, loaded.reader, arms, expect_revision)


def _preview(loaded: Loaded, decide: Decide, servers: str | None) -> None:
    from penstock import changes

    change = decide(control.look(servers, whole=True))
    if change is None:
        click.echo(f"{loaded.deployment.name} is already as {loaded.path} asks")
        return
    (step,) = change.steps
    assert step.new is not None
    click.echo(f"{step.subject}: revision {step.new.revision} would be (a dry run: nothing was changed)")
    for line in changes.lines(step.before, step.after):
        click.echo(f"  {changes.printable(line)}")


def _resolved(loaded: Loaded, repository: Repository) -> list[ArmState]:
    """Return the declaration's arms. Raises DeploymentInvalid with every reason why they cannot run."""
    from penstock.cli.validate import problems
    from schemas.control import Version, arms_of
    from schemas.errors import DeploymentInvalid

    found = _entries(repository, list(loaded.deployment.references.values()))
    if wrong := [f"{loaded.path}: {problem}" for problem in problems(loaded, control.Bundles(repository, found))]:
        raise DeploymentInvalid(wrong)
    versions = {ref: Version(entry.manifest.name, entry.manifest.version, entry.digest) for ref, entry in found.items()}
    return arms_of(loaded.deployment, versions)


def _entries(repository: Repository, refs: list[str]) -> dict[str, Entry]:
    """Return what references mean now, without those that mean nothing."""
    from models.errors import ModelNotFound

    found = {}
    for ref in refs:
        try:
            found[ref] = repository.resolve(ref)
        except ModelNotFound:
            continue
    return found
