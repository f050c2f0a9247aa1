"""Quality and divergence in a report: the numbers of `penstock quality`, over time, each part counted once."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from monitoring.hindsight import Span
from monitoring.totals import Told, part_of, totals_of
from penstock.report import judged
from penstock.report.charts import HEIGHT, WIDTH, Lines, band, histogram
from penstock.report.content import content
from penstock.report.judged import POINTS, Ledger, Numbers
from penstock.report.page import page
from penstock.report.quality import made
from penstock.report.section import Section
from tests.monitoring.traffic import START
from tests.penstock.report.made import MINUTE, OTHER, WHO, found, parts
from tests.penstock.report.test_page import EVIL, Read, check_alone

BEGIN = START // MINUTE * MINUTE
TEN = Span(BEGIN, BEGIN + 10 * MINUTE)


def ledger(values: list[bytes], span: Span = TEN, partitions: int = 1, groups: tuple[str, ...] = ()) -> Ledger:
    kept = Ledger("flights", span, partitions, groups)
    for value in values:
        kept.take(part_of(value))
    kept.finish()
    return kept


def sections(values: list[bytes], **more: Any) -> dict[str, Section]:
    return {each.key: each for each in made(ledger(values, **more))}


def told(kept: Ledger) -> set[Told]:
    return set(kept.last())


def metric(section: Section, name: str, **place: str) -> Any:
    wanted = {"arm": "active", "segment": "", **place}
    for key in ("versions", "pairs"):
        for each in section.content.get(key, ()):
            if all(each[field] == value for field, value in wanted.items()):
                return next(found for found in each["metrics"] if found["metric"] == name)
    raise AssertionError(name)


def two_partitions() -> list[bytes]:
    """Parts of both partitions of samples, the second one's all behind the first one's."""
    return [*parts(partition=0), *parts(partition=1)]


def test_the_numbers_are_those_of_the_quality_command_though_one_partition_comes_late() -> None:
    values = two_partitions()
    totals, counts = totals_of(map(part_of, values))
    kept = ledger(values, partitions=2)
    assert told(kept) == set(totals.told())
    assert dict(kept.counts) == counts
    # the order of ticks is part of the interval: one who does not wait for the second partition tells another one
    assert told(ledger(values, partitions=1)) != told(kept)


def test_a_part_that_somebody_sends_again_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values, draw = two_partitions(), random.Random(1)
    again = [*values]
    for _ in range(30):
        at = draw.randrange(len(again))
        again.insert(draw.randint(at + 1, len(again)), again[at])
    assert ledger(again, partitions=2).totals.tables == ledger(values, partitions=2).totals.tables
    # and the other order: two were lost, and come again with those before them
    lost = [*values[:3], *values[5:8], *values[3:]]
    assert ledger(lost).totals.tables == ledger(values).totals.tables
    monkeypatch.setattr(Numbers, "taken", lambda self, number: False)
    assert ledger(again, partitions=2).totals.tables != ledger(values, partitions=2).totals.tables


def test_only_the_range_and_only_the_deployment_count_and_reading_ends_behind_it() -> None:
    values = parts((0.9,) * 20, begin=BEGIN // MINUTE - 5)
    kept = Ledger("flights", TEN, 1)
    for at, value in enumerate(values):
        kept.take(part_of(value))
        assert kept.done() == (at >= 14)
    kept.finish()
    (labelled,) = (each.number for each in kept.last() if each.metric == "labelled" and not each.segment + each.name)
    assert labelled == 10 * 60
    assert not told(ledger(parts(deployment="others")))
    assert made(ledger([])) == []


def test_over_time_the_number_so_far_lies_in_its_interval_and_each_moment_stands_alone() -> None:
    accuracy = metric(sections(parts(rows=400))["quality"], "accuracy")
    course = accuracy["over_time"]
    assert all(
        low <= number <= high for low, number, high in zip(course["low"], course["number"], course["high"], strict=True)
    )
    assert _widths(course)[-1] < _widths(course)[0] / 2
    assert course["alone"][0] == pytest.approx(0.9, abs=0.06)
    assert course["alone"][-1] == pytest.approx(0.5, abs=0.08)
    assert accuracy["number"] == course["number"][-1] == pytest.approx(0.7, abs=0.05)


def _widths(course: dict[str, list[float]]) -> list[float]:
    return [high - low for low, high in zip(course["low"], course["high"], strict=True)]


def test_a_long_range_is_told_in_a_bounded_number_of_moments() -> None:
    span = Span(BEGIN, BEGIN + 400 * MINUTE)
    kept = ledger(parts((0.8,) * 400, rows=4), span=span)
    assert kept.grid.bins == 100 <= POINTS
    course = next(course for key, course in kept.courses.items() if key[6] == "labelled")
    assert course.number[-1] == 1600
    assert course.alone == [16.0] * 100


def test_places_are_bounded_the_whole_and_those_with_most_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judged, "PLACES", 3)
    made_of = parts((0.8,) * 3, values=["rare", "often", "often", "some", "often", "some"])
    kept = ledger(made_of)
    assert {group.value for group in kept.totals.tables} == {"", "often", "some"}
    assert {group.value for group in kept.left_out} == {"rare"}
    assert "1 further values of segments are not shown" in made(kept)[0].markup


def test_estimates_are_marked_in_the_page_and_in_the_json() -> None:
    section = sections(parts())["quality"]
    assert metric(section, "estimated_accuracy")["estimate"]
    assert not metric(section, "accuracy")["estimate"]
    text = " ".join(Read.of(section.markup).texts)
    assert "An estimate is told from scores alone" in text
    assert "estimated_accuracy (an estimate)" in text
    assert "accuracy (an estimate): " not in text.replace("estimated_accuracy", "")


def test_segments_have_their_own_numbers() -> None:
    section = sections(parts())["quality"]
    whole = metric(section, "labelled")["number"]
    each = [metric(section, "labelled", segment="origin", value=value)["number"] for value in ("EWR", "JFK")]
    assert each == [whole / 2, whole / 2]
    read = Read.of(section.markup)
    assert "By origin" in read.texts
    assert {"EWR", "JFK"} <= set(read.texts)


def test_groups_are_compared_over_time() -> None:
    section = sections(parts(rows=600), groups=("origin",))["quality"]
    gap = metric(section, "selection_rate_difference")
    assert gap["name"] == "origin"
    assert gap["low"] <= gap["number"] <= gap["high"]
    course = gap["over_time"]
    assert None not in course["number"]
    assert course["high"][-1] - course["low"][-1] < course["high"][0] - course["low"][0]
    assert "selection_rate_difference of origin" in " ".join(Read.of(section.markup).texts)


def test_divergence_tells_agreement_who_was_right_and_how_far_scores_are_apart() -> None:
    section = sections(parts())["divergence"]
    agreement = metric(section, "agreement")
    assert agreement["low"] < agreement["number"] < agreement["high"]
    difference = metric(section, "accuracy_difference")
    assert difference["number"] == pytest.approx(-0.2, abs=0.1)  # the other is right half of the time
    (pair, *_) = section.content["pairs"]
    assert pair["beside"] == OTHER
    counted = {(row["from"], row["to"]) for row in pair["differences"] if row["events"]}
    assert len(counted) == 4  # 0.8 or 0.3 and 0.9 or 0.1
    assert sum(row["events"] for row in pair["differences"]) == 600
    # and nothing of it is told as quality
    names = {found["metric"] for each in sections(parts())["quality"].content["versions"] for found in each["metrics"]}
    assert "agreement" not in names


def test_the_page_with_both_is_whole_and_no_name_is_more_than_a_name() -> None:
    bad = parts(who=(EVIL, EVIL, EVIL), values=[EVIL, "b"])
    both = [*parts(), *bad]
    kept = Ledger("flights", TEN, 1)
    for number, value in enumerate(both):
        kept.take(part_of(value)._replace(number=number, closed=0))
    kept.finish()
    read = Read.of(page(content(found()), [each.markup for each in made(kept)]))
    check_alone(read)
    shown = EVIL.replace("\u202e", "\ufffd").replace("\x00", "\ufffd")
    assert sum(shown in text for text in read.texts) > 3
    json.dumps([dict(each.content) for each in made(kept)], allow_nan=False)


def test_a_band_stays_in_its_frame_and_breaks_where_there_is_no_interval() -> None:
    course = Lines([0.5, 0.6, None, 0.7], [0.1, 0.2, None, 0.3], [0.9, 0.8, None, 2.0], [None, 0.5, None, 0.9])
    (area, thin, line) = [attrs["d"] for name, attrs in Read.of(band("x", course, 0.0, 1.0)).tags if name == "path"]
    assert str(area).count("M") == str(area).count("Z") == 2
    assert (str(thin).count("M"), str(line).count("M")) == (2, 2)
    numbers = [
        float(n)
        for each in (area, thin, line)
        for n in str(each).translate(dict.fromkeys(map(ord, "MLHZ"), " ")).split()
    ]
    assert all(0 <= number <= max(WIDTH, HEIGHT) for number in numbers)
    hints = [attrs for name, attrs in Read.of(histogram("x", ["a", "b"], [1.0, 0.0])).tags if name == "rect"]
    assert len(hints) == 1


def test_who_is_judged_comes_active_first() -> None:
    both = [*parts(who=("a-canary", "late", "v2")), *parts(who=WHO)]
    kept = Ledger("flights", TEN, 1)
    for number, value in enumerate(both):
        kept.take(part_of(value)._replace(number=number, closed=0))
    kept.finish()
    arms = [each["arm"] for each in made(kept)[0].content["versions"]]
    assert arms[0] == "active"
    assert "a-canary" in arms
