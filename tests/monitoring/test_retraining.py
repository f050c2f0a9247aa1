"""Drift that stays asks for a new version once, with the range to train on; drift that goes asks for none."""

from __future__ import annotations

from typing import Any

import pytest

from monitoring.alerts import Explanation, Finding, Subject
from monitoring.episodes import Book, Manners
from monitoring.folds import Folding, Out, Record
from monitoring.profiles import ProfileFold
from monitoring.quality import Judging, QualityFold
from monitoring.retraining import Asking
from monitoring.settings import Settings
from schemas import records
from tests.monitoring.test_quality import PARTITIONS, Joins
from tests.monitoring.test_quality import START as MINUTES
from tests.monitoring.traffic import DEPLOYMENT, START, Batches, fold_all, profiler, reference

ASKING = Asking(DEPLOYMENT, 60_000, "events", "labels", "requests")
WHO = ("active", "late", "v1")


def fold(sources: int = 4) -> ProfileFold:
    settings = Settings(design_effect=1.0)
    return ProfileFold(DEPLOYMENT, {reference().digest: reference()}, sources, settings, asking=ASKING)


def told(outs: list[Out]) -> list[dict[str, Any]]:
    return [records.decode("retraining", out.value or b"") for out in outs if out.topic == ASKING.topic]


def fed(values: list[bytes], sources: int = 4, every: int = 0) -> list[Out]:
    return fold_all(fold(sources), values, every)


def story(lasting: int, sources: int = 4) -> list[bytes]:
    """The wind rises after 60 seconds."""
    source = Batches(profiler(), sources=sources)
    return [*source.batches(60), *source.batches(lasting, shift=1.0), *source.batches(60)]


def test_drift_that_stays_asks_once_with_columns_reasons_and_range() -> None:
    (request,) = told(fed(story(200)))
    assert (request["deployment"], request["arm"], request["model"], request["version"]) == (DEPLOYMENT, *WHO)
    assert request["features"] == ["late", "wind"]
    assert {reason["kind"] for reason in request["reasons"]} == {"feature", "output"}
    assert (request["topic"], request["labels"]) == ("events", "labels")
    since, until = (request[name].timestamp() * 1000 - START for name in ("since", "until"))
    assert since == 60_000
    assert 120_000 <= until <= 130_000
    assert request["at"] == request["until"]


def test_drift_that_goes_in_time_asks_for_nothing() -> None:
    assert told(fed(story(30))) == []
    assert told(fed(list(Batches(profiler()).batches(200)))) == []


@pytest.mark.parametrize(("sources", "every"), [(1, 0), (12, 0), (4, 1), (4, 13)])
def test_requests_are_the_same_bytes_however_events_came_and_the_fold_died(sources: int, every: int) -> None:
    expected = [out for out in fed(story(200)) if out.topic == ASKING.topic]
    assert [out for out in fed(story(200, sources), sources, every) if out.topic == ASKING.topic] == expected


def subject(name: str, kind: str = "feature", detector: str = "e_detector") -> Subject:
    return Subject(DEPLOYMENT, *WHO, detector, kind, name)


def finding(at: int, moved: bool = True) -> Finding:
    return Finding(moved, not moved, 9.0, 5.0, 100, at - 1000, at, lambda: Explanation("moved"), False)


def book() -> Book:
    return Book({"feature": 3}, 1000, Manners(gather_ms=0))


def asked(kept: Book, known: list[str], now: int) -> list[dict[str, Any]]:
    return told(list(ASKING.requests(WHO, kept, known, now)))


def test_what_was_asked_for_is_not_asked_for_again_and_another_drift_is() -> None:
    kept, known = book(), list[str]()
    list(kept.take(subject("wind"), finding(1_000), 1, 1))
    assert asked(kept, known, 60_999) == []
    (first,) = asked(kept, known, 61_000)
    assert asked(kept, known, 100_000) == []
    list(kept.take(subject("rain"), finding(110_000), 1, 1))
    assert asked(kept, known, 169_000) == []
    (second,) = asked(kept, known, 170_000)
    assert (first["features"], second["features"]) == (["wind"], ["rain", "wind"])
    assert first["id"] != second["id"]
    assert asked(kept, [], 170_000) == [second]  # who forgot what was asked for would ask again


def test_a_drift_that_comes_back_under_its_id_was_asked_for() -> None:
    kept, known = book(), list[str]()
    list(kept.take(subject("wind"), finding(1_000), 1, 1))
    assert len(asked(kept, known, 61_000)) == 1
    list(kept.take(subject("wind"), finding(62_000, moved=False), 1, 1))
    assert asked(kept, known, 62_000) == []
    list(kept.take(subject("wind"), finding(70_000), 1, 1))
    assert asked(kept, known, 200_000) == []


@pytest.mark.parametrize(
    ("about", "asks"),
    [
        (subject("wind"), True),
        (subject("late", "output"), True),
        (subject("all columns", "group"), True),
        (subject("accuracy", "quality"), True),
        (subject("labels", "quality", "silence"), False),
        (subject("agreement with shadow", "divergence"), False),
        (subject("lag", "operations"), False),
    ],
)
def test_only_what_a_model_could_learn_asks(about: Subject, asks: bool) -> None:
    kept = book()
    list(kept.take(about, finding(1_000), 1, 1))
    found = asked(kept, [], 100_000)
    assert bool(found) == asks
    if about.kind in ("quality", "group") and found:
        assert found[0]["features"] == []


def test_quality_that_stays_worse_asks_too() -> None:
    joins = Joins()
    for share, minutes in ((0.9, 60), (0.5, 90)):
        for _ in range(minutes):
            joins.minute(share)
    asking = Asking("flights", 30 * 60_000, "events", "labels", "requests")
    kept = QualityFold(Judging("flights", PARTITIONS, 600, design_effect=1.0, asking=asking))
    folding, outs = Folding(kept, 0, 0), []
    for at, value in enumerate(joins.values):
        outs += folding.apply(Record(0, at, None, value))
        folding = Folding(kept, 0, folding.position, folding.dump())
    found = told(outs)
    assert found[0]["features"] == []
    assert {reason["kind"] for reason in found[0]["reasons"]} == {"quality"}
    assert (MINUTES + 57) * 60_000 <= found[0]["since"].timestamp() * 1000 <= (MINUTES + 70) * 60_000
    assert len(found) == len({each["id"] for each in found})
