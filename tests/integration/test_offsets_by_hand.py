"""Offsets set by an operator: exactly the range between is scored once more or passed over, and both are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from tests.rig import Rig, encoder

encode = encoder()


def events(count: int) -> list[bytes | None]:
    return [encode({"id": i, "a": 0.5 * i, "b": None}) for i in range(count)]


def set_offsets(stand: Rig, offsets: dict[int, int]) -> None:
    """Commit offsets for the deployment's group from outside, as `kafka-consumer-groups --reset-offsets` does."""
    consumer = Consumer({"bootstrap.servers": stand.servers, "group.id": f"penstock.{stand.name}"})
    places = [TopicPartition(stand.events, partition, offset) for partition, offset in offsets.items()]
    done = consumer.commit(offsets=places, asynchronous=False)
    consumer.close()
    assert done is not None
    assert not any(place.error for place in done)


def score(stand: Rig, total: int) -> None:
    """Let one worker run until `total` events of the group are committed."""
    worker = stand.worker()
    stand.wait_committed(total)
    assert worker.stop() == 0


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_offsets_set_back_score_exactly_that_range_once_more(rig: Callable[..., Rig], delivery: str) -> None:
    stand = rig(delivery=delivery)
    stand.produce(events(400))
    stand.produce([b"no event"] * 5, partition=2)  # dead letters are the last records of partition 2
    score(stand, 405)
    set_offsets(stand, {1: 60, 2: 90})
    worker = stand.worker("--metrics-port", "0")
    worker.wait_for("scored once more")
    stand.wait_committed(405)
    twice = {(1, offset) for offset in range(60, 100)} | {(2, offset) for offset in range(90, 100)}
    counted = Counter(stand.places(450))
    assert {place for place, count in counted.items() if count == 2} == twice
    assert set(counted.values()) == {1, 2}
    assert len(stand.read(stand.dead_letters, 10)) == 10
    assert worker.metric("penstock_rescored_events_total", partition="1") == 40
    assert worker.metric("penstock_rescored_events_total", partition="2") == 15
    assert worker.metric("penstock_events_skipped_total") == 0


def test_offsets_set_forward_are_counted_as_skipped_and_said_loudly(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.produce(events(400))
    score(stand, 400)
    stand.produce(events(400))
    set_offsets(stand, {3: 150})
    worker = stand.worker("--metrics-port", "0")
    worker.wait_for(r"offsets 100 to 149 \(at most 50 events\) are never scored.* set the group's offset to 100")
    stand.wait_committed(800)
    assert worker.metric("penstock_events_skipped_total", partition="3") == 50
    assert worker.metric("penstock_rescored_events_total") == 0
    assert len(stand.places(750)) == 750


def test_deleted_offsets_are_told_from_a_first_start(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.produce(events(40))
    first = stand.worker("--metrics-port", "0")
    stand.wait_committed(40)
    assert first.metric("penstock_rescored_events_total") == 0
    first.stop()
    admin, group = AdminClient({"bootstrap.servers": stand.servers}), f"penstock.{stand.name}"
    admin.delete_consumer_groups([group])[group].result(20)
    second = stand.worker("--metrics-port", "0")
    stand.wait_committed(40)
    assert second.metric("penstock_rescored_events_total") == 40
    assert set(Counter(stand.places(80)).values()) == {2}


def test_what_workers_committed_is_never_counted(rig: Callable[..., Rig]) -> None:
    """The control: without marks on commits, or were every offset taken for one set by hand, this would fail."""
    stand = rig()
    for _ in range(2):
        stand.produce(events(40))
        worker = stand.worker("--metrics-port", "0")
        stand.wait_committed(40)
        worker.kill()
    worker = stand.worker("--metrics-port", "0")
    worker.wait_for(r"reads partitions \[0, 1, 2, 3\]")
    assert worker.metric("penstock_rescored_events_total") == 0
    assert worker.metric("penstock_events_skipped_total") == 0
    assert "no worker committed" not in worker.text()


def test_an_output_placed_by_key_is_searched_as_a_whole(rig: Callable[..., Rig]) -> None:
    stand = rig()
    admin = AdminClient({"bootstrap.servers": stand.servers})
    admin.create_partitions([NewPartitions(stand.inferences, 7)])[stand.inferences].result(20)
    stand.produce(events(4_000))
    score(stand, 4_000)
    set_offsets(stand, {0: 900})
    worker = stand.worker("--metrics-port", "0")
    worker.wait_for("scored once more")
    stand.wait_committed(4_000)
    assert worker.metric("penstock_rescored_events_total", partition="0") == 100
    assert len(stand.places(4_100)) == 4_100
