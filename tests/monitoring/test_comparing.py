"""A version that takes over is compared with the one before: once, the same however the events came, and truly."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.profiler import Profiler, Watermarks
from models.reference import Reference
from monitoring.cells import Group, Tables
from monitoring.comparing import Comparing, outputs_of
from monitoring.folds import Folding, Out, Record
from monitoring.handovers import Handovers
from monitoring.profiles import ProfileFold
from monitoring.settings import Settings
from monitoring.succession import FEWEST, SPAN_MS, Lately, Succession, Takeover, Window
from schemas import records
from tests.monitoring import dict_judging
from tests.monitoring.traffic import DEPLOYMENT, START, Batches, fold_all, profiler, reference
from tests.one_arm import OneArm

TOPIC = "comparisons"
COMPARING = Comparing(DEPLOYMENT, TOPIC)
OTHER = Reference.from_frame(
    pl.DataFrame({"wind": np.linspace(-3, 3, 5000)}), pl.DataFrame({"late": np.linspace(0.1, 0.9, 5000)})
)


def fold(sources: int = 4) -> ProfileFold:
    known = {each.digest: each for each in (reference(), OTHER)}
    settings = Settings(design_effect=1.0)
    return ProfileFold(DEPLOYMENT, known, sources, settings, comparing=COMPARING)


def told(outs: list[Out], name: str = "comparison", topic: str = TOPIC) -> list[dict[str, Any]]:
    found = [records.decode(name, out.value or b"") for out in outs if out.topic == topic]
    assert [out.key for out in outs if out.topic == topic] == [each["id"].encode() for each in found]
    return found


def numbers(record: dict[str, Any]) -> dict[tuple[str, str], tuple[float | None, float | None]]:
    return {(each["of"], each["metric"]): (each["before"], each["after"]) for each in record["numbers"]}


def other_bins(version: str) -> OneArm:
    """What counts a version whose reference has other bins."""
    one = Profiler(OTHER, deployment=DEPLOYMENT, arm="active", model="late", version=version)
    return OneArm({"active": one}, Watermarks(clock=lambda: 2 * START))


def story(sources: int = 4, shift: float = 0.0, mixed: int = 0, later: OneArm | None = None) -> list[bytes]:
    """30 seconds of v1, some of both, 30 of v2, whose wind and score are shifted."""
    one = Batches(profiler(version="v1"), sources=sources)
    found = list(one.batches(30 + mixed))
    two = Batches(later or profiler(version="v2"), sources=sources, tick=30, seed=5)
    return [*found, *two.batches(30 + mixed, shift)]


def fed(values: list[bytes], sources: int = 4, every: int = 0) -> list[Out]:
    return fold_all(fold(sources), values, every)


def test_a_version_that_took_over_is_compared_once_with_what_the_one_before_said_last() -> None:
    (record,) = told(fed(story(shift=2.0)))
    assert (record["what"], record["deployment"], record["arm"]) == ("outputs", DEPLOYMENT, "active")
    assert (record["before"]["version"], record["after"]["version"]) == ("v1", "v2")
    assert (record["before"]["rows"], record["after"]["rows"]) == (5200, 5000)  # parts of 625 and more events
    assert record["before"]["until"].timestamp() * 1000 == START + 30_000
    assert record["after"]["since"].timestamp() * 1000 == START + 30_000
    found = numbers(record)
    before, after = found["late", "median"]
    assert before == pytest.approx(0.5, abs=0.01)
    assert after == pytest.approx(0.6, abs=0.01)
    distance, chance = (found["late", name][1] for name in ("distance", "chance"))
    assert distance == pytest.approx(0.383, abs=0.03)  # 2 Phi(1/2) - 1
    assert chance is not None
    assert distance > chance
    assert record["summary"].startswith("moved: late median 0.4977 before and 0.6011 since, distance 0.38")


def test_outputs_that_are_as_before_are_told_as_such() -> None:
    (record,) = told(fed(story()))
    distance, chance = (numbers(record)["late", name][1] for name in ("distance", "chance"))
    assert distance is not None
    assert chance is not None
    assert distance < chance
    assert record["summary"].startswith("as before: late median 0.4977 before and 0.5009 since, ")


def test_versions_whose_references_have_other_bins_are_compared_all_the_same() -> None:
    (record,) = told(fed(story(shift=2.0, later=other_bins("v2"))))
    distance = numbers(record)["late", "distance"][1]
    assert distance == pytest.approx(0.383, abs=0.05)
    assert record["summary"].startswith("moved: ")


@pytest.mark.parametrize("sources", [1, 12])
def test_however_events_are_spread_the_record_is_the_same_bytes(sources: int) -> None:
    expected = [out for out in fed(story(4, 1.0), 4) if out.topic == TOPIC]
    assert [out for out in fed(story(sources, 1.0), sources) if out.topic == TOPIC] == expected


@pytest.mark.parametrize("every", [1, 7, 50])
def test_starting_over_from_snapshots_changes_nothing(every: int) -> None:
    assert fed(story(shift=1.0), every=every) == fed(story(shift=1.0))


def test_while_both_score_nothing_is_compared_and_then_what_the_new_one_says_alone() -> None:
    assert told(fed(story(mixed=10)[: -4 * 10])) == []  # v2 alone for 20 seconds
    (record,) = told(fed(story(mixed=10)))
    assert record["after"]["since"].timestamp() * 1000 == START + 40_000


@pytest.mark.parametrize("later", ["v0", "v2"])
def test_a_tick_in_which_both_score_is_nobodys_whatever_their_names(later: str) -> None:
    found = Succession(100)
    for tick in range(10):
        for who in sorted(("v1", later) if tick >= 5 else ("v1",)):
            assert found.take((who,), tick, tick + 1, 60, {}) is None
    assert found.take((later,), 10, 11, 60, {}) is None
    took = found.take((later,), 11, 12, 60, {})
    assert took is not None
    assert (took.before, took.last.until, took.first.since, took.first.rows) == (("v1",), 10, 10, 120)


def test_a_way_back_is_a_takeover_too() -> None:
    back = Batches(profiler(version="v1"), tick=60, seed=9)
    found = told(fed([*story(), *back.batches(30)]))
    assert [(each["before"]["version"], each["after"]["version"]) for each in found] == [("v1", "v2"), ("v2", "v1")]
    assert len({each["id"] for each in found}) == 2


def test_where_nobody_asks_nothing_is_compared() -> None:
    kept = ProfileFold(DEPLOYMENT, {reference().digest: reference()}, 4, Settings(design_effect=1.0))
    folding = Folding(kept, 0, 0)
    outs = [out for at, value in enumerate(story()) for out in folding.apply(Record(0, at, b"k", value))]
    assert [out for out in outs if out.topic == TOPIC] == []
    assert folding.state.successions == {}


def test_a_reference_that_has_gone_leaves_the_record_out() -> None:
    took = Takeover(("m", "v1", "x"), Window(0, 1, 1), ("m", "v2", "y"), Window(1, 2, 1))
    assert list(COMPARING.outputs("active", took, (None, reference()))) == []


def test_classes_are_compared_by_their_names() -> None:
    frame = pl.DataFrame({"x": [0.0] * 1000})
    one = Reference.from_frame(frame, pl.DataFrame({"kind": ["a"] * 600 + ["b"] * 400}))
    other = Reference.from_frame(frame, pl.DataFrame({"kind": ["b"] * 700 + ["c"] * 300}))
    windows = [Window(0, 1, 1000, outputs_of(each, each.tally)) for each in (one, other)]
    took = Takeover(("m", "v1", one.digest), windows[0], ("m", "v2", other.digest), windows[1])
    (record,) = told(list(COMPARING.outputs("active", took, (one, other))))
    found = numbers(record)
    assert found["kind", "share of a"] == (0.6, 0.0)
    assert found["kind", "share of b"] == (0.4, 0.7)
    assert found["kind", "distance"] == (None, 0.6)
    mixed = Reference.from_frame(frame, pl.DataFrame({"kind": np.arange(1000.0)}))
    last = Window(0, 1, 1000, outputs_of(mixed, mixed.tally))
    (record,) = told(list(COMPARING.outputs("active", took._replace(last=last), (mixed, other))))
    assert set(numbers(record)) == {("kind", "missing")}


def test_a_last_window_holds_what_is_asked_for_and_little_more() -> None:
    lately, draw = Lately(1000), random.Random(3)
    total = 0
    for tick in range(500):
        rows = draw.randint(1, 300)
        total += rows
        lately.add(tick, tick + 1, rows, {})
        held = lately.whole().rows
        assert min(total, 1000) <= held <= 1000 + 1000 // 8 + 300
        assert len(lately.parts) <= 10
    assert lately.whole().until == 500


def test_few_events_in_a_long_time_are_a_window_and_fewer_are_none() -> None:
    found = Succession(5000)
    found.take(("v1",), 0, 1, 10, {})
    assert found.take(("v2",), 1, 2, FEWEST - 1, {}) is None
    assert found.take(("v2",), SPAN_MS - 10, SPAN_MS, 1, {}) is None  # not as long
    took = found.take(("v2",), SPAN_MS, SPAN_MS + 1, 1, {})
    assert took is not None
    assert (took.before, took.last.rows, took.first.rows) == (("v1",), 10, FEWEST + 1)


MINUTE = 60_000


class Days:
    """Minutes of predictions, labels of which come `delay` minutes later; each of 100, `share` of them right."""

    def __init__(self, delay: int = 20) -> None:
        self.delay, self.minute, self.random = delay, 0, random.Random(1)
        self.due: dict[int, list[tuple[str, bool]]] = {}
        self.handovers = Handovers()
        self.told: list[tuple[str, Takeover]] = []

    def run(self, version: str, share: float, minutes: int) -> None:
        for _ in range(minutes):
            tables: Tables = {}
            self._count(tables, version, dict_judging.scored("binary", 0.9), 100)
            rights = [self.random.random() < share for _ in range(100)]
            self.due.setdefault(self.minute + self.delay, []).extend((version, right) for right in rights)
            for whose, right in self.due.pop(self.minute, []):
                self._count(tables, whose, dict_judging.judged("binary", 0.9, right), 1)
            start = self.minute * MINUTE
            self.handovers = Handovers.load(json.loads(json.dumps(self.handovers.dump())))
            self.told += self.handovers.take(start, start + MINUTE, tables)
            self.minute += 1

    def _count(self, tables: Tables, version: str, counted: dict_judging.Counted, times: int) -> None:
        for what, name, cell, by in counted:
            for segment in ("", "origin"):
                cells = tables.setdefault(Group("active", "late", version, segment, "", what, name), {})
                cells[cell] = cells.get(cell, 0) + by * times


def test_quality_is_compared_when_labels_of_both_are_there() -> None:
    days = Days()
    days.run("v1", 0.9, 60)
    days.run("v2", 0.7, 60)
    ((arm, took),) = days.told
    assert (arm, took.before, took.after) == ("active", ("late", "v1"), ("late", "v2"))
    assert took.first.since == 80 * MINUTE  # its first labels
    assert took.first.rows == 1000
    assert took.last.until == 80 * MINUTE
    (out,) = COMPARING.quality(arm, took)
    (record,) = told([out])
    assert record["what"] == "quality"
    found = {(each["of"], each["metric"]): each for each in record["numbers"]}["", "accuracy"]
    assert found["before"] == pytest.approx(0.9, abs=0.03)
    assert found["after"] == pytest.approx(0.7, abs=0.05)
    assert found["before_low"] < 0.9 < found["before_high"]
    assert found["after_low"] < 0.7 < found["after_high"]
    assert record["summary"].startswith("accuracy 0.")


def test_labels_that_come_before_it_is_known_who_took_over_count() -> None:
    days = Days(delay=1)
    days.run("v1", 0.9, 30)
    days.run("v2", 0.9, 30)
    ((_, took),) = days.told
    assert took.first.since == 31 * MINUTE


def test_a_version_without_labels_is_compared_with_nothing() -> None:
    days = Days(delay=10_000)
    days.run("v1", 0.9, 60)
    days.run("v2", 0.9, 60)
    assert days.told == []
    assert days.handovers.lately == {}
    days.handovers.forget(("active", "late", "v1"))


def test_the_same_takeover_has_the_same_id_and_another_has_another() -> None:
    took = Takeover(("m", "v1"), Window(0, 1, 1), ("m", "v2"), Window(1, 2, 1))
    ids = [
        next(iter(comparing.quality(arm, each))).key
        for comparing, arm, each in (
            (COMPARING, "active", took),
            (COMPARING, "active", took),
            (COMPARING, "canary", took),
            (replace(COMPARING, deployment="other"), "active", took),
            (COMPARING, "active", took._replace(first=Window(5, 6, 1))),
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
