"""Workers that do what control asks for, on a real Kafka: swaps, refusals, a way back, pauses, moves, and kills."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from tests.integration.obeying_stand import Stand, share
from tests.models import graphs
from tests.rig import Rig, account, encoder, sum_model

pytestmark = pytest.mark.timeout(300)
encode = encoder()
WHOLE = {"lost": 0, "duplicated": 0, "out_of_order": 0, "unknown": 0}


@pytest.fixture
def stand(rig: Callable[..., Rig]) -> Stand:
    return Stand(rig())


def test_every_change_is_followed_at_a_batch_boundary_and_nothing_is_lost(stand: Stand) -> None:
    assert "revision 1" in stand.said("apply", str(stand.rig.file))
    worker = stand.worker("--metrics-port", "0")
    worker.wait_for("reads partitions")
    with stand.stream() as sent:
        stand.rig.wait_committed(500)
        stand.said("model", "tag", stand.model, stand.second, "production")
        stand.wait_status(2)
        canary = {"role": "canary", "model": f"{stand.model}@{stand.first}", "percent": 20}
        stand.declare(arms=[*stand.rig.declared["arms"], canary])
        stand.said("apply", str(stand.rig.file))
        stand.wait_status(3)
        stand.said("promote", stand.name)
        stand.wait_status(4)
        stand.said("rollback", stand.name)
        stand.wait_status(5)
        assert worker.metric("penstock_model_info", version=stand.second, scored_by="active") == 1
        seen = sent()
        stand.rig.wait_committed(seen)
    stand.rig.wait_committed(sent())
    assert worker.stop() == 0
    found = stand.inferences(sent())
    assert account([place for *_, place in found], share(sent())) == WHOLE
    assert {revision for revision, *_ in found} == {1, 2, 3, 4, 5}
    by_revision = {revision: {v for r, v, _ in found if r == revision} for revision in range(1, 6)}
    assert by_revision[1] == {stand.first}
    assert by_revision[2] == {stand.second}
    assert by_revision[3] == {stand.first, stand.second}
    assert by_revision[4] == {stand.first}
    assert stand.second in by_revision[5]
    verified = stand.verified()
    assert verified["events"] == sent()
    assert verified["versions"].keys() == {f"{stand.model}@{stand.first}", f"{stand.model}@{stand.second}"}


@pytest.mark.parametrize(("delivery", "wrong"), [("exactly_once", 15), ("at_least_once", 0)])
def test_a_swap_that_the_workers_told_otherwise_is_found(stand: Stand, delivery: str, wrong: int) -> None:
    """The control: a forged record of where a revision began contradicts the inferences.

    Delivered at least once, a batch that was repeated under a later revision leaves the same traces.
    """
    from schemas.control import First, Swap

    stand.declare(delivery=delivery)
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(100))
    stand.rig.wait_committed(100)
    assert worker.stop() == 0
    stand.verified()
    forged = Swap(stand.name, 7, "active", stand.model, stand.first, "d", "0", (First(2, 10),), 0)
    producer = Producer({"bootstrap.servers": stand.rig.servers})
    producer.produce("penstock.swaps", forged.encode(), forged.key)
    assert producer.flush(10) == 0
    found = json.loads(stand.run("verify", "--deployment", stand.name, "--json").stdout)
    assert found["wrong_revision"] == wrong


def test_a_version_that_cannot_run_is_refused_and_the_old_one_goes_on_also_after_a_restart(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    worker.wait_for("reads partitions")
    broken = stand.rig.add_model(stand.model, "broken", model=sum_model(3), features=["a", "b", "c"])
    entry = json.loads(stand.said("status", stand.name, "--json"))["deployments"][0]
    assert entry["revision"] == 1
    _force(stand, broken)
    worker.wait_for("revision 2 is refused: ")
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(40)
    done = stand.run("status", stand.name)
    assert done.returncode == 1
    assert "refuses revision 2" in done.stdout
    stand.told("revision 2 not taken; active " + broken[:8])
    worker.kill()
    again = stand.worker()
    again.wait_for("revision 2 of .* is refused")
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(80)
    assert {revision for revision, *_ in stand.inferences(80)} == {1}
    stand.told("revision 2 not taken; active " + broken[:8])  # once, although the next start refused it again
    stand.said("rollback", stand.name, "--to", "1")
    stand.wait_status(3)
    assert again.stop() == 0


def test_a_start_that_nothing_can_run_for_is_said_and_told(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    shutil.rmtree(stand.rig.folder / ".penstock" / "cache")
    stand.said("model", "remove", f"{stand.model}@{stand.first}", "--yes", "--force")
    worker = stand.worker()
    assert worker.process.wait(60) == 2
    done = stand.run("status", stand.name)
    assert done.returncode == 1
    assert "slot active/0  revision -" in done.stdout
    assert "ended, for it refuses revision 1: model" in done.stdout
    stand.told("revision 1 not taken; active " + stand.first[:8])


def _force(stand: Stand, version: str) -> None:
    """Make a version that cannot run the desired one, as a client without our checks would."""
    from models.repository import Repository
    from schemas.control import State
    from streams import control
    from streams.control_writer import Author, Writer
    from streams.rollout import Change, Step, World

    entry = Repository(str(stand.rig.folder / "models")).resolve(f"{stand.model}@{version}")

    def decide(world: World) -> Change:
        from dataclasses import replace

        old: State = world.states[stand.name]
        arms = (replace(old.arms[0], version=version, digest=entry.digest),)
        new = replace(old, revision=old.revision + 1, arms=arms)
        return Change((Step("apply", "deployment", stand.name, old.told(), new.told(), old, new),))

    Writer({"bootstrap.servers": stand.rig.servers}).change(decide, Author("a", "b"))
    assert control.read({"bootstrap.servers": stand.rig.servers}).states[stand.name].revision == 2


def test_a_pause_holds_every_event_and_a_resume_scores_them(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker("--metrics-port", "0")
    worker.wait_for("reads partitions")
    stand.said("pause", stand.name)
    stand.wait_status(2)
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    time.sleep(1.5)
    assert stand.rig.committed() == 0
    assert worker.metric("penstock_held", cause="paused") == 1
    stand.said("resume", stand.name)
    stand.rig.wait_committed(40)
    assert {revision for revision, *_ in stand.inferences(40)} == {3}
    assert worker.stop() == 0


def test_a_pause_holds_also_where_its_state_cannot_run_and_over_a_restart(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    worker.wait_for("reads partitions")
    _force(stand, stand.rig.add_model(stand.model, "broken", model=sum_model(3), features=["a", "b", "c"]))
    worker.wait_for("revision 2 is refused: ")
    stand.said("pause", stand.name)
    worker.wait_for("scores by revision 1 from here on: paused")
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    worker.kill()
    again = stand.worker()
    again.wait_for("reads partitions")
    time.sleep(1.5)
    assert stand.rig.committed() == 0
    stand.said("resume", stand.name)
    stand.rig.wait_committed(40)
    assert {revision for revision, *_ in stand.inferences(40)} == {1}
    assert again.stop() == 0


def test_a_start_without_the_repository_runs_from_the_cache(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    worker.wait_for("reads partitions")
    assert worker.stop() == 0
    shutil.move(stand.rig.folder / "models", stand.rig.folder / "away")
    again = stand.worker()
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(40)
    assert again.stop() == 0


def test_a_start_that_can_fetch_nothing_new_scores_by_the_state_before_until_it_can(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    worker.wait_for("reads partitions")
    assert worker.stop() == 0
    stand.said("model", "tag", stand.model, stand.second, "production")
    models, cache = stand.rig.folder / "models", stand.rig.folder / ".penstock" / "cache" / "models"
    entry = json.loads((models / stand.model / stand.second / "entry.json").read_text())
    (cache / f"{entry['digest']}.zip").unlink(missing_ok=True)
    shutil.move(models, stand.rig.folder / "away")
    again = stand.worker()
    again.wait_for("revision 1 scores instead of revision 2")
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(40)
    (slot,) = [slot for slot in stand.status()["slots"] if slot["state"] != "stopped"]
    assert (slot["revision"], slot["refused"]) == (1, None)
    assert slot["verdict"].startswith("behind: revision 2 is wanted (")
    shutil.move(stand.rig.folder / "away", models)
    stand.wait_status(2, 60)
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(80)
    assert sorted(revision for revision, *_ in stand.inferences(80)) == 40 * [1] + 40 * [2]
    assert again.stop() == 0
    stand.verified()


def test_a_way_back_needs_neither_repository_nor_cache_and_any_other_way_does(stand: Stand) -> None:
    third = stand.rig.add_model(stand.model, "third", model=sum_model(scale=3.0))
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    worker.wait_for("reads partitions")
    for revision, version in ((2, stand.second), (3, third)):
        stand.said("model", "tag", stand.model, version, "production")
        stand.wait_status(revision)
        stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
        stand.rig.wait_committed(40 * (revision - 1))
    shutil.rmtree(stand.rig.folder / "models")
    shutil.rmtree(stand.rig.folder / ".penstock" / "cache")
    stand.said("rollback", stand.name, "--to", "1")
    worker.wait_for("revision 4 cannot be built now")
    stand.said("rollback", stand.name, "--to", "2")
    stand.wait_status(5)
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(120)
    found = {revision: version for revision, version, _ in stand.inferences(120)}
    assert found == {2: stand.second, 3: third, 5: stand.second}
    assert worker.stop() == 0


def test_a_rollback_does_not_wait_for_a_version_that_hangs(stand: Stand) -> None:
    """A run may take a minute, and the rows that hang are searched for two: the events wait for none of that."""
    hangs = stand.rig.add_model(stand.model, "hanging", model=graphs.sum_after_loop())
    stand.declare(limits={"model_seconds": 60})
    stand.said("apply", str(stand.rig.file))
    stand.said("model", "tag", stand.model, hangs, "production")
    worker = stand.worker()
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(40)
    stand.rig.produce(encode({"id": i, "a": 1e18, "b": 1.0}) for i in range(40, 44))
    deadline = time.monotonic() + 60
    while not any((slot["vitals"] or {}).get("turned", 0) > 1.5 for slot in stand.status()["slots"]):
        assert time.monotonic() < deadline, worker.text()
    stand.said("rollback", stand.name)
    stand.rig.wait_committed(44, 30)
    assert "a model was at the batch in hand" in worker.text()
    found = sorted((revision, version) for revision, version, _ in stand.inferences(44))
    assert found == 40 * [(2, hangs)] + 4 * [(3, stand.first)]
    assert worker.stop() == 0
    stand.verified()


def _make_anew(stand: Stand) -> None:
    """Make the topic of the inferences again, empty."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin, name = AdminClient({"bootstrap.servers": stand.rig.servers}), stand.rig.inferences
    admin.delete_topics([name])[name].result()
    deadline = time.monotonic() + 30
    while True:
        try:
            admin.create_topics([NewTopic(name, num_partitions=4)])[name].result()
            return
        except KafkaException:  # its removal is not done yet
            assert time.monotonic() < deadline
        time.sleep(0.2)


