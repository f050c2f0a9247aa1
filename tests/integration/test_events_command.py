"""`penstock events` on a real Kafka: each entry of the audit in the topic, exactly once, whoever dies."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from penstock.cli import main
from penstock.cloudevents import CONTENT_TYPE, UNREADABLE, event_of
from penstock.embedded import EmbeddedKafka
from tests.audit_entries import applied, arm, deployed, entry, publish
from tests.integration.events_stand import NOTHING_WRONG, SOURCE, Stand, fine
from tests.webhook_server import Receiver

pytestmark = pytest.mark.timeout(240)


def test_every_entry_is_one_event_in_order_and_in_structured_mode(stand: Stand) -> None:
    stand.change(applied(7))
    status, said = stand.run("--once")
    assert status == 0, said
    messages = stand.told(7)
    assert [message.value() for message in messages] == [event_of(each, SOURCE).value for each in stand.entries]
    assert {dict(message.headers() or [])["content-type"] for message in messages} == {CONTENT_TYPE.encode()}
    assert {message.key() for message in messages} == {b"flights"}

    stand.change(applied(2, first=8))
    assert stand.run("--once")[0] == 0
    assert stand.run("--once")[0] == 0
    assert stand.ids() == stand.expected


def test_events_can_be_watched(stand: Stand) -> None:
    stand.change(applied(2))
    assert stand.run("--once")[0] == 0
    words = ["watch", stand.events, "--from", "beginning", "--bootstrap-servers", stand.servers]
    done = CliRunner().invoke(main, [*words, "--count", "2"])
    assert done.exit_code == 0
    assert "type=io.penstock.deployment.applied  subject=flights  who=ada" in done.output
    assert "why=change 2" in done.output
    told = CliRunner().invoke(main, [*words, "--count", "1", "--json"])
    assert json.loads(told.output)["id"] == stand.expected[0]

    producer = Producer(stand.settings)
    for value in (b"{", b"[]"):
        producer.produce(stand.events, value, headers={"content-type": CONTENT_TYPE})
    assert producer.flush(10) == 0
    stand.change(applied(1, first=3))
    assert stand.run("--once")[0] == 0
    done = CliRunner().invoke(main, [*words, "--count", "3"])
    assert "is not a readable record: it is no JSON" in done.output
    assert "why=change 3" in done.output


def test_it_follows_what_is_changed_and_stops_when_told_to(stand: Stand) -> None:
    process = stand.start()
    stand.change(applied(3))
    assert stand.ids(3) == stand.expected
    stand.change(applied(2, first=4))
    assert stand.ids(5) == stand.expected
    assert process.stop() == 0


def test_an_entry_whose_transaction_was_rolled_back_is_never_told(stand: Stand) -> None:
    stand.change(applied(2))
    undone = entry(99, "apply", after=deployed(99, arm()))
    publish(stand.servers, stand.audit, [undone.encode()], end="abort_transaction")
    stand.change(applied(2, first=3))
    assert stand.run("--once")[0] == 0
    assert stand.ids(4) == stand.expected


@pytest.mark.parametrize("death", ["--die-in-transaction=1", "--die-in-transaction=2", "--die-after-commit=1"])
def test_a_process_killed_at_its_commit_leaves_every_entry_told_once(stand: Stand, death: str) -> None:
    stand.change(applied(150))  # two transactions
    assert stand.run("--once", death)[0] == -9
    status, said = stand.run("--once")
    assert status == 0, said
    assert stand.ids(150) == stand.expected


def test_without_transactions_the_same_death_tells_entries_twice(stand: Stand) -> None:
    stand.change(applied(5))
    assert stand.run("--once", "--without-transactions=1")[0] == -9
    assert stand.run("--once", "--without-transactions")[0] == 0
    assert len(stand.ids(6)) > 5


def test_killed_again_and_again_at_any_moment_every_entry_is_told_once(stand: Stand) -> None:
    stop = threading.Event()

    def change() -> None:
        for first in range(1, 121, 4):
            stand.change(applied(4, first), per=2)
            if stop.wait(0.1):
                return

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(5):
            process = stand.start()
            time.sleep(random.uniform(0.8, 2.5))
            process.kill()
    finally:
        changing.join()
        stop.set()
    status, said = stand.run("--once")
    assert status == 0, said
    assert stand.ids(120) == stand.expected


def test_what_the_broker_forgot_is_not_told_again(stand: Stand) -> None:
    stand.change(applied(5))
    assert stand.run("--once")[0] == 0

    def forget() -> None:
        stand.admin.delete_consumer_groups([stand.events])[stand.events].result()
        assert stand.committed(stand.events).offset < 0

    forget()
    stand.change(applied(2, first=6))
    assert stand.run("--once")[0] == 0
    assert stand.ids(7) == stand.expected

    # by the group's offset alone it would be
    forget()
    assert stand.run("--once", "--forgetful")[0] == 0
    assert len(stand.ids(14)) == 14


def test_an_audit_that_was_made_anew_is_refused(stand: Stand) -> None:
    stand.change(applied(6))
    assert stand.run("--once")[0] == 0
    stand.make_anew(stand.audit)
    stand.entries.clear()
    stand.change(applied(2))
    status, said = stand.run("--once")
    assert (status, "the audit was cut or made anew" in said) == (2, True), said

    stand.change(applied(20, first=100))  # longer than it was
    status, said = stand.run("--once")
    assert (status, "is not the record that was told last" in said) == (2, True), said
    assert len(stand.ids()) == 6


def test_a_record_that_is_no_entry_is_told_as_such_and_holds_nothing_up(stand: Stand) -> None:
    stand.change(applied(1))
    broken = [b"", b"junk", applied(1)[0].encode()[:-1], entry(2, "apply", after="{").encode()]
    publish(stand.servers, stand.audit, broken)
    stand.change(applied(1, first=3))
    status, said = stand.run("--once")
    assert status == 0
    kinds = [json.loads(message.value() or b"")["type"] for message in stand.told(6)]
    applied_kind = "io.penstock.deployment.applied"
    assert kinds == [applied_kind, *[UNREADABLE] * 4, applied_kind]
    assert said.count("is no entry of the audit") >= 4


def test_a_second_process_takes_over_and_the_first_ends_with_3(stand: Stand) -> None:
    first = stand.start()
    stand.change(applied(1))
    assert stand.ids(1) == stand.expected
    second = stand.start()
    second.wait_for(f"publishing to {stand.events}")
    stand.change(applied(1, first=2))
    second.wait_for("told 1 entries")
    assert first.process.wait(60) == 3
    assert "another `penstock events` publishes" in first.text()
    stand.change(applied(3, first=3))
    assert stand.ids(5) == stand.expected
    assert second.stop() == 0


def test_from_the_end_only_what_comes_is_told_also_after_a_death(stand: Stand) -> None:
    stand.change(applied(3))
    process = stand.start("--from", "end")
    stand.wait_for_group(stand.events, 1)
    process.kill()
    stand.entries.clear()
    stand.change(applied(2, first=4))  # while nobody is there
    assert stand.run("--once", "--from", "end")[0] == 0
    assert stand.ids(2) == stand.expected


def test_a_missing_audit_is_waited_for_and_once_has_nothing_to_tell(stand: Stand) -> None:
    absent = f"{stand.audit}.absent"
    status, said = stand.run("--once", "--audit-topic", absent)
    assert (status, f"there is no topic {absent} yet" in said) == (0, True)
    waiting = stand.start("--audit-topic", absent)
    waiting.wait_for(f"there is no topic {absent} yet")
    stand.admin.create_topics([NewTopic(absent, 1, 1)])[absent].result()
    try:
        publish(stand.servers, absent, [each.encode() for each in applied(1)])
        assert len(stand.ids(1)) == 1
        assert waiting.stop() == 0
    finally:
        stand.admin.delete_topics([absent])[absent].result()


def test_an_audit_with_several_partitions_is_refused(stand: Stand, topic: Callable[..., str]) -> None:
    status, said = stand.run("--audit-topic", topic(2, "audit2"))
    assert (status, "has 2 partitions: its order needs it to have one" in said) == (2, True)


def test_the_topic_of_events_is_made_to_keep_what_it_holds(stand: Stand) -> None:
    from confluent_kafka.admin._config import ConfigResource
    from confluent_kafka.admin._resource import ResourceType

    stand.change(applied(1))
    made = f"{stand.events}.made"
    status, said = stand.run("--once", "--events-topic", made)
    assert status == 0, said
    try:
        resource = ConfigResource(ResourceType.TOPIC, made)
        found = stand.admin.describe_configs([resource])[resource].result()
        assert (found["retention.ms"].value, found["cleanup.policy"].value) == ("-1", "delete")
    finally:
        stand.admin.delete_topics([made])[made].result()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--no-topic"], 2, "leaves nothing to do"),
        (["--webhook", "hooks.example"], 2, "write https://HOST/PATH"),
        (["--webhook", "http://a/b", "--webhook", "http://a/b"], 2, "is given twice"),
        (["--webhook", "http://a/b", "--secret-env", "NOT_SET"], 2, "NOT_SET is not set"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_change(arguments: list[str], status: int, words: str) -> None:
    done = CliRunner().invoke(main, ["events", *arguments])
    assert (done.exit_code, words in " ".join(done.output.replace("│", " ").split())) == (status, True), done.output


def test_addresses_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_WEBHOOKS", "http://hooks.example/a http://hooks.example/b http://hooks.example/a")
    done = CliRunner().invoke(main, ["events", "--no-topic"])
    assert (done.exit_code, "is given twice" in done.output) == (2, True)


def test_settings_that_no_client_takes_are_refused(stand: Stand) -> None:
    status, said = stand.run("--once", PENSTOCK_KAFKA_SECURITY_PROTOCOL="none")
    assert (status, "correct the PENSTOCK_KAFKA_ settings" in said, "Traceback" in said) == (2, True, False), said


def test_brokers_that_are_away_end_a_single_run(stand: Stand) -> None:
    status, said = stand.run("--once", "--bootstrap-servers", "127.0.0.1:1")
    assert (status, "no Kafka broker answers at 127.0.0.1:1" in said) == (2, True)


def test_it_outlives_a_broker_that_crashes(tmp_path: Path) -> None:
    kafka = EmbeddedKafka(tmp_path / "kafka")
    kafka.start()
    settings = {"bootstrap.servers": kafka.bootstrap_servers}
    admin = AdminClient(settings)

    def topic(partitions: int, name: str) -> str:
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result()
        return name

    stand = Stand(kafka.bootstrap_servers, tmp_path, topic)
    try:
        with Receiver() as hook:
            process = stand.start("--webhook", hook.url)
            stand.change(applied(3))
            assert stand.ids(3) == stand.expected
            kafka.kill()
            process.wait_for("nothing is lost")
            kafka.start()
            stand.change(applied(3, first=4))
            assert stand.ids(6) == stand.expected
            hook.wait_for(6)
            assert fine(stand, hook) == NOTHING_WRONG
            assert process.stop() == 0
    finally:
        stand.close()
        kafka.stop()
