"""The design effect that neighbouring blocks teach is that of the stream, and a change is not taken for it."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from models.reference import Reference
from monitoring.effects import EARLY, FIRST, Effects
from monitoring.past import Pair, Past
from monitoring.tilts import Floats, Tilts, tilts_of

EVENTS = 200
Counts = np.ndarray


def _column() -> tuple[Tilts, Floats]:
    reference = Reference.from_frame(pl.DataFrame({"x": np.random.default_rng(1).normal(size=100_000)}))
    bins = reference.slices[0].bins
    return tilts_of(bins, reference.tally.cells), np.array(bins.edges)  # type: ignore[union-attr]


TILTS, EDGES = _column()
MEAN = int(TILTS.along[TILTS.names.index("mean +0.1")])
EVERYBODY, NOBODY = np.ones(1, np.bool_), np.zeros(1, np.bool_)


def _counts(values: Floats) -> Counts:
    return np.bincount(np.searchsorted(EDGES, values, side="right"), minlength=len(EDGES) + 2)


def _alike(rng: np.random.Generator, level: float = 0.0) -> Counts:
    return _counts(rng.normal(level, 1, EVENTS))


def _bursts(rng: np.random.Generator) -> Counts:
    return _counts(np.repeat(rng.normal(size=EVENTS), rng.geometric(0.25, EVENTS))[:EVENTS])


def _sparse(rng: np.random.Generator, alike: int = 1) -> Counts:
    """A tick of 100 events, of which so many are alike each time."""
    return _counts(np.repeat(rng.normal(size=100 // alike), alike))


def _cells(pair: Pair) -> Counts:
    return np.stack([pair.earlier.cells, pair.later.cells])[:, None]


def _learned(ticks: list[Counts], quiet: list[bool] | None = None) -> Effects:
    effects, past = Effects([TILTS]), Past()
    for tick, cells in enumerate(ticks):
        for pair in past.add(tick, cells):
            still = quiet is None or quiet[pair.earlier.start]
            effects.take(pair, _cells(pair), np.array([still]), NOBODY)
        effects.tick()
    return effects


def test_independent_events_tell_as_much_as_they_are() -> None:
    rng = np.random.default_rng(1)
    values = _learned([_alike(rng) for _ in range(1024)]).values[0]
    assert np.median(values) == 1
    assert values[MEAN] < 1.5


def test_bursts_have_the_effect_of_their_sizes() -> None:
    rng = np.random.default_rng(2)
    values = _learned([_bursts(rng) for _ in range(1024)]).values[0]
    assert 7 <= values[MEAN] <= 14  # 2 x 4 - 1, and a doubt


def test_a_level_that_wanders_over_many_ticks_is_seen_in_longer_blocks() -> None:
    rng, level, ticks = np.random.default_rng(3), 0.0, []
    for _ in range(2048):
        level = 0.95 * level + rng.normal(0, 0.05)
        ticks.append(_alike(rng, level))
    expected = 1 + EVENTS * (0.05 / 0.05) ** 2  # of the sum of an autoregression
    values = _learned(ticks).values[0]
    assert 0.4 * expected <= values[MEAN] <= 3 * expected
    assert values[MEAN] > 10 * np.median(values)


def test_nothing_is_known_before_there_are_neighbours_enough() -> None:
    rng = np.random.default_rng(4)
    ticks = [_alike(rng) for _ in range(FIRST)]
    early = _learned(ticks[:-1])
    assert not early.known
    assert (early.values == EARLY).all()
    assert _learned(ticks).known
    assert _learned(ticks).values.max() < EARLY
    assert Effects([TILTS], declared=2.0).known


def test_a_level_that_moves_once_does_not_hide_that_it_moved() -> None:
    rng = np.random.default_rng(5)
    ticks = [_alike(rng) for _ in range(600)] + [_alike(rng, 0.5) for _ in range(40)]
    assert _learned(ticks).values[0][MEAN] < 1.5


def test_events_that_lie_elsewhere_are_no_dependence_of_theirs() -> None:
    rng, effects, past = np.random.default_rng(11), Effects([TILTS]), Past()
    for tick in range(600):
        for pair in past.add(tick, _counts(rng.normal(3.0, 1, EVENTS))):
            effects.take(pair, _cells(pair), EVERYBODY, EVERYBODY)
        effects.tick()
    assert effects.values.max() < 2


def test_pairs_in_which_an_episode_begins_or_ends_do_not_count() -> None:
    rng = np.random.default_rng(6)
    ticks = [_alike(rng) for _ in range(600)] + [_alike(rng, 0.5) for _ in range(900)]
    quiet = [tick < 500 or tick > 700 for tick in range(1500)]
    assert _learned(ticks, quiet).values[0][MEAN] < _learned(ticks).values[0][MEAN]


def test_a_direction_that_hardly_any_event_takes_is_as_most_are() -> None:
    rng = np.random.default_rng(7)
    effects = _learned([_bursts(rng) for _ in range(300)])
    rare = int(TILTS.along[TILTS.names.index(next(name for name in TILTS.names if name.startswith("< ")))])
    assert effects.values[0][rare] >= 4


def test_rare_events_tell_by_their_number_and_chance_in_others_is_not_taken_for_theirs() -> None:
    spread, worst = int(TILTS.along[TILTS.names.index("spread +0.15")]), []
    for seed in range(12):  # one in four had an effect of 1.2 here where blocks with few rare events told nothing
        values = _learned([_sparse(np.random.default_rng([20, seed])) for _ in range(400)]).values[0]
        worst.append(float(values[spread]))
    assert worst.count(1.0) >= 11
    bursts = [_sparse(np.random.default_rng([21, seed]), alike=5) for seed in range(400)]
    assert 3 <= _learned(bursts).values[0][spread] <= 12


def test_a_column_of_few_directions_beside_one_of_many_is_judged_by_its_own() -> None:
    rng = np.random.default_rng(22)
    names = [*["a"] * 500, *["b"] * 300, *["c"] * 199, "d"] * 100
    reference = Reference.from_frame(pl.DataFrame({"c": names, "x": rng.normal(size=len(names))}))
    tilts = [tilts_of(part.bins, reference.tally.cells[part.start : part.end]) for part in reference.slices]
    few, many = (each.directions.shape for each in tilts)
    assert few[1] < many[1] / 4
    effects, past = Effects(tilts), Past()
    for tick in range(300):
        cells = np.zeros((2, many[0]), np.int64)
        for row, (each, size) in enumerate(zip(tilts, (few[0], many[0]), strict=True)):
            drawn = np.repeat(rng.choice(size, EVENTS // 4, p=each.shares), 4)
            cells[row, :size] = np.bincount(drawn, minlength=size)
        for pair in past.add(tick, cells.ravel()):
            two = np.stack([pair.earlier.cells, pair.later.cells]).reshape(2, *cells.shape)
            effects.take(pair, two, np.ones(2, np.bool_), np.zeros(2, np.bool_))
        effects.tick()
    rare = next(at for at in range(few[1]) if np.flatnonzero(tilts[0].directions[:, at]).tolist() == [3])
    assert effects.values[0][rare] > 2.5
    assert (effects.values[0][few[1] :] >= 1).all()


def test_what_was_declared_stays() -> None:
    effects, past, rng = Effects([TILTS], declared=3.0), Past(), np.random.default_rng(8)
    for tick in range(400):
        for pair in past.add(tick, _bursts(rng)):
            effects.take(pair, _cells(pair), EVERYBODY, NOBODY)
        assert not effects.tick()
    assert (effects.values == 3.0).all()


@pytest.mark.parametrize("cut", [100, 333, 480])
def test_it_goes_on_from_its_dump_to_the_last_bit(cut: int) -> None:
    rng = np.random.default_rng(9)
    ticks = [_bursts(rng) for _ in range(600)]
    whole, part, past = Effects([TILTS]), Effects([TILTS]), Past()
    for tick, cells in enumerate(ticks):
        if tick == cut:
            document = json.loads(json.dumps(part.dump()))
            part = Effects([TILTS])
            part.load(document)
        for pair in past.add(tick, cells):
            for each in (whole, part):
                each.take(pair, _cells(pair), EVERYBODY, NOBODY)
        assert whole.tick() == part.tick()
        assert whole.values.tobytes() == part.values.tobytes()
    assert whole.dump() == part.dump()
