"""Ends of ranges as people say them, and what of a range retention has left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from streams.errors import Refused
from streams.reading import Ends, Point
from streams.stretch import stretch_of

NOON = 1_779_278_400.0  # 2026-05-20T12:00:00Z
DAY = 86_400
FIRST_MS = 1_000  # the time of offset 0; each later event has its offset in ms more


class Log:
    """A topic in memory: one event an offset, a millisecond apart."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends

    def ends(self, topic: str) -> Ends:
        return dict(self._ends)

    def at(self, topic: str, ms: int, ends: Ends) -> Mapping[int, int]:
        return {p: min(max(low, ms - FIRST_MS), high) for p, (low, high) in ends.items()}


def stretch(ends: Ends, begin: str, end: str) -> Any:
    return stretch_of(cast(Any, Log(ends)), "in", said(begin), said(end))


def said(text: str) -> Point:
    return Point(ms=int(text[2:])) if text.startswith("ms") else Point.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", NOON),
        ("today", NOON - DAY / 2),
        ("yesterday", NOON - 1.5 * DAY),
        ("7d ago", NOON - 7 * DAY),
        ("90m ago", NOON - 5_400),
        ("2026-05-19", NOON - 1.5 * DAY),
        ("2026-05-20T14:00:00+02:00", NOON),
        ("2026-05-20T12:00:00", NOON),
        ("999999999d ago", 0),
    ],
)
def test_a_time_is_understood_as_people_say_it(text: str, seconds: float) -> None:
    assert Point.parse(text, clock=lambda: NOON) == Point(ms=round(seconds * 1000))


def test_a_range_of_times_is_the_offsets_of_these_times() -> None:
    found = stretch({0: (0, 100), 1: (0, 10)}, "ms1005", "ms1020")
    assert (found.ranges, found.cut, found.offsets) == ({0: (5, 20), 1: (5, 10)}, {}, 20)
    assert [str(each) for each in found.told()] == ["in/0@5-19", "in/1@5-9"]


def test_the_options_of_a_range_name_just_that_range_again() -> None:
    ends = {0: (0, 100), 1: (0, 10), 2: (0, 50)}
    found = stretch(ends, "ms1005", "ms1020")
    words = found.options().split()
    assert words[0::2] == ["--from", "--to"]
    assert stretch(ends, words[1], words[3]).ranges == found.ranges


def test_only_partitions_that_are_named_are_meant_and_no_more_than_there_is() -> None:
    assert stretch({0: (0, 100), 1: (0, 10)}, "1:3", "1:40").ranges == {1: (3, 10)}


def test_an_end_beyond_what_there_is_is_told() -> None:
    found = stretch({0: (0, 100), 1: (0, 10)}, "0:3,1:3", "0:100,1:40")
    assert (found.ranges, found.beyond, found.future) == ({0: (3, 100), 1: (3, 10)}, {1: 40}, False)
    (told,) = found.notes()
    assert told == "--to names offset 40 of in/1, which does not reach so far: what comes later is left out"
    ends: Any = Log({0: (0, 100)})
    begin = Point(ms=FIRST_MS)
    for end, future in ((NOON, False), (NOON + 1, True)):
        late = stretch_of(ends, "in", begin, Point(ms=round(end * 1000)), clock=lambda: NOON)
        assert (late.ranges, late.future, len(late.notes())) == ({0: (0, 100)}, future, int(future))


def test_ends_in_different_partitions_are_refused() -> None:
    with pytest.raises(Refused, match="different partitions: name the same ones in both"):
        stretch({0: (0, 100), 1: (0, 10)}, "0:10", "1:3")


@pytest.mark.parametrize(
    ("begin", "cut"),
    [
        ("0:29,1:0", {0: 30}),
        ("0:30,1:0", {}),
        ("ms1000", {0: 30}),
        ("ms1030", {0: 30}),  # events of the same time may be gone
        ("ms1031", {}),
    ],
)
def test_a_beginning_that_retention_has_removed_is_noticed(begin: str, cut: dict[int, int]) -> None:
    assert stretch({0: (30, 100), 1: (0, 100)}, begin, "ms1050").cut == cut


@pytest.mark.parametrize(
    ("begin", "end"), [("ms1050", "ms1050"), ("ms1200", "ms1300"), ("0:5", "0:30"), ("ms1000", "ms1030")]
)
def test_a_range_without_events_is_refused_with_what_there_is(begin: str, end: str) -> None:
    with pytest.raises(Refused, match="it has in/0@30-99"):
        stretch({0: (30, 100)}, begin, end)


def test_a_partition_that_there_is_not_is_refused() -> None:
    with pytest.raises(Refused, match="no partition 7"):
        stretch({0: (0, 100)}, "7:0", "now")
