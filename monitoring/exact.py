"""Faust's Kafka driver made exact: three subclasses over private hooks, each checked at the start.

Faust reads uncommitted records and starts where its group's offsets point, which its own failures can move past records
never processed; and a member that had no partitions reads the first ones it gets before it seeks. Here it reads
committed records only, starts where our snapshots end, waits for that, and every record carries the position that it
follows, so that a record lost inside Faust is a visible hole. Faust's own offsets serve the display of lag.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, NoReturn, Protocol

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver

from monitoring.folds import Record

log = logging.getLogger(__name__)
RECORDS = "penstock.records"  # header added at fetch: records, each with the reader's position before it
FAILED = 70  # exit codes: something failed, start over
HOLE = 71  # records were skipped, start over
CONFIG = 78  # starting over does not help
SESSION = 10.0  # seconds without a sign of life after which the group gives a member up
SHARE = 200  # records of a partition that are handed to Faust before the other partitions have their turn
AHEAD = 400  # offsets that a partition may be ahead of its fold: a slow one must not fill what all go through
PAUSE = 0.02  # s until it is looked again whether few enough wait
TWINS = 4  # times within a session that a member is given up where two processes have its name


def die(why: str, code: int = FAILED) -> NoReturn:
    """End the process at once. There is no orderly shutdown: starting over from the snapshot is the one way back."""
    log.log(logging.CRITICAL if code else logging.INFO, "%s; exit %d", why, code)
    logging.shutdown()
    os._exit(code)


class Restorer(Protocol):
    """What the app offers to the driver."""

    topics: Collection[str]

    def restore(self, places: set[tuple[str, int]]) -> Awaitable[dict[tuple[str, int], int]]:
        """Restore the states of partitions (topic, number) and return the offsets to read from."""

    def position(self, place: tuple[str, int]) -> int:
        """Return the next offset that a partition's state takes; asked for from the thread that reads."""


class Twins:
    """Notices that another process has our slot: each time it joins the group we are a member no more, and again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._times = clock, deque[float](maxlen=TWINS)

    def lost(self) -> bool:
        """Note that the group knows us no more; return whether that came so often that a lost session cannot be why."""
        self._times.append(self._clock())
        return len(self._times) == TWINS and self._times[-1] - self._times[0] < SESSION


class Thread(driver.AIOKafkaConsumerThread):
    """Reads committed records only, stamps each with the position it follows, and hands over many as one."""

    logger = logging.getLogger("faust.transport")

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        if getattr(consumer, "_isolation_level", None) not in ("read_uncommitted", "read_committed"):
            die("this aiokafka keeps its isolation level elsewhere; use the locked version or --oracle", CONFIG)
        consumer._isolation_level = "read_committed"  # start() builds the fetcher with it
        self._positions: dict[tuple[str, int], int] = {}
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        fetcher: Any = getattr(self._consumer, "_fetcher", None)
        if fetcher._isolation_level != READ_COMMITTED:
            die("aiokafka's fetcher does not read committed records only; use the locked version or --oracle", CONFIG)

        self._watch_for_twins(getattr(self._consumer, "_coordinator", None))

    def _watch_for_twins(self, coordinator: Any) -> None:
        """End the process where two have its slot, or where the group refuses it.

        aiokafka would join by turns with the other one for ever, or wait until somebody reads who does not read
        without partitions.
        """
        twins, reset = Twins(), coordinator.reset_generation

        def lost() -> None:
            if twins.lost():
                die("another process has this slot, and both lose their partitions again and again; stop one of them")
            reset()

        async def refused(error: BaseException) -> None:
            die(f"the group refuses this process: {error}; if another one has its slot, stop one of them")

        coordinator.reset_generation, coordinator._push_error_to_user = lost, refused

    async def on_partitions_assigned(self, assigned: set[Any], generation_id: int = 0) -> None:
        """Forget the positions: those of partitions that another process had in between would hide what it read."""
        self._positions.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[Any],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Any:
        read, ready = super()._fetch_records, self._ready(active_partitions)
        fetched: dict[Any, list[Any]] = {}
        for place in ready:  # together, the backlog of one would come before the next records of the others
            fetched.update(await read(consumer, {place}, timeout=0, max_records=SHARE))
        if not ready:  # and an empty set would mean all of them
            await asyncio.sleep(PAUSE)
        elif not fetched:
            fetched.update(await read(consumer, ready, timeout=timeout, max_records=SHARE))
        return {each: [self._together(each, records)] for each, records in fetched.items()}

    def _together(self, partition: Any, records: list[Any]) -> Any:
        """Return the last of these records with all of them as a header: what Faust does is done once for many."""
        place = (partition.topic, partition.partition)
        position, many = self._positions.get(place), list[tuple[Record, int | None]]()
        for each in records:
            time = -1 if each.timestamp is None else each.timestamp
            many.append((Record(each.partition, each.offset, each.key, each.value, time), position))
            position = each.offset + 1
        if position is not None:
            self._positions[place] = position
        last = records[-1]
        last.headers, last.key, last.value = ((RECORDS, many),), None, None
        return last

    def _ready(self, partitions: set[Any]) -> set[Any]:
        """Return those of which few records wait to be folded."""
        app: Any = self.app
        restorer: Restorer = app.restorer
        ready = set()
        for each in partitions:
            position = self._positions.get((each.topic, each.partition))
            if position is None or position - restorer.position((each.topic, each.partition)) < AHEAD:
                ready.add(each)
        return ready

    async def _seek_exactly(self, offsets: Mapping[Any, int]) -> None:
        consumer = self._ensure_consumer()
        for partition, offset in offsets.items():
            consumer.seek(TopicPartition(partition.topic, partition.partition), offset)
            self._positions[(partition.topic, partition.partition)] = offset

    async def seek_exactly(self, offsets: Mapping[Any, int]) -> None:
        """Move to these offsets, in the consumer's own thread."""
        await self.call_thread(self._seek_exactly, offsets)


