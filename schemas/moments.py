"""How people write times and lengths of time: one grammar for all commands.

A time is ISO 8601 (UTC where it names no zone), a day (its first moment), `now`, `today`, `yesterday`, or how long ago:
`7d` or `7d ago`. A length is `90m`, `12h` or `7d`. Units: s, m, h, d, w.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
DAYS = {"today": 0, "yesterday": 1}
TIME_FORMS = "write 2026-05-01T12:00:00Z, 2026-05-01, today, yesterday, now, or 7d for so long ago"
_LENGTH = re.compile(r"([0-9]{1,9})([smhdw])")
_AGO = re.compile(r"([0-9]{1,9}[smhdw])(?:\s+ago)?")


def length_of(text: str) -> int | None:
    """Return a length of time in seconds; None for what is none, or for 0."""
    match = _LENGTH.fullmatch(text.strip())
    return int(match[1]) * UNITS[match[2]] or None if match else None


def ago_of(text: str) -> int | None:
    """Return how many seconds ago `7d` or `7d ago` was; None for another form of a time."""
    match = _AGO.fullmatch(text.strip())
    return length_of(match[1]) or 0 if match else None


def moment_of(text: str, now: float) -> int | None:
    """Return a time in ms since 1970, at least 0; None for what is none. now: seconds since 1970."""
    text = text.strip()
    if text == "now":
        return round(now * 1000)
    if (ago := ago_of(text)) is not None:
        return max(0, round((now - ago) * 1000))
    if text in DAYS:
        midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        found = midnight - timedelta(days=DAYS[text])
    else:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            return None
    return max(0, round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000))
