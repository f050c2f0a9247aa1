"""What a slot says of itself, without Kafka: every word is said, and the last one at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError

from schemas.control import Status
from schemas.vitals import Vitals
from streams import reports as module
from streams.reports import Reports


class Producer:
    """Keeps what is published. meanwhile: run once, inside of the first publication. failure: what becomes of it."""

    def __init__(self, _: Any, **__: Any) -> None:
        self.said: list[Status] = []
        self.meanwhile: Callable[[], None] | None = None
        self.failure: KafkaError | None = None
        self.published = threading.Semaphore(0)

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: Callable[..., None]) -> None:
        self.said.append(Status.decode(value))
        on_delivery(self.failure, None)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        self.published.release()

    def poll(self, seconds: float) -> None: ...
    def flush(self, seconds: float) -> None: ...


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reports]:
    monkeypatch.setattr(module, "Producer", Producer)
    monkeypatch.setattr(module, "EVERY_SECONDS", 3600.0)  # only what is told wakes it
    made = Reports({}, "d", "penstock.d", "0")
    yield made
    made._ended = True
    made._changed.set()


def producer(reports: Reports) -> Producer:
    found: Any = reports._producer
    return found  # type: ignore[no-any-return]


def test_what_is_told_while_it_publishes_is_published_next(reports: Reports) -> None:
    producer(reports).meanwhile = lambda: reports.tell(revision=7)
    reports.start()
    for _ in range(2):
        assert producer(reports).published.acquire(timeout=10)
    assert [status.revision for status in producer(reports).said] == [None, 7]


def test_an_end_that_comes_while_it_waits_or_is_woken_ends_it(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Woken by one word, it must not miss the next one, which is the last."""
    clear, ended = reports._changed.clear, []

    def clear_late() -> None:
        if not ended:  # the end comes between waking and looking
            ended.append(True)
            reports._ended = True
            reports._changed.set()
        clear()

    monkeypatch.setattr(reports._changed, "clear", clear_late)
    reports.tell(revision=7)
    reports.start()
    reports.join(10)
    assert not reports.is_alive()


def test_the_last_word_of_a_slot_is_that_it_stopped(reports: Reports) -> None:
    reports.start()
    assert producer(reports).published.acquire(timeout=10)
    reports.close()
    assert not reports.is_alive()
    assert producer(reports).said[-1].state == "stopped"


def test_that_nobody_hears_it_is_said_once_until_somebody_does(
    reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    denied = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    for failure, said in ((None, 0), (denied, 1), (denied, 1), (None, 1), (denied, 2)):
        producer(reports).failure = failure
        reports._publish()
        assert caplog.text.count("penstock.status does not take what this slot says") == said


def test_what_is_the_same_as_before_wakes_nobody(reports: Reports) -> None:
    reports.tell(revision=7)
    assert reports._changed.is_set()
    reports._changed.clear()
    reports.tell(revision=7)
    assert not reports._changed.is_set()


def test_while_arms_share_the_events_it_speaks_each_second(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARED_SECONDS", 0.01)
    counts = {"events": 7}
    reports._vitals = lambda: Vitals(0, 1, 1, 1, 0, counts=counts)
    reports.start()
    assert producer(reports).published.acquire(timeout=10)
    assert not producer(reports).published.acquire(timeout=0.3)
    counts["events.canary"] = 1
    reports.tell(revision=7)
    for _ in range(5):
        assert producer(reports).published.acquire(timeout=10)
