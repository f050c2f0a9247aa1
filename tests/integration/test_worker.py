"""The worker on a real Kafka, as its users run it: stopping, sharing, losing its broker, and what retention takes."""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import fastavro
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from confluent_kafka.cimpl import NewPartitions, NewTopic

from penstock.embedded import EmbeddedKafka
from schemas.wire import confluent_header
from tests.guarded import GUARDED
from tests.rig import SCHEMA, Rig, account, encoder, place_of
from tests.stub_registry import StubRegistry

encode = encoder()
NOTHING_WRONG = {"lost": 0, "duplicated": 0, "out_of_order": 0, "unknown": 0}

pytestmark = pytest.mark.timeout(300)


def events(count: int, first: int = 0) -> list[bytes | None]:
    return [encode({"id": i, "a": 0.5 * i, "b": None}) for i in range(first, first + count)]


def confluent_events(count: int) -> list[bytes | None]:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), {"id": 1, "a": 1.0, "b": None})
    return [confluent_header(7) + out.getvalue()] * count


def set_offsets(stand: Rig, offsets: dict[int, int]) -> None:
    places = [TopicPartition(stand.events, partition, offset) for partition, offset in offsets.items()]
    wanted = ConsumerGroupTopicPartitions(f"penstock.{stand.name}", places)
    admin = AdminClient({"bootstrap.servers": stand.servers})
    next(iter(admin.alter_consumer_group_offsets([wanted]).values())).result()


def set_policy(stand: Rig, policy: str) -> None:
    entry = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, stand.inferences, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": stand.servers})
    admin.incremental_alter_configs([resource])[resource].result()


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_sigterm_commits_what_was_scored_and_a_successor_goes_on(rig: Callable[..., Rig], delivery: str) -> None:
    stand = rig(delivery=delivery)
    stand.produce(events(5_000))
    first = stand.worker()
    stand.wait_committed(1)
    for _ in range(3):  # a second signal must not undo an orderly end
        first.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert first.stop() == 0
    assert "everything scored was committed" in first.text()
    done = stand.committed()
    assert len(stand.places(done)) == done
    stand.produce(events(5_000))
    stand.worker()
    stand.wait_committed(10_000)
    assert account(stand.places(10_000), dict.fromkeys(range(4), 2_500)) == NOTHING_WRONG


def test_slots_come_and_go_while_events_flow(rig: Callable[..., Rig]) -> None:
    stand = rig()
    flow = threading.Thread(target=lambda: [(stand.produce(events(2_000)), time.sleep(0.4)) for _ in range(20)])
    flow.start()
    first = stand.worker("--slot", "0")
    stand.wait_committed(2_000)
    second = stand.worker("--slot", "1")
    second.wait_for(r"reads partitions \[\d")
    time.sleep(1)
    assert first.stop() == 0
    second.wait_for(r"reads partitions \[0, 1, 2, 3\]")
    third = stand.worker("--slot", "0")
    third.wait_for(r"reads partitions \[\d")
    flow.join()
    stand.wait_committed(40_000)
    assert account(stand.places(40_000), dict.fromkeys(range(4), 10_000)) == NOTHING_WRONG


def test_a_worker_outlives_a_broker_that_is_late_and_one_that_crashes(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})

        def topic(partitions: int, name: str, **config: str) -> str:
            admin.create_topics([NewTopic(name, partitions, 1)])[name].result()
            return name

        stand = Rig(kafka.bootstrap_servers, tmp_path, topic)
        kafka.stop()
        worker = stand.worker("--metrics-port", "0")
        worker.wait_for("no broker answers at")
        kafka.start()
        stand.produce(events(1_000))
        stand.wait_committed(1_000)
        kafka.kill()
        time.sleep(2)
        assert worker.process.poll() is None
        kafka.start()
        stand.produce(events(1_000))
        stand.wait_committed(2_000)
        assert account(stand.places(2_000), dict.fromkeys(range(4), 500)) == NOTHING_WRONG
        assert worker.stop() == 0


