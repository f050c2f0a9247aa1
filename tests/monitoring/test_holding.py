"""What is held back: where it ends follows from the log, so fetches and restarts change nothing; and a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.folds import Folding, Out, Record
from monitoring.holding import MOST_BYTES, MOST_RECORDS, SPAN_MS, Held
from monitoring.join_state import State
from monitoring.joining import JoinFold
from monitoring.ledger import Ledger, Snapshot
from tests.monitoring.joins import AnEvent, World, joining, moments, sample

AT = 1_000_000  # ms, where a moment begins


def held_of(*records: Record) -> Held:
    held = Held()
    for record in records:
        held.add(record)
    return held


def record(offset: int, time: int, value: bytes | None = b"v") -> Record:
    return Record(0, offset, None, value, time)


def log_of(seed: int) -> list[Record]:
    """A log with holes in its offsets, as transactions leave them."""
    values = World(seed).log()
    times = moments(len(values), seed)
    return [Record(0, 2 * at + at // 7, None, value, times[at]) for at, value in enumerate(values)]


def test_a_moment_ends_with_the_first_record_of_another_one() -> None:
    held = held_of(record(3, AT), record(4, AT + SPAN_MS - 1))
    assert not held.full
    assert not held.ends_before(record(5, AT))
    assert held.ends_before(record(5, AT + SPAN_MS))
    assert held.ends_before(record(5, AT - 1))
    assert held.ends_before(record(5, -1))
    assert not Held().ends_before(record(5, AT))


def test_many_records_many_bytes_and_no_time_end_it_at_once() -> None:
    assert held_of(record(1, -1)).full
    assert held_of(record(1, AT, None), record(2, AT, bytes(MOST_BYTES))).full
    assert not held_of(record(1, AT, bytes(MOST_BYTES - 1))).full
    assert held_of(*(record(at, AT) for at in range(MOST_RECORDS))).full
    assert not held_of(*(record(at, AT) for at in range(MOST_RECORDS - 1))).full


def test_what_is_taken_is_held_no_more() -> None:
    held = held_of(record(7, AT), record(9, AT))
    assert held.first == 7
    assert [each.offset for each in held.take()] == [7, 9]
    assert (held.first, held.size, held.records) == (None, 0, [])


@dataclass
class Told:
    """What a fold told of a log: parts by number, each with the same bytes however often, and its last snapshot."""

    parts: dict[bytes, bytes]
    last: Snapshot | None = None

    def take(self, outs: list[Out]) -> None:
        for out in outs:
            assert self.parts.setdefault(out.key or b"", out.value or b"") == out.value


Fetched = Callable[[Ledger[State]], None]


def told_of(
    log: list[Record],
    fetches: list[int],
    restarts: Sequence[tuple[int, bool]] = (),
    fold: JoinFold | None = None,
    fetched: Fetched = lambda _: None,
) -> Told:
    """Fold a log in fetches of so many records, and cut after each.

    restarts: by fetch: how many snapshots are lost, and whether memory is, too.
    """
    fold, found, snapshots = fold or joining(), Told({}), list[Snapshot | None]([None])
    ledger, at, number = _ledger(fold), 0, 0
    ledger.restore(0, None, 0)
    while at < len(log):
        for each in log[at : at + fetches[number % len(fetches)]]:
            ledger.accept(each, ledger.position(0))
        fetched(ledger)
        cut = ledger.cut()
        found.take(cut.outs)
        snapshots += [Snapshot.decode(value) for value in cut.snapshots.values()]
        lost, forgets = restarts[number] if number < len(restarts) else (0, False)
        if forgets:
            snapshots = snapshots[: max(len(snapshots) - lost, 1)]
            ledger = _ledger(fold)
        start = ledger.restore(0, snapshots[-1], 0)
        at, number = next((n for n, each in enumerate(log) if each.offset >= start), len(log)), number + 1
    found.last = snapshots[-1]
    return found


def _ledger(fold: JoinFold) -> Ledger[State]:
    ledger = Ledger(fold)
    ledger.own([0])
    return ledger


@cache
def told_once(seed: int) -> Told:
    """Fold a log in one fetch."""
    log = log_of(seed)
    return told_of(log, [len(log)])


def told_alone(ledger: Ledger[State]) -> None:
    """Break the rule: what is held ends where a fetch does."""
    folding: Any = ledger._foldings[0]
    if folding.state.held.records:
        ledger._pending += folding.fold._taken(folding.state)


@pytest.mark.parametrize("seed", range(6))
@settings(max_examples=15, deadline=None)
@given(
    fetches=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    restarts=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=10),
)
def test_however_the_log_is_cut_into_fetches_and_restarts_it_comes_to_the_same(
    seed: int, fetches: list[int], restarts: list[tuple[int, bool]]
) -> None:
    once, often = told_once(seed), told_of(log_of(seed), fetches, restarts)
    assert often.parts == once.parts
    assert often.last == once.last


def _same(seed: int, fetches: int, fetched: Fetched) -> bool:
    once = told_once(seed)
    try:
        often = told_of(log_of(seed), [fetches], fetched=fetched)
    except AssertionError:
        return False
    return once.parts == often.parts and once.last == often.last


def test_a_fold_that_takes_what_is_held_where_a_fetch_ends_fails_the_same_comparison() -> None:
    assert all(_same(seed, 3, lambda _: None) for seed in range(6))
    assert not all(_same(seed, 3, told_alone) for seed in range(6))


class Hasty(JoinFold):
    """Says that nothing is held, so that its snapshots stand behind records that they do not count."""

    def held(self, state: State) -> int | None:
        return None


def test_a_snapshot_that_leaves_out_what_is_held_fails_the_same_comparison() -> None:
    wrong = 0
    for seed in range(6):
        try:
            found = told_of(log_of(seed), [3], [(0, True)] * 20, Hasty(joining()._joining))
            wrong += found.parts != told_once(seed).parts
        except AssertionError:
            wrong += 1
    assert wrong


def _event(at: int) -> bytes:
    return sample("active", [AnEvent(b"k%d" % at, 1000 + at, 0, at, (0.5, 0.5), "A")])


def test_what_is_held_is_read_again_and_counted_nowhere_before() -> None:
    fold = joining()
    folding = Folding(fold, 0, 0)
    for at in range(3):
        folding.apply(record(10 + at, AT + at, _event(at)))
    assert (folding.position, folding.next, folding.low()) == (13, 10, 10)
    assert {what: fold.facts(folding.state).get(what) for what in ("held", "pending", "events")} == {
        "held": 3,
        "pending": 0,
        "events": None,
    }
    assert folding.dump() == Folding(fold, 0, 0).dump()
    folding.apply(record(13, AT + SPAN_MS, _event(3)))
    assert (folding.position, folding.next, folding.low()) == (14, 13, 10)  # what is pending is read again, too
    assert {what: fold.facts(folding.state).get(what) for what in ("held", "pending", "events")} == {
        "held": 1,
        "pending": 3,
        "events": 3,
    }


def test_a_snapshot_that_is_cut_while_records_are_read_again_stands_where_its_state_does() -> None:
    fold = joining()
    first = Folding(fold, 0, 0)
    for at in range(4):
        first.apply(record(at, AT + at * SPAN_MS, _event(at)))
    again = Folding(fold, 0, first.next, first.dump(), first.low())
    again.apply(record(0, AT, _event(0)))
    assert again.rewinding
    assert (again.position, again.next, again.low()) == (1, 3, 0)
