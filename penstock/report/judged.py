"""How good versions were over a range: parts of the quality topic, each once, as numbers in bins of time; pure.

A number so far and its confidence sequence begin with the range, as for one who began to look there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from monitoring import cells
from monitoring.cells import Group, Tables
from monitoring.course import Grid
from monitoring.hindsight import Span
from monitoring.totals import Part, Told, Totals

POINTS = 120  # time bins
PLACES = 100  # versions in arms, and values of segments of theirs, that are told
AGAIN = 1_000  # parts before a gap that may still come
TICK_MS = 60_000  # a tick of quality, unless parts say otherwise: finer bins would have gaps
Number = float | None
Key = tuple[str, ...]  # arm, model, version, segment, value, name, metric


@dataclass(slots=True)
class Course:
    """A number in each time bin: so far in the range, with its interval; and of what the bin itself brought."""

    number: list[Number]
    low: list[Number]
    high: list[Number]
    alone: list[Number]

    @classmethod
    def over(cls, grid: Grid) -> Course:
        """Return one without any numbers."""
        number, low, high, alone = (list[Number]([None]) * grid.bins for _ in range(4))
        return cls(number, low, high, alone)


@dataclass(slots=True)
class Numbers:
    """Which numbers of parts were taken. They come in order, but for a few that somebody sends again."""

    high: int = -1
    missing: set[int] = field(default_factory=set)  # below the highest

    def taken(self, number: int) -> bool:
        """Say whether a number was taken before, and take it. The first may have some before it that come yet."""
        if number > self.high:
            self.missing.update(range(max(self.high + 1, number - AGAIN), number))
            self.high = number
            return False
        known = number not in self.missing
        self.missing.discard(number)
        return known


@dataclass(slots=True)
class Ledger:
    """What parts of a range add up to.

    partitions: of the topic of samples, all of which a tick waits for. groups: segments of which fairness is told.
    courses: of every number that was told. left_out: places beyond PLACES that came later. counts: of the joins.
    """

    deployment: str
    span: Span
    partitions: int
    groups: tuple[str, ...] = ()
    totals: Totals = field(init=False)
    courses: dict[Key, Course] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    left_out: set[Group] = field(default_factory=set)
    grid: Grid = field(init=False)
    _numbers: dict[int, Numbers] = field(default_factory=dict)  # by partition of samples
    _open: dict[int, Tables] = field(default_factory=dict)  # by ms at which the tick begins
    _passed: dict[int, int] = field(default_factory=dict)
    _places: set[Group] = field(default_factory=set)
    _alone: Totals = field(init=False)  # of the bin that is being filled
    _at: int = 0  # that bin
    _until: int = 0  # ms up to which ticks are closed

    def __post_init__(self) -> None:
        self.grid = Grid.over(self.span, POINTS, TICK_MS)
        self.totals, self._alone = Totals(groups=self.groups), Totals(groups=self.groups)

    def take(self, part: Part) -> None:
        """Take a part, in the order of the topic; a repeated one, or one of another range, adds nothing."""
        if part.deployment != self.deployment or self._numbers.setdefault(part.partition, Numbers()).taken(part.number):
            return
        self._passed[part.partition] = max(self._passed.get(part.partition, 0), part.closed)
        begin = part.tick * part.tick_ms
        if self.span.holds(begin):
            cells.merge(self._open.setdefault(max(begin, self._until), {}), part.tables)
            self.counts.update(part.counts)
        if len(self._passed) >= self.partitions:
            self._close(min(self._passed.values()))

    def done(self) -> bool:
        """Say whether every partition of samples has passed the range: nothing more belongs to it."""
        return len(self._passed) >= self.partitions and min(self._passed.values()) >= self.span.end

    def finish(self) -> None:
        """Close what is still open: there is nothing more to wait for."""
        self._close(self.span.end)
        self._tell()

    def _close(self, until: int) -> None:
        for begin in sorted(begin for begin in self._open if begin < until):
            at = self.grid.place(begin)
            if at != self._at:
                self._tell()
                self._at = at
            tick = self._kept(self._open.pop(begin))
            self.totals.add(tick)
            cells.merge(self._alone.tables, tick)
            self._until = max(self._until, begin)

    def _kept(self, tick: Tables) -> Tables:
        """Return the tables of places that are told; new ones in the order of how much they have."""
        rows = Counter[Group]()
        for group, found in tick.items():
            rows[_place(group)] += sum(found.values()) if group.what == "scored" else found.get(0, 0)
        for place, _ in sorted(rows.items(), key=lambda each: (self._rank(each[0].segment), -each[1], each[0])):
            if place not in self._places and len(self._places) < PLACES:
                self._places.add(place)
        self.left_out |= rows.keys() - self._places
        return {group: found for group, found in tick.items() if _place(group) in self._places}

    def _rank(self, segment: str) -> int:
        """Return which places are told first: all events of a version, then groups that are compared."""
        return 0 if not segment else 1 if segment in self.groups else 2

    def _tell(self) -> None:
        """Note the numbers at the end of a bin: those of places that it brought something of."""
        now, self._alone = self._alone, Totals(groups=self.groups)
        touched = {_place(group) for group in now.tables} | {
            each for each in self._places if each.segment in self.groups
        }
        tables = {group: found for group, found in self.totals.tables.items() if _place(group) in touched}
        for told in Totals(tables, self.totals.sequences, self.groups).told():
            course = self._course(told)
            course.number[self._at], course.low[self._at], course.high[self._at] = told.number, told.low, told.high
        for told in now.told():
            self._course(told).alone[self._at] = told.number

    def _course(self, told: Told) -> Course:
        key = tuple(told[:7])
        if key not in self.courses:
            self.courses[key] = Course.over(self.grid)
        return self.courses[key]

    def last(self) -> Iterator[Told]:
        """Yield the numbers of the whole range."""
        return self.totals.told()


def _place(group: Group) -> Group:
    return group._replace(what="", name="")
