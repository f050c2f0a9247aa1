"""How far replays of dead letters came, on a real Kafka: for longer than it keeps a group's offsets, and no further."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from penstock.client.deadletters import Replay
from penstock.client.replays import TOPIC, Progress, Replays
from tests.integration.test_client import TopicFactory, consume, put_letters, run

REASON = "truncated"


class Letters:
    """A dead-letter topic with three letters of one reason, and the topic that they came from."""

    def __init__(self, servers: str, topic: TopicFactory) -> None:
        self.settings = {"bootstrap.servers": servers}
        self.admin = AdminClient(self.settings)
        self.topic, self.source = topic(name="dead-letters"), topic(partitions=2, name="events")
        self.group = f"penstock.replay.{self.topic}.{REASON}"
        self.put(3)

    def put(self, count: int) -> None:
        put_letters(self.settings["bootstrap.servers"], self.topic, self.source, [REASON] * count)

    def replay(self) -> int:
        return Replay(self.settings, self.topic).run()

    def forget_group(self) -> None:
        """What the broker does after `offsets.retention.minutes`."""
        self.admin.delete_consumer_groups([self.group])[self.group].result()
        assert self.committed() < 0

    def forget_record(self) -> None:
        key, _ = Progress(REASON, 0, 0).record(self.topic)
        self.keep(key, None)

    def keep(self, key: bytes, value: bytes | None) -> None:
        producer = confluent_kafka.Producer(self.settings)
        producer.produce(TOPIC, value, key)
        assert producer.flush(10) == 0

    def commit(self, offset: int) -> None:
        """What replays that kept no records left behind."""
        consumer = confluent_kafka.Consumer({**self.settings, "group.id": self.group})
        consumer.commit(offsets=[TopicPartition(self.topic, 0, offset)], asynchronous=False)
        consumer.close()

    def committed(self) -> int:
        consumer = confluent_kafka.Consumer({**self.settings, "group.id": self.group})
        (found,) = consumer.committed([TopicPartition(self.topic, 0)], 10)
        consumer.close()
        return int(found.offset)

    def make_anew(self) -> None:
        self.admin.delete_topics([self.topic])[self.topic].result()
        while self.topic in self.admin.list_topics(timeout=10).topics:
            time.sleep(0.05)
        self.admin.create_topics([NewTopic(self.topic, 1, 1)])[self.topic].result()

    def sent(self, count: int) -> int:
        return len(consume(self.settings["bootstrap.servers"], self.source, count))


@pytest.fixture
def letters(bootstrap_servers: str, topic: TopicFactory) -> Letters:
    return Letters(bootstrap_servers, topic)


def test_letters_are_not_sent_again_when_the_broker_has_forgotten_the_group(letters: Letters) -> None:
    assert letters.replay() == 3
    assert letters.committed() == 3
    letters.forget_group()
    assert letters.replay() == 0
    letters.put(2)
    assert letters.replay() == 2
    assert letters.sent(5) == 5

    # without the record they would be
    letters.forget_group()
    letters.forget_record()
    assert letters.replay() == 5


@pytest.mark.parametrize(("done", "left"), [(0, 3), (2, 1), (3, 0)])
def test_the_progress_of_replays_that_kept_no_records_counts_and_is_kept(
    letters: Letters, done: int, left: int
) -> None:
    letters.commit(done)
    assert letters.replay() == left
    letters.forget_group()
    assert letters.replay() == 0


def test_a_dry_run_keeps_no_progress(letters: Letters) -> None:
    letters.commit(3)
    said = run(letters.settings["bootstrap.servers"], "deadletters", "replay", letters.topic, "--dry-run").output
    assert "dry run: 0 letters" in said
    letters.forget_group()
    assert letters.replay() == 3


@pytest.mark.parametrize(("group", "record", "left"), [(1, 2, 1), (2, 1, 1), (3, 0, 0), (0, 3, 0)])
def test_the_further_of_group_and_record_counts(letters: Letters, group: int, record: int, left: int) -> None:
    letters.replay()  # makes the topic where it is missing
    letters.commit(group)
    letters.keep(*Replays(letters.settings, letters.topic).records(REASON, {0: record})[0])
    assert letters.replay() == left


def test_the_progress_in_a_topic_that_was_made_anew_does_not_hide_its_letters(letters: Letters) -> None:
    assert letters.replay() == 3
    letters.make_anew()
    letters.put(4)  # more than there were: where it ends says nothing
    said = run(letters.settings["bootstrap.servers"], "deadletters", "replay", letters.topic).output
    assert "replayed 4 letters" in said
    assert f"note: {letters.topic} was made anew since letters of it were replayed" in said
    assert "made anew" not in run(letters.settings["bootstrap.servers"], "deadletters", "replay", letters.topic).output
    assert letters.replay() == 0


def test_a_groups_progress_beyond_the_end_of_the_log_does_not_hide_letters(letters: Letters) -> None:
    letters.commit(99)
    replay = Replay(letters.settings, letters.topic)
    assert len(list(replay.pending())) == 3
    (note,) = replay.notes
    assert f"{letters.topic}/0 were replayed up to offset 99, and it ends at 3" in note
    replay.close()
    assert letters.replay() == 3
    assert letters.replay() == 0


def test_progress_beyond_the_end_of_the_same_log_is_kept_and_said(letters: Letters) -> None:
    """Its last letters were replayed and then lost: to begin anew would send the others twice."""
    assert letters.replay() == 3
    letters.keep(*Replays(letters.settings, letters.topic).records(REASON, {0: 99})[0])
    said = run(letters.settings["bootstrap.servers"], "deadletters", "replay", letters.topic, "--dry-run").output
    assert "dry run: 0 letters" in said
    assert f"note: {letters.topic}/0 lost its end" in said


def transaction(settings: dict[str, str], key: bytes, value: bytes) -> Any:
    """Begin a transaction in the topic of the progress, and leave it open."""
    producer = confluent_kafka.Producer({**settings, "transactional.id": f"replays.{secrets.token_hex(4)}"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(TOPIC, value, key)
    producer.flush(10)
    return producer


def test_what_was_committed_behind_an_open_transaction_is_waited_for(letters: Letters) -> None:
    """A reader of what is committed stops where the transaction began, and would take the letters for new ones."""
    assert letters.replay() == 3
    letters.forget_record()
    kept = Replays(letters.settings, letters.topic)
    another = transaction(letters.settings, *Progress(REASON, 0, 1).record("another.dead-letters"))
    letters.keep(*kept.records(REASON, {0: 3})[0])
    letters.forget_group()
    later = threading.Timer(2, lambda: another.commit_transaction(10))
    later.start()
    began = time.monotonic()
    assert letters.replay() == 0
    assert time.monotonic() - began > 1
    later.join()


@pytest.mark.parametrize(("end", "left"), [("commit_transaction", 0), ("abort_transaction", 3)])
def test_progress_counts_when_its_transaction_was_committed(letters: Letters, end: str, left: int) -> None:
    Replay(letters.settings, letters.topic, reasons=["not_json"]).run()
    kept = Replays(letters.settings, letters.topic)
    kept.make()
    finish: Callable[[float], None] = getattr(transaction(letters.settings, *kept.records(REASON, {0: 3})[0]), end)
    finish(10)
    assert letters.replay() == left


def test_a_replay_of_exactly_these_letters_leaves_no_progress(letters: Letters) -> None:
    servers = letters.settings["bootstrap.servers"]
    assert "replayed 2 letters" in run(servers, "deadletters", "replay", letters.topic, "--offsets", "0:0-1").output
    assert Replays(letters.settings, letters.topic).read() == {}
    assert letters.replay() == 3
    assert Replays(letters.settings, letters.topic).read() == {REASON: {0: 3}}
