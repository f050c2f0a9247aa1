"""Which ranges of time a person means: `--since 24h`, `--from` and `--to`, `--against yesterday|7d|FROM..TO`."""

from __future__ import annotations

from collections.abc import Callable

from monitoring.hindsight import Span
from penstock.errors import ConfigError
from schemas.moments import TIME_FORMS, ago_of, moment_of

DAY_MS = 86_400_000


def span_of(since: str, begin: str | None, end: str, clock: Callable[[], float]) -> Span:
    """Return the range that is reported. Raises ConfigError.

    since: how far back from its end it begins, or when, where `begin` is None.
    """
    last = _moment(end, "--to", clock)
    if begin is not None:
        return _span(_moment(begin, "--from", clock), last, "--from and --to")
    ago = ago_of(since)
    first = _moment(since, "--since", clock) if ago is None else last - ago * 1000
    return _span(max(0, first), last, "--since and --to")


def against_of(text: str, span: Span, clock: Callable[[], float]) -> Span:
    """Return the range that a span is compared with.

    `yesterday`: that day in UTC. `7d`: so much before the span begins. `FROM..TO`: two times. Raises ConfigError.
    """
    if text == "yesterday":
        first = _moment("yesterday", "--against", clock)
        return Span(first, first + DAY_MS)
    if (ago := ago_of(text)) is not None:
        return _span(max(0, span.begin - ago * 1000), span.begin, "--against")
    begin, dots, end = text.partition("..")
    if not dots:
        raise ConfigError(f"--against {text!r} is no range: write yesterday, 7d, or FROM..TO, each a time")
    return _span(_moment(begin, "--against", clock), _moment(end, "--against", clock), "--against")


def _span(first: int, last: int, option: str) -> Span:
    if first >= last:
        raise ConfigError(f"{option}: the range ends before it begins, or is empty")
    return Span(first, last)


def _moment(text: str, option: str, clock: Callable[[], float]) -> int:
    ms = moment_of(text, clock())
    if ms is None:
        raise ConfigError(f"{option} {text!r} is no time: {TIME_FORMS}")
    return ms
