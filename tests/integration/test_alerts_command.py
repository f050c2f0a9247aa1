"""`penstock alerts` on a real Kafka: list, show, silence, ack, watch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from penstock.cli import main
from schemas import records
from tests.alert_records import alert, group
from tests.conftest import TopicFactory
from tests.integration.alerts_stand import AlertStand
from tests.rig import read_committed


@pytest.fixture
def alerts(bootstrap_servers: str, tmp_path: Path, topic: TopicFactory) -> Iterator[AlertStand]:
    made = AlertStand(bootstrap_servers, tmp_path, topic)
    yield made
    made.close()


def test_alerts_are_listed_as_they_stand_now_and_groups_for_their_members(alerts: AlertStand) -> None:
    alerts.tell(alert("wind"), *group("a", "b", "c"), alert("rain"), alert("rain", state="closed", number=1))
    lines = alerts.type("list").output.splitlines()
    assert len(lines) == 3
    by_name = {name: next(line for line in lines if f" {name}  " in line) for name in ("wind", "columns", "rain")}
    assert alert("wind")["id"][:8] in by_name["wind"]
    assert "opened  warning  2025-12-31 23:59:30Z  flights/active  feature wind" in by_name["wind"]
    assert "was: rain: mean +0.5" in by_name["rain"]
    assert len(alerts.type("list", "--open").output.splitlines()) == 2
    assert len(alerts.type("list", "--members").output.splitlines()) == 6
    assert alerts.type("list", "--deployment", "other").output == "no alert is known\n"
    assert len(alerts.type("list", "--kind", "group").output.splitlines()) == 1
    (since,) = alerts.type("list", "--since", "2026-01-01T00:00:30Z").output.splitlines()
    assert since.startswith(alert("rain")["id"][:8])
    told = [json.loads(line) for line in alerts.type("list", "--json").output.splitlines()]
    assert len(told) == 6
    assert {each["id"]: each["state"] for each in told} == {each["id"]: each["state"] for each in alerts.told}
    assert told[0]["onset"].startswith("2025-12-31T23:59:30")


def test_a_record_that_a_monitor_repeats_after_a_restart_takes_nothing_back(alerts: AlertStand) -> None:
    alerts.tell(alert("a"), alert("a", state="closed", number=1), alert("a"))
    assert json.loads(alerts.type("list", "--json").output)["state"] == "closed"


def test_nothing_is_listed_where_there_is_no_topic(bootstrap_servers: str) -> None:
    options = ["--bootstrap-servers", bootstrap_servers]
    topics = ["--alerts-topic", "nobody.alerts", "--silences-topic", "nobody.silences"]
    assert CliRunner().invoke(main, ["alerts", "list", "--open", *topics, *options]).output == "no alert is open\n"


def test_records_that_are_no_alerts_are_counted(alerts: AlertStand) -> None:
    alerts.tell(alert("a"))
    import confluent_kafka

    producer = confluent_kafka.Producer({"bootstrap.servers": alerts.servers})
    producer.produce(alerts.alerts, b"junk")
    producer.flush(30)
    assert "1 records of " in alerts.type("list").stderr


def test_one_is_shown_whole_by_the_first_letters_of_its_id(alerts: AlertStand) -> None:
    alerts.tell(alert("wind"), *group("a", "b", "c"))
    said = alerts.type("show", alert("wind")["id"][:6]).output
    for part in (
        "warning: wind: mean +0.5",
        "What to do: Ask who fills wind.",
        "e_detector: 14.5, opens at 13.3; 5,000 events",
        "< 1                   10.00%    30.00%",
    ):
        assert part in said
    whole = alerts.type("show", alert("columns")["id"]).output
    assert "Its members (3):" in whole
    assert json.loads(alerts.type("show", alert("wind")["id"], "--json").output)["acked"] is None


def test_an_id_that_none_has_or_several_is_refused_with_the_way_out(alerts: AlertStand) -> None:
    alerts.tell(alert("wind", id="abcd01" + "0" * 26), alert("rain", id="abcd02" + "0" * 26))
    assert "`penstock alerts list` shows" in alerts.type("show", "ffff", status=2).output
    assert "2 alerts begin with abcd" in alerts.type("show", "abcd", status=2).output
    assert "at least 4 letters" in alerts.type("show", "abc", status=2).output


def test_an_ack_and_a_silence_say_who_why_and_until_when_and_end(alerts: AlertStand) -> None:
    alerts.tell(alert("wind"), alert("rain"))
    one = alert("wind")["id"]
    assert f"bob looks at {one}" in alerts.type("ack", one[:8], "--why", "on it", "--by", "bob").output
    said = alerts.type("silence", "--name", "ra*", "--deployment", "flights", "--for", "2h", "--why", "known").output
    identity = said.split()[1].rstrip(":")
    lines = alerts.type("list").output
    assert "opened, acked" in lines
    assert "opened, silenced" in lines
    assert "by bob at " in alerts.type("show", one).output
    assert f": known ({identity})" in alerts.type("show", alert("rain")["id"]).output
    assert "deployment=flights name=ra*" in alerts.type("silences", topics=False).output
    alerts.type("silence", "--end", identity, "--why", "solved")
    assert "silenced" not in alerts.type("list").output
    assert alerts.type("silences", topics=False).output == "no alert is silenced\n"
    assert len(alerts.type("silences", "--all", topics=False).output.splitlines()) == 2
    assert "there is no silence 1234" in alerts.type("silence", "--end", "1234", "--why", "x", status=2).output
    written = [
        records.decode("silence", each.value() or b"") for each in read_committed(alerts.servers, alerts.silences, 3)
    ]
    assert [each["why"] for each in written] == ["on it", "known", "solved"]
    assert written[1]["until_ms"] - written[1]["from_ms"] == 2 * 3_600_000


def test_a_silence_of_one_alert_is_of_that_one(alerts: AlertStand) -> None:
    alerts.tell(alert("wind"), alert("rain"))
    alerts.type("silence", alert("wind")["id"][:8], "--until", "2999-01-01T00:00:00Z", "--why", "x")
    told = {
        each["name"]: each["silenced"] for each in map(json.loads, alerts.type("list", "--json").output.splitlines())
    }
    assert told["rain"] is None
    assert told["wind"]["alert"] == alert("wind")["id"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--for", "2h"], "say what to be silent about"),
        (["abcd", "--name", "x", "--for", "2h"], "say what to be silent about"),
        (["--name", "x"], "say how long: --for 2h or --until TIME"),
        (["--name", "x", "--for", "2h", "--until", "2999-01-01"], "say how long"),
        (["--name", "x", "--for", "2y"], "'2y' is no length of time"),
        (["--name", "x", "--until", "2001-01-01"], "2001-01-01 is over already"),
        (["--name", "x", "--until", "soon"], "'soon' is no time"),
        (["--end", "abcd", "--name", "x"], "--end takes nothing but"),
    ],
)
def test_a_silence_of_nothing_or_for_no_time_is_refused(alerts: AlertStand, words: list[str], said: str) -> None:
    assert said in alerts.type("silence", *words, "--why", "x", status=2).output


def test_a_reason_must_be_given(alerts: AlertStand) -> None:
    alerts.tell(alert("wind"))
    assert "give a reason" in alerts.type("ack", alert("wind")["id"], "--why", " ", status=2).output


def test_alerts_are_watched_as_they_come(alerts: AlertStand) -> None:
    alerts.tell(alert("wind"), alert("wind", state="updated", number=1), alert("wind", state="closed", number=2))
    options = ["--alerts-topic", alerts.alerts, "--bootstrap-servers", alerts.servers]
    words = ["alerts", "watch", "--from", "beginning", "--count", "3"]
    lines = CliRunner().invoke(main, [*words, *options]).stdout.splitlines()
    assert [line.split("state=")[1].split()[0] for line in lines] == ["opened", "updated", "closed"]
    told = CliRunner().invoke(main, [*words, "--json", *options]).stdout.splitlines()
    assert [json.loads(line)["number"] for line in told] == [0, 1, 2]


def test_the_first_word_makes_the_topic_of_silences_compacted(alerts: AlertStand, topic: TopicFactory) -> None:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.admin._config import ConfigResource
    from confluent_kafka.admin._resource import ResourceType

    alerts.silences = f"{alerts.silences}.new"
    alerts.type("silence", "--name", "x", "--for", "1h", "--why", "x")
    admin = AdminClient({"bootstrap.servers": alerts.servers})
    try:
        resource = ConfigResource(ResourceType.TOPIC, alerts.silences)
        found = admin.describe_configs([resource])[resource].result()
        assert found["cleanup.policy"].value == "compact"
    finally:
        admin.delete_topics([alerts.silences])[alerts.silences].result()
