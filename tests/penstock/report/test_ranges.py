"""Which ranges people mean."""

from __future__ import annotations

import pytest

from monitoring.hindsight import Span
from penstock.errors import ConfigError
from penstock.report.ranges import against_of, span_of
from schemas.errors import Explained

NOW = 1_700_000_000.0
MS = 1_700_000_000_000
HOUR = 3_600_000
DAY = 24 * HOUR


def clock() -> float:
    return NOW


@pytest.mark.parametrize(
    ("since", "begin", "end", "span"),
    [
        ("24h", None, "now", Span(MS - DAY, MS)),
        ("90m", None, "1h ago", Span(MS - HOUR - 90 * 60_000, MS - HOUR)),
        ("24h", "2023-11-01", "2023-11-02", Span(1_698_796_800_000, 1_698_796_800_000 + DAY)),
    ],
)
def test_the_range_that_is_reported(since: str, begin: str | None, end: str, span: Span) -> None:
    assert span_of(since, begin, end, clock) == span


def test_the_range_that_it_is_compared_with() -> None:
    span = Span(MS - HOUR, MS)
    midnight = MS - MS % DAY
    assert against_of("yesterday", span, clock) == Span(midnight - DAY, midnight)
    assert against_of("7d", span, clock) == Span(MS - HOUR - 7 * DAY, MS - HOUR)
    assert against_of("2023-11-01..2023-11-02", span, clock) == Span(1_698_796_800_000, 1_698_796_800_000 + DAY)


@pytest.mark.parametrize(
    ("since", "begin", "end"),
    [("0h", None, "now"), ("1 day", None, "now"), ("1h", "now", "1h ago"), ("1h", "0:5", "now")],
)
def test_what_is_no_range_is_refused(since: str, begin: str | None, end: str) -> None:
    with pytest.raises(ConfigError):
        span_of(since, begin, end, clock)


@pytest.mark.parametrize("text", ["last week", "2023-11-02..2023-11-01", "x..y", "..", ""])
def test_what_is_no_other_range_is_refused(text: str) -> None:
    with pytest.raises(Explained):
        against_of(text, Span(MS - HOUR, MS), clock)
