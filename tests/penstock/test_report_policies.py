"""What a report says of arms that share the events: off-policy estimates, of the versions that stand there now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.report.policies import estimated, policies_markup
from schemas.control import State
from tests.monitoring.steered import reward, state
from tests.monitoring.test_offpolicy import MEANS, SHARES, rewards, truth


def states() -> dict[int, State]:
    return {revision: state(revision, shares["canary"] * 100) for revision, shares in SHARES.items()}


def test_estimates_are_those_of_the_shares_that_were() -> None:
    found = estimated(rewards(1), states())
    assert (found["segment"], found["revisions"]) == ("origin", [1, 2])
    assert [each["arm"] for each in found["estimates"]] == ["active", "canary"]
    for each in found["estimates"]:
        value, low, high = each["doubly_robust"]
        assert low <= truth(each["arm"]) <= high
        assert value == pytest.approx(truth(each["arm"]), abs=0.03)
    page = str(policies_markup(found))
    assert "If one arm had had all events" in page
    assert "canary: late@2" in page
    assert "the arm&#x27;s mean by origin" in page or "the arm's mean by origin" in page


def test_revisions_with_other_versions_are_left_out() -> None:
    known = states()
    known[1] = state(1, 5.0, canary="9")
    assert estimated(rewards(1), known)["revisions"] == [2]


def test_without_segments_there_is_no_model() -> None:
    found = estimated([each for each in rewards(1) if not each.segment], states())
    assert found["segment"] == ""
    assert [each["doubly_robust"] is None for each in found["estimates"]] == [False, False]


def test_where_nothing_is_known_there_is_nothing_to_tell() -> None:
    assert estimated([], states())["estimates"] == []
    assert estimated([reward(7, "canary", 5, 4)], states())["estimates"] == []
    assert replace(states()[1], revision=1) == states()[1]
    assert set(MEANS) == {"A", "B"}
