"""The join against plain sets and dicts: any order, repeats, lost copies, restarts; and controls that must fail."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from models.together import Head
from monitoring import judging
from monitoring.cells import Group, Tables
from monitoring.errors import SnapshotInvalid
from monitoring.folds import Folding, Record
from monitoring.join_state import State
from monitoring.joining import JoinFold
from tests.monitoring.dict_judging import score_bin
from tests.monitoring.joins import ARMS, ALabel, AnEvent, Reader, Truth, World, copies, joining, moments, sample

SEEDS = range(40)
COUNTED = ("pairs", "missing", "unmatched", "corrections", "duplicates", "labels")


def outcomes(tables: Tables, arm: str, origin: str | None) -> Counter[tuple[int, bool]]:
    segment = ("", "") if origin is None else ("origin", origin)
    cells = tables.get(Group(arm, "late", f"{arm}-1", *segment, "binary"), {})
    return Counter({(cell // 2, bool(cell % 2)): by for cell, by in cells.items() if cell < judging.SUMS})


def differences(reader: Reader, truth: Truth) -> list[str]:
    """What of the parts is not as the truth is."""
    tables, counts = reader.total()
    expected = truth.counts()
    found = [f"{what}: {counts[what]} not {expected[what]}" for what in COUNTED if counts[what] != expected[what]]
    for arm in ARMS:
        for origin in (None, "A", "B", "C"):
            if outcomes(tables, arm, origin) != truth.outcomes(arm, origin):
                found.append(f"outcomes of {arm} {origin}")
    revenue = tables.get(Group("active", "late", "active-1", "", "", "number", "revenue"), {})
    count, total = truth.revenue()
    if (revenue.get(judging.COUNT, 0), revenue.get(judging.SUM, 0)) != (count, round(total * judging.FIXED)):
        found.append("revenue")
    return found


def read(seed: int, fold: JoinFold, deaths: bool = True) -> tuple[Reader, Truth]:
    world = World(seed)
    log = world.log()
    times = moments(len(log), seed) if seed % 4 else None  # then each record is taken alone
    return Reader(log, fold, times).run(random.Random(seed) if deaths else None), world.truth()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_pair_is_counted_once_in_whatever_order_records_come_and_however_often_the_fold_starts_over(
    seed: int,
) -> None:
    reader, truth = read(seed, joining())
    assert differences(reader, truth) == []
    facts = reader.fold.facts(reader.folding.state)
    assert facts["events"] == truth.counts()["events"] + 2  # those that let it end
    assert not any(facts.get(what) for what in ("poison", "foreign", "expired_labels", "forced"))


@pytest.mark.parametrize("seed", range(20))
def test_a_fold_that_starts_over_tells_the_same_bytes_and_ends_in_the_same_state(seed: int) -> None:
    log = World(seed).log()
    times = moments(len(log), seed)
    once, often = Reader(log, joining(), times).run(), Reader(log, joining(), times).run(random.Random(seed))
    assert once.parts == often.parts
    assert once.folding.dump() == often.folding.dump()


@pytest.mark.parametrize("seed", range(20))
def test_who_won_is_counted_for_every_labelled_event_that_two_arms_scored(seed: int) -> None:
    reader, truth = read(seed, joining())
    tables, _ = reader.total()
    cells = tables.get(Group("active", "late", "active-1", "", "", "divergence", "next/late/next-1"), {})
    expected = Counter(
        judging.RIGHT
        + 2 * ((event.scores[0] >= 0.5) == chain[-1].value)
        + ((event.scores[1] >= 0.5) == chain[-1].value)
        for event, chain in truth.owned.items()
        if chain
    )
    assert {cell: by for cell, by in cells.items() if judging.RIGHT <= cell < judging.CLOSER} == expected
    assert cells[judging.AGREES] + cells.get(judging.DIFFERS, 0) == len(truth.owned)


class Forgetful(JoinFold):
    """Takes every copy of a label, as if it had not been taken before."""

    def _copies(self, state: State, head: Head, latest: int) -> int | None:
        state.taken.clear()
        return super()._copies(state, head, latest)


class Trusting(JoinFold):
    """Takes copies that follow one which was lost."""

    def _copies(self, state: State, head: Head, latest: int) -> int | None:
        state.taken[head.partition] = max(state.taken.get(head.partition, 0), head.follows, 0)
        return super()._copies(state, head, latest)


class Amnesiac(JoinFold):
    """Starts over with the totals, but without what was pending."""

    def low(self, state: State, position: int) -> int:
        return position


@pytest.mark.parametrize("broken", [Forgetful, Trusting, Amnesiac])
def test_a_fold_that_breaks_the_rules_fails_the_same_comparison(broken: type[JoinFold]) -> None:
    wrong = 0
    for seed in SEEDS:
        world = World(seed)
        log = world.log()
        try:
            reader = Reader(log, broken(joining()._joining), moments(len(log), seed)).run(random.Random(seed))
            wrong += bool(differences(reader, world.truth()))
        except (AssertionError, KeyError, IndexError):
            wrong += 1
    assert wrong > 5


def _fold(*values: bytes, time: int = -1) -> tuple[JoinFold, Folding[State]]:
    fold = joining()
    folding = Folding(fold, 0, 0)
    for at, value in enumerate(values):
        folding.apply(Record(0, at, None, value, time if at < len(values) - 1 else -1))  # the last one ends all
    return fold, folding


EVENT = AnEvent(b"k", 1000, 0, 0, (0.9, 0.2), "A")
LABEL = ALabel(b"k", 2000, 0, 0, True, 1.0)


def test_what_is_not_a_record_of_this_deployment_is_counted_and_passed_over() -> None:
    fold, folding = _fold(b"", b"junk", sample("active", [EVENT], "other"))
    assert fold.facts(folding.state) == {
        "poison": 2,
        "foreign": 1,
        "held": 0,
        "pending": 0,
        "open_ticks": 0,
        "parts": 0,
    }


def test_times_far_in_the_future_or_absent_are_counted_and_move_no_clock() -> None:
    far = AnEvent(b"k", 10**12, 0, 0, (0.9, 0.2), "A")
    late = ALabel(b"k", 10**12, 0, 1, True, 1.0)
    none = AnEvent(b"k", -1, 0, 1, (0.9, 0.2), "A")
    fold, folding = _fold(sample("active", [far, none]), copies(-1, 2, 10**12, [late]), b"", time=5000)
    facts = fold.facts(folding.state)
    assert (facts["untimed_events"], facts["untimed_labels"], facts["pending"]) == (2, 1, 0)
    assert max(folding.state.clocks.copied.values()) < 10**8


def test_a_label_without_a_value_is_counted_and_joined_with_nothing() -> None:
    empty = ALabel(b"k", 2000, 0, 0, None, 1.0)  # type: ignore[arg-type]
    fold, folding = _fold(sample("active", [EVENT]), copies(-1, 1, 2000, [empty]))
    facts = fold.facts(folding.state)
    assert (facts["empty_labels"], facts.get("pairs")) == (1, None)


def test_a_correction_takes_away_what_it_corrects() -> None:
    again, other = ALabel(b"k", 3000, 0, 1, True, 1.0), ALabel(b"k", 4000, 0, 2, False, 1.0)
    fold, folding = _fold(sample("active", [EVENT]), copies(-1, 3, 4000, [LABEL, again, other]))
    facts = fold.facts(folding.state)
    assert (facts["pairs"], facts["duplicates"], facts["corrections"]) == (1, 1, 1)
    (tables,) = folding.state.ticks.open.values()
    assert outcomes(tables, "active", None) == {(score_bin(0.9), False): 1}


def test_labels_that_come_after_the_window_are_late_and_those_without_an_event_are_unmatched() -> None:
    late = ALabel(b"k", 60_000, 0, 0, True, 1.0)
    nobody = ALabel(b"n", 60_000, 0, 1, True, 1.0)
    fold, folding = _fold(sample("active", [EVENT]), copies(-1, 2, 60_000, [late, nobody]))
    facts = fold.facts(folding.state)
    assert (facts["late_labels"], facts.get("pairs")) == (1, None)


def test_segments_beyond_the_limit_are_one() -> None:
    events = [AnEvent(b"k", 1000, 0, at, (0.9, 0.2), f"origin {at}") for at in range(250)]
    _, folding = _fold(sample("active", events))
    (tables,) = folding.state.ticks.open.values()
    told = {group.value for group in tables if group.segment == "origin"}
    assert len(told) == 201
    assert tables[Group("active", "late", "active-1", "origin", "other", "scored")] == {score_bin(0.9): 50}


@pytest.mark.parametrize("data", [b"", b"x", JoinFold(joining()._joining).dump(joining().new(0))[:-3]])
def test_a_damaged_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotInvalid):
        joining().load(data)


def test_without_labels_ticks_close_by_the_events_alone() -> None:
    fold = joining(labels=0)
    reader = Reader(
        [
            sample("active", [EVENT]),
            sample("next", [EVENT]),
            sample("active", [AnEvent(b"z", 10**6, 0, 1, (0.5, 0.5), "A")]),
        ],
        fold,
    ).run()
    tables, _ = reader.total()
    assert tables[Group("active", "late", "active-1", "", "", "divergence", "next/late/next-1")]
