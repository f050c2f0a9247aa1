"""Swaps under load: stretches with and without them by turns, then kills, then rollbacks, and all of it verified."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from benchmarks.changing import Changer
from benchmarks.errors import StandFailed
from benchmarks.rollbacks import Command, Log, Rolled, arrivals, firsts_of, rolled
from benchmarks.stand import PATIENCE, READS, SECOND, Stand, Turn
from penstock.bench.outputs import numbers
from penstock.bench.system import Process, wait_until
from penstock.bench.topics import consumer_of
from schemas.control import State
from streams import swaps
from streams.control import TOPICS
from streams.reading import TopicReader, place_of

DELAYS = (0.0, 0.02, 0.1, 0.4)  # seconds from a change to the kill after it: before, in and after the swap
WARM_SECONDS, TRIAL_SECONDS, KEEPS_MS = 3.0, 5.0, 250.0  # of a turn that finds a rate, and its p99 at most
TRIES, LESS = 6, 0.7  # how often, and each time a share of the rate before
APART = 2.0  # seconds between two rollbacks, and from a slot that is back to the next kill
LONG = ("ranges", "notes", "examples", "source", "output", "dead_letter_topic")  # of a verification, and not kept


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured. rate: events/s; every: seconds between swaps; swaps: of all turns together."""

    rate: float
    turns: int
    swaps: int
    every: float
    kills: int
    rollbacks: int

    @property
    def seconds(self) -> float:
        """Of a turn: its swaps, and a second that does not count."""
        return 1 + self.swaps / self.turns * self.every


@dataclass(slots=True)
class Found:
    """rate: events/s that were offered; steady, swapping: turns by turns; swaps: that were made; kills: slots that were
    killed; taken: seconds of each change; checked: what `penstock verify` counted of all events; rolled: rollbacks.
    """

    rate: float = 0.0
    steady: list[Turn] = field(default_factory=list)
    swapping: list[Turn] = field(default_factory=list)
    swaps: int = 0
    kills: int = 0
    taken: list[float] = field(default_factory=list)
    checked: dict[str, Any] = field(default_factory=dict)
    rolled: list[Rolled] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)


def measured(stand: Stand, asked: Asked) -> Found:
    """Measure swaps on a stand on which no worker runs. Raises StandFailed, and RuntimeError where nothing comes."""
    found = Found()
    with stand.worker(stand.name) as worker:
        wait_until(lambda: READS in worker.log.read_text(), PATIENCE, "the slot", worker)
        stand.turn(asked.rate / 4, WARM_SECONDS)  # code is loaded, and the broker warms up
        found.rate = carried(stand, asked.rate)
        for _ in range(asked.turns):
            found.steady.append(stand.turn(found.rate, asked.seconds))
            print(f"  without swaps  {found.steady[-1].latency}", flush=True)
            found.swapping.append(_swapping(stand, asked, found))
            print(f"  with swaps     {found.swapping[-1].latency}", flush=True)
        found.rolled += _rollbacks(stand, found.rate, asked.rollbacks, worker)
    if asked.kills:
        with stand.worker(stand.name, "--slots", "1", log="killed.log") as worker:
            wait_until(lambda: READS in worker.log.read_text(), PATIENCE, "the slot", worker)
            _kills(stand, asked.kills, found)
            stand.drained()
    text = stand.say("verify", "--deployment", stand.name, "--json", *stand.schemas, status=(0, 1))
    found.checked = {name: value for name, value in json.loads(text).items() if name not in LONG}
    return found


def carried(stand: Stand, rate: float) -> float:
    """Return a rate that the slot carries on this machine: the one that is asked for, or less where p99 says so.

    Raises StandFailed where hardly any is carried.
    """
    for _ in range(TRIES):
        found = stand.turn(rate, TRIAL_SECONDS).latency
        if found.p99 <= KEEPS_MS:
            return rate
        print(f"  {rate:,.0f} events/s are too many here: {found}", flush=True)
        rate *= LESS
    raise StandFailed(f"the slot does not carry {rate / LESS:,.0f} events/s: something else keeps this machine busy")


def _changer(stand: Stand) -> dict[str, Any]:
    """Return what a changer is told."""
    return {"kafka": dict(stand.rig.kafka), "file": str(stand.file(SECOND)), "repository": stand.repository}


