"""What follows the control topic tells of a change when it is there, not when a number of changes is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.control import State
from streams import desired
from streams.desired import Desired


class Message:
    def __init__(self, state: State) -> None:
        self._state = state

    def error(self) -> None:
        return None

    def key(self) -> bytes:
        return self._state.deployment.encode()

    def value(self) -> bytes:
        return self._state.encode()


class Consumer:
    """Has what is put into `waiting`. As librdkafka's, it waits for as many messages as are asked for."""

    waited_for_more = False

    def __init__(self, *_: Any, **__: Any) -> None:
        self.waiting: list[Message] = []
        self.assigned = 0

    def assign(self, _: object) -> None:
        self.assigned += 1

    def close(self) -> None: ...

    def consume(self, count: int, seconds: float) -> list[Message]:
        found, self.waiting = self.waiting[:count], self.waiting[count:]
        if seconds and found and len(found) < count:
            type(self).waited_for_more = True
        if seconds and not found:
            threading.Event().wait(0.001)
        return found


def state(revision: int, name: str = "d") -> State:
    return State(name, revision, "{}", "{}", ())


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Consumer, list[int], threading.Event]]:
    monkeypatch.setattr(desired, "Consumer", Consumer)
    monkeypatch.setattr(Consumer, "waited_for_more", False)
    told, came = list[int](), threading.Event()

    def changed(found: State | None) -> None:
        assert found is not None
        told.append(found.revision)
        came.set()

    made = Desired({}, "d", changed, identity=lambda *_: "one")
    made.start()
    yield made._consumer, told, came  # type: ignore[misc]
    made.close()


@pytest.mark.parametrize(("second", "clients"), [("two", 2), ("one", 1), (None, 1)])
def test_a_topic_that_is_another_one_under_the_same_name_is_read_anew(
    monkeypatch: pytest.MonkeyPatch, second: str | None, clients: int
) -> None:
    made = list[Consumer]()

    def connect(*_: Any, **__: Any) -> Consumer:
        made.append(Consumer())
        return made[-1]

    monkeypatch.setattr(desired, "Consumer", connect)
    monkeypatch.setattr(desired, "LOOK_SECONDS", 0.0)
    asked = list[str | None]()

    def identity(*_: Any) -> str | None:
        asked.append("one" if not asked else second)
        return asked[-1]

    follower = Desired({}, "d", lambda _: None, identity=identity)
    follower.start()
    deadline = time.monotonic() + 10
    while len(asked) < 10:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    follower.close()
    assert len(made) == clients
    assert [each.assigned for each in made] == clients * [1]


def test_a_change_is_told_without_a_wait_for_another_one(follower: Any) -> None:
    consumer, told, came = follower
    consumer.waiting = [Message(state(1))]
    assert came.wait(10)
    assert told == [1]
    assert not Consumer.waited_for_more


def test_of_several_changes_that_are_there_the_last_one_of_the_deployment_is_told(follower: Any) -> None:
    consumer, told, came = follower
    consumer.waiting = [Message(state(1)), Message(state(2)), Message(state(7, "other"))]
    assert came.wait(10)
    assert told == [2]
