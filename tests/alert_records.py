"""Records of alerts as a monitor writes them, for tests of who reads them."""

from __future__ import annotations

import hashlib
from typing import Any

from monitoring.alerts import encoded

BEGAN_MS = 1_767_225_600_000  # 2026-01-01


def alert(name: str = "wind", state: str = "opened", number: int = 0, **more: Any) -> dict[str, Any]:
    """One record as plain values; its id follows from its name."""
    at = more.pop("at", BEGAN_MS + number * 60_000)
    return {
        "id": hashlib.sha256(name.encode()).hexdigest()[:32],
        "state": state,
        "severity": "info" if state == "closed" else "warning",
        "deployment": "flights",
        "arm": "active",
        "model": "late",
        "version": "0d3adb44-0000-4000-8000-000000000001",
        "detector": "e_detector",
        "kind": "feature",
        "name": name,
        "onset": BEGAN_MS - 30_000,
        "at": at,
        "value": 14.5,
        "threshold": 13.3,
        "rows": 5000,
        "summary": f"{name}: as before" if state == "closed" else f"{name}: mean +0.5",
        "evidence": [{"bin": "< 1", "expected": 0.1, "observed": 0.3}],
        "number": number,
        "opened": BEGAN_MS,
        "size": 0.3,
        "worst": "warning",
        "peak": f"{name}: mean +0.5",
        "action": "" if state == "closed" else f"Ask who fills {name}.",
        "group": "",
        "members": [],
        **more,
    }


def values(*alerts: dict[str, Any]) -> list[bytes]:
    """The records' values as they stand in the topic."""
    return [encoded(each)[1] for each in alerts]


def group(*names: str, **more: Any) -> list[dict[str, Any]]:
    """The alert of a group and those of its members."""
    parent = alert("columns", kind="group", detector="group", members=list(names), evidence=[], **more)
    return [parent, *(alert(name, group=parent["id"], **more) for name in names)]
