"""What slots refuse, as entries of the audit and as events, on a real Kafka: once each, whoever dies."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from schemas.control import Entry, Running, Status, Version, arms_of
from schemas.deployment import Deployment
from streams.rollout import applied
from tests.integration.control_writer import NAME, READER, declared
from tests.integration.events_stand import Stand
from tests.integration.planes import Plane, a_plane
from tests.webhook_server import Receiver

pytestmark = pytest.mark.timeout(300)

OLD = (Running("active", "m", "v1", "digest"),)


class Scene:
    """A control plane, slots that say what they refuse, and `penstock events`."""

    def __init__(self, stand: Stand, plane: Plane) -> None:
        self.stand, self.plane = stand, plane
        stand.audit, stand.events = plane.topics.audit, f"{plane.topics.prefix}.events"
        plane.topics.ensure(plane.kafka, plane.topics.status)

    def apply(self, number: int, name: str = NAME) -> None:
        """Ask for another version."""
        wanted = Deployment.model_validate(declared(number).to_dict() | {"name": name})
        arms = arms_of(wanted, {"m@t": Version("m", f"v{number}", "digest")})
        assert self.plane.change(lambda world: applied(world, wanted, READER, arms)) is not None

    def say(self, refused: int | None = 2, **more: Any) -> None:
        status = Status(NAME, "0", f"penstock.{NAME}", "here", 7, 0, 1, 2, OLD, "running", "cannot be loaded", refused)
        status = replace(status, at_ms=int(time.time() * 1000), **more)
        self.plane.put(self.plane.topics.status, status.encode(), status.key)

    def refusals(self) -> list[Entry]:
        assert self.plane.findings() == []
        return [entry for entry in self.plane.read().entries if entry.action == "refused"]

    def events(self, count: int = 0) -> list[dict[str, Any]]:
        return [json.loads(message.value() or b"") for message in self.stand.told(count)]

    def run(self, *arguments: str) -> None:
        status, said = self.stand.run("--once", *arguments)
        assert status == 0, said


@pytest.fixture
def scene(stand: Stand, bootstrap_servers: str) -> Iterator[Scene]:
    with a_plane(bootstrap_servers) as plane:
        yield Scene(stand, plane)
        stand.close()
        stand.admin.delete_topics([f"{plane.topics.prefix}.events"])


def test_what_several_slots_refuse_is_one_event_behind_the_change_that_they_refuse(scene: Scene) -> None:
    scene.apply(1)
    scene.apply(2)
    for slot in "012":
        scene.say(slot=slot)
    with Receiver() as hook:
        scene.run("--webhook", hook.url)
        scene.run("--webhook", hook.url)
        *_, event = scene.events(3)
        assert [json.loads(each.body)["id"] for each in hook.taken] == [each["id"] for each in scene.events()]
    assert [each["type"] for each in scene.events(3)] == [
        "io.penstock.deployment.applied",
        "io.penstock.deployment.applied",
        "io.penstock.deployment.refused",
    ]
    data = event["data"]
    assert (event["subject"], data["who"], data["host"], data["why"]) == (
        NAME,
        "slot active/0",
        "here",
        "cannot be loaded",
    )
    assert (data["after"]["revision"], data["after"]["running"], data["revision_after"]) == (2, 1, None)
    assert [arm["version"] for arm in data["after"]["arms"]] == ["v2"]


def test_a_running_process_tells_of_what_comes_and_of_nothing_that_is_not_refused(scene: Scene) -> None:
    scene.apply(1)
    process = scene.stand.start()
    process.wait_for("publishing to")
    scene.say(None, revision=1)
    scene.plane.put(scene.plane.topics.status, b"junk", b"x")
    scene.plane.put(scene.plane.topics.status, None, b"y")
    scene.say(7)  # of no revision that there is
    scene.apply(2)
    scene.say()
    assert [each["data"]["action"] for each in scene.events(3)] == ["apply", "apply", "refused"]
    scene.say(group=f"penstock.{NAME}.shadow", slot="1")
    assert [each["data"]["who"] for each in scene.events(4)[2:]] == ["slot active/0", "slot shadow/1"]
    assert process.stop() == 0


@pytest.mark.parametrize("death", ["--die-in-entry=1", "--die-after-entry=1"])
def test_a_process_killed_while_it_writes_a_refusal_leaves_it_told_once(scene: Scene, death: str) -> None:
    scene.apply(1)
    scene.apply(2)
    scene.say()
    assert scene.stand.run("--once", death)[0] == -9
    scene.run()
    assert len(scene.refusals()) == 1
    assert len(scene.events(3)) == 3


def test_without_a_look_into_the_audit_the_same_death_tells_it_twice(scene: Scene) -> None:
    scene.apply(1)
    scene.apply(2)
    scene.say()
    assert scene.stand.run("--once", "--die-after-entry=1", "--unread")[0] == -9
    scene.run("--unread")
    assert len(scene.refusals()) == 2


def test_killed_again_and_again_every_refusal_is_told_once(scene: Scene) -> None:
    names = [f"{NAME}{number}" for number in range(12)]

    def refuse() -> None:
        for name in names:
            scene.apply(1, name)
            scene.apply(2, name)
            for slot in "01":
                scene.say(deployment=name, group=f"penstock.{name}", slot=slot)

    slots = threading.Thread(target=refuse)
    slots.start()
    try:
        for _ in range(4):
            process = scene.stand.start()
            time.sleep(random.uniform(1.0, 3.0))
            process.kill()
    finally:
        slots.join()
    scene.run()
    assert sorted(entry.subject for entry in scene.refusals()) == sorted(names)
    told = [each["subject"] for each in scene.events(36) if each["data"]["action"] == "refused"]
    assert sorted(told) == sorted(names)


def test_what_the_broker_forgot_of_how_far_it_read_tells_nothing_again(scene: Scene) -> None:
    scene.apply(1)
    scene.apply(2)
    scene.say()
    scene.run()
    group = f"{scene.stand.events}.refusals"
    scene.stand.admin.delete_consumer_groups([group])[group].result()
    scene.run()
    assert len(scene.refusals()) == 1


def test_an_audit_that_takes_no_entry_is_told_all_the_same_and_said(scene: Scene) -> None:
    scene.apply(1)
    scene.apply(2)
    scene.say()
    last = scene.plane.read().entries[-1]
    scene.plane.forge([replace(last, who="Eve", sequence=last.sequence + 1)])
    status, said = scene.stand.run("--once", "--once-seconds=2")
    assert (status, "nothing is written onto" in said) == (1, True), said
    assert len(scene.events(3)) == 3


def test_it_writes_nothing_where_it_may_not(scene: Scene) -> None:
    scene.apply(1)
    scene.apply(2)
    scene.say()
    scene.run("--no-refusals")
    scene.run("--no-topic", "--webhook", "http://127.0.0.1:9/none", "--from", "end")
    assert scene.refusals() == []
