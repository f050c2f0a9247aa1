"""What is wrong in a declaration is said once for each place, by its keys in the file, with what may stand there."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.deployment import Deployment
from schemas.problems import problems_of
from tests.declared import deployment


def problems(**more: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        deployment(**more)
    return list(problems_of(caught.value, Deployment))


def labels(**more: Any) -> dict[str, Any]:
    return {"topic": "l", "schema": "label.avsc", "value": "late", **more}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"monitor": {"quality": {"errors": 2}}},
            "monitor.quality.errors: must be 'learned' or 'bundle'; or must be below 1 (found 2)",
        ),
        (
            {"missing": {"a": [1]}},
            "missing.a: must be a number; or must be a whole number; or must be text; put it into quotes; or must be "
            "true or false (found [1])",
        ),
        (
            {"labels": labels(schema=3)},
            "labels.schema: must be text; put it into quotes; or must be keys with their values (found 3)",
        ),
        (
            {"fallback": ["m"]},
            "fallback.0 (counted from 0): must be NAME@TAG or NAME@VERSION; or must be keys with their values "
            "(found 'm')",
        ),
    ],
)
def test_of_a_value_that_may_be_written_in_several_ways_all_are_told_in_one_line(
    more: dict[str, Any], said: str
) -> None:
    assert problems(**more) == [said]


def test_where_one_way_fits_only_what_is_wrong_within_it_is_told() -> None:
    assert problems(fallback=[{"const": {}}]) == [
        "fallback.0.constant (counted from 0): is required",
        "fallback.0.const (counted from 0): unknown key; did you mean 'constant'?",
    ]


def test_the_keys_of_a_value_that_may_be_short_are_known_too() -> None:
    assert problems(labels=labels(metrics={"cost": {"value": "late", "mn": 0}})) == [
        "labels.metrics.cost.mn: unknown key; did you mean 'min'?"
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"monitor": {"retrain_after": "3y"}},
            "monitor.retrain_after: must be a whole number of seconds, or one with a unit such as 90s, 12h or 3d "
            "(found '3y')",
        ),
        (
            {"limits": {"event_bytes": "a lot"}},
            "limits.event_bytes: must be a whole number of bytes, or one with a unit such as 512MiB or 2GB "
            "(found 'a lot')",
        ),
        ({"monitor": 3}, "monitor: must be keys with their values (found 3)"),
        (
            {"monitor": {"reference": "rolling 1y"}},
            "monitor.reference: must be bundle, or rolling with 1 to 28 days: rolling 7d (found 'rolling 1y')",
        ),
        (
            {"labels": labels(metrics={"a b": "late"})},
            "labels.metrics.a b: must begin with a letter or '_', and go on with these and digits, 60 at most "
            "(found 'a b')",
        ),
    ],
)
def test_what_may_stand_there_is_said_in_words(more: dict[str, Any], said: str) -> None:
    assert problems(**more) == [said]


def test_each_wrong_place_has_a_line() -> None:
    found = problems(latency_ms="5s", monitor={"opens": 0})
    assert found == [
        "latency_ms: must be a whole number, without a unit (found '5s')",
        "monitor.opens: must be above 0 (found 0)",
    ]
