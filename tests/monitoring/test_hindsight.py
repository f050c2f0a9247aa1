"""A range looked at again: every event of it once, by the monitor's own code, however the events were spread."""

from __future__ import annotations

import numpy as np
import pytest

from models.reference import Tally, tally_of
from monitoring.course import MOST, Course, Grid
from monitoring.drift import psi
from monitoring.folds import Record
from monitoring.hindsight import HindsightFold, Look, Span
from monitoring.settings import Settings
from monitoring.tilts import Floats
from schemas import records
from tests.monitoring import traffic
from tests.monitoring.traffic import DEPLOYMENT, START, Batches, profiler, reference

SETTINGS = Settings(detector="e_detector", design_effect=1.0)
EVER = Span(0, 10**14)


def looked(
    values: list[bytes], span: Span = EVER, sources: int = 4, settings: Settings = SETTINGS, finish: bool = True
) -> list[Look]:
    found: list[Look] = []
    known = {reference().digest: reference()}
    fold = HindsightFold(DEPLOYMENT, known, sources, settings, lambda lineage: None, span, found.append)
    state = fold.new(0)
    for offset, value in enumerate(values):
        fold.apply(state, Record(0, offset, None, value))
    if finish:
        fold.finish(state)
    return found


def evidence(looks: list[Look]) -> Floats:
    return np.array([look.evidence[0] for look in looks if look.evidence is not None])


def test_every_tick_is_shown_once_in_order_with_all_of_its_events() -> None:
    values = list(Batches(profiler()).batches(20))
    looks = looked(values)
    assert [look.start for look in looks] == [START + 1000 * tick for tick in range(20)]
    size = len(reference().tally.cells)
    total = sum((look.tally for look in looks), Tally.empty(size))
    told = [tally_of(records.decode("profile", value), size) for value in values]
    assert total == sum(told, Tally.empty(size))


def test_without_finishing_the_last_ticks_are_still_open() -> None:
    looks = looked(list(Batches(profiler()).batches(20)), finish=False)
    assert 0 < len(looks) < 20


def test_ticks_outside_the_span_are_passed_over() -> None:
    looks = looked(list(Batches(profiler()).batches(20)), Span(START + 5000, START + 9000))
    assert [look.start for look in looks] == [START + 1000 * tick for tick in (5, 6, 7, 8)]


def test_evidence_is_that_of_the_detector_and_the_same_however_events_are_spread() -> None:
    together = looked(list(Batches(profiler(), sources=1).batches(30, shift=0.3)), sources=1)
    spread = looked(list(Batches(profiler(), sources=4).batches(30, shift=0.3)), sources=4)
    assert (evidence(together) == evidence(spread)).all()
    names = [part.name for part in reference().slices]
    last = dict(zip(names, evidence(together).max(axis=0).tolist(), strict=True))
    assert last["wind"] > together[0].evidence[1] > last["rain"]  # type: ignore[index]


def test_the_evidence_of_a_tick_that_alarms_is_shown_before_it_begins_again() -> None:
    looks = looked(list(Batches(profiler()).batches(40, shift=1.0)))
    alarm = looks[0].evidence[1]  # type: ignore[index]
    wind = evidence(looks)[:, [part.name for part in reference().slices].index("wind")]
    alarms = np.flatnonzero(wind >= alarm)
    assert len(alarms) > 1
    assert wind[alarms[0] + 1] < wind[alarms[0]]


def test_a_detector_without_evidence_shows_none() -> None:
    looks = looked(list(Batches(profiler()).batches(5)), settings=Settings(detector="windows"))
    assert [look.evidence for look in looks] == [None] * 5


def test_it_is_done_when_every_partition_is_past_the_span_and_not_before() -> None:
    span = Span(START, START + 5000)
    known = {reference().digest: reference()}
    fold = HindsightFold(DEPLOYMENT, known, 4, SETTINGS, lambda lineage: None, span, lambda look: None)
    state, done = fold.new(0), []
    for offset, value in enumerate(Batches(profiler()).batches(12)):
        fold.apply(state, Record(0, offset, None, value))
        done.append(fold.done(state))
    tick = done.index(True) // 4
    assert tick * 1000 >= 5000 + SETTINGS.grace_ms
    assert not done[0]


@pytest.mark.parametrize("length", [1, 999, 1000, 500_000, 500_001, 86_400_000, 10**12])
def test_a_grid_covers_its_span_in_a_bounded_number_of_whole_seconds(length: int) -> None:
    grid = Grid.over(Span(17, 17 + length))
    assert 1 <= grid.bins <= MOST
    assert grid.width % 1000 == 0
    assert grid.begin + grid.bins * grid.width >= 17 + length > grid.begin + (grid.bins - 1) * grid.width
    assert grid.place(17) == 0
    assert grid.place(17 + length - 1) == grid.bins - 1


def course(ticks: int, width: int) -> tuple[Course, list[Look]]:
    looks = looked(list(Batches(profiler()).batches(ticks, shift=0.2)))
    made = Course(reference(), Grid(START, width, -(-ticks * 1000 // width)))
    for look in looks:
        made.add(look)
    return made, looks


def test_a_course_adds_up_what_it_was_shown() -> None:
    made, looks = course(10, 4000)
    assert made.rows.tolist() == [800, 800, 400]
    assert (made.cells.sum(axis=0) == sum(look.tally.cells for look in looks)).all()
    highest = [evidence(looks)[at : at + 4].max(axis=0) for at in (0, 4, 8)]
    assert (made.evidence == np.array(highest)).all()
    assert (made.first, made.last) == (START, START + 9000)


def test_distances_over_time_are_those_of_each_time_bin() -> None:
    made, looks = course(6, 2000)
    for part in reference().slices:
        expected = reference().tally.cells[part.start : part.end]
        for at in range(3):
            observed = sum(look.tally.cells for look in looks[2 * at : 2 * at + 2])[part.start : part.end]
            assert made.psi(part)[at] == pytest.approx(psi(expected, observed))
            assert made.missing(part)[at] == observed[-1] / observed.sum()


def test_where_nothing_came_there_is_no_value() -> None:
    made = Course(traffic.reference(), Grid(START, 1000, 2))
    part = reference().slices[0]
    assert np.isnan(made.psi(part)).all()
    assert np.isnan(made.missing(part)).all()
    assert np.isnan(made.evidence).all()
