"""What a worker's command line says besides the deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streams.budget import BATCH_EVENTS


@dataclass(frozen=True, slots=True)
class Options:
    """kafka: settings that reach the cluster. member: those that only a member of a group may have besides."""

    kafka: Mapping[str, str]
    repository: str
    slot: str = "0"
    arm: str = "active"
    registry: str | None = None
    schema_folder: Path | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    state_folder: Path = Path(".penstock")
    batch_events: int = BATCH_EVENTS
    member: Mapping[str, str] = field(default_factory=dict)