class Consumer(driver.Consumer):
    """Starts from our snapshots: Faust awaits `seek_to_committed` after an assignment; here nothing is read before."""

    logger = logging.getLogger("faust.transport")
    _sought = True  # the partitions assigned now are read from the right offsets, or there are none

    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    async def on_partitions_assigned(self, assigned: set[Any], generation_id: int = 0) -> None:
        """Stop reading first: Faust stops only who had partitions before."""
        self._sought = not assigned
        self.stop_flow()
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Seek, and note whether it was for the assignment of now; one that came meanwhile is sought again."""
        app: Any = self.app
        generation = app.consumer_generation_id
        await super().perform_seek()
        if app.consumer_generation_id == generation:
            self._sought = True

    def resume_flow(self) -> None:
        """Read, unless an assignment came during the recovery that calls this: its own recovery calls it again."""
        if self._sought:
            super().resume_flow()

    async def seek_to_committed(self) -> Mapping[Any, int]:
        app: Any = self.app
        restorer: Restorer = app.restorer
        mine = {partition for partition in self.assignment() if partition.topic in restorer.topics}
        others = self.assignment() - mine
        offsets = dict(await super().seek_to_committed()) if others else {}
        found = await restorer.restore({(partition.topic, partition.partition) for partition in mine})
        start = {partition: found[partition.topic, partition.partition] for partition in mine}
        thread: Any = self._thread
        try:
            await thread.seek_exactly(start)
        except IllegalStateError as error:
            log.warning("the assignment changed during the restore, the next one repeats it: %s", error)
        return {**offsets, **start}


class Transport(driver.Transport):
    """The driver with the consumer above."""

    Consumer = Consumer


def check_hooks() -> None:
    """End the process with code 78 unless the private names that this module overrides exist."""
    for owner, name in (
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
        (driver.AIOKafkaConsumerThread, "_fetch_records"),
        (driver.AIOKafkaConsumerThread, "on_partitions_assigned"),
        (driver.Consumer, "_new_consumer_thread"),
        (driver.Consumer, "on_partitions_assigned"),
        (driver.Consumer, "perform_seek"),
        (driver.Consumer, "resume_flow"),
        (driver.Consumer, "stop_flow"),
        (driver.Consumer, "seek_to_committed"),
        (GroupCoordinator, "reset_generation"),
        (GroupCoordinator, "_push_error_to_user"),
    ):
        if not hasattr(owner, name):
            die(f"this faust-streaming has no {owner.__name__}.{name}; use the locked version or --oracle", CONFIG)
