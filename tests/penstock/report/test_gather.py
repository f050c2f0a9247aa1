"""What is kept of a range is bounded, and another range is a sum of its profiles, read no further than it must be."""

from __future__ import annotations

from models.reference import Tally, tally_of
from monitoring.course import Grid
from monitoring.folds import Record
from monitoring.hindsight import Look, Span
from monitoring.settings import Settings
from penstock.report.gather import LINEAGES, Asked, Courses, Sums
from schemas import records
from tests.monitoring.traffic import DEPLOYMENT, START, Batches, events, profiler, reference
from tests.penstock.report.made import LINEAGE, SPAN, counted


def test_of_too_many_versions_the_first_are_told_and_the_events_of_others_counted() -> None:
    courses, tally = Courses(Grid.over(SPAN)), counted(*events(10, 0), reference())
    lineages = [LINEAGE._replace(version=f"v{number}") for number in range(LINEAGES + 2)]
    for lineage in lineages * 2:
        courses.see(Look(lineage, reference(), START, tally, None))
    assert list(courses.courses) == lineages[:LINEAGES]
    assert {int(course.rows.sum()) for course in courses.courses.values()} == {20}
    assert courses.skipped == dict.fromkeys(lineages[LINEAGES:], 20)


def sums(span: Span) -> Sums:
    asked = Asked(DEPLOYMENT, "profiles", "alerts", 4, Settings(), Span(0, 1), span)
    return Sums(asked, lambda lineage: reference() if lineage.reference == reference().digest else None)


def test_another_range_is_the_sum_of_its_profiles_by_reference() -> None:
    made, size = sums(Span(START + 2000, START + 5000)), len(reference().tally.cells)
    values = list(Batches(profiler()).batches(8))
    for value in [b"junk", *values, *Batches(profiler("another")).batches(8)]:
        made.add(Record(0, 0, None, value))
    (found,) = made.found().values()
    told = [
        record
        for record in (records.decode("profile", value) for value in values)
        if 2 <= record["tick"] - START // 1000 < 5
    ]
    assert found.tally == sum((tally_of(record, size) for record in told), Tally.empty(size))
    assert found.tally.rows == 600
    assert found.features == reference().features


def test_it_is_done_when_every_partition_is_past_the_range_and_not_before() -> None:
    made, done = sums(Span(START, START + 3000)), []
    for value in Batches(profiler()).batches(8):
        made.add(Record(0, 0, None, value))
        done.append(made.done())
    assert done.index(True) == 4 * 5 + 3  # the last partition's record of the second that ends 2 s behind the range
    assert not any(done[: 4 * 5])


def test_a_range_of_another_reference_has_no_sum() -> None:
    asked = Asked(DEPLOYMENT, "profiles", "alerts", 4, Settings(), Span(0, 1), Span(START, START + 3000))
    made = Sums(asked, lambda lineage: None)
    for value in Batches(profiler()).batches(3):
        made.add(Record(0, 0, None, value))
    assert made.found() == {}
