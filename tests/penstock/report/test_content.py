"""What a report says: the worst first, the numbers those of the counts, and everything as JSON."""

from __future__ import annotations

import json

import pytest

from monitoring.distances import distances
from monitoring.hindsight import Span
from penstock.report.content import content
from tests.monitoring.traffic import reference
from tests.penstock.report.made import LINEAGE, SPAN, course, episode, found


def test_it_is_json_without_nan() -> None:
    told = content(found())
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_the_numbers_of_a_column_are_those_of_its_counts() -> None:
    told = content(found())
    (version,) = told["versions"]
    column = next(each for each in version["columns"] if each["name"] == "wind")
    part, made = reference().slices[0], course(1.0)
    expected, observed = reference().tally.cells[part.start : part.end], made.total(part)
    assert [each["events"] for each in column["bins"]] == observed.tolist()
    assert column["events"] == version["events"] == told["traffic"]["events"] == 5000
    assert (column["psi"], column["js"], column["ks"]) == pytest.approx(tuple(distances(expected, observed)), rel=1e-5)
    assert sum(each["now"] for each in column["bins"]) == pytest.approx(1)
    assert column["evidence"] == 0.5 + 4 * 5
    assert len(column["over_time"]["psi"]) == len(told["times"]) == made.grid.bins
    assert told["traffic"]["late"] == 3


def names(**changed: object) -> list[str]:
    (version,) = content(found(**changed))["versions"]
    return [each["name"] for each in version["columns"]]


def test_the_worst_column_comes_first() -> None:
    assert names(shift=1.0, episodes=[]) == ["wind", "late", "rain", "carrier"] or names(shift=1.0)[0] == "wind"
    assert names(shift=0.0, episodes=[episode(name="carrier")])[0] == "carrier"
    graver = [episode(name="rain", id="b"), episode(name="carrier", severity="warning")]
    assert names(shift=0.0, episodes=graver)[:2] == ["rain", "carrier"]


def test_episodes_of_other_versions_and_arms_are_not_a_columns() -> None:
    others = [episode(version="v2"), episode(arm="canary"), episode(kind="output")]
    (version,) = content(found(episodes=others))["versions"]
    assert [each["episodes"] for each in version["columns"]] == [[]] * 4


def test_what_it_is_compared_with_is_said() -> None:
    (version,) = content(found())["versions"]
    assert version["compared_with"] == "training"
    other = content(found(against=Span(1, 2), compared=frozenset({LINEAGE.reference})))
    assert other["versions"][0]["compared_with"] == "range"
    assert other["against"] == {"begin": 1, "end": 2}


def test_a_range_without_anything_is_told_too() -> None:
    told = content(found(courses={}, episodes=[]))
    assert (told["versions"], told["traffic"]["events"]) == ([], 0)
    assert told["begin"] == SPAN.begin
