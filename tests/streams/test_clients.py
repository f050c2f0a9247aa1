"""What confluent-kafka keeps when it fails, and that the sessions of a worker leave nothing behind."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer

from streams.errors import ProducerFenced, Rewind, StartOver
from tests.streams.bench import Bench


@pytest.fixture(scope="module")
def producer() -> Producer:
    return Producer({"bootstrap.servers": "127.0.0.1:1", "transactional.id": "t", "log_level": 0})


def fail(producer: Producer) -> None:
    with pytest.raises(KafkaException):
        producer.abort_transaction(0.1)


def test_a_client_that_fails_while_an_exception_is_handled_keeps_it(producer: Producer) -> None:
    """When this fails, confluent-kafka was mended: the rule in streams/clients.py can go."""
    error = ValueError()
    before = sys.getrefcount(error)
    fail(producer)
    assert sys.getrefcount(error) == before
    try:
        raise error
    except ValueError:
        before = sys.getrefcount(error)
        fail(producer)
        assert sys.getrefcount(error) == before + 1


@pytest.mark.parametrize("kind", [Rewind, StartOver, ProducerFenced])
def test_sessions_that_failed_leave_nothing_behind(
    make: Callable[..., Bench], producer: Producer, kind: type[Exception]
) -> None:
    bench = make()
    left, ended = [3], weakref.WeakSet[Any]()

    def trouble() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise kind("made up")

    bench.fail = trouble
    connect = bench.worker._connect

    def connected(revoked: Callable[[], None]) -> Any:
        source, sink = connect(revoked)
        bench.sources.clear()
        ended.add(source)
        for client, name in ((source, "close"), (source, "rewind"), (sink, "close")):
            setattr(client, name, failing(getattr(client, name)))
        return source, sink

    def failing(method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            fail(producer)
            return method(*arguments, **named)

        return called

    bench.worker._connect = connected
    for i in range(20):
        bench.kafka.append("in", b"%d" % i, None, i % 2)
    bench.start()
    bench.wait(lambda: bench.decided() == 20)
    bench.stop()
    gc.collect()
    assert len(ended) <= 1