def _swapping(stand: Stand, asked: Asked, found: Found) -> Turn:
    """Return a turn in which swaps are made by another process."""
    count = asked.swaps // asked.turns
    task = {**_changer(stand), "count": count, "every": asked.every, "after": 0.5}
    log = stand.rig.folder / f"changes-{len(found.swapping)}.log"
    with Process([sys.executable, "-m", "benchmarks.changing"], log, told=json.dumps(task).encode()) as process:
        turn = stand.turn(found.rate, asked.seconds)
        wait_until(lambda: not process.running, PATIENCE, "the changes")
    made = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("[")]
    if len(made) < count:
        raise StandFailed(f"only {len(made)} of {count} changes were made: {log.read_text()[-2000:]}")
    found.swaps += len(made)
    found.taken += [ended - began for _, began, ended in made]
    return turn


def _kills(stand: Stand, kills: int, found: Found) -> None:
    """Kill the slot's process at each of DELAYS after a change, while events come."""
    changer = Changer(**_changer(stand))
    with stand.load(found.rate, int(found.rate * kills * (APART + 1))) as load:
        for number in range(kills):
            if not (pid := stand.slot_pid()):
                raise StandFailed("no slot lives that could be killed")
            changer.change()
            found.swaps += 1
            time.sleep(DELAYS[number % len(DELAYS)])
            os.kill(pid, signal.SIGKILL)
            found.kills += 1
            wait_until(partial(_is_back, stand, pid), PATIENCE, "the slot to be back")
            time.sleep(APART / 2)
        wait_until(lambda: not load.running, PATIENCE + kills * 10, "the load")


def _is_back(stand: Stand, killed: int) -> bool:
    return stand.slot_pid() not in (0, killed)


# ---- rollbacks


def _rollbacks(stand: Stand, rate: float, count: int, worker: Process) -> list[Rolled]:
    """Type `penstock rollback` again and again while events come, and judge each from what is recorded."""
    first, begins = stand.sent, {}
    with stand.load(rate, int(rate * (count * (APART + 1) + 2))) as load:
        time.sleep(APART)
        for _ in range(count):
            began = time.time()
            revision = _type_rollback(stand)
            begins[revision] = began * 1000
            time.sleep(max(0.0, APART + 1 - (time.time() - began)))
        wait_until(lambda: not load.running, PATIENCE, "the load")
    stand.drained()
    appended, log = stand.appended(first), inferences(stand, first)
    recorded, came = _recorded(stand), arrivals(worker.log.read_text())
    swaps = _told(stand)
    found = []
    for revision, began in begins.items():
        command, firsts = Command(began, recorded[revision], came[revision]), firsts_of(swaps, stand.name, revision)
        if len(firsts) < stand.partitions:
            raise StandFailed(f"the load ended before revision {revision} was everywhere: the machine is too busy")
        found.append(rolled(command, firsts, log, appended, first))
        print(f"  rollback       {found[-1]}", flush=True)
    return found


def _type_rollback(stand: Stand) -> int:
    """Run `penstock rollback` and return the revision that it made."""
    return int(stand.say("rollback", stand.name).partition(": revision ")[2].split()[0])


def _told(stand: Stand) -> list[Any]:
    reader = TopicReader(stand.rig.kafka, "penstock.bench")
    try:
        return list(swaps.read(reader))
    finally:
        reader.close()


def _recorded(stand: Stand) -> dict[int, float]:
    """Return when each revision of the deployment was appended to the control topic, in ms since 1970."""
    return {
        State.decode(value).revision: float(appended)
        for key, value, appended, *_ in records(stand, TOPICS.control, 1, 0)
        if key == stand.name.encode() and value
    }


def inferences(stand: Stand, first: int) -> Log:
    """Return the inferences of events from number `first` on."""
    read = records(stand, stand.target, stand.partitions, first // stand.partitions)  # offsets there are never smaller
    keys, partitions, offsets, appended = zip(*((key, *place, at) for key, _, at, *place in read), strict=True)
    return Log(numbers(keys), np.array(partitions), np.array(offsets), np.array(appended, np.float64))


def records(stand: Stand, topic: str, count: int, begin: int) -> Iterator[tuple[bytes, bytes, int, int, int]]:
    """Yield key, value, append time, partition and offset of all committed records from an offset on."""
    consumer = consumer_of(stand.rig.kafka, eof=True)
    consumer.assign([TopicPartition(topic, partition, begin) for partition in range(count)])
    reading = set(range(count))
    while reading:
        for message in consumer.consume(10_000, 0.2):
            error, (partition, offset) = message.error(), place_of(message)
            if error is None:
                yield message.key() or b"", message.value() or b"", message.timestamp()[1], partition, offset
            elif error.code() == KafkaError._PARTITION_EOF:
                reading.discard(partition)
            else:
                raise KafkaException(error)
    consumer.close()
