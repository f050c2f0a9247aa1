"""Outcomes of events that arms share: each counted once, by where it was assigned, however often the fold dies."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import polars as pl
import pytest

from models.samples import Maker, Samples
from monitoring.errors import PartInvalid
from monitoring.folds import Folding, Record
from monitoring.join_state import State
from monitoring.joining import JoinFold
from monitoring.rewards import EVERY_MS, Reward, Told
from tests.monitoring.joins import FAR, REWARDS, ALabel, Reader, World, copies, joining, moments

SEEDS = range(12)


def fold(**changes: object) -> JoinFold:
    return joining(rewards=REWARDS, **changes)


def read(seed: int, made: JoinFold, share: float = 0.9) -> tuple[Reader, World]:
    world = World(seed, share)
    log = world.log()
    return Reader(log, made, moments(len(log), seed)).run(random.Random(seed)), world


def total(reader: Reader) -> Counter[tuple[str, str, str]]:
    """Outcomes and good ones by segment, value and what: those that were told, and those that are not yet."""
    found = Counter[tuple[str, str, str]]()
    rewards = [reward for value in reader.rewards.values() for reward in Told.of(value).rewards]
    for place, (count, good, _) in reader.folding.state.rewards.sums.items():
        rewards.append(Reward(*place, count, good / 2**20, 0.0))
    for each in rewards:
        assert (each.revision, each.arm, each.metric) == (1, "active", "accuracy")
        found[each.segment, each.value, "count"] += each.count
        found[each.segment, each.value, "good"] += round(each.total)
    return found


def truth(world: World) -> Counter[tuple[str, str, str]]:
    found = Counter[tuple[str, str, str]]()
    for event, chain in world.truth().owned.items():
        if chain:
            for place in (("", ""), ("origin", event.origin)):
                found[*place, "count"] += 1
                found[*place, "good"] += (event.scores[0] >= 0.5) == chain[-1].value
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_every_outcome_is_counted_once(seed: int) -> None:
    reader, world = read(seed, fold())
    assert +total(reader) == +truth(world)


def test_a_fold_that_forgets_what_it_did_not_tell_is_found_out() -> None:
    class Forgetful(JoinFold):
        def load(self, data: bytes) -> State:
            state = super().load(data)
            state.rewards.sums.clear()
            return state

    wrong = 0
    for seed in SEEDS:
        try:
            reader, world = read(seed, Forgetful(fold()._joining))
            wrong += +total(reader) != +truth(world)
        except AssertionError:  # a record under the number of another one
            wrong += 1
    assert wrong > len(SEEDS) / 2


def test_events_that_an_arm_has_alone_tell_nothing() -> None:
    reader, _ = read(1, fold(), share=1.0)
    assert not reader.rewards
    assert not reader.folding.state.rewards.sums


def scored(arm: str, assigned: str, revision: int, share: float, keys: list[bytes], scores: list[float]) -> bytes:
    count = len(keys)
    return Samples(
        Maker("flights", revision, "events", arm, assigned, share, "assigned", "late", f"{arm}-1"),
        np.zeros(count, np.int64),
        np.arange(count) + int(keys[0]),
        np.full(count, 1000),
        keys,
        {"late": pl.Series("late", scores, pl.Float64)},
    ).encode()


def told_by(values: list[bytes], **changes: object) -> list[Told]:
    """What a log tells; each record stands in a moment of its own."""
    folding, found = Folding(fold(**changes), 0, 0), []
    for at, value in enumerate([*values, b"poison", b"poison"]):
        found += folding.apply(Record(0, at, None, value, FAR + at * 2 * EVERY_MS))
    return [Told.of(out.value or b"") for out in found if out.topic == REWARDS]


def label(key: bytes, value: bool, offset: int, revenue: float = 1.0) -> ALabel:
    return ALabel(key, 2000, 0, offset, value, revenue)


def test_who_stepped_in_counts_for_the_arm_that_the_event_was_assigned_to() -> None:
    values = [
        scored("active", "active", 3, 0.9, [b"1", b"2"], [0.9, 0.1]),
        scored("canary", "canary", 3, 0.1, [b"3"], [0.9]),
        scored("active", "canary", 3, 0.1, [b"4"], [0.9]),
        scored("active", "active", 4, 0.5, [b"5"], [0.9]),
        copies(-1, 5, FAR, [label(b"%d" % each, True, each) for each in range(1, 6)]),
    ]
    (told,) = told_by(values)
    found = {(each.revision, each.arm): (each.count, each.total) for each in told.rewards}
    assert found == {(3, "active"): (2, 1.0), (3, "canary"): (2, 2.0), (4, "active"): (1, 1.0)}
    assert (told.deployment, told.partition, told.number) == ("flights", 0, 0)


def test_a_correction_takes_away_what_it_corrects() -> None:
    values = [
        scored("active", "active", 3, 0.9, [b"1"], [0.9]),
        copies(-1, 2, FAR, [label(b"1", True, 1)]),
        copies(2, 3, FAR, [ALabel(b"1", 3000, 0, 2, False, 1.0)]),
    ]
    told = told_by(values)
    assert [each.number for each in told] == [0, 1]
    assert [(reward.count, reward.total) for each in told for reward in each.rewards] == [(1, 1.0), (0, -1.0)]


def test_what_is_no_record_of_it_is_refused() -> None:
    with pytest.raises(PartInvalid):
        Told.of(b"poison")
