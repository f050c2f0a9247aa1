"""What a worker says of a cluster's settings before it starts: refusals, warnings with the command, and silence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from penstock.embedded import EmbeddedKafka
from streams import guarantees
from streams.errors import Refused
from streams.guarantees import Facts, Promise, TopicFacts, refusals, warnings
from streams.membership import TRANSACTION_TIMEOUT_MS

SOUND = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false", "max.message.bytes": "1048588"}
BROKER = {
    "transaction.max.timeout.ms": "900000",
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "1800000",
    "group.coordinator.rebalance.protocols": "classic,consumer",
}


def promise(**changed: Any) -> Promise:
    outputs = ["inferences", "letters"]
    return Promise(
        **{
            "servers": "kafka:9092",
            "group": "g",
            "classic": True,
            "exactly_once": True,
            "source": "events",
            "outputs": outputs,
            "letters": "letters",
            **changed,
        }
    )


def facts(brokers: int = 3, replication: int = 3, broker: dict[str, str] | None = None, **topics: Any) -> Facts:
    names = ["events", "inferences", "letters", "__consumer_offsets", "__transaction_state"]
    found = {name: TopicFacts(name, replication, SOUND) for name in names}
    return Facts(brokers, BROKER | (broker or {}), found | topics)


def test_a_sound_cluster_is_neither_refused_nor_warned_of() -> None:
    assert refusals(facts(), promise()) == []
    assert warnings(facts(), promise()) == []


@pytest.mark.parametrize(
    ("broker", "changed", "words"),
    [
        ({"transaction.max.timeout.ms": "5999"}, {}, "raise it on the brokers"),
        ({"group.min.session.timeout.ms": "6001"}, {}, "from 6001 to 1800000 ms"),
        ({"group.max.session.timeout.ms": "5999"}, {}, "from 6000 to 5999 ms"),
        ({"group.coordinator.rebalance.protocols": "classic"}, {"classic": False}, "add consumer to"),
    ],
)
def test_what_cannot_work_is_refused(broker: dict[str, str], changed: dict[str, Any], words: str) -> None:
    (problem,) = refusals(facts(broker=broker), promise(**changed))
    assert words in problem


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
@pytest.mark.parametrize("changed", [{}, {"classic": False}, {"exactly_once": False}])
@pytest.mark.parametrize("name", ["inferences", "letters"])
def test_a_compacted_output_is_refused_with_the_command(name: str, changed: dict[str, Any], policy: str) -> None:
    compacted = TopicFacts(name, 3, SOUND | {"cleanup.policy": policy})
    (problem,) = refusals(facts(**{name: compacted}), promise(**changed))
    assert f"--alter --topic {name} --add-config cleanup.policy=delete" in problem


def test_a_compacted_input_and_an_output_that_may_not_be_asked_are_not_refused() -> None:
    compacted = TopicFacts("events", 3, SOUND | {"cleanup.policy": "compact"})
    assert refusals(facts(events=compacted), promise()) == []
    assert refusals(facts(inferences=TopicFacts("inferences", 3, {})), promise()) == []
    assert refusals(facts(inferences=TopicFacts("inferences", 3, {"cleanup.policy": "delete"})), promise()) == []


def test_settings_that_do_not_matter_are_not_refused() -> None:
    short = facts(broker={"transaction.max.timeout.ms": "1", "group.max.session.timeout.ms": "1"})
    assert refusals(short, promise(exactly_once=False, classic=False)) == []
    assert refusals(Facts(3, {}, {}), promise()) == []  # they may not be read


@pytest.mark.parametrize(
    ("name", "replication", "setting", "words"),
    [
        ("inferences", 3, {"min.insync.replicas": "1"}, "--topic inferences --add-config min.insync.replicas=2"),
        ("events", 2, {"min.insync.replicas": "1"}, "counts as safe with one copy"),
        ("letters", 1, {}, "one copy only, although there are 3 brokers"),
        ("__transaction_state", 1, {}, "__transaction_state: one copy only"),
        ("events", 3, {"unclean.leader.election.enable": "true"}, "--add-config unclean.leader.election.enable=false"),
        ("letters", 3, {"max.message.bytes": "1000"}, "letters --add-config max.message.bytes=1064972"),
    ],
)
def test_what_weakens_a_promise_is_said_with_the_command(
    name: str, replication: int, setting: dict[str, str], words: str
) -> None:
    (warning,) = warnings(facts(**{name: TopicFacts(name, replication, SOUND | setting)}), promise())
    assert name in warning
    assert words in warning


@pytest.mark.parametrize(("kept", "warned"), [("1999", True), ("0", True), ("2000", False), ("-1", False), ("", False)])
def test_samples_that_are_gone_before_their_labels_come_are_warned_of(kept: str, warned: bool) -> None:
    samples = TopicFacts("samples", 3, SOUND | {"retention.ms": kept})
    found = warnings(facts(samples=samples), promise(kept={"samples": 2000}))
    assert len(found) == warned
    assert all("--topic samples --add-config retention.ms=2000" in text for text in found)
    assert "samples" in promise(kept={"samples": 2000}).topics
    assert warnings(facts(samples=samples), promise()) == []


def test_one_copy_is_no_news_on_one_broker_or_of_the_users_input() -> None:
    assert warnings(facts(brokers=1, replication=1), promise()) == []
    assert warnings(facts(events=TopicFacts("events", 1, SOUND)), promise()) == []


def test_the_settings_are_read_from_a_real_broker(bootstrap_servers: str, topic: Callable[..., str]) -> None:
    name = topic(2, max_message_bytes="2000000")
    found = guarantees.read(AdminClient({"bootstrap.servers": bootstrap_servers}), [name, "no such topic"])
    assert found.brokers == 1
    assert int(found.broker["transaction.max.timeout.ms"]) >= TRANSACTION_TIMEOUT_MS
    assert list(found.topics) == [name]
    assert found.topics[name].replication == 1
    assert found.topics[name].settings["max.message.bytes"] == "2000000"


def test_the_brokers_settings_are_read_though_the_client_does_not_know_who_answered(bootstrap_servers: str) -> None:
    class Unsure(AdminClient):  # type: ignore[misc]
        def list_topics(self, timeout: float) -> Any:
            metadata = super().list_topics(timeout=timeout)
            metadata.orig_broker_id = -1  # as librdkafka has it when the answer comes before the connection has a name
            return metadata

    assert guarantees.read(Unsure({"bootstrap.servers": bootstrap_servers}), []).broker


def test_a_broker_that_cannot_keep_the_promise_is_refused() -> None:
    with EmbeddedKafka(settings={"transaction.max.timeout.ms": 5_000}) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})  # it outlives its broker
        with pytest.raises(Refused, match=r"transaction\.max\.timeout\.ms is 5000"):
            guarantees.uphold(admin, promise(servers=kafka.bootstrap_servers))


def test_without_permission_one_line_says_that_nothing_is_checked(caplog: pytest.LogCaptureFixture) -> None:
    class Denied:
        def list_topics(self, timeout: float) -> Any:
            raise KafkaException(KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED))

    with caplog.at_level(logging.INFO):
        guarantees.uphold(Denied(), promise())  # type: ignore[arg-type]
    assert [record.levelname for record in caplog.records] == ["INFO"]
