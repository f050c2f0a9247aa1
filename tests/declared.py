"""A small deployment, of which each test declares what it needs besides."""

from __future__ import annotations

from typing import Any

from schemas.deployment import Deployment

ACTIVE = {"role": "active", "model": "m@production"}
ALL = {"role": "all", "name": "trees", "model": "trees@production"}
SHADOW = {"role": "shadow", "model": "m@candidate", "topic": "d.shadow"}


def deployment(*arms: dict[str, Any], **more: Any) -> Deployment:
    """Return one that scores with ACTIVE and these arms."""
    declared = {"name": "d", "input": {"topic": "in", "schema": "e.avsc"}, "output": {"topic": "out"}}
    return Deployment.model_validate({**declared, "arms": [ACTIVE, *arms], **more})
