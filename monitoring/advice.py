"""What to look at first when a column has moved: a sentence for whoever is called at night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MISSING = "missing"


def clock(ms: int) -> str:
    """Return a record time in UTC, to the second."""
    return f"{EPOCH + timedelta(milliseconds=ms):%Y-%m-%d %H:%M:%SZ}"


def more_missing(evidence: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether what moved most is that more values are missing."""
    return bool(evidence) and evidence[0]["bin"] == MISSING and evidence[0]["observed"] > evidence[0]["expected"]


def of_column(kind: str, name: str, deployment: str, onset: int, evidence: Sequence[Mapping[str, Any]]) -> str:
    """Return the advice about a feature or an output that moved."""
    since = clock(onset)
    if more_missing(evidence):
        return (
            f"Ask who fills {name}: more events come without it since {since}. Look at some with "
            f"`penstock watch`, and at what changed with `penstock history {deployment}`."
        )
    if kind == "output":
        return (
            f"See whether features moved, too (`penstock alerts list --open --deployment {deployment}`), or a version "
            f"came at about {since} (`penstock history {deployment}`; `penstock rollback {deployment}` takes it back)."
        )
    return (
        f"Ask who fills {name} what changed at about {since} (a release, a unit, a new source). If the world did, "
        f"train on events since then; if a version came then, `penstock history {deployment}` has it."
    )


def of_unusual(deployment: str, onset: int) -> str:
    """Return the advice where events are more, or less, unusual than the training rows."""
    return (
        f"See which features moved at about {clock(onset)} (`penstock report {deployment}`). If none did alone, they "
        "came together as they did not in training: look for joins that mix rows, new sources, or made-up events."
    )


def of_group(deployment: str, names: Sequence[str], onset: int, missing: bool) -> str:
    """Return the advice about columns that moved together."""
    if missing:
        return (
            f"Look for one source that all of them come from and that went away at about {clock(onset)}; "
            f"`penstock alerts list --open --members --deployment {deployment}` names them."
        )
    return (
        f"Look for one cause at about {clock(onset)}: other producers or traffic, a join that fails, a change of "
        f"`penstock history {deployment}`. First of them: {', '.join(names[:3])}."
    )
