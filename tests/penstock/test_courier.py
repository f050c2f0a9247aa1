"""How a courier tries, waits, gives up and remembers; Kafka has a part in tests/integration/test_events_webhooks.py."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from penstock.cloudevents import Event
from penstock.courier import KEPT, Courier, Refusals
from penstock.errors import Undelivered
from penstock.followers import ONCE_SECONDS, Wiring
from penstock.webhooks import Answer, Webhook
from tests.webhook_server import Received, account

EVENT = Event("an-id", "io.penstock.model.noted", "flights", b"{}")
WEBHOOK = Webhook.parse("https://hooks.example/T0KEN")


class Waits:
    """Stands for the event that tells to stop: sets the clock ahead by what is waited for."""

    def __init__(self, stop_after: int = 1_000) -> None:
        self.waited: list[float] = []
        self._stop_after = stop_after

    def is_set(self) -> bool:
        return len(self.waited) >= self._stop_after

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)

    def clock(self) -> float:
        return sum(self.waited)


def deliver(answers: list[Answer], waits: Waits, *, once: bool = False) -> tuple[Courier, bool]:
    courier = Courier(
        Wiring({}, "/penstock/test"),
        WEBHOOK,
        post=lambda *_: answers.pop(0),
        chance=lambda: 1.0,
        clock=waits.clock,
    )
    stop: Any = waits
    return courier, courier._deliver(EVENT, stop, once)


def test_what_may_pass_is_tried_again_with_longer_pauses() -> None:
    waits = Waits()
    courier, done = deliver([Answer(None), Answer(500), Answer(429, wait=30.0), Answer(200)], waits)
    assert done
    assert waits.waited == [0.5, 1.0, 30.0]
    assert (courier.delivered, courier.refused) == (1, 0)


def test_a_refusal_is_said_loudly_and_never_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    waits = Waits()
    courier, done = deliver([Answer(404, "status 404: no such hook")], waits)
    assert done
    assert (courier.delivered, courier.refused, waits.waited) == (0, 1, [])
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "REFUSED io.penstock.model.noted an-id about flights (status 404: no such hook)" in line.getMessage()
    assert "T0KEN" not in line.getMessage()


def test_who_is_told_to_stop_leaves_the_event_undone() -> None:
    courier, done = deliver([Answer(500)] * 3, Waits(stop_after=2))
    assert not done
    assert courier.delivered == 0


def test_once_gives_up_in_time_and_otherwise_nothing_is_given_up() -> None:
    waits = Waits()
    with pytest.raises(Undelivered, match="the next run goes on with it"):
        deliver([Answer(500, "status 500")] * 100, waits, once=True)
    assert 0 < waits.clock() <= ONCE_SECONDS
    patient = Waits(stop_after=50)
    deliver([Answer(500)] * 100, patient)
    assert patient.clock() > ONCE_SECONDS


def test_once_does_not_wait_for_what_asks_for_longer() -> None:
    waits = Waits()
    with pytest.raises(Undelivered):
        deliver([Answer(429, "status 429", 3600.0)], waits, once=True)
    assert waits.waited == []


def test_refusals_are_kept_in_the_metadata_of_the_commit() -> None:
    found = Refusals()
    assert found.metadata() == ""
    for number in range(8):
        found = found.add(f"id-{number}")
    assert found == Refusals(8, tuple(f"id-{n}" for n in range(8 - KEPT, 8)))
    assert Refusals.parse(found.metadata()) == found
    assert len(Refusals(10**9, ("x" * 100,) * KEPT).metadata()) < 4096


@pytest.mark.parametrize("metadata", [None, "", "penstock:7", "[]", "3", '{"refused": "many"}', '{"last": 7}'])
def test_metadata_of_others_is_no_refusal(metadata: str | None) -> None:
    assert Refusals.parse(metadata) == Refusals()


# the judge of the tests with Kafka


def received(*pairs: tuple[str, bytes]) -> list[Received]:
    return [Received({"idempotency-key": key}, body, 200) for key, body in pairs]


def test_the_account_of_what_a_webhook_got_finds_nothing_where_nothing_is_wrong() -> None:
    found = account(received(("a", b"1"), ("b", b"2"), ("a", b"1"), ("b", b"2"), ("c", b"3")), ["a", "b", "c"])
    assert found == {"lost": 0, "disordered": 0, "unknown": 0, "altered": 0, "repeated": 2}


@pytest.mark.parametrize(
    ("pairs", "wrong"),
    [
        ([("a", b"1"), ("c", b"3")], "lost"),
        ([("a", b"1"), ("c", b"3"), ("b", b"2")], "disordered"),
        ([("a", b"1"), ("b", b"2"), ("c", b"3"), ("d", b"4")], "unknown"),
        ([("a", b"1"), ("b", b"2"), ("c", b"3"), ("a", b"other")], "altered"),
    ],
)
def test_the_account_finds_what_is_wrong(pairs: list[tuple[str, bytes]], wrong: str) -> None:
    assert account(received(*pairs), ["a", "b", "c"])[wrong] == 1
