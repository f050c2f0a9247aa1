"""How a report writes numbers and times."""

from __future__ import annotations

import math
from datetime import UTC, datetime

Number = float | None
NOTHING = "-"


def moment(ms: int) -> str:
    """Return a time in UTC, to the second."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(begin: int, end: int) -> str:
    return f"{moment(begin)} to {moment(end)} UTC"


def length(ms: int) -> str:
    """Return a length of time in its two largest units."""
    seconds = round(ms / 1000)
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    parts = []
    for size, name in units:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def share(value: Number) -> str:
    return NOTHING if value is None else f"{value:.2%}"


def plain(value: Number) -> Number:
    """Return a number with six digits for `--json`, None where there is none: JSON has no NaN."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def figure(value: Number, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"


def count(value: int, what: str = "") -> str:
    """Return a count, with its noun where one is given."""
    return f"{value:,}" + (f" {what}" + ("" if value == 1 else "s") if what else "")
