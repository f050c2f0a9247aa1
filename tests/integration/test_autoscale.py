"""Slots that come and go with the load, and quotas, on a real Kafka through the real command line: nothing is lost."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer

from streams.vitals import read, vitals_path
from tests.integration.obeying_stand import Stand
from tests.integration.test_supervise import NOTHING_WRONG, Supervised, until
from tests.rig import Rig, Worker, account, encoder

pytestmark = pytest.mark.timeout(300)
encode = encoder()
PARTITIONS = 4


def events(count: int) -> list[bytes | None]:
    return [encode({"id": i, "a": 0.5 * i, "b": None}) for i in range(count)]


def share(count: int) -> dict[int, int]:
    return {partition: len(range(partition, count, PARTITIONS)) for partition in range(PARTITIONS)}


class Feed:
    """Events at a rate that may change; `sent` tells how many so far."""

    def __init__(self, rate: float) -> None:
        self.rate, self.sent = rate, 0


@contextmanager
def feeding(stand: Rig, rate: float) -> Iterator[Feed]:
    feed, ended = Feed(rate), threading.Event()
    producer = Producer({"bootstrap.servers": stand.servers, "linger.ms": 5})

    def run() -> None:
        due, last = 0.0, time.monotonic()
        while not ended.is_set():
            now = time.monotonic()
            due, last = due + (now - last) * feed.rate, now
            while feed.sent < due:
                value = encode({"id": feed.sent, "a": 1.0, "b": 1.0})
                producer.produce(stand.events, value, b"k%d" % feed.sent, feed.sent % PARTITIONS)
                feed.sent += 1
            producer.poll(0.02)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield feed
    finally:
        ended.set()
        thread.join()
        assert producer.flush(30) == 0


@pytest.fixture
def autoscale() -> Iterator[Callable[..., Worker]]:
    """A factory of `penstock autoscale` of a rig."""
    made: list[Worker] = []

    def make(stand: Rig, *more: str) -> Worker:
        where = ["--bootstrap-servers", stand.servers, "--repository", str(stand.folder / "models")]
        log = stand.folder / f"autoscale-{len(made)}.log"
        command = ("penstock.cli", "autoscale")
        made.append(Worker([str(stand.file), *where, *more], stand.folder, log, command=command))
        return made[-1]

    yield make
    for each in made:
        each.stop(60)


@pytest.fixture
def supervise() -> Iterator[Callable[..., Supervised]]:
    """A factory of supervisors of slots that may leak."""
    made: list[Supervised] = []

    def make(stand: Rig, *more: str, **settings: str) -> Supervised:
        made.append(Supervised(stand, *more, settings=settings))
        return made[-1]

    yield make
    for each in made:
        each.stop(60)


def test_slots_come_with_a_load_that_rises_and_go_with_one_that_falls_and_nothing_is_lost(
    rig: Callable[..., Rig], autoscale: Callable[..., Worker]
) -> None:
    stand = rig(quotas={"events_per_second": 200})  # what a slot can score, whatever this machine can
    run = autoscale(stand, "--max", "8", "--down-after", "8", "--target-lag-seconds", "20")
    run.wait_for(r"slot=0: reads partitions \[0, 1, 2, 3\]", 90)
    with feeding(stand, 500) as feed:
        run.wait_for(r"slots: 1 -> 2: [\d,]+ events wait.* slots are needed", 60)
        run.wait_for(r"slots: \d -> 4: ", 120)
        until(lambda: len(reading(run)) == PARTITIONS, 60, run.text)
        feed.rate = 20
        run.wait_for(r"slots: 4 -> \d: ", 120)
        run.wait_for(r"slots: \d -> 1: ", 120)
        run.wait_for(r"(?s)(is not started again: fewer are wanted.*){3}", 60)
        sent = feed.sent
    stand.wait_committed(feed.sent, 120)
    assert run.stop(60) == 0
    assert sent > 5_000
    assert account(stand.places(feed.sent), share(feed.sent)) == NOTHING_WRONG
    assert "-> 5" not in run.text()  # four partitions
    assert "slot 0 stopped and is not" not in run.text()  # the last ones go
    assert not list((stand.folder / ".penstock" / "slots").glob("*.vitals"))


def reading(run: Worker) -> set[str]:
    """The slots that have partitions, by what each said last."""
    said = re.findall(r"slot=(\d): reads partitions \[(.*?)\]", run.text())
    return {slot for slot, partitions in dict(said).items() if partitions}


def test_a_load_that_one_slot_carries_brings_no_other_and_a_dry_run_says_the_same(
    rig: Callable[..., Rig], autoscale: Callable[..., Worker]
) -> None:
    """The negative control of the rise: the same load, and slots that can carry it."""
    stand = rig(quotas={"events_per_second": 2_000})
    run = autoscale(stand, "--max", "8", "--down-after", "8", "--no-standby")
    run.wait_for(r"slot=0: reads partitions \[0, 1, 2, 3\]", 90)
    dry = autoscale(stand, "--max", "8", "--dry-run", "--json")
    with feeding(stand, 500) as feed:
        stand.wait_committed(8_000, 120)
    stand.wait_committed(feed.sent)
    assert dry.stop() == 0
    assert run.stop(60) == 0
    assert " -> " not in run.text()
    told = [json.loads(line) for line in dry.text().splitlines()]
    told = [each for each in told if each["signals"] is not None]
    assert {each["wanted"] for each in told} == {1}
    assert max(each["signals"]["arriving"] or 0 for each in told) > 200
    assert max(each["signals"]["capacity"] or 0 for each in told) <= 2_000
    assert account(stand.places(feed.sent), share(feed.sent)) == NOTHING_WRONG


def test_a_quota_of_events_holds_and_what_waits_is_scored_later(rig: Callable[..., Rig]) -> None:
    stand = rig(quotas={"events_per_second": 200})
    stand.produce(events(4_000))
    worker = stand.worker("--metrics-port", "0")
    stand.wait_committed(200)
    began, before = time.monotonic(), stand.committed()
    time.sleep(8)
    after, lasted = stand.committed(), time.monotonic() - began
    assert 200 <= after - before <= 200 * (lasted + 2)
    assert worker.metric("penstock_held", cause="quota") == 1
    assert worker.metric("penstock_capacity_events_per_second") <= 200
    assert worker.get("/ready")[0] == 200
    stand.wait_committed(4_000, 60)
    assert worker.stop() == 0
    assert account(stand.places(4_000), share(4_000)) == NOTHING_WRONG


def test_without_the_quota_the_same_is_scored_many_times_as_fast(rig: Callable[..., Rig]) -> None:
    """The negative control: with it, these would take 100 s."""
    stand = rig()
    stand.produce(events(20_000))
    worker = stand.worker("--metrics-port", "0")
    stand.wait_committed(20_000, 50)
    assert worker.metric("penstock_held", cause="quota") == 0
    assert worker.metric("penstock_row_seconds", scored_by="active") > 0
    assert worker.metric("penstock_slowdown") > 0
    path = vitals_path(stand.folder / ".penstock" / "slots", f"penstock.{stand.name}.0")

    def told() -> bool:
        found = read(path)
        return found is not None and (found.process, found.partitions) == (worker.process.pid, 4)

    until(told, 20, worker.text)


def test_a_slot_that_leaks_is_started_again_when_it_is_over_its_quota_and_nothing_is_lost(
    rig: Callable[..., Rig], supervise: Callable[..., Supervised]
) -> None:
    stand = rig(quotas={"memory": "700MiB"})
    run = supervise(stand, "--slots", "1", "--metrics-port", "0", DEADLY_LEAK="1")
    with feeding(stand, 300) as feed:
        run.wait_for("slot 0 had more memory than its quota, time 1; starting again", 120)
        until(lambda: memory_restarts(run) == 1, 60, run.text)
        run.wait_for("slot 0 had more memory than its quota, time 2; starting again", 120)
        enough = feed.sent + 500
        until(lambda: feed.sent > enough, 60, run.text)
    stand.wait_committed(feed.sent, 60)
    assert run.stop(60) == 0
    assert "MiB of memory, and quotas.memory is 700 MiB" in run.text()
    assert "given up" not in run.text()
    assert account(stand.places(feed.sent), share(feed.sent)) == NOTHING_WRONG


def memory_restarts(run: Supervised) -> float:
    found = re.findall(r"metrics at (\S+)", run.text())
    try:
        with urllib.request.urlopen(found[-1], timeout=5) as answer:
            page = answer.read().decode()
    except (IndexError, OSError):  # of a process that is gone, or not there yet
        return 0.0
    return sum(float(value) for value in re.findall(r"penstock_memory_restarts_total\{.*\} (\S+)", page))


def test_without_a_quota_nobody_minds_the_leak(rig: Callable[..., Rig], supervise: Callable[..., Supervised]) -> None:
    """The negative control."""
    stand = rig()
    run = supervise(stand, "--slots", "1", "--no-standby", DEADLY_LEAK="10")
    run.wait_for("slot=0: reads partitions", 60)
    path = vitals_path(stand.folder / ".penstock" / "slots", f"penstock.{stand.name}.0")

    def grown() -> bool:
        stand.produce(events(8))
        found = read(path)
        return found is not None and (found.memory or 0) > 800 << 20

    until(grown, 90, run.text)
    assert run.text().count("slot 0 runs as process") == 1


def test_a_quota_that_no_slot_fits_in_is_refused_and_not_tried_again_and_again(rig: Callable[..., Rig]) -> None:
    stand = rig(quotas={"memory": "60MiB"})
    worker = stand.worker()
    assert worker.process.wait(60) == 2
    assert "quotas.memory of deployment" in worker.text()
    assert "is 60 MiB, but a slot has" in worker.text()


def test_a_quota_is_applied_like_every_change_and_status_tells_the_signals(rig: Callable[..., Rig]) -> None:
    stand = Stand(rig())
    stand.declare(quotas={"events_per_second": 50})
    stand.said("apply", str(stand.rig.file))
    stand.rig.produce(events(3_000))
    before = json.loads(stand.run("status", stand.name, "--json").stdout)["signals"]
    assert before == [{"deployment": stand.name, "arm": "active", "paused": False, "slots": 0, "lag": 3_000}]
    assert "no slot reads; 3,000 events wait" in stand.run("status", stand.name).stdout
    worker = stand.worker()
    worker.wait_for("reads partitions")

    def held() -> bool:
        (found,) = stand.status()["signals"]
        return found.get("held") == ["quota"] and found["capacity"] is not None

    until(held, 60, worker.text)
    (signals,) = stand.status()["signals"]
    assert signals["capacity"] <= 50
    assert 0 < signals["lag"] < 3_000
    page = stand.said("status", stand.name)
    assert re.search(r"load active .* a slot can score 50/s", page), page
    assert re.search(r"reads 4 of 4 partitions, a row took [\d.]+ us at the warm-up, uses", page), page
    stand.declare(quotas={})
    stand.said("apply", str(stand.rig.file))
    stand.wait_status(2)
    stand.rig.wait_committed(3_000, 30)  # with the quota it would take a minute
    assert worker.stop() == 0
    assert account(stand.rig.places(3_000), share(3_000)) == NOTHING_WRONG
