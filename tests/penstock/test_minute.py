"""The share of inferences by a fallback, over the last minute only."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from penstock.cli.watch import _shown
from penstock.client.inference import Position
from penstock.minute import Minute


def test_the_share_is_that_of_the_last_minute() -> None:
    minute = Minute()
    assert minute.told(0.0) == ""
    for number in range(40):
        minute.saw(100.0 + number / 10, fallback=number % 4 == 0)
    assert minute.told(104.0) == "25.0% of the last minute by a fallback"
    for _ in range(10):
        minute.saw(161.5, fallback=True)  # those of second 100 and 101 are over
    assert minute.told(161.9) == f"{(5 + 10) / (20 + 10):.1%} of the last minute by a fallback"
    assert minute.told(300.0) == ""


def test_no_fallback_is_not_told() -> None:
    minute = Minute()
    minute.saw(1.0, fallback=False)
    assert minute.told(1.0) == ""


@pytest.mark.parametrize(
    ("fallback", "told"), [("", None), (None, None), ("model_failed", "model_failed (for canary)")]
)
def test_an_inference_by_who_stepped_in_says_for_whom_and_why(fallback: str | None, told: str | None) -> None:
    record = {
        **{"model": "flights", "version": "1f98511b-e863", "arm": "fallback", "assigned": "canary"},
        **{"fallback": fallback, "source_partition": 0, "source_offset": 7, "late": 0.5},
    }
    position = Position("out", 0, 7, None, datetime(2026, 11, 22, tzinfo=UTC))
    assert _shown(position, record, False).get("fallback") == told
