"""`penstock topic` on a real Kafka."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient

from penstock.cli import main
from tests.conftest import TopicFactory


def invoke(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["topic", *words])
    return result.exit_code, result.output


def test_a_topic_is_created_once_and_then_left_as_it_is(bootstrap_servers: str, topic: TopicFactory) -> None:
    name = topic() + ".more"
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    to = ("--bootstrap-servers", bootstrap_servers)
    try:
        assert invoke(name, "--partitions", "3", *to) == (0, f"created the topic {name} with 3 partitions\n")
        assert invoke(name, "--partitions", "5", *to) == (0, f"the topic {name} exists already\n")
        assert len(admin.list_topics(name, timeout=10).topics[name].partitions) == 3
    finally:
        admin.delete_topics([name])[name].result()


def test_a_name_that_kafka_refuses_is_told_with_the_reason(bootstrap_servers: str) -> None:
    code, output = invoke("not/a/topic", "--bootstrap-servers", bootstrap_servers)
    assert code == 2
    assert "not/a/topic" in output


def test_without_a_broker_it_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.delenv("PENSTOCK_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.chdir(str(tmp_path))
    code, output = invoke("events")
    assert code == 2
    assert "penstock broker start" in output


def test_a_broker_that_does_not_answer_is_named() -> None:
    code, output = invoke("events", "--bootstrap-servers", "127.0.0.1:1")
    assert code == 2
    assert "no Kafka broker answers at 127.0.0.1:1" in output