def test_an_inference_that_claims_another_version_is_found_and_fails_the_benchmark(stand: Stand) -> None:
    from benchmarks.rollout_targets import wrong

    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(40)
    assert worker.stop() == 0
    assert wrong({"checked": stand.verified(), "steady": [], "swapping": []}) == {}
    records = stand.rig.read(stand.rig.inferences, 40)
    _make_anew(stand)
    producer = Producer({"bootstrap.servers": stand.rig.servers})
    for number, record in enumerate(records):
        value = record.value() or b""
        forged = value.replace(stand.first.encode(), stand.second.encode()) if number == 7 else value
        producer.produce(stand.rig.inferences, forged, record.key(), record.partition() or 0)
    assert producer.flush(10) == 0
    found = json.loads(stand.run("verify", "--deployment", stand.name, "--json").stdout)
    assert wrong({"checked": found, "steady": [], "swapping": []}) == {"different": 1, "wrong_version": 1}


def test_killed_workers_and_swaps_lose_and_double_nothing(stand: Stand) -> None:
    """Kills fall anywhere, also between the offer of a state and its first batch."""
    stand.said("apply", str(stand.rig.file))
    workers = [stand.worker("--slot", slot) for slot in "01"]
    for each in workers:
        each.wait_for("reads partitions")
    with stand.stream(3_000.0) as sent:
        for turn in range(8):
            stand.said("model", "tag", stand.model, (stand.second, stand.first)[turn % 2], "production")
            workers[turn % 2].kill()
            workers[turn % 2] = stand.worker("--slot", str(turn % 2))
            time.sleep(0.5 + 0.1 * turn)
    stand.rig.wait_committed(sent())
    assert [worker.stop() for worker in workers] == [0, 0]
    found = stand.inferences(sent())
    assert account([place for *_, place in found], share(sent())) == WHOLE
    stand.verified()


