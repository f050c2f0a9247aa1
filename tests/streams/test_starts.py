"""Where reading starts, by what is committed, what the log holds, and how far the records had got."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import TopicPartition

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


def start(log: Log, reached: dict[int, int | None], asked: list[int] | None = None) -> tuple[int, Account]:
    """Return where partition 0 is read from, and what was counted."""

    def tell(partitions: Any) -> dict[int, int | None]:
        if asked is not None:
            asked.extend(partitions)
        return reached

    account = Account()
    starts = Starts(log, "t", "earliest", account.hooks, tell)  # type: ignore[arg-type]
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
    assert account["rescored"] == account["skipped"] == 0


def test_where_the_records_cannot_be_read_nothing_is_counted_or_marked() -> None:
    log = Log(0, 100, 20)
    found, account = start(log, {})
    assert (found, sum(account.values()), log.metadata) == (20, 0, "")


def test_an_offset_past_the_end_is_refused() -> None:
    with pytest.raises(Refused, match="past the end"):
        start(Log(0, 100, 101), {0: 60})
