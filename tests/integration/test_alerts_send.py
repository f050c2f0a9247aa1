"""`penstock alerts send` on a real Kafka, to webhooks and a real Alertmanager on loopback: at least once, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.alert_events import event_of_alert
from schemas import records
from tests.alert_records import alert, group, values
from tests.conftest import TopicFactory
from tests.integration.alertmanager import RealAlertmanager
from tests.integration.alerts_stand import SOURCE, AlertStand
from tests.webhook_server import Receiver, account

pytestmark = pytest.mark.timeout(240)
NOTHING_WRONG = {"lost": 0, "disordered": 0, "unknown": 0, "altered": 0}


@pytest.fixture
def alerts(bootstrap_servers: str, tmp_path: Path, topic: TopicFactory) -> Iterator[AlertStand]:
    made = AlertStand(bootstrap_servers, tmp_path, topic)
    yield made
    made.close()


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[tuple[RealAlertmanager, Receiver]]:
    """A running Alertmanager and whom it notifies."""
    folder = tmp_path / "alertmanager"
    folder.mkdir()
    with Receiver() as receiver:
        manager = RealAlertmanager(folder, receiver.url)
        manager.start()
        yield manager, receiver
        manager.stop()


def fine(alerts: AlertStand, receiver: Receiver) -> dict[str, int]:
    found = account(receiver.taken, alerts.expected)
    found.pop("repeated")
    return found


def an_episode(name: str) -> list[dict[str, object]]:
    return [alert(name), alert(name, state="updated", number=1), alert(name, state="closed", number=2)]


def test_a_webhook_gets_every_record_in_order_though_it_fails_now_and_then(alerts: AlertStand) -> None:
    alerts.tell(*an_episode("wind"), *an_episode("rain"))
    with Receiver(500, 200, "hang", 200, (429, {"Retry-After": "0"})) as hook:
        status, said = alerts.run("--once", "--webhook", hook.url, "--seconds", "1")
        assert status == 0, said
        assert fine(alerts, hook) == NOTHING_WRONG
        expected = [event_of_alert(records.decode("alert", value), SOURCE).value for value in values(*alerts.told)]
        assert list({each.key: each.body for each in hook.taken}.values()) == expected


@pytest.mark.parametrize("death", ["--die-after-post=3", "--die-after-taken=3"])
def test_a_death_repeats_a_record_under_the_same_key_only(alerts: AlertStand, death: str) -> None:
    alerts.tell(*an_episode("wind"), *an_episode("rain"))
    with Receiver() as hook:
        assert alerts.run("--once", "--webhook", hook.url, death)[0] == -9
        status, said = alerts.run("--once", "--webhook", hook.url)
        assert status == 0, said
        assert fine(alerts, hook) == NOTHING_WRONG
        assert len(hook.taken) == 6 + (death == "--die-after-post=3")


def test_who_commits_before_it_posts_loses_a_record_at_the_same_death(alerts: AlertStand) -> None:
    alerts.tell(*an_episode("wind"), *an_episode("rain"))
    with Receiver() as hook:
        assert alerts.run("--once", "--webhook", hook.url, "--commit-first=3")[0] == -9
        assert alerts.run("--once", "--webhook", hook.url)[0] == 0
        assert fine(alerts, hook)["lost"] == 1


def test_a_group_is_one_message_and_its_members_come_when_asked_for(alerts: AlertStand) -> None:
    alerts.tell(*group("a", "b", "c"))
    with Receiver() as hook, Receiver() as other:
        assert alerts.run("--once", "--webhook", hook.url)[0] == 0
        assert [json.loads(each.body)["data"]["name"] for each in hook.taken] == ["columns"]
        assert alerts.run("--once", "--members", "--webhook", other.url)[0] == 0
        assert fine(alerts, other) == NOTHING_WRONG


def test_what_is_silenced_is_not_sent_and_what_is_acked_is(alerts: AlertStand) -> None:
    alerts.tell(alert("wind"), alert("rain"), alert("fog"))
    alerts.type("silence", "--name", "rain", "--for", "1h", "--why", "known")
    alerts.type("ack", alert("fog")["id"], "--why", "on it")
    with Receiver() as hook:
        assert alerts.run("--once", "--webhook", hook.url)[0] == 0
        assert [json.loads(each.body)["data"]["name"] for each in hook.taken] == ["wind", "fog"]


def test_a_silence_is_heard_while_alerts_are_sent_and_so_is_its_end(alerts: AlertStand) -> None:
    with Receiver() as hook:
        process = alerts.start("--webhook", hook.url)
        alerts.tell(alert("a"))
        hook.wait_for(1)
        said = alerts.type("silence", "--name", "b*", "--for", "1h", "--why", "known").output
        with Receiver() as told:  # one that begins now knows all that was said
            alerts.tell(alert("b"))
            assert alerts.run("--once", "--webhook", told.url)[0] == 0
            assert len(told.taken) == 1
        alerts.wait_for_commit(hook, 2)
        assert len(hook.taken) == 1
        alerts.type("silence", "--end", said.split()[1].rstrip(":"), "--why", "solved")
        with Receiver() as told:
            alerts.tell(alert("b2"))
            assert alerts.run("--once", "--webhook", told.url)[0] == 0
            assert len(told.taken) == 3
        assert process.stop() == 0


def test_once_gives_up_with_1_where_nobody_takes_alerts(alerts: AlertStand) -> None:
    alerts.tell(alert("wind"))
    with Receiver(otherwise=500) as hook:
        for route in ("--webhook", "--alertmanager"):
            status, said = alerts.run("--once", "--once-seconds=2", route, hook.url)
            assert status == 1, said


def test_an_alertmanager_that_is_guarded_is_sent_the_token_and_nobody_else(alerts: AlertStand) -> None:
    alerts.tell(alert("wind"))
    with Receiver() as manager, Receiver() as hook:
        routes = ["--alertmanager", manager.url, "--webhook", hook.url, "--token-env", "AM_TOKEN"]
        status, said = alerts.run("--once", *routes, AM_TOKEN="s3cret")
        assert status == 0, said
        assert "s3cret" not in said
        (told,), (posted,) = manager.received, hook.received
        assert told.headers["authorization"] == "Bearer s3cret"
        assert json.loads(told.body)[0]["labels"]["name"] == "wind"
        assert "authorization" not in posted.headers
        status, said = alerts.run("--once", *routes, AM_TOKEN="two words")
        assert (status, "AM_TOKEN holds no token" in said) == (2, True)


def test_alerts_without_a_way_out_are_refused(alerts: AlertStand) -> None:
    status, said = alerts.run()
    assert (status, "say where to send alerts" in said) == (2, True)
    status, said = alerts.run("--alertmanager", "ftp://x")
    assert (status, "is no address" in said) == (2, True)


def test_a_real_alertmanager_hears_of_what_opens_grows_and_closes(
    alerts: AlertStand, notified: tuple[RealAlertmanager, Receiver]
) -> None:
    # Given two alerts that are open and one that was, while nobody sent them
    manager, receiver = notified
    alerts.tell(*an_episode("fog"), alert("wind"), alert("rain"), *group("a", "b", "c"))
    process = alerts.start("--alertmanager", manager.url, "--link", "https://console.example/alerts")
    # When they are sent, then what is open fires, and the group stands for its members
    firing = {each["labels"]["name"]: each for each in manager.wait_for("wind", "rain", "columns")}
    wind = firing["wind"]
    assert wind["labels"]["alertname"] == "PenstockFeature"
    assert wind["annotations"]["summary"] == "wind: mean +0.5"
    assert wind["startsAt"] == "2025-12-31T23:59:30.000Z"
    assert wind["generatorURL"] == "https://console.example/alerts"
    # When one gets worse, another closes, and the sender dies meanwhile
    process.kill()
    alerts.tell(alert("rain", state="closed", number=1))
    process = alerts.start("--alertmanager", manager.url)
    manager.wait_for("wind", "columns")
    alerts.tell(alert("wind", state="updated", number=1, severity="critical", worst="critical"))
    receiver.wait_for(6)
    manager.wait_for("wind", "columns")
    alerts.tell(alert("wind", state="closed", number=2, worst="critical"))
    manager.wait_for("columns")
    # Then people heard of each once firing and once resolved
    assert process.stop() == 0
    receiver.wait_for(7)
    told = [
        (each["labels"]["name"], each["labels"]["severity"], each["status"])
        for request in receiver.taken
        for each in json.loads(request.body)["alerts"]
    ]
    assert told.count(("rain", "warning", "firing")) == told.count(("rain", "warning", "resolved")) == 1
    assert ("fog", "warning", "firing") not in told


def test_an_alertmanager_that_was_away_is_told_what_is_open_when_it_is_back(
    alerts: AlertStand, notified: tuple[RealAlertmanager, Receiver]
) -> None:
    manager, _ = notified
    manager.stop()
    alerts.tell(alert("wind"), alert("silent"))
    alerts.type("silence", "--name", "silent", "--for", "1h", "--why", "known")
    process = alerts.start("--alertmanager", manager.url)
    alerts.tell(alert("rain"), alert("rain", state="closed", number=1))
    manager.start()
    manager.wait_for("wind")
    assert process.stop() == 0
