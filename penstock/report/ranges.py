"""Which ranges of time a person means: `--since 24h`, `--from` and `--to`, `--against yesterday|7d|FROM..TO`."""

from __future__ import annotations

import re
from collections.abc import Callable

from monitoring.hindsight import Span
from penstock.errors import ConfigError
from streams.reading import UNITS, Point

DAY_MS = 86_400_000
_LENGTH = re.compile(r"(\d{1,6})([smhd])")


def span_of(since: str, begin: str | None, end: str, clock: Callable[[], float]) -> Span:
    """Return the range that is reported. since: how far back it begins where `begin` is None. Raises ConfigError."""
    last = _moment(end, "--to", clock)
    first = last - _length(since, "--since") if begin is None else _moment(begin, "--from", clock)
    return _span(first, last, "--from and --to")


def against_of(text: str, span: Span, clock: Callable[[], float]) -> Span:
    """Return the range that a span is compared with.

    `yesterday`: that day in UTC. `7d`: so much before the span begins. `FROM..TO`: two times. Raises ConfigError.
    """
    if text == "yesterday":
        first = _moment("yesterday", "--against", clock)
        return Span(first, first + DAY_MS)
    if _LENGTH.fullmatch(text):
        return Span(max(0, span.begin - _length(text, "--against")), span.begin)
    begin, dots, end = text.partition("..")
    if not dots:
        raise ConfigError(f"--against {text!r} is no range: write yesterday, 7d, or FROM..TO, each a time")
    return _span(_moment(begin, "--against", clock), _moment(end, "--against", clock), "--against")


def _span(first: int, last: int, option: str) -> Span:
    if first >= last:
        raise ConfigError(f"{option}: the range ends before it begins, or is empty")
    return Span(first, last)


def _moment(text: str, option: str, clock: Callable[[], float]) -> int:
    ms = Point.parse(text.strip(), clock).ms
    if ms is None:
        raise ConfigError(
            f"{option} {text!r} is no time: write 2026-05-01T12:00:00Z, 2026-05-01, yesterday or '7d ago'"
        )
    return ms


def _length(text: str, option: str) -> int:
    match = _LENGTH.fullmatch(text)
    if match is None or not int(match[1]):
        raise ConfigError(f"{option} {text!r} is no length of time: write 90m, 24h or 7d")
    return int(match[1]) * UNITS[match[2]] * 1000
