"""Where reading starts, by what is committed, what the log holds, and how far the records had got."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaException, TopicPartition

from streams import starts as module
from streams.errors import Refused
from streams.marks import is_marked, marked
from streams.starts import Hooks, Starts

NONE = -1001


class Log:
    """A consumer of one partition that holds [low, high), with a committed offset and its metadata."""

    def __init__(self, low: int, high: int, offset: int, metadata: str = "") -> None:
        self.low, self.high = low, high
        self.offset, self.metadata = offset, metadata

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition("t", tp.partition, self.offset, self.metadata) for tp in partitions]

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
        return self.low, self.high

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        (place,) = offsets
        self.offset, self.metadata = place.offset, place.metadata
        return offsets


class Account(dict[str, int]):
    """What the hooks were told."""

    def __init__(self) -> None:
        super().__init__(lost=0, rescored=0, skipped=0)
        self.hooks = Hooks(
            lost=lambda _, count: self.update(lost=count),
            rescored=lambda _, count: self.update(rescored=count),
            skipped=lambda _, count: self.update(skipped=count),
        )


def start(
    log: Log, reached: dict[int, int | None], asked: list[int] | None = None, end: int = 100
) -> tuple[int, Account]:
    """Return where partition 0 is read from, and what was counted. end: that of the log, open transactions included."""

    def tell(partitions: Any) -> dict[int, int | None]:
        if asked is not None:
            asked.extend(partitions)
        return reached

    account = Account()
    starts = Starts(log, "t", "earliest", account.hooks, tell, lambda _: end)  # type: ignore[arg-type]
    return starts.find([TopicPartition("t", 0)])[0], account


def test_a_mark_is_of_one_offset_only() -> None:
    (place,) = marked("t", {0: 7})
    assert is_marked(place)
    assert not is_marked(TopicPartition("t", 0, 8, place.metadata))  # a tool that copied the metadata
    assert not is_marked(TopicPartition("t", 0, 7))
    assert not is_marked(TopicPartition("t", 0, 7, ""))


def test_an_offset_that_a_worker_committed_is_taken_as_it_is() -> None:
    asked: list[int] = []
    found, account = start(Log(0, 100, 60, "penstock:60"), {0: 90}, asked)
    assert (found, sum(account.values()), asked) == (60, 0, [])


@pytest.mark.parametrize(
    ("log", "reached", "found", "counted"),
    [
        (Log(0, 100, 20), 60, 20, {"rescored": 40}),  # set back
        (Log(30, 100, 20), 60, 30, {"rescored": 30}),  # to before what retention left
        (Log(0, 100, 80), 60, 80, {"skipped": 20}),  # set forward
        (Log(70, 100, 65), 60, 70, {"skipped": 5, "lost": 5}),  # and retention took more
        (Log(70, 100, 10), 60, 70, {"lost": 10}),  # set back over what retention took before it was scored
        (Log(0, 100, 60), 60, 60, {}),  # committed by a release without marks
        (Log(0, 100, NONE), 60, 0, {"rescored": 60}),  # deleted
        (Log(70, 100, NONE), 60, 70, {"lost": 10}),
        (Log(0, 100, NONE), None, 0, {}),  # the first start
        (Log(0, 100, 40), None, 40, {}),  # an operator chose where a new deployment begins
        (Log(50, 100, 20, "penstock:20"), 60, 50, {"lost": 30}),
        (Log(50, 50, 20, "penstock:20"), None, 50, {"lost": 30}),  # all of it: no batch will follow to commit
    ],
)
def test_offsets_of_others_are_compared_with_the_records(
    log: Log, reached: int | None, found: int, counted: dict[str, int]
) -> None:
    first, account = start(log, {0: reached})
    assert first == found
    assert {name: count for name, count in account.items() if count} == counted
    second, account = start(log, {0: reached})  # before anything was scored
    assert second == found
    assert sum(account.values()) == 0


def test_where_the_records_cannot_be_read_nothing_is_counted_or_marked() -> None:
    log = Log(0, 100, 20)
    found, account = start(log, {})
    assert (found, sum(account.values()), log.metadata) == (20, 0, "")
    log = Log(0, 100, NONE)
    assert (start(log, {})[0], log.offset) == (0, NONE)


def test_what_retention_takes_from_a_first_start_on_is_counted() -> None:
    log = Log(30, 100, NONE)
    assert (start(log, {0: None})[0], log.metadata) == (30, "penstock:30")
    log.low = 40  # before anything was scored
    assert start(log, {0: None})[1]["lost"] == 10
    log = Log(0, 0, NONE)
    start(log, {})
    log.low, log.high = 40, 50
    assert start(log, {})[1]["lost"] == 40


def test_an_offset_past_the_end_is_refused() -> None:
    with pytest.raises(Refused, match=r"101 is past the end of the log \(100\)"):
        start(Log(0, 100, 101), {0: 60})


def test_an_offset_behind_a_transaction_that_is_open_is_not_past_the_end() -> None:
    found, account = start(Log(0, 100, 120), {0: 60}, end=120)  # 100: where the transaction began
    assert (found, account["skipped"]) == (120, 60)


class Cluster:
    """A topic of two partitions and what one group has committed; it is every slot's consumer."""

    def __init__(self) -> None:
        self.ends = {0: 10, 1: 20}
        self.offsets: dict[int, int] = {}
        self.commits = 0
        self.asked: Callable[[], None] = lambda: None

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        found = [TopicPartition("t", tp.partition, self.offsets.get(tp.partition, NONE)) for tp in partitions]
        if len(partitions) == 2:  # what is told is old as soon as it was told
            asked, self.asked = self.asked, lambda: None
            asked()
        return found

    def list_topics(self, topic: str, timeout: float) -> Any:
        return SimpleNamespace(topics={topic: SimpleNamespace(error=None, partitions=self.ends)})

    def get_watermark_offsets(self, tp: TopicPartition, **_: Any) -> tuple[int, int]:
        return 0, self.ends[tp.partition]

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        self.commits += 1
        self.offsets.update({tp.partition: tp.offset for tp in offsets})
        return offsets

    def slot(self, *partitions: int) -> dict[int, int]:
        """Return where a slot that is given these partitions starts."""
        starts = Starts(self, "t", "latest", Hooks(), lambda _: {}, self.ends.__getitem__)  # type: ignore[arg-type]
        return starts.find([TopicPartition("t", partition) for partition in partitions])


def test_one_slot_says_where_a_new_group_begins_and_the_others_wait_for_it() -> None:
    cluster = Cluster()

    def first() -> None:  # comes between the second slot's look and what it does about it
        assert cluster.slot(0) == {0: 10}
        cluster.ends = {0: 15, 1: 25}
        cluster.offsets[0] = 15  # it has scored five more

    cluster.asked = first
    assert cluster.slot(1) == {1: 20}
    assert cluster.offsets == {0: 15, 1: 20}
    assert cluster.commits == 1


def test_a_slot_whose_partition_nobody_had_when_the_group_began_skips_nothing_that_came_since() -> None:
    cluster = Cluster()
    assert cluster.slot(0) == {0: 10}
    cluster.ends = {0: 15, 1: 25}
    assert cluster.slot(1) == {1: 20}


def test_a_slot_that_waits_in_vain_for_the_beginning_starts_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.0)
    cluster = Cluster()
    with pytest.raises(KafkaException, match="no other slot"):
        cluster.slot(1)
    assert cluster.offsets == {}


def test_a_partition_added_later_is_read_from_its_beginning_by_whoever_is_given_it() -> None:
    cluster = Cluster()
    cluster.offsets = {0: 10}
    assert cluster.slot(1) == {1: 0}
