"""What people are told of episodes: no flapping, few updates, one message for columns that move together."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from monitoring.alerts import Explanation, Finding, Subject, encoded
from monitoring.episodes import Book, Manners
from schemas import records

MANNERS = Manners(a_while_ms=60_000, gather_ms=3_000, many=3)
COLUMNS = {"feature": 30, "output": 1}
MISSING = [{"bin": "missing", "expected": 0.01, "observed": 0.3}]
MOVED = [{"bin": "1 .. 2", "expected": 0.1, "observed": 0.3}]
Told = dict[str, Any]


def subject(name: str, kind: str = "feature") -> Subject:
    return Subject("flights", "active", "late", "v1", "e_detector", kind, name)


def finding(tick: int, value: float, evidence: list[dict[str, Any]] | None = None, onset: int | None = None) -> Finding:
    """Of one tick of a second: deviates from 1 on, is calm below, critical from 10 on."""
    told = Explanation(f"moved by {value:g}", MOVED if evidence is None else evidence)
    start = 1000 * (tick if onset is None else onset)
    return Finding(value >= 1, value < 1, value, 1.0, 100, start, 1000 * (tick + 1), lambda: told, value >= 10, value)


def book(manners: Manners = MANNERS) -> Book:
    return Book(COLUMNS, 1000, manners)


Step = tuple[int, str, Finding]


def story(values: Sequence[float], name: str = "wind") -> list[Step]:
    """A column's findings, one a tick."""
    return [(tick, name, finding(tick, value)) for tick, value in enumerate(values)]


def tell(of: Book, steps: Iterable[Step], until: int = 10_000, **restarted: int) -> list[Told]:
    """The records that follow from findings in the order of ticks; `every`: starts over from a dump so often."""
    every, found = restarted.get("every", 0), list[Told]()
    for number, (tick, name, said) in enumerate(steps):
        found += of.settle(1000 * tick)
        found += of.take(subject(name), said, 1, 1)
        if every and number % every == 0:
            written = json.loads(json.dumps(of.dump(), sort_keys=True))
            of = book()
            of.load(written)
            assert json.dumps(of.dump(), sort_keys=True) == json.dumps(written, sort_keys=True)
    return [*found, *of.settle(1000 * until)]


