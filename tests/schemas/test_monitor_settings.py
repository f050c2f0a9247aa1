"""What a deployment may say of its monitor, and what it is told otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.deployment import Deployment, Monitor
from tests.declared import deployment


@pytest.mark.parametrize(
    ("settings", "days"),
    [
        ({}, None),
        ({"reference": "rolling 7d"}, 7),
        ({"reference": "rolling 28d", "season": "weekly"}, 28),
        ({"reference": "rolling 2d", "season": "daily"}, 2),
    ],
)
def test_the_past_that_is_the_reference(settings: dict[str, Any], days: int | None) -> None:
    assert Monitor(detector="e_detector", **settings).rolling_days == days


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"season": "daily"}, "season: daily is learned from the past: say reference: rolling 2d"),
        ({"season": "weekly", "reference": "rolling 6d"}, "say reference: rolling 7d, or of more days"),
        ({"reference": "rolling 7d", "detector": "windows"}, "is of the detector e_detector only, not of windows"),
        ({"window_rows": 100}, "window_rows is of the detector windows, not of e_detector: leave it out, or say"),
        ({"detector": "adwin", "closes": 0.3}, "closes is of the detector windows, not of adwin"),
        ({"reference": "rolling 0d"}, "rolling"),
        ({"reference": "rolling 29d"}, "rolling"),
        ({"reference": "yesterday"}, "rolling"),
        ({"design_effect": 0.9}, "greater than or equal to 1"),
        ({"design_effect": "guessed"}, "learned"),
        ({"weights": {"wind": -1}}, "greater than or equal to 0"),
        ({"zone": -0.1}, "greater than or equal to 0"),
        ({"zone_share": 0.6}, "less than or equal to 0.5"),
        ({"budget": "week"}, "deployment"),
        ({"false_alarms": 0}, "greater than 0"),
        ({"quality": {"errors": 0}}, "greater than 0"),
        ({"quality": {"errors": 1}}, "less than 1"),
        ({"quality": {"first": 10}}, "greater than or equal to 100"),
        ({"quality": {"worse": 0.5}}, "less than or equal to 0.2"),
        ({"quality": {"labels_silent": "soon"}}, "a whole number of seconds, or one with a unit"),
        ({"retrain_after": "1s"}, "greater than or equal to 60"),
        ({"operations": {"model_days": 0}}, "greater than 0"),
        ({"operations": {"cpu": 1.5}}, "less than or equal to 1"),
        ({"operations": {"disk_bytes": "much"}}, "a whole number of bytes, or one with a unit"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Monitor(**({"detector": "e_detector"} | settings))
    assert told in str(refused.value)


def test_the_e_detector_watches_where_nothing_else_is_said() -> None:
    assert Monitor().detector == "e_detector"
    assert Monitor(detector="windows", window_rows=100).window_rows == 100


def test_settings_survive_being_written_down() -> None:
    made = Monitor(
        detector="e_detector",
        reference="rolling 7d",
        season="daily",
        weights={"wind": 2.0},
        design_effect=3.0,
        zone=0.1,
    )
    assert Monitor.model_validate_json(made.model_dump_json()) == made


def test_groups_of_people_are_segments_too() -> None:
    made = a_deployment(segments=["origin", "gender"], fairness=["gender", "age"])
    assert made.segments == ["origin", "gender", "age"]
    assert a_deployment(fairness=["gender"]).sampling is not None
    assert a_deployment().sampling is None


def a_deployment(**monitor: Any) -> Deployment:
    return deployment(monitor=monitor)
