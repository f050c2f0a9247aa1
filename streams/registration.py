"""Training runs that end, and versions that come and go, as entries of the audit; decided purely.

An entry tells of whom and of what a version was made, so that its origin is known when the repository is not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.repository import Entry as Stored
from schemas.control import Entry, canonical
from streams.rollout import Change, Step, World

REGISTER, REMOVE, FINISH = "register", "remove", "finish"


def registered(world: World, stored: Stored) -> Change | None:
    """Tell that a version came into the repository, and before it that the training run ended which made it.

    Each is told once: None where the audit has both, or has the version and no run is named. A version that was removed
    is told again. world.entries: the whole audit.
    """
    steps = []
    run = stored.manifest.training.run_id
    if run and not _has_run(world, run):
        made = {"model": stored.manifest.name, "version": stored.manifest.version}
        steps.append(_finish(run, stored.manifest.metrics, made))
    if next(_told(world.entries, stored), None) != REGISTER:
        steps.append(Step(REGISTER, "model", stored.manifest.name, None, canonical(facts(stored))))
    return Change(tuple(steps)) if steps else None


def finished(world: World, run: str, metrics: Mapping[str, float]) -> Change | None:
    """Tell that a training run ended that made no version; None where the audit has it. world.entries: all of it."""
    if _has_run(world, run):
        return None
    return Change((_finish(run, metrics, {"model": None, "version": None}),))


def removed(world: World, stored: Stored) -> Change | None:
    """Tell that a version left the repository; None where the audit has it. world.entries: the whole audit."""
    if next(_told(world.entries, stored), None) == REMOVE:
        return None
    return Change((Step(REMOVE, "model", stored.manifest.name, canonical(facts(stored)), None),))


def facts(stored: Stored) -> dict[str, Any]:
    """Return what the audit tells of a version: JSON values."""
    manifest, training = stored.manifest, stored.manifest.training
    return {
        "model": manifest.name,
        "version": manifest.version,
        "digest": stored.digest,
        "created": manifest.created.isoformat(),
        "author": manifest.author,
        "framework": manifest.framework,
        "tags": list(stored.tags),
        "training": {"data": training.data, "data_sha256": training.data_sha256, "run_id": training.run_id},
        "metrics": _told_metrics(manifest.metrics),
    }


def _told_metrics(metrics: Mapping[str, float]) -> Mapping[str, float | None]:
    """Return metrics with null for those that JSON has no number for."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _finish(run: str, metrics: Mapping[str, float], made: Mapping[str, str | None]) -> Step:
    after = {"run_id": run, "metrics": _told_metrics(metrics), **made}
    return Step(FINISH, "experiment", run, None, canonical(after))


def _has_run(world: World, run: str) -> bool:
    told = ((entry.subject_kind, entry.action, entry.subject) for entry in world.entries)
    return ("experiment", FINISH, run) in told


def _told(entries: Sequence[Entry], stored: Stored) -> Iterator[str]:
    """Yield what was told of a version: that it came, or that it went, the last first."""
    for entry in reversed(entries):
        if entry.subject_kind == "model" and entry.subject == stored.manifest.name:
            told = {REGISTER: entry.after, REMOVE: entry.before}.get(entry.action)
            try:
                if told and json.loads(told)["version"] == stored.manifest.version:
                    yield entry.action
            except (ValueError, KeyError, TypeError):  # nothing that a writer of ours tells
                continue