def test_two_sources_of_truth_are_refused(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.rig.worker()
    assert worker.process.wait(60) == 2
    assert f"is under control, at revision 1: start `penstock worker {stand.name}`" in worker.text()


def test_a_name_that_control_does_not_know_is_refused_with_those_it_knows(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    stand.name = "nothing"
    worker = stand.worker()
    assert worker.process.wait(60) == 2
    assert "control has no deployment nothing" in worker.text()


def test_supervised_slots_follow_too(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    supervisor = stand.worker("--slots", "2")
    with stand.stream() as sent:
        stand.rig.wait_committed(200)
        stand.said("model", "tag", stand.model, stand.second, "production")
        stand.wait_status(2)
    stand.rig.wait_committed(sent())
    assert supervisor.stop() == 0
    assert {revision for revision, *_ in stand.inferences(sent())} == {1, 2}
    stand.verified()


def test_events_of_a_deployment_under_control_go_into_quarantine_by_its_name(stand: Stand) -> None:
    stand.said("apply", str(stand.rig.file))
    place = f"{stand.rig.events}/1@3-5"
    assert f"{place} is in quarantine" in stand.said("quarantine", stand.name, place)
    assert stand.run("quarantine", "nothing", "--list").returncode == 2
    worker = stand.worker()
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(40)
    assert worker.stop() == 0
    assert len(stand.rig.read(stand.rig.dead_letters, 3)) == 3
    stand.verified()
