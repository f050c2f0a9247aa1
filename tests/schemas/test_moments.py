"""One grammar for times and lengths of time, in all commands."""

from __future__ import annotations

import click
import pytest

from penstock.cli.history import moment
from penstock.errors import ConfigError
from penstock.report.ranges import against_of, span_of
from schemas.moments import ago_of, length_of, moment_of
from streams.errors import Refused
from streams.reading import Point

NOW = 1_800_000_000.5  # 2027-01-15T08:00:00.5Z
MS = 1_800_000_000_500
DAY = 86_400_000
MIDNIGHT = 1_799_971_200_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-05-01T12:00:00Z", 1_777_636_800_000),
        ("2026-05-01T12:00:00", 1_777_636_800_000),
        ("2026-05-01T14:00:00+02:00", 1_777_636_800_000),
        ("2026-05-01", 1_777_593_600_000),
        ("now", MS),
        ("today", MIDNIGHT),
        (" yesterday ", MIDNIGHT - DAY),
        ("7d", MS - 7 * DAY),
        ("7d ago", MS - 7 * DAY),
        ("90m", MS - 90 * 60_000),
        ("2w ago", MS - 14 * DAY),
        ("0s", MS),
        ("999999999w", 0),
        ("1960-01-01", 0),
    ],
)
def test_a_time_means_the_same_wherever_it_is_written(text: str, ms: int) -> None:
    assert moment_of(text, NOW) == ms
    assert Point.parse(text, lambda: NOW).ms == ms


@pytest.mark.parametrize("text", ["", "7", "7 d", "d", "-7d", "7d later", "ago", "last week", "2026-13-01", "\u0667d"])
def test_what_is_no_time_is_refused_everywhere_with_the_forms_there_are(text: str) -> None:
    assert moment_of(text, NOW) is None
    with pytest.raises(Refused, match="2026-05-01T12:00:00Z"):
        Point.parse(text, lambda: NOW)
    with pytest.raises(click.BadParameter, match="2026-05-01T12:00:00Z"):
        moment(text)


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5_400), ("12h", 43_200), ("1w", 604_800), ("30s", 30)])
def test_lengths(text: str, seconds: int) -> None:
    assert length_of(text) == seconds
    assert ago_of(f"{text} ago") == seconds


@pytest.mark.parametrize("text", ["0h", "7d ago", "1 day", "", "yesterday"])
def test_what_is_no_length(text: str) -> None:
    assert length_of(text) is None


def test_a_report_takes_all_of_them() -> None:
    """`--since` reaches back from `--to`; a time is one."""

    def clock() -> float:
        return NOW

    week = span_of("7d", None, "yesterday", clock)
    assert week == span_of("7d ago", None, "yesterday", clock)
    assert (week.begin, week.end) == (MIDNIGHT - 8 * DAY, MIDNIGHT - DAY)
    assert span_of("yesterday", None, "now", clock).begin == MIDNIGHT - DAY
    assert against_of("7d", week, clock) == against_of("7d ago", week, clock)
    assert against_of("8d..today", week, clock).begin == MS - 8 * DAY
    with pytest.raises(ConfigError, match="--since"):
        span_of("0h", None, "now", clock)
