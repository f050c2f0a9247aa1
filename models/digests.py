"""What a repository says of one version, for who must be quick: without what reads models, manifests or object stores.

A rollback asks only whether the versions are still there as they were. Everything that is out of the ordinary is left
to `models.repository`, which imports what it takes to say what is wrong.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Stated:
    """digest: the sha256 of the version's bundle."""

    digest: str


def stated(url: str, ref: str) -> Stated:
    """Return what the repository says of NAME@VERSION. Raises ModelNotFound, BundleAltered, RepositoryUnavailable."""
    name, _, version = ref.partition("@")
    digest = _digest(Path(url) / name / version / "entry.json") if ":" not in url else None
    if digest is not None:
        return Stated(digest)
    from models.repository import Repository

    return Stated(Repository(url).resolve(ref).digest)


def _digest(path: Path) -> str | None:
    """Return the digest that an entry of a local repository states, None where it is not plainly there."""
    try:
        entry: Any = json.loads(path.read_bytes())
        digest = entry["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest if isinstance(digest, str) else None
