"""What the commands share that change the desired state: who changes it and why, and how a change is shown."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from penstock.cli.common import options, servers_option
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.repository import Entry
    from schemas.control import ArmState, State
    from schemas.deployment import Deployment
    from streams.control_writer import Author, Decide, Written
    from streams.rollout import Change, World


class HasDigest(Protocol):
    """A version as a repository has it."""

    @property
    def digest(self) -> str: ...


Found = TypeVar("Found", bound=HasDigest)
why_option = click.option("--why", default="", help="The reason, for the audit.")
by_option = click.option("--by", help="Who asks for it, for the audit.  [default: the login name]")
change_options = options(why_option, by_option, servers_option)


def author(by: str | None, why: str) -> Author:
    """Return who is at the keyboard, or who they say they are."""
    from streams.control_writer import Author

    return Author(by or _login(), socket.gethostname(), why)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def write(
    servers: str | None, decide: Decide, by: str | None, why: str, *, whole: bool = False, rehearse: bool = False
) -> Written | None:
    """Make a change of control on the cluster of the option, the environment or this folder; see `Writer.change`."""
    from penstock.config import kafka_settings
    from streams.control_writer import Writer

    return Writer(kafka_settings(servers)).change(decide, author(by, why), whole=whole, rehearse=rehearse)


def look(servers: str | None, *, whole: bool = False) -> World:
    """Return what the control topic and its audit hold now."""
    from penstock.config import kafka_settings
    from streams.control import read

    return read(kafka_settings(servers), whole=whole).world()


def look_first(servers: str | None) -> World:
    """Return what control holds, with the whole audit, before a command changes the repository.

    Raises ControlUnavailable that says how to change the repository alone.
    """
    from streams.errors import ControlUnavailable

    try:
        return look(servers, whole=True)
    except ControlUnavailable as error:
        raise ControlUnavailable(
            f"{error} Nothing was changed; --repository-only changes the repository alone"
        ) from error


def declared(text: str, servers: str | None) -> Deployment:
    """Return what a YAML file declares, or what control has under a name. Raises ConfigError where it has none."""
    from penstock.config import load_deployment, names_file

    if names_file(text):
        return load_deployment(text).deployment
    return state_named(text, servers).content()[0]


def state_named(name: str, servers: str | None) -> State:
    """Return what control has under a name. Raises ConfigError where it has none."""
    states = look(servers).states
    if name not in states:
        there = ", ".join(sorted(states)) or "none"
        raise ConfigError(f"{name} is neither a YAML file nor a deployment under control, which has {there}")
    return states[name]


def show(written: Written | None, unchanged: str) -> None:
    """Say what a change changed, or that there was nothing to change."""
    from penstock import changes

    if written is None:
        click.echo(unchanged)
        return
    for entry in written.entries:
        if entry.changes_state and entry.revision_after is None:
            click.echo(f"{entry.subject} is removed (entry {entry.sequence} of the audit)")
        elif entry.changes_state:
            click.echo(f"{entry.subject}: revision {entry.revision_after} (entry {entry.sequence} of the audit)")
            for line in changes.lines(entry.before, entry.after):
                click.echo(f"  {changes.printable(line)}")
    for state in written.states:
        if state.paused and not any(entry.action == "pause" for entry in written.entries):
            click.echo(f"{state.deployment} stays paused: `penstock resume {state.deployment}` lets it go on")


class Models(Protocol):
    """What is asked of a repository when a state is checked."""

    @property
    def url(self) -> str: ...
    def resolve(self, ref: str) -> Entry: ...
    def load(self, ref: str | Entry) -> Bundle: ...


def checked(decide: Decide, repository: Models) -> Decide:
    """Return `decide`, but refusing states whose models are not in the repository as they were, or do not fit.

    A repository that does not answer stops nobody: this is said, and workers find the bundle in their cache or not.
    """
    return _Checked(decide, partial(_misfits, repository))


def there(decide: Decide, url: str) -> Decide:
    """The same for states that were desired before: their models fitted then, so it is checked that they are there.

    What reads models is not even imported: that would take longer than all the rest of a rollback.
    """
    return _Checked(decide, partial(_absences, url))


class _Checked:
    """Checks a state once, however often it is decided: a writer must not work while it keeps others out.

    problems: returns why a state could not run, or raises ChangeRefused or RepositoryUnavailable.
    """

    def __init__(self, decide: Callable[[World], Change | None], problems: Callable[[State], list[str]]) -> None:
        self._decide, self._problems = decide, problems
        self._seen: set[str] = set()

    def __call__(self, world: World) -> Change | None:
        change = self._decide(world)
        for state in change.states if change else []:
            asked = replace(state, revision=0).told()
            if asked not in self._seen:
                self._check(state)
                self._seen.add(asked)
        return change

    def _check(self, state: State) -> None:
        from models.errors import RepositoryUnavailable
        from streams.errors import ChangeRefused

        name = state.deployment
        try:
            wrong = self._problems(state)
        except RepositoryUnavailable as error:
            click.echo(f"it was not checked that the models of {name} are there and fit: {error}", err=True)
            return
        if wrong:
            raise ChangeRefused(f"{name} could not run then: " + "; ".join(wrong))


def _misfits(repository: Models, state: State) -> list[str]:
    """Return why a state could not run. Raises ChangeRefused for models that are not there as they were."""
    from penstock.cli.validate import problems
    from penstock.config import Loaded
    from streams.rollout import deployment_of

    name = state.deployment
    declared = deployment_of(name, json.loads(state.declaration))
    found = {arm.ref: _as_it_was(name, arm, repository.resolve, repository.url) for arm in state.arms}
    return list(problems(Loaded(declared, json.loads(state.event_schema), Path(name)), Bundles(repository, found)))


def _absences(url: str, state: State) -> list[str]:
    """Return nothing. Raises ChangeRefused for models that are not there as they were."""
    from models.digests import stated

    for arm in state.arms:
        _as_it_was(state.deployment, arm, partial(stated, url), url)
    return []


def _as_it_was(name: str, arm: ArmState, resolve: Callable[[str], Found], url: str) -> Found:
    """Return what the repository has of an arm's version. Raises ChangeRefused where that is not what there was."""
    from models.errors import ModelNotFound
    from streams.errors import ChangeRefused

    try:
        found = resolve(arm.pinned)
    except ModelNotFound as error:
        raise ChangeRefused(f"{name}: the arm {arm.name} would have no model: {error}") from error
    if found.digest != arm.digest:
        raise ChangeRefused(
            f"{name}: {arm.pinned} in {url} has the sha256 {found.digest}, not {arm.digest} as when it was declared: "
            "it was replaced; add it again as it was"
        )
    return found


@dataclass(frozen=True, slots=True)
class Bundles:
    """The bundles of references that were resolved once: a tag may move while they are checked."""

    repository: Models
    entries: Mapping[str, Entry]

    def load(self, ref: str) -> Bundle:
        """One that was not found is asked for again, which tells why."""
        return self.repository.load(self.entries.get(ref, ref))


def broker_known(servers: str | None) -> bool:
    """Say whether a cluster is configured."""
    from penstock.config import kafka_settings

    try:
        kafka_settings(servers)
    except ConfigError:
        return False
    return True
