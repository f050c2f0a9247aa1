"""What is told beside alerts, in words: versions that took over, and requests for a new one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from monitoring import comparing, retraining
from penstock import aftermath

AT = datetime(2026, 5, 1, 12, tzinfo=UTC)


def window(version: str) -> dict[str, Any]:
    return {"model": "late", "version": version, "since": AT, "until": AT, "rows": 5000}


def number(metric: str, before: float | None, after: float | None, *bounds: float) -> dict[str, Any]:
    low, high = bounds or (None, None)
    return {
        **{"of": "", "metric": metric, "before": before, "before_low": low, "before_high": high},
        **{"after": after, "after_low": None, "after_high": None},
    }


COMPARED = {
    "what": "quality",
    "deployment": "flights",
    "arm": "active",
    "at": AT,
    "before": window("0d3adb44-1"),
    "after": window("1d3adb44-1"),
    "numbers": [number("accuracy", 0.9, 0.8, 0.85, 0.95), number("distance", None, 0.1)],
    "summary": "accuracy 0.9 before, 0.8\x1b[2J since",
}


def test_the_topics_are_those_that_monitors_write() -> None:
    assert (aftermath.COMPARISONS, aftermath.RETRAINING) == (comparing.TOPIC, retraining.TOPIC)


def test_a_takeover_is_a_line_and_its_numbers_with_intervals_on_demand() -> None:
    (line,) = aftermath.compared(COMPARED, whole=False)
    assert line.startswith("2026-05-01 12:00:00Z  flights/active  late@0d3adb44 -> late@1d3adb44  quality: accuracy")
    assert "\x1b" not in line
    _, accuracy, distance = aftermath.compared(COMPARED, whole=True)
    assert accuracy.split()[0] == "accuracy"
    assert "0.9 (0.85 .. 0.95)" in accuracy
    assert distance.split() == ["distance", "-", "0.1"]


def test_a_request_tells_what_moved_and_what_to_train_on() -> None:
    reason = {"alert": "abcdef0123", "kind": "feature", "name": "wind", "onset": AT, "summary": "wind: mean +0.5"}
    request = {
        **{"deployment": "flights", "arm": "active", "model": "late", "version": "v1", "at": AT},
        **{"features": ["wind"], "reasons": [reason], "topic": "events", "labels": "truth", "since": AT, "until": AT},
    }
    lines = list(aftermath.asked(request))
    assert lines[0] == "2026-05-01 12:00:00Z  flights/active  late@v1: wind"
    assert lines[1].strip() == ("train on events from 2026-05-01 12:00:00Z to 2026-05-01 12:00:00Z, labels in truth")
    assert lines[2].strip() == "abcdef01  since 2026-05-01 12:00:00Z  wind: mean +0.5"
    assert next(aftermath.asked({**request, "features": []})).endswith(": its quality")
