"""A tag that moves, in the repository and then in control: for the commands that move one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from penstock.cli import control

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.repository import Entry, Repository
    from penstock.cli.control import Models
    from schemas.control import Version
    from streams.control_writer import Decide
    from streams.rollout import World


def tagged(repository: Repository, ref: str) -> Version | None:
    """Return what a reference means now, None when it means nothing."""
    from models.errors import ModelNotFound
    from schemas.control import Version

    try:
        entry = repository.resolve(ref)
    except ModelNotFound:
        return None
    return Version(entry.manifest.name, entry.manifest.version, entry.digest)


@dataclass(frozen=True, slots=True)
class Move:
    """A tag that moves in the repository. before: the uuid where it pointed."""

    repository: Repository
    model: str
    tag: str
    action: str
    before: str | None

    @classmethod
    def of(cls, repository: Repository, model: str, tag: str, action: str = "tag") -> Move:
        """Note where the tag points before it moves."""
        before = tagged(repository, f"{model}@{tag}")
        return cls(repository, model, tag, action, before.version if before else None)

    def check(self, world: World, version: Version | None, models: Models | None = None) -> None:
        """Before anything is changed: raise what makes a deployment that follows the tag unable to use the version.

        world: with the whole audit. models: where the version is found, while it is not in the repository.
        """
        control.checked(self._decide(version, self.before), models or self.repository)(world)

    def follow(self, servers: str | None, by: str | None, why: str) -> None:
        """Let deployments follow; once more where another person moved the tag meanwhile and was quicker here."""
        from schemas.errors import Explained

        ref, before, done = f"{self.model}@{self.tag}", self.before, False
        while not done:
            now = tagged(self.repository, ref)
            try:
                written = control.write(servers, self._decide(now, before), by, why, whole=True)
            except Explained as error:
                raise click.ClickException(
                    f"{error}\nThe repository was changed, deployments that follow {ref} were not: repeat the command"
                ) from error
            control.show(written, f"the audit tells of {ref} already, and no deployment follows another version of it")
            if now is None:
                click.echo(f"no version has the tag any more: deployments that follow {ref} keep the version they have")
            done = tagged(self.repository, ref) == now
            before = now.version if now else None

    def _decide(self, now: Version | None, before: str | None) -> Decide:
        from streams.rollout import tagged

        return lambda world: tagged(world, self.model, self.tag, now, action=self.action, before=before)


@dataclass(frozen=True, slots=True)
class Coming:
    """A repository as it will be with one version more."""

    repository: Repository
    entry: Entry
    bundle: Bundle

    @property
    def url(self) -> str:
        return self.repository.url

    def resolve(self, ref: str) -> Entry:
        """Raises ModelNotFound."""
        return self.entry if ref == self.entry.ref else self.repository.resolve(ref)

    def load(self, ref: str | Entry) -> Bundle:
        """Raises as Repository.load."""
        return self.bundle if ref is self.entry else self.repository.load(ref)
