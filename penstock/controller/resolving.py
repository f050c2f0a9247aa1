"""Versions that come back from training, as the repository has them."""

from __future__ import annotations

from penstock.cli.common import open_repository
from penstock.controller.acting import Resolve
from schemas.control import Version


def resolver(url: str | None) -> Resolve:
    """Return what finds the version that a reference means; it raises ModelNotFound and RepositoryUnavailable."""

    def resolve(ref: str) -> Version:
        found = open_repository(url).resolve(ref)
        return Version(found.manifest.name, found.manifest.version, found.digest)

    return resolve
