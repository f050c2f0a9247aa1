"""What a further section of a report is, and how the makers of all of them write numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.hindsight import Span
from penstock.report.markup import Markup
from schemas.deployment import Deployment
from streams.reading import TopicReader


@dataclass(frozen=True, slots=True)
class Section:
    """key: of the content in `--json`. content: plain values. markup: the same for the page, with its own heading."""

    key: str
    content: Mapping[str, Any]
    markup: Markup


Maker = Callable[[TopicReader, Deployment, Span], Sequence[Section]]  # a reader, the deployment, the range


def plain(value: float | None) -> float | None:
    """Return a number with six digits, None where there is none: JSON has no NaN."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
