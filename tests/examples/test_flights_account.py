"""The account of the demo balances only when every event has exactly one result."""

from __future__ import annotations

import polars as pl
import pytest

from examples.flights import account
from examples.flights.account import LETTER_SCHEMA, SCORED_SCHEMA, ArmAccount, Sent

SENT = Sent(flights=4, corrupt=1, in_topic={0: 3, 1: 2})
PLACES = [(0, 0), (0, 1), (1, 0), (1, 1)]


def balance(
    places: list[tuple[int, int]] = PLACES,
    letters: list[tuple[int, int, str, bool]] | None = None,
    sent: Sent = SENT,
) -> ArmAccount:
    rows = [(partition, offset, f"F{partition}{offset}", 0.5) for partition, offset in places]
    bad = [(0, 2, "truncated", True)] if letters is None else letters
    return account.balance(
        "active",
        sent,
        pl.DataFrame(rows, schema=SCORED_SCHEMA, orient="row"),
        pl.DataFrame(bad, schema=LETTER_SCHEMA, orient="row"),
    )


def test_one_result_per_event_balances() -> None:
    result = balance()
    assert result.problems == []
    assert (result.events, result.inferences, result.letters, result.reasons) == (5, 4, 1, {"truncated": 1})


def test_an_event_scored_twice_is_a_duplicate() -> None:
    assert "active: 1 duplicates" in balance([*PLACES, (0, 1)]).problems


def test_an_event_that_is_inference_and_dead_letter_is_a_duplicate() -> None:
    result = balance(letters=[(0, 2, "truncated", True), (0, 1, "check_failed", True)])
    assert "active: 1 duplicates" in result.problems


def test_a_missing_result_is_found_even_when_a_duplicate_makes_up_the_number() -> None:
    result = balance([(0, 0), (0, 0), (1, 0), (1, 1)])
    assert result.problems == ["active: 1 duplicates", "active: 1 events without a result"]


def test_a_result_of_no_event_does_not_stand_for_a_missing_one() -> None:
    result = balance([(0, 0), (0, 9), (1, 0), (1, 1)])
    assert result.problems == ["active: 1 events without a result"]


def test_an_altered_dead_letter_is_found() -> None:
    assert balance(letters=[(0, 2, "truncated", False)]).problems == ["active: 1 dead letters differ from their event"]


def test_a_flight_among_the_dead_letters_is_found() -> None:
    result = balance(PLACES[:3], [(0, 2, "truncated", True), (1, 1, "missing_value", True)])
    assert result.problems == ["active: 1 corrupt events, but 2 dead letters"]


def test_events_that_never_reached_the_topic_are_found() -> None:
    result = balance(sent=Sent(flights=5, corrupt=1, in_topic={0: 3, 1: 2}))
    assert result.problems == ["active: 6 events were sent, 5 are in the topic"]


def test_nothing_at_all_balances() -> None:
    assert balance([], [], Sent(0, 0, {0: 0})).problems == []


def test_auc_is_by_month_from_april_and_needs_the_flight_only() -> None:
    outcomes = pl.DataFrame(
        {"flight_id": ["a", "b", "c", "d"], "month": [3, 4, 4, 4], "late": [True, True, False, True]},
        schema_overrides={"month": pl.Int32},
    )
    rows = [(0, 0, "a", 0.0), (0, 1, "b", 0.9), (0, 2, "c", 0.5), (0, 3, "d", 0.1)]
    scored = pl.DataFrame(rows, schema=SCORED_SCHEMA, orient="row")
    assert account.auc_after_training(scored, outcomes) == {4: pytest.approx(0.5)}
    assert account.auc_after_training(scored.head(1), outcomes) == {}
