"""Episodes of a range, from the records of the alerts topic."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from monitoring.hindsight import Span
from penstock.report.episodes import MOST, Episodes

SPAN = Span(1000, 2000)


def alert(state: str, at: int, identity: str = "a", **changed: Any) -> dict[str, Any]:
    fields: dict[str, Any] = dict.fromkeys(("arm", "model", "version", "detector", "kind", "name", "summary"), "x")
    told = {"id": identity, "state": state, "severity": "warning", "deployment": "d", "onset": at - 10, "at": at}
    return {**fields, **told, **changed}


def found(*alerts: dict[str, Any]) -> list[tuple[str, int, int | None]]:
    episodes = Episodes("d", SPAN)
    for each in alerts:
        episodes.add(each)
    return [(each.id, each.onset, each.closed) for each in episodes.found()]


def test_an_episode_that_reaches_into_the_range_is_found_and_others_are_not() -> None:
    assert found(
        alert("opened", 100, "before"),
        alert("closed", 900, "before"),
        alert("opened", 500, "into"),
        alert("closed", 1500, "into"),
        alert("opened", 1900, "open"),
        alert("opened", 3000, "after"),
        alert("opened", 1200, "other", deployment="e"),
    ) == [("into", 490, 1500), ("open", 1890, None)]


def test_records_that_come_again_change_nothing() -> None:
    once = [alert("opened", 1200), alert("closed", 1500)]
    assert found(*once, *once) == found(*once) == [("a", 1190, 1500)]


def test_an_episode_that_opens_again_is_open_and_keeps_its_gravest_severity() -> None:
    episodes = Episodes("d", SPAN)
    graver = alert("updated", 1300, severity="critical", onset=1190)
    for each in (alert("opened", 1200), graver, alert("closed", 1400), alert("opened", 1500, onset=1190)):
        episodes.add(each)
    (one,) = episodes.found()
    assert (one.severity, one.closed, one.opened) == ("critical", None, 1200)


def test_times_may_be_moments() -> None:
    at = datetime.fromtimestamp(1.5, UTC)
    assert found({**alert("opened", 0), "at": at, "onset": at}) == [("a", 1500, None)]


def test_memory_is_bounded_and_what_is_left_out_is_counted() -> None:
    episodes = Episodes("d", SPAN)
    for number in range(MOST + 7):
        episodes.add(alert("opened", 1500, str(number)))
    assert len(episodes.found()) == MOST
    assert episodes.left_out == 7


def test_what_compaction_left_of_an_episode_is_enough() -> None:
    last = alert(
        "closed", 1500, severity="info", onset=1190, opened=1200, worst="critical", peak="worst of it", number=3
    )
    episodes = Episodes("d", SPAN)
    episodes.add(last)
    (one,) = episodes.found()
    assert (one.severity, one.opened, one.closed, one.summary) == ("critical", 1200, 1500, "worst of it")


def test_an_earlier_record_that_comes_again_does_not_open_it_anew() -> None:
    opened, closed = alert("opened", 1200, number=0), alert("closed", 1500, number=1)
    assert found(opened, closed, opened) == [("a", 1190, 1500)]
