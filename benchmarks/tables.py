"""Figures and texts as cells of a Markdown table. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

Cells = Sequence[str]

LATE = "does not keep up"
REASON = 200  # characters of a failure


def table(head: Cells, rows: Sequence[Cells], right: int = 0) -> list[str]:
    """Return the lines of a Markdown table. right: how many columns after the first hold numbers."""
    rules = ["---:" if 0 < at <= right else "---" for at in range(len(head))]
    return [f"| {' | '.join(head)} |", f"|{'|'.join(rules)}|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def number(value: float | None, unit: str = "") -> str:
    """Return three digits that count; nothing for what was not measured."""
    if value is None or math.isnan(value):
        return ""
    if math.isinf(value):
        return LATE
    return (f"{value:,.0f}" if value >= 100 else f"{value:.3g}") + unit


def plain(text: str) -> str:
    """Return the first line of a text from elsewhere as Markdown, without paths and addresses of one machine."""
    line = text.strip().partition("\n")[0].strip().rstrip(":").replace("`", "'")
    line = re.sub(r"https?://\S+", "an address", line)
    line = re.sub(r"(?<![\w.])/(?:[\w.@+-]+/)*([\w.@+-]+)/?", r"\1", line)
    short = line if len(line) <= REASON else f"{line[:REASON].rstrip()} ..."
    return re.sub(r"([\\|*_\[\]<>])", r"\\\1", short)
