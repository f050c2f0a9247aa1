"""Workers that do what control asks for, on a real Kafka: swaps, refusals, a way back, pauses, moves, and kills."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas.heads import read_lineage
from tests.rig import ROOT, Rig, Worker, account, encoder, sum_model

pytestmark = pytest.mark.timeout(300)
encode = encoder()
WHOLE = {"lost": 0, "duplicated": 0, "out_of_order": 0, "unknown": 0}


class Stand:
    """A deployment under control, with a second version of its model and an operator's commands."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.name = rig, rig.name
        self.model = f"sum-{rig.name[-8:]}"  # of its own: a tag that moves concerns all deployments of the cluster
        self.first = rig.add_model(self.model, "production", model=sum_model())
        self.second = rig.add_model(self.model, "candidate", model=sum_model(scale=2.0))
        self.declare(arms=[{"role": "active", "model": f"{self.model}@production"}])

    def declare(self, **changes: Any) -> None:
        self.rig.declared |= changes
        self.rig.write()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PENSTOCK_BOOTSTRAP_SERVERS": self.rig.servers,
            "PENSTOCK_REPOSITORY": str(self.rig.folder / "models"),
        }
        command = [sys.executable, "-m", "penstock.cli", *words]
        return subprocess.run(
            command, cwd=self.rig.folder, capture_output=True, text=True, env=environment, check=False
        )

    def said(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def worker(self, *more: str) -> Worker:
        """Start `penstock worker NAME`."""
        where = ["--bootstrap-servers", self.rig.servers, "--repository", str(self.rig.folder / "models")]
        worker = Worker([self.name, *where, *more], self.rig.folder, self.rig.folder / f"obeying-{time.time_ns()}.log")
        self.rig._workers.append(worker)
        return worker

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", self.name, "--json").stdout)
        return found

    def wait_status(self, revision: int, seconds: float = 30) -> None:
        """Block until every slot that lives runs the revision."""
        deadline = time.monotonic() + seconds
        while True:
            slots = [slot for slot in self.status()["slots"] if slot["state"] != "stopped"]
            if slots and all(slot["revision"] == revision for slot in slots):
                return
            assert time.monotonic() < deadline, slots

    @contextmanager
    def stream(self, rate: float = 2_000.0) -> Iterator[Callable[[], int]]:
        """Publish events all the while; yields what tells how many so far."""
        ended, sent = threading.Event(), [0]
        producer = Producer({"bootstrap.servers": self.rig.servers, "linger.ms": 5})

        def feed() -> None:
            began = time.monotonic()
            while not ended.is_set():
                while sent[0] < (time.monotonic() - began) * rate:
                    number = sent[0]
                    value = encode({"id": number, "a": float(number), "b": 1.0})
                    producer.produce(self.rig.events, value, b"k%d" % number, number % 4)
                    sent[0] += 1
                producer.poll(0.01)

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            yield lambda: sent[0]
        finally:
            ended.set()
            thread.join()
            assert producer.flush(30) == 0

    def inferences(self, count: int) -> list[tuple[int, str, tuple[int, int]]]:
        """Revision, version and place of each inference."""
        from tests.places import place_of

        found = []
        for message in self.rig.read(self.rig.inferences, count):
            value = message.value() or b""
            lineage, _ = read_lineage(value)
            found.append((lineage.revision, lineage.version, place_of(value)))
        return found

    def verified(self) -> dict[str, Any]:
        done = self.run("verify", "--deployment", self.name, "--json")
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["ok"], (found["examples"], found["notes"])
        return found


@pytest.fixture
def stand(rig: Callable[..., Rig]) -> Stand:
    return Stand(rig())


def share(count: int) -> dict[int, int]:
    return {partition: len(range(partition, count, 4)) for partition in range(4)}


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
    worker.kill()
    again = stand.worker()
    again.wait_for("revision 2 of .* is refused")
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(80)
    assert {revision for revision, *_ in stand.inferences(80)} == {1}
    stand.said("rollback", stand.name, "--to", "1")
    stand.wait_status(3)
    assert again.stop() == 0


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


def test_a_state_that_writes_elsewhere_is_moved_to(stand: Stand, topic: Callable[..., str]) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    stand.rig.wait_committed(40)
    elsewhere = topic(4, "elsewhere")
    stand.declare(output={"topic": elsewhere})
    stand.said("apply", str(stand.rig.file))
    worker.wait_for("new clients are made")
    stand.wait_status(2)
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
    assert len(stand.rig.read(elsewhere, 40)) == 40
    stand.rig.wait_committed(80)
    assert worker.stop() == 0
    found = stand.verified()
    assert (found["inferences"], found["unjudged"]) == (40, 40)


def test_a_state_that_reads_elsewhere_is_moved_to_and_its_offsets_are_those_of_its_own_topic(
    stand: Stand, topic: Callable[..., str]
) -> None:
    stand.said("apply", str(stand.rig.file))
    worker = stand.worker()
    for turn in range(2):
        stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(40))
        stand.rig.wait_committed(40 + 40 * turn)
        if not turn:
            stand.said("model", "tag", stand.model, stand.second, "production")
            stand.wait_status(2)
    stand.rig.events = topic(4, "other")
    stand.declare(input={**stand.rig.declared["input"], "topic": stand.rig.events})
    stand.said("apply", str(stand.rig.file))
    worker.wait_for("new clients are made")
    stand.wait_status(3)
    stand.rig.produce(encode({"id": i, "a": 1.0, "b": 1.0}) for i in range(100))
    stand.rig.wait_committed(100)
    assert worker.stop() == 0
    assert stand.verified()["inferences"] == 100


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
