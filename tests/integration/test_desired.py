"""What follows the control topic hears of all that is in it, also where the topic was deleted and made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from schemas.control import State
from streams import desired
from streams.desired import Desired
from tests.integration.planes import Plane, a_plane

pytestmark = pytest.mark.timeout(180)


def state(name: str, revision: int) -> State:
    return State(name, revision, "{}", "{}", ())


class Heard:
    """What a follower of the deployment `d` was told."""

    def __init__(self, plane: Plane) -> None:
        self.plane, self.told = plane, list[int]()
        self.desired = Desired(plane.kafka, "d", self._changed, plane.topics)
        self.desired.start()

    def _changed(self, state: State | None) -> None:
        self.told.append(state.revision if state is not None else 0)

    def wait(self, true: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, self.told
            time.sleep(0.05)

    def make(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self.plane.topics.ensure(self.plane.kafka, self.plane.topics.control)
                return
            except KafkaException:  # its removal is not done yet
                assert time.monotonic() < deadline
            time.sleep(0.1)

    def put(self, *states: State) -> None:
        for each in states:
            self.plane.put(self.plane.topics.control, each.encode(), each.deployment.encode())


@pytest.fixture
def heard(bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    monkeypatch.setattr(desired, "LOOK_SECONDS", 0.5)
    with a_plane(bootstrap_servers) as plane:
        plane.topics.ensure(plane.kafka, plane.topics.control)
        made = Heard(plane)
        yield made
        made.desired.close()


@pytest.mark.parametrize("before", [2, 40], ids=["longer than before", "shorter than before"])
def test_a_topic_that_was_deleted_and_made_again_is_read_from_its_beginning(heard: Heard, before: int) -> None:
    heard.put(*(state("d", revision) for revision in range(1, before + 1)))
    heard.wait(lambda: heard.told[-1:] == [before])
    admin, name = AdminClient(heard.plane.kafka), heard.plane.topics.control
    admin.delete_topics([name])[name].result()
    heard.make()
    heard.put(state("d", 1), *(state("other", revision) for revision in range(1, 11)))
    heard.wait(lambda: heard.told[-1:] == [1])
    heard.put(state("d", 2))
    heard.wait(lambda: heard.told[-1:] == [2])
