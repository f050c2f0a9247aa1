"""Checks of what needs Faust, each run as a process of its own: `python -m tests.monitoring.faust_checks NAME`.

Faust warns about its own past at import, and what is checked ends the process.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from prometheus_client import CollectorRegistry

from monitoring import app, exact, turns
from monitoring.errors import MonitorError, SnapshotForeign
from monitoring.folds import Record
from monitoring.ledger import Snapshot
from monitoring.metrics import MonitorMetrics
from monitoring.setup import Topics, Wiring
from monitoring.sources import PROFILES, Ledgers, Source
from tests.monitoring.test_ledger import Sum

WIRING = Wiring("flights", "profiles", "events", {"bootstrap.servers": "127.0.0.1:1"}, snapshot_seconds=0.0)
SOURCES = [Source(PROFILES, "profiles", Sum(), 1)]


class Stream:
    """A stream of the records given."""

    def __init__(self, *events: tuple[int, bytes, int | None]) -> None:
        self._events = events

    async def events(self) -> AsyncIterator[Any]:
        records = [(Record(0, offset, None, value, 1500), follows) for offset, value, follows in self._events]
        for many in (records[:1], records[1:]):
            message = SimpleNamespace(topic="profiles", headers=[(exact.RECORDS, many)])
            yield SimpleNamespace(message=message)


def monitor(send: Any = None) -> app.Monitor:
    made = SimpleNamespace(producer=SimpleNamespace(send=send))
    topics, metrics = Topics(1, 1, 1), MonitorMetrics(CollectorRegistry(), "flights")
    watched = app.Monitor(made, WIRING, topics, SOURCES, metrics)
    watched._ledgers.own([("profiles", 0)])
    watched._ledgers["profiles"].restore(0, None, 0)
    return watched


def records_in_order_are_folded() -> None:
    watched = monitor()
    asyncio.run(watched.read(Stream((0, b"1", 0), (5, b"2", 1))))
    assert watched._ledgers["profiles"].positions() == {0: 6}


def others_work_between_the_turns_of_a_backlog() -> None:
    watched, folded = monitor(), list[int]()
    turns.SECONDS = 0.0

    async def other() -> None:
        for _ in range(5):
            folded.append(watched._ledgers["profiles"].positions()[0])
            await asyncio.sleep(0)

    async def run() -> None:
        await asyncio.gather(watched.read(Stream(*((at, b"1", at) for at in range(10)))), other())

    asyncio.run(run())
    assert folded == [1, 2, 3, 4, 5]


def a_snapshot_of_another_release_exits_78() -> None:
    class Foreign(Sum):
        def load(self, data: bytes) -> list[int]:
            raise SnapshotForeign("it has the format 3, and this release reads 4")

    watched = monitor()
    watched._ledgers = Ledgers([replace(SOURCES[0], fold=Foreign(), anew="never")])
    watched._newest = lambda places: {("profiles", 0): (Snapshot(5, b""), 0)}  # type: ignore[method-assign]
    asyncio.run(watched.restore({("profiles", 0)}))


def a_hole_exits_71() -> None:
    asyncio.run(monitor().read(Stream((0, b"1", 0), (5, b"2", 4))))


def a_record_without_its_stamp_exits_71() -> None:
    asyncio.run(monitor().read(Stream((0, b"1", None))))


def a_fold_that_raises_exits_70() -> None:
    asyncio.run(monitor().read(Stream((0, b"not a number", 0))))


def a_failing_producer_exits_70() -> None:
    async def send(*_: object) -> None:
        raise ConnectionError("the broker has gone")

    watched = monitor(send)

    async def run() -> None:
        await watched.read(Stream((0, b"1", 0)))
        await watched.publish_often()

    asyncio.run(run())


def an_unreachable_snapshot_topic_exits_70() -> None:
    asyncio.run(monitor().restore({("profiles", 0)}))


def brokers_that_went_away_exit_70() -> None:
    app.run(app.build(replace(WIRING, data=tempfile.mkdtemp()), Topics(1, 1, 1), SOURCES, monitor()._metrics))


def nothing_is_read_between_an_assignment_and_its_seek() -> None:
    read: list[bool] = []

    async def assigned(self: exact.Consumer, *_: object) -> None:
        read.append(self.flow_active)
        self.resume_flow()  # as the recovery of an assignment before does when it ends now
        read.append(self.flow_active)

    async def sought(self: exact.Consumer) -> dict[Any, int]:
        self.app.consumer_generation_id += changes.pop()
        return {}

    exact.driver.Consumer.on_partitions_assigned = assigned
    exact.Consumer.seek_to_committed = sought  # type: ignore[method-assign]
    changes = [0, 1]  # generations that begin during a seek, the last one first

    async def run() -> None:
        made = app.build(replace(WIRING, data=tempfile.mkdtemp()), Topics(1, 1, 1), SOURCES, monitor()._metrics)
        consumer = made.consumer
        consumer.resume_flow()
        read.append(consumer.flow_active)
        await consumer.on_partitions_assigned({("profiles", 0)}, 1)
        for _ in range(2):
            await consumer.perform_seek()
            consumer.resume_flow()
            read.append(consumer.flow_active)
        consumer._thread._positions = {("profiles", 0): 7}
        consumer._thread.consumer = SimpleNamespace(threadsafe_partitions_assigned=assigned_in_thread)
        await consumer._thread.on_partitions_assigned(set(), 2)
        assert consumer._thread._positions == {}

    async def assigned_in_thread(*_: object) -> None:
        pass

    asyncio.run(run())
    assert read == [True, False, False, False, True]


def a_backlog_waits_for_its_fold_and_keeps_no_other_partition_waiting() -> None:
    slow, fast = (TopicPartition(topic, 0) for topic in ("samples", "profiles"))
    backlog = {slow: 10_000, fast: 3}
    folded = {("samples", 0): 0, ("profiles", 0): 0}

    async def fetch(self: Any, _: Any, places: set[Any], timeout: Any = None, max_records: int = 500) -> Any:
        found = {}
        for place in sorted(places, reverse=True):  # the backlog first
            many = min(max_records, backlog[place])
            begin, backlog[place] = at[place], backlog[place] - many
            at[place] += many
            if many:
                found[place] = [
                    SimpleNamespace(partition=0, offset=begin + n, key=b"k", value=b"v", timestamp=7, headers=())
                    for n in range(many)
                ]
                break  # as one answer that is full
        return found

    at = {slow: 0, fast: 0}
    exact.driver.AIOKafkaConsumerThread._fetch_records = fetch
    made = app.build(replace(WIRING, data=tempfile.mkdtemp()), Topics(1, 1, 1), SOURCES, monitor()._metrics)
    made.restorer = SimpleNamespace(position=folded.__getitem__)
    thread = made.consumer._thread
    thread._positions = dict.fromkeys(folded, 0)
    first, second, third = (asyncio.run(thread._fetch_records(None, {slow, fast})) for _ in range(3))
    assert {place: len(records) for place, records in first.items()} == {slow: 1, fast: 1}  # each as one
    assert [len(each[slow][0].headers[0][1]) for each in (first, second)] == [exact.SHARE, exact.SHARE]
    assert [(record.offset, follows) for record, follows in first[fast][0].headers[0][1]] == [(0, 0), (1, 1), (2, 2)]
    assert third == {}  # AHEAD of its fold
    folded["samples", 0] = exact.AHEAD
    assert asyncio.run(thread._fetch_records(None, {slow, fast})).keys() == {slow}


def a_missing_hook_exits_78() -> None:
    del exact.driver.AIOKafkaConsumerThread._fetch_records
    exact.check_hooks()


def the_hooks_are_all_there() -> None:
    exact.check_hooks()


def security_settings_are_those_of_the_other_clients() -> None:
    assert app._credentials({"bootstrap.servers": "x"}) is None
    login = {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "me", "sasl.password": "secret"}
    plain = app._credentials({"security.protocol": "SASL_PLAINTEXT", **login})
    assert (plain.username, plain.password, plain.mechanism.value) == ("me", "secret", "SCRAM-SHA-512")
    assert plain.ssl_context is None
    assert app._credentials({"security.protocol": "sasl_ssl", **login}).ssl_context is not None
    assert app._credentials({"security.protocol": "SSL"}).context is not None
    with pytest.raises(MonitorError, match="--oracle"):
        app._credentials({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"})


if __name__ == "__main__":
    globals()[sys.argv[1]]()