def short(told: Sequence[Told]) -> list[tuple[str, str, int]]:
    return [(record["name"], record["state"], record["at"] // 1000) for record in told]


def test_an_episode_opens_once_and_closes_once_and_its_records_are_numbered() -> None:
    told = tell(book(), story([0, 2, 2, 0, 0]))
    assert short(told) == [("wind", "opened", 2), ("wind", "closed", 4)]
    assert [record["number"] for record in told] == [0, 1]
    assert [record["severity"] for record in told] == ["warning", "info"]
    assert told[1]["opened"] == told[0]["at"] == 2000
    assert (told[1]["worst"], told[1]["peak"]) == ("warning", "moved by 2")
    assert len({record["id"] for record in told}) == 1


def test_every_record_fits_the_schema_and_says_what_to_look_at() -> None:
    for record in tell(book(), story([2] + [30] * 100 + [0])):
        found = records.decode("alert", encoded(record)[1])
        assert found["id"] == record["id"]
        assert found["at"].timestamp() * 1000 == record["at"]
        assert ("Ask who fills wind" in found["action"]) == (found["state"] != "closed")


def test_more_missing_values_are_advised_about_as_such() -> None:
    (told,) = tell(book(), [(5, "wind", finding(5, 2, MISSING))])
    assert "more events come without it since 1970-01-01 00:00:05Z" in told["action"]


def test_an_update_comes_when_the_effect_grew_by_half_and_once_in_a_while_at_most() -> None:
    told = tell(book(), story([2] * 70 + [2.9] * 10 + [3.1] * 10 + [4.7] * 100 + [8] * 20))
    assert short(told) == [("wind", state, at) for state, at in [("opened", 1), ("updated", 81), ("updated", 141)]] + [
        ("wind", "updated", 201)
    ]
    assert [record["size"] for record in told] == [2, 3.1, 4.7, 8]
    assert [record["number"] for record in told] == [0, 1, 2, 3]
    assert {record["opened"] for record in told} == {1000}


def test_an_update_comes_when_severity_rises_and_none_when_it_falls() -> None:
    told = tell(book(), story([9] * 70 + [10] * 10 + [2] * 100 + [0]))
    assert [(record["state"], record["severity"]) for record in told] == [
        ("opened", "warning"),
        ("updated", "critical"),
        ("closed", "info"),
    ]
    assert (told[-1]["worst"], told[-1]["peak"]) == ("critical", "moved by 10")


def test_an_effect_that_stays_is_told_once_and_again_after_a_day() -> None:
    assert len(tell(book(), story([2] * 1000))) == 1
    days = [(hour * 3600, name, finding(hour * 3600, 2)) for hour in range(50) for name in ("a", "b", "c")]
    told = [record for record in tell(book(), days, until=400_000) if record["name"] in ("a", "columns")]
    assert [(record["name"], record["state"], record["at"] // 3_600_000) for record in told] == [
        *[(name, state, hours) for hours, state in ((0, "opened"),) for name in ("columns", "a")],
        *[(name, "updated", hours) for hours in (24, 48) for name in ("a", "columns")],
    ]


def test_what_comes_back_within_a_while_continues_the_episode() -> None:
    told = tell(book(), story([2, 0, *[0] * 50, 2, *[2] * 5]))
    assert short(told) == [("wind", "opened", 1), ("wind", "closed", 2), ("wind", "opened", 53)]
    assert len({record["id"] for record in told}) == 1
    assert {record["onset"] for record in told} == {0}
    assert [record["number"] for record in told] == [0, 1, 2]


def test_what_comes_back_later_is_another_episode_that_begins_behind_the_first() -> None:
    first, later = [(0, "wind", finding(0, 2)), (1, "wind", finding(1, 0))], 100
    told = tell(book(), [*first, (later, "wind", finding(later, 2, onset=0))])  # an onset before the first one closed
    assert short(told)[-1] == ("wind", "opened", 101)
    assert len({record["id"] for record in told}) == 2
    assert told[-1]["onset"] == told[1]["at"] == 2000
    assert told[-1]["number"] == 0


def test_what_comes_and_goes_all_the_time_is_told_a_few_times_only() -> None:
    told = tell(book(), story([2, 0] * 5000), until=30_000)
    assert 3 <= len(told) <= 5
    assert told[-1]["state"] == "closed"


def test_where_nothing_is_remembered_each_return_is_told() -> None:
    forgetful = book(Manners(a_while_ms=0, gather_ms=0))
    assert len(tell(forgetful, story([2, 0] * 50))) == 100


def test_an_episode_that_came_back_closes_once_it_was_calm_for_a_while() -> None:
    told = tell(book(), story([2, 0, 2, 0]))
    assert short(told)[-1] == ("wind", "closed", 4 + 60)


def test_two_columns_stand_alone_and_three_are_a_group_that_is_told_first() -> None:
    two = tell(book(), [(tick, f"f{tick}", finding(tick, 2)) for tick in range(2)])
    assert [record["group"] for record in two] == ["", ""]
    told = tell(book(), [(tick, f"f{tick}", finding(tick, 2)) for tick in range(3)])
    assert [record["name"] for record in told] == ["columns", "f0", "f1", "f2"]
    parent, *members = told
    assert (parent["kind"], parent["members"], parent["onset"]) == ("group", ["f0", "f1", "f2"], 0)
    assert parent["summary"] == "3 of 30 features moved together: f0, f1, f2"
    assert {record["group"] for record in members} == {parent["id"]}
    assert parent["group"] == ""
    assert [each["bin"] for each in parent["evidence"]] == ["f0: 1 .. 2", "f1: 1 .. 2", "f2: 1 .. 2"]
    records.decode("alert", encoded(parent)[1])


def test_a_group_says_when_values_are_missing_in_all_of_it_and_only_then() -> None:
    for last, expected in ((MISSING, True), (MOVED, False)):
        steps = [(0, f"f{at}", finding(0, 2, MISSING)) for at in range(11)]
        told = tell(book(), [*steps, (0, "g", finding(0, 2, last))])
        assert told[0]["summary"].startswith("12 of 30 features moved together: f0, f1, f2, f3, f4 and 7 more")
        assert ("more values are missing in all of them" in told[0]["summary"]) is expected
        assert ("one source" in told[0]["action"]) is expected


def test_two_detectors_that_find_the_same_two_columns_are_no_group() -> None:
    of, found = book(), list[Told]()
    for detector in ("psi", "page_hinkley"):
        for name in ("wind", "late"):
            about = Subject("flights", "active", "late", "v1", detector, "feature", name)
            found += of.take(about, finding(0, 2), 1, 1)
    assert [record["group"] for record in [*found, *of.settle(99_000)]] == [""] * 4


def test_who_moves_within_a_while_joins_the_group_and_is_told_of_with_the_others() -> None:
    steps = [(0, f"f{at}", finding(0, 2)) for at in range(3)] + [(20, f"g{at}", finding(20, 2)) for at in range(2)]
    told = tell(book(), steps)
    parents = [record for record in told if record["kind"] == "group"]
    assert [(record["state"], record["at"] // 1000) for record in parents] == [("opened", 1), ("updated", 61)]
    assert parents[1]["summary"] == "5 of 30 features moved together: f0, f1, f2, g0, g1"
    assert len({record["group"] for record in told} - {""}) == 1
    later = tell(book(), [*steps[:3], (100, "h", finding(100, 2))])
    assert later[-1]["group"] == ""


def test_a_group_closes_behind_its_last_member() -> None:
    steps = [(0, f"f{at}", finding(0, 2)) for at in range(3)] + [(10 + at, f"f{at}", finding(10, 0)) for at in range(3)]
    told = tell(book(), steps)
    assert [record["name"] for record in told][-2:] == ["f2", "columns"]
    assert told[-1]["state"] == "closed"
    assert told[-1]["severity"] == "info"
    assert told[-1]["peak"] == told[0]["summary"]
    assert tell(book(), steps[:-1])[-1]["name"] != "columns"


def test_a_member_that_comes_back_after_its_group_is_told_of_again() -> None:
    steps = [(0, f"f{at}", finding(0, 2)) for at in range(3)] + [(10, f"f{at}", finding(10, 0)) for at in range(3)]
    told = tell(book(), [*steps, (30, "f1", finding(30, 2))])
    assert short(told)[-1] == ("f1", "opened", 31)
    assert told[-1]["group"] == ""


def test_a_version_that_is_gone_leaves_nothing_open() -> None:
    of = book()
    told = tell(of, [(0, f"f{at}", finding(0, 2)) for at in range(4)], until=1)  # still held
    assert told == []
    told = list(of.end("gone", 50_000))
    states = Counter((record["kind"], record["state"]) for record in told)
    assert states == {
        (kind, state): number for kind, number in (("group", 1), ("feature", 4)) for state in ("opened", "closed")
    }
    assert of.open == 0
    assert {record["summary"] for record in told if record["state"] == "closed" and record["kind"] == "feature"} == {
        "gone"
    }


def wild(seed: int, ticks: int = 400) -> list[Step]:
    """Findings of six columns that move together, alone, again and again."""
    chance, level, steps = random.Random(seed), [0.0] * 6, list[Step]()
    for tick in range(ticks):
        if chance.random() < 0.03:
            together = chance.uniform(0, 20)
            level = [together] * 6
        for at in range(6):
            if chance.random() < 0.1:
                level[at] = chance.choice([0, 0, 2, 5, 15])
            if chance.random() < 0.5:
                steps.append((tick, f"f{at}", finding(tick, level[at], chance.choice([MOVED, MISSING]))))
    return steps


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("every", [1, 7])
def test_starting_over_from_what_was_written_down_changes_no_record(seed: int, every: int) -> None:
    assert tell(book(), wild(seed), every=every) == tell(book(), wild(seed))


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_each_id_is_numbered_without_a_gap_and_opens_before_it_closes(seed: int) -> None:
    told = tell(book(), wild(seed))
    by_id: dict[str, list[Told]] = {}
    for record in told:
        by_id.setdefault(record["id"], []).append(record)
    assert len(by_id) > 4
    for found in by_id.values():
        assert [record["number"] for record in found] == list(range(len(found)))
        assert found[0]["state"] == "opened"
        states = [record["state"] for record in found]
        assert all(before == "closed" for before, state in itertools.pairwise(states) if state == "opened")
        assert all(before != "closed" for before, state in itertools.pairwise(states) if state != "opened")
        openings = [record["at"] for record in found if record["state"] != "closed"]
        changes = [record["at"] for record in found if record["state"] == "updated"]
        assert all(later - max(at for at in openings if at < later) >= MANNERS.a_while_ms for later in changes)


@pytest.mark.parametrize("seed", range(20))
def test_it_does_not_matter_in_how_many_steps_time_passes(seed: int) -> None:
    of, found = book(), list[Told]()
    for tick, name, said in wild(seed):
        for part in range(1, 4):
            found += of.settle(1000 * tick - 1000 + 333 * part)
        found += of.settle(1000 * tick)
        found += of.take(subject(name), said, 1, 1)
    found += of.settle(10_000_000)
    assert found == tell(book(), wild(seed))


@pytest.mark.parametrize("seed", range(20))
def test_a_group_is_open_exactly_while_one_of_its_members_is(seed: int) -> None:
    told = tell(book(), wild(seed))
    open_now: set[str] = set()
    belongs = {record["id"]: record["group"] for record in told}
    for record in told:
        (open_now.discard if record["state"] == "closed" else open_now.add)(record["id"])
    for identity in {record["group"] for record in told} - {""}:
        members = {each for each in open_now if belongs[each] == identity}
        assert (identity in open_now) == bool(members)
