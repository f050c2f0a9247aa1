"""The e-detector keeps its budget of false alarms, finds changes, and is the same wherever it was started over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from models.reference import Reference
from monitoring.edetector import EDetector
from monitoring.errors import SnapshotInvalid
from monitoring.tilts import Tilts, tilts_of

ROWS = 50_000
ALARM = 50.0
Counts = np.ndarray


def _column(seed: int = 1) -> tuple[Tilts, Counts]:
    reference = Reference.from_frame(pl.DataFrame({"x": np.random.default_rng(seed).normal(size=ROWS)}))
    part = reference.slices[0]
    return tilts_of(part.bins, reference.tally.cells), reference.tally.cells


def _run_lengths(tilts: Tilts, raised: float, runs: int = 60, most: int = 400) -> list[int]:
    """Ticks until the first alarm of independent runs on traffic like the reference; `most` where none came."""
    loud = replace(tilts, increments=tilts.increments + raised)
    rng, detector = np.random.default_rng(5), EDetector([loud] * runs)
    shares = tilts.shares / tilts.shares.sum()
    first = np.full(runs, most)
    for tick in range(1, most):
        evidence = detector.update(rng.multinomial(100, shares, size=runs))
        first = np.where((evidence >= ALARM) & (first == most), tick, first)
    return first.tolist()


def test_false_alarms_come_on_average_no_earlier_than_promised() -> None:
    assert np.mean(_run_lengths(_column()[0], 0.0)) >= ALARM


def test_the_check_fails_for_a_detector_that_gains_without_a_change() -> None:
    assert np.mean(_run_lengths(_column()[0], 0.002)) < ALARM


def test_a_change_is_found_and_named() -> None:
    tilts, cells = _column()
    detector = EDetector([tilts, tilts])
    moved = np.bincount(
        np.searchsorted(np.cumsum(tilts.shares), np.random.default_rng(2).random(2000) ** 0.5), minlength=len(cells)
    )
    still = np.round(tilts.shares * 2000).astype(np.int64)
    evidence = detector.update(np.stack([still, moved[: len(cells)]]))
    assert evidence[0] < 10
    assert evidence[1] > 1e6
    assert detector.strongest(1)[0].startswith("mean +")


def test_a_column_that_begins_again_touches_no_other() -> None:
    tilts, cells = _column()
    detector = EDetector([tilts, tilts])
    moved = np.stack([np.roll(cells, 6)] * 2) // 100
    first = detector.update(moved)
    detector.restart(0)
    assert detector.evidence().tolist() == [0.0, first[1]]
    assert detector.update(moved)[0] == first[0]


def test_an_average_event_may_tell_less() -> None:
    tilts, cells = _column()
    moved = np.roll(cells, 1)[None] // 500
    sure, doubtful = EDetector([tilts]), EDetector([tilts], effect=4.0)
    assert sure.update(moved)[0] > doubtful.update(moved)[0]


def test_an_effect_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EDetector([], effect=0.5)


def test_steep_tilts_are_allowed_less_where_events_repeat() -> None:
    tilts, cells = _column()
    detector = EDetector([tilts])
    detector.allow(np.full((1, tilts.directions.shape[1]), 3.0))
    rare = np.zeros((1, len(cells)), np.int64)
    rare[0, 1] = 6  # events in a tail bin
    detector.update(rare)
    _, increments = detector.strongest(0)
    assert detector.evidence()[0] < np.exp(6 * increments[1] / 3.0)


def _bursts(rng: np.random.Generator, runs: int, shares: Counts, events: int, size: float) -> Counts:
    """Counts of ticks of events that come in bursts of alike ones, of random sizes."""
    counts = np.zeros((runs, len(shares)), np.int64)
    for run in range(runs):
        values = rng.choice(len(shares), events, p=shares)
        counts[run] = np.bincount(np.repeat(values, rng.geometric(1 / size, events))[:events], minlength=len(shares))
    return counts


def _alarms_in_bursts(effect: float) -> float:
    """Alarms on bursts of three events as a share of the budget."""
    tilts, _ = _column()
    runs, ticks = 40, 150
    rng, detector, alarms = np.random.default_rng(5), EDetector([tilts] * runs, effect=effect), 0
    for _ in range(ticks):
        evidence = detector.update(_bursts(rng, runs, tilts.shares / tilts.shares.sum(), 100, 3.0))
        for at in np.flatnonzero(evidence >= ALARM).tolist():
            detector.restart(at)
            alarms += 1
    return alarms / (runs * ticks / ALARM)


def test_bursts_keep_the_budget_with_their_design_effect_and_break_it_without() -> None:
    assert _alarms_in_bursts(5.0) <= 1  # of geometric bursts of 3 on average: 2 x 3 - 1
    assert _alarms_in_bursts(1.0) > 2


def test_columns_of_different_widths_do_not_touch_each_other() -> None:
    tilts, cells = _column()
    flags = pl.DataFrame({"flag": np.random.default_rng(1).random(ROWS) < 0.1})
    reference = Reference.from_frame(flags)
    narrow = tilts_of(reference.slices[0].bins, reference.tally.cells)
    both, alone = EDetector([narrow, tilts]), EDetector([tilts])
    padded = np.zeros((2, len(cells)), np.int64)
    padded[0, : len(narrow.shares)], padded[1] = reference.tally.cells // 10, np.roll(cells, 1) // 100
    for _ in range(5):
        assert both.update(padded)[1] == alone.update(padded[1:])[0]
    assert both.strongest(0)[0] in narrow.names


def test_a_detector_goes_on_where_its_dump_was_to_the_last_bit() -> None:
    tilts, _ = _column()
    rng = np.random.default_rng(9)
    whole, parted = EDetector([tilts]), EDetector([tilts])
    for _ in range(50):
        counts = rng.multinomial(50, np.roll(tilts.shares, 1) / tilts.shares.sum())[None]
        again = EDetector([tilts])
        again.load(parted.dump())
        parted = again
        assert whole.update(counts).tobytes() == parted.update(counts).tobytes()
    assert whole.dump() == parted.dump()
    with pytest.raises(SnapshotInvalid, match=r"holds \d+ sums"):
        EDetector([tilts, tilts]).load(whole.dump())


def test_the_order_in_which_counts_were_added_up_changes_no_bit() -> None:
    tilts, cells = _column()
    rng = np.random.default_rng(4)
    parts = rng.multinomial(100_000, np.full(len(cells), 1 / len(cells)), size=12)
    one, other = EDetector([tilts]), EDetector([tilts])
    assert one.update(parts.sum(0)[None]).tobytes() == other.update(parts[::-1].sum(0)[None]).tobytes()
    steps = parts @ tilts.increments
    assert (steps.sum(0) == parts.sum(0) @ tilts.increments).all()