def test_events_that_retention_took_are_counted_never_skipped_in_silence(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.produce(events(400))
    first = stand.worker()
    stand.wait_committed(400)
    first.stop()
    stand.produce(events(400))
    admin = AdminClient({"bootstrap.servers": stand.servers})
    admin.delete_records([TopicPartition(stand.events, 1, 150)])[TopicPartition(stand.events, 1, 150)].result()
    second = stand.worker("--metrics-port", "0")
    stand.wait_committed(800)
    assert "retention removed offsets 100 to 149 (at most 50 events) before they were scored" in second.text()
    assert second.metric("penstock_events_lost_total", partition="1") == 50
    assert account(stand.places(750), dict.fromkeys(range(4), 200))["lost"] == 50


def test_what_is_in_hand_when_retention_overtakes_a_worker_is_scored_and_the_rest_is_counted(
    rig: Callable[..., Rig],
) -> None:
    stand = rig()
    stand.produce(confluent_events(80))
    registry = StubRegistry(SCHEMA)
    worker = stand.worker("--registry", registry.url, "--metrics-port", "0")
    worker.wait_for("nothing is lost")
    stand.produce(confluent_events(80))
    admin = AdminClient({"bootstrap.servers": stand.servers})
    admin.delete_records([TopicPartition(stand.events, 1, 30)])[TopicPartition(stand.events, 1, 30)].result()
    registry.start()
    try:
        stand.wait_committed(160)
    finally:
        registry.stop()
    worker.wait_for("was to be read is not in the log")
    lost = worker.metric("penstock_events_lost_total", partition="1")
    places = stand.places(160 - int(lost))
    assert 0 < lost <= 30
    assert account(places, dict.fromkeys(range(4), 40)) == NOTHING_WRONG | {"lost": lost}
    assert worker.metric("penstock_events_lost_total") == lost


def test_events_that_retention_took_all_of_are_counted_once(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.produce(events(400))
    first = stand.worker()
    stand.wait_committed(400)
    first.stop()
    stand.produce(events(40), partition=1)
    admin, place = AdminClient({"bootstrap.servers": stand.servers}), TopicPartition(stand.events, 1, 140)
    admin.delete_records([place])[place].result()
    for lost in (40, 0):
        worker = stand.worker("--metrics-port", "0")
        worker.wait_for(r"reads partitions \[0, 1, 2, 3\]")
        assert worker.metric("penstock_events_lost_total") == lost
        worker.stop()


def test_partitions_added_later_are_read_from_their_beginning(rig: Callable[..., Rig]) -> None:
    stand = rig(input={"start": "latest"})
    worker = stand.worker()
    worker.wait_for("reads partitions")
    stand.produce(events(4))
    stand.wait_committed(4)
    admin = AdminClient({"bootstrap.servers": stand.servers})
    admin.create_partitions([NewPartitions(stand.events, 5)])[stand.events].result()
    stand.produce(events(10), partition=4)
    stand.wait_committed(14)
    assert {offset for partition, offset in stand.places(14) if partition == 4} == set(range(10))


def test_start_latest_skips_what_was_there_before_the_first_start_only(rig: Callable[..., Rig]) -> None:
    stand = rig(input={"start": "latest"})
    stand.produce(events(40))
    first = stand.worker()
    first.wait_for("reads partitions")
    stand.produce(events(4))
    assert {offset for _, offset in stand.places(4)} == {10}
    first.stop()
    stand.produce(events(4))
    stand.worker()
    assert sorted(offset for _, offset in stand.places(8)) == [10] * 4 + [11] * 4


def test_slots_that_start_together_at_the_end_agree_where_that_is(rig: Callable[..., Rig]) -> None:
    stand = rig(input={"start": "latest"})
    stand.produce(events(40))
    workers = [stand.worker("--slot", str(slot)) for slot in range(3)]
    for worker in workers:
        worker.wait_for(r"reads partitions \[\d")
    stand.produce(events(4_000))
    for worker in workers:
        worker.kill()
    stand.produce(events(4_000))
    stand.worker("--slot", "0")
    stand.wait_committed(8_040)
    assert account(stand.places(8_000), {}) == NOTHING_WRONG | {"unknown": 8_000}
    assert {place for place in stand.places(8_000) if place[1] < 10} == set()


def test_offsets_past_the_end_are_refused(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.produce(events(4))
    first = stand.worker()
    stand.wait_committed(4)
    first.stop()
    set_offsets(stand, {0: 99})
    second = stand.worker()
    assert second.process.wait(60) == 2
    assert "committed offset 99 is past the end of the log (1)" in second.text()


def test_an_offset_behind_a_transaction_that_is_open_upstream_is_waited_for(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.produce(events(4))
    first = stand.worker()
    stand.wait_committed(4)
    first.stop()
    upstream = Producer({"bootstrap.servers": stand.servers, "transactional.id": stand.name})
    upstream.init_transactions(20)
    upstream.begin_transaction()
    for event in events(10):
        upstream.produce(stand.events, event, partition=0)
    assert upstream.flush(20) == 0
    set_offsets(stand, {0: 11})  # as --to-latest does
    second = stand.worker("--metrics-port", "0")
    second.wait_for(r"offsets 1 to 10 \(at most 10 events\) are never scored")
    upstream.commit_transaction(20)
    stand.produce(events(1), partition=0)
    stand.wait_committed(16)
    assert {place for place in stand.places(5) if place[0] == 0} == {(0, 0), (0, 12)}
    assert second.process.poll() is None


def test_a_topic_that_is_made_anew_after_a_worker_missed_it_is_read_from_its_beginning(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.produce(events(40))
    worker = stand.worker()
    stand.wait_committed(40)
    admin = AdminClient({"bootstrap.servers": stand.servers})
    admin.delete_topics([stand.events])[stand.events].result(20)
    worker.wait_for("waiting for the brokers to know it again")
    admin.create_topics([NewTopic(stand.events, 4, 1)])[stand.events].result(20)
    stand.produce(events(80))
    stand.wait_committed(80)
    assert Counter(stand.places(120)) == {(p, o): 1 + (o < 10) for p in range(4) for o in range(20)}


def test_a_topic_that_refuses_records_for_good_ends_the_worker_which_is_not_ready_before(
    rig: Callable[..., Rig],
) -> None:
    stand = rig()
    stand.produce(events(4))
    worker = stand.worker("--metrics-port", "0")
    stand.wait_committed(4)
    set_policy(stand, "compact")
    stand.produce(events(400), key=None)
    while worker.get("/ready")[0] == 200:
        assert worker.process.poll() is None
        time.sleep(0.1)
    assert worker.process.wait(60) == 2
    assert "correct its cleanup.policy" in worker.text()
    again = stand.worker()
    assert again.process.wait(60) == 2
    assert f"topic {stand.inferences}: its cleanup.policy is compact" in again.text()
    set_policy(stand, "delete")
    stand.worker()
    stand.wait_committed(404)
    assert account(stand.places(404), dict.fromkeys(range(4), 101)) == NOTHING_WRONG


def test_a_twin_on_another_machine_takes_the_slot_and_the_first_ends(rig: Callable[..., Rig], tmp_path: Path) -> None:
    stand = rig()
    first = stand.worker()
    first.wait_for("reads partitions")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stand.folder, here = elsewhere, stand.folder
    (elsewhere / "models").symlink_to(here / "models")
    second = stand.worker()
    stand.produce(events(400))
    assert first.process.wait(60) == 3, first.text()
    assert "another worker took over this slot" in first.text()
    stand.wait_committed(400)
    assert second.process.poll() is None
    assert account(stand.places(400), dict.fromkeys(range(4), 100)) == NOTHING_WRONG


def test_a_registry_that_is_down_makes_events_wait_and_loses_none(rig: Callable[..., Rig]) -> None:
    stand = rig()
    stand.produce(confluent_events(8))
    registry = StubRegistry(SCHEMA)
    worker = stand.worker("--registry", registry.url, "--metrics-port", "0")
    worker.wait_for("nothing is lost")
    assert worker.metric("penstock_held", cause="schemas") == 1
    assert worker.get("/ready")[0] == 503
    registry.start()
    try:
        stand.wait_committed(8)
    finally:
        registry.stop()
    assert account(stand.places(8), dict.fromkeys(range(4), 2)) == NOTHING_WRONG
    assert worker.stop() == 0


def test_a_shadow_scores_the_same_events_into_its_own_topics(
    rig: Callable[..., Rig], topic: Callable[..., str]
) -> None:
    shadow_topic = topic(4, "shadow")
    arms = [
        {"role": "active", "model": "sum@production"},
        {"role": "shadow", "model": "sum@production", "topic": shadow_topic},
    ]
    stand = rig(arms=arms)
    stand.produce([*events(40), b"junk"])
    stand.worker()
    stand.worker("--arm", "shadow")
    stand.wait_committed(41)
    assert account(stand.places(40), dict.fromkeys(range(4), 10)) == NOTHING_WRONG
    shadow = [place_of(m.value() or b"") for m in stand.read(shadow_topic, 40)]
    assert account(shadow, dict.fromkeys(range(4), 10)) == NOTHING_WRONG
    assert len(stand.read(stand.dead_letters, 1)) == 1
    assert len(stand.read(f"{stand.dead_letters}.shadow", 1)) == 1


def test_a_worker_tells_its_health_and_logs_json(rig: Callable[..., Rig]) -> None:
    stand = rig()
    worker = stand.worker("--metrics-port", "0", "--log-format", "json")
    stand.produce(events(40))
    stand.wait_committed(40)
    assert worker.get("/live") == (200, "live\n")
    deadline = time.monotonic() + 20
    while worker.get("/ready")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert worker.get("/nothing")[0] == 404
    assert worker.metric("penstock_inferences_total") == 40
    assert worker.metric("penstock_model_info", model="sum", version=stand.version) == 1
    assert worker.stop() == 0
    lines = [json.loads(line) for line in worker.text().splitlines()]
    assert {line["deployment"] for line in lines} == {stand.name}
    assert {line["level"] for line in lines} <= {"info", "warning"}


def test_a_worker_without_permission_says_which(tmp_path: Path) -> None:
    from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

    with EmbeddedKafka(tmp_path / "kafka", settings=GUARDED) as kafka:
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})

        def topic(partitions: int, name: str, **config: str) -> str:
            admin.create_topics([NewTopic(name, partitions, 1)])[name].result()
            return name

        stand = Rig(kafka.bootstrap_servers, tmp_path, topic)
        stand.produce(events(4))
        for operation, name, words in (
            (AclOperation.WRITE, stand.inferences, "no permission to publish"),
            (AclOperation.READ, stand.events, f"no permission to read {stand.events}"),
        ):
            acls = [
                AclBinding(ResourceType.TOPIC, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", what, kind)
                for what, kind in ((AclOperation.ALL, AclPermissionType.ALLOW), (operation, AclPermissionType.DENY))
            ]
            for created in admin.create_acls(acls).values():
                created.result()
            worker = stand.worker()
            assert worker.process.wait(60) == 2, worker.text()
            assert words in worker.text()
        assert stand.committed() == 0
