"""Alerts as webhooks and Alertmanagers get them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from penstock.alert_events import event_of_alert, labels_of, posted, resolved, stamp
from penstock.alertmanager import LATELY_MS, STALE_MS, Desk
from penstock.cloudevents import _ID
from schemas import records
from schemas.silences import Silence
from tests.alert_records import BEGAN_MS, alert, group, values

NOW = datetime.fromtimestamp((BEGAN_MS + 600_000) / 1000, UTC)
NOW_MS = BEGAN_MS + 600_000


def read(record: dict[str, Any]) -> dict[str, Any]:
    return records.decode("alert", values(record)[0])


class Quiet:
    """Silences by name."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def silent(self, record: Any) -> bool:
        return record["name"] in self.names

    def ack(self, record: Any) -> Silence | None:
        return None


def test_an_event_is_a_cloud_event_whose_id_names_alert_record_and_state() -> None:
    record = read(alert(number=3, state="updated"))
    event = event_of_alert(record, "/penstock/test")
    told = json.loads(event.value)
    assert told["specversion"] == "1.0"
    assert told["type"] == event.type == "io.penstock.alert.updated"
    assert told["id"] == event.id == f"{record['id']}-3-updated"
    assert _ID.fullmatch(event.id)
    assert (told["source"], told["subject"], told["time"]) == ("/penstock/test", "flights", "2026-01-01T00:03:00.000Z")
    assert told["data"]["summary"] == "wind: mean +0.5"
    assert told["data"]["onset"] == "2025-12-31T23:59:30.000Z"
    assert event_of_alert(read(alert(number=3, state="updated")), "/penstock/test") == event


def test_an_open_alert_fires_until_it_is_told_again_and_a_closed_one_has_ended() -> None:
    firing = posted(read(alert()), NOW, "https://console.example/a")
    assert firing["labels"] == {
        "alertname": "PenstockFeature",
        "deployment": "flights",
        "arm": "active",
        "model": "late",
        "version": "0d3adb44-0000-4000-8000-000000000001",
        "kind": "feature",
        "name": "wind",
        "detector": "e_detector",
        "severity": "warning",
    }
    assert firing["annotations"]["summary"] == "wind: mean +0.5"
    assert firing["annotations"]["description"] == "Ask who fills wind."
    assert firing["startsAt"] == "2025-12-31T23:59:30.000Z"
    assert datetime.fromisoformat(firing["endsAt"]) == NOW + timedelta(minutes=5)
    assert firing["generatorURL"] == "https://console.example/a"
    over = posted(read(alert(state="closed", number=2)), NOW)
    assert over["labels"] == firing["labels"]
    assert over["endsAt"] == "2026-01-01T00:02:00.000Z"
    assert "generatorURL" not in over


def test_times_of_a_clock_that_is_ahead_end_now_and_never_before_they_begin() -> None:
    ahead = alert(state="closed", onset=NOW_MS + 5_000, at=NOW_MS + 9_000)
    told = posted(read(ahead), NOW)
    assert told["startsAt"] == told["endsAt"] == re.sub(r"\+00:00", "Z", NOW.isoformat(timespec="milliseconds"))


def test_who_looks_at_it_is_told() -> None:
    ack = Silence("x", "ack", "ada", "desk", "on it", 0, 0, alert="a")
    assert posted(read(alert()), NOW, ack=ack)["annotations"]["acked"] == "ada: on it"


def test_labels_without_a_value_are_left_out() -> None:
    assert {"arm", "model"} & labels_of(alert(arm="", model="")).keys() == set()


def desk(*taken: dict[str, Any], members: bool = False, written_ms: int = NOW_MS) -> Desk:
    made = Desk(members)
    for each in taken:
        made.take(read(each), written_ms, NOW_MS)
    return made


def due(of: Desk, *silent: str) -> list[tuple[str, bool]]:
    """Names of what is due and whether it fires."""
    quiet: Any = Quiet(*silent)
    told = of.due(quiet, "", NOW)
    return [(each["labels"]["name"], each["endsAt"] > stamp(NOW)) for _, each in told]


def tell(of: Desk) -> None:
    quiet: Any = Quiet()
    of.taken(of.due(quiet, "", NOW))


def test_what_is_open_is_due_again_and_again_and_what_closed_until_it_was_told() -> None:
    made = desk(alert("a"), alert("b"))
    tell(made)
    assert due(made) == [("a", True), ("b", True)]
    made.take(read(alert("a", state="closed", number=1)), NOW_MS, NOW_MS)
    assert due(made) == [("b", True), ("a", False)]
    tell(made)
    assert due(made) == [("b", True)]


def test_a_severity_that_changed_ends_the_alert_of_the_old_one() -> None:
    made = desk(alert("a"))
    tell(made)
    made.take(read(alert("a", state="updated", number=1, severity="critical", worst="critical")), NOW_MS, NOW_MS)
    quiet: Any = Quiet()
    told = [(each["labels"]["severity"], each["endsAt"] > stamp(NOW)) for _, each in made.due(quiet, "", NOW)]
    assert told == [("warning", False), ("critical", True)]
    tell(made)
    assert due(made) == [("a", True)]
    made.take(read(alert("a", state="closed", number=2, worst="critical")), NOW_MS, NOW_MS)
    assert made.due(quiet, "", NOW)[0][1]["labels"]["severity"] == "critical"


def test_what_is_silent_stale_or_closed_long_ago_is_not_told() -> None:
    assert due(desk(alert("a"), alert("b")), "a") == [("b", True)]
    assert due(desk(alert("a"), written_ms=NOW_MS - STALE_MS - 1)) == []
    assert due(desk(alert("a", state="closed"), written_ms=NOW_MS - LATELY_MS)) == []
    assert due(desk(alert("a", state="closed"), written_ms=NOW_MS - LATELY_MS + 1)) == [("a", False)]


def test_a_group_is_told_of_for_its_members_unless_these_are_asked_for() -> None:
    assert due(desk(*group("a", "b", "c"))) == [("columns", True)]
    assert len(due(desk(*group("a", "b", "c"), members=True))) == 4


def test_an_alert_that_opened_again_is_told_as_open() -> None:
    made = desk(alert("a"), alert("a", state="closed", number=1), alert("a", number=2))
    assert due(made) == [("a", True)]


def test_what_ends_old_labels_needs_no_beginning() -> None:
    assert resolved({"alertname": "x"}, NOW).keys() == {"labels", "annotations", "endsAt"}
