"""A version that comes into the repository: what must hold before, and what the audit is told after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from penstock.cli import control
from penstock.cli.moving import Coming, Move

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.repository import Entry, Repository


@dataclass(slots=True)
class Adding:
    """One bundle on its way. moves: its tags, as they pointed before."""

    repository: Repository
    bundle: Bundle
    moves: Sequence[Move]
    _entry: Entry | None = field(default=None, init=False)

    @classmethod
    def of(cls, repository: Repository, bundle: Bundle, tags: Sequence[str]) -> Adding:
        """Note where the bundle's own tags and `tags` point now."""
        from models.manifest import Manifest

        named = dict.fromkeys([*bundle.manifest.tags, *tags])
        for tag in named:
            Manifest.check_tag(tag)
        return cls(repository, bundle, [_move(repository, bundle.manifest.name, tag) for tag in named])

    def check(self, servers: str | None) -> None:
        """Before anything is changed: raise what makes a deployment that follows one of the tags unable to run it."""
        from models.repository import Entry
        from schemas.control import Version

        manifest, digest = self.bundle.manifest, self.bundle.digest
        world = control.look_first(servers)
        coming = Coming(self.repository, Entry(manifest, digest, {}), self.bundle)
        for move in self.moves:
            move.check(world, Version(manifest.name, manifest.version, digest), coming)

    def store(self, proof: Mapping[str, Any]) -> None:
        """Put the bundle and its tags into the repository, and say so."""
        from penstock.card import determinism

        entry = self.repository.add(self.bundle, [move.tag for move in self.moves], proof)
        click.echo(f"added {entry.ref}")
        click.echo(f"  sha256       {entry.digest}")
        click.echo(f"  tags         {', '.join(entry.tags) or 'none'}")
        click.echo(f"  determinism  {determinism(entry)}")
        self._entry = entry

    def tell(self, servers: str | None, by: str | None, why: str) -> None:
        """Write into the audit what came, and let the deployments follow its tags."""
        from schemas.errors import Explained
        from streams.registration import registered

        entry = self._entry
        assert entry is not None
        try:
            written = control.write(servers, lambda world: registered(world, entry), by, why, whole=True)
        except Explained as error:
            raise click.ClickException(
                f"{error}\nThe repository was changed, the audit was not told and no deployment follows: repeat the "
                "command"
            ) from error
        told = f"entry {written.head.sequence} of the audit" if written else "the audit has it already"
        click.echo(f"registered {entry.ref} ({told})")
        for move in self.moves:
            move.follow(servers, by, why)


def _move(repository: Repository, model: str, tag: str) -> Move:
    from models.errors import RepositoryUnavailable

    try:
        return Move.of(repository, model, tag)
    except RepositoryUnavailable:  # the first version makes it; where it does not answer, to store it says so
        return Move(repository, model, tag, "tag", None)
