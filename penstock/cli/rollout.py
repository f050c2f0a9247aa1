"""`penstock promote`, `rollback`, `pause`, `resume`, `remove`: change the desired state of a deployment by its name."""

from __future__ import annotations

import click

from penstock.cli import control
from penstock.cli.common import repository_option, said_plainly


@click.command("promote")
@click.argument("name")
@click.option("--arm", default="canary", show_default=True, help="Whose version becomes that of the active arm.")
@click.option("--keep", is_flag=True, help="Keep the arm as well.")
@control.change_options
@repository_option
def promote(
    name: str,
    arm: str,
    keep: bool,
    why: str,
    by: str | None,
    bootstrap_servers: str | None,
    repository: str | None,
) -> None:
    """Make the version of an arm of the deployment NAME the active one, and take the arm away.

    The active arm is pinned to that version: it follows no tag any more until a file is applied that says so.
    """
    from penstock.cli.common import open_repository
    from streams.rollout import promoted

    with said_plainly():
        decide = control.checked(lambda world: promoted(world, name, arm, keep=keep), open_repository(repository))
        written = control.write(bootstrap_servers, decide, by, why, rehearse=True)
        control.show(written, f"{name}: the active arm has the version of {arm} already; nothing was changed")


@click.command("rollback")
@click.argument("name")
@click.option("--to", type=click.IntRange(1), metavar="REVISION", help="The revision to go back to.")
@click.option("--force", is_flag=True, help="Pass over entries of the audit that this release cannot read.")
@control.change_options
@repository_option
def rollback(
    name: str,
    to: int | None,
    force: bool,
    why: str,
    by: str | None,
    bootstrap_servers: str | None,
    repository: str | None,
) -> None:
    """Make an earlier state of the deployment NAME the desired one again, as a new revision.

    Without --to it is the last one whose active arm had another version; a second rollback undoes the first. Versions
    are those of that time, whatever tags mean now. A deployment that is paused stays so.
    """
    from penstock.config import repository_url
    from streams.rollout import rolled_back

    with said_plainly():
        decide = control.there(lambda world: rolled_back(world, name, to, force=force), repository_url(repository))
        written = control.write(bootstrap_servers, decide, by, why, whole=True, rehearse=True)
        control.show(written, f"{name} is at that state already; nothing was changed")


@click.command("pause")
@click.argument("name")
@control.change_options
def pause(name: str, why: str, by: str | None, bootstrap_servers: str | None) -> None:
    """Make it the desired state of the deployment NAME that it does not score."""
    from streams.rollout import paused

    with said_plainly():
        written = control.write(bootstrap_servers, lambda world: paused(world, name), by, why)
        control.show(written, f"{name} is paused already; nothing was changed")


@click.command("resume")
@click.argument("name")
@control.change_options
def resume(name: str, why: str, by: str | None, bootstrap_servers: str | None) -> None:
    """Let the deployment NAME, which was paused, score again."""
    from streams.rollout import resumed

    with said_plainly():
        written = control.write(bootstrap_servers, lambda world: resumed(world, name), by, why)
        control.show(written, f"{name} is not paused; nothing was changed")


@click.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@control.change_options
def remove(name: str, yes: bool, why: str, by: str | None, bootstrap_servers: str | None) -> None:
    """Take the deployment NAME out of control: its workers commit what they have in hand and end.

    Topics, offsets and the audit stay. `penstock apply` brings it back: it goes on where it stopped, with the revision
    behind the last one.
    """
    from streams.rollout import removed

    with said_plainly():
        (step,) = removed(control.look(bootstrap_servers), name).steps
        assert step.old is not None
        if not yes:
            click.confirm(f"remove {name} at revision {step.old.revision}? its workers end", abort=True)
        control.show(control.write(bootstrap_servers, lambda world: removed(world, name), by, why), "")
