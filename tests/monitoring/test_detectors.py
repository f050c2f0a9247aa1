"""What holds of every detector: it finds a change, and is the same wherever it was started over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest

from models.reference import Tally
from monitoring.detector import Detector, dump_tally, load_tally
from monitoring.detectors import Detectors
from monitoring.folds import Folding, Record
from monitoring.profiles import ProfileFold
from monitoring.settings import DetectorName, Settings
from schemas.deployment import Monitor
from tests.monitoring.traffic import DEPLOYMENT, Batches, fold_all, profiler, reference, told

NAMES = get_args(DetectorName)
EACH = pytest.mark.parametrize("name", NAMES)


def _ticks(count: int, shift: float = 0.0, seed: int = 0) -> Iterator[Tally]:
    """Ticks like the reference; or, by `shift`, with more in each bin than in those below."""
    known, rng = reference(), np.random.default_rng(seed)
    columns = [known.tally.cells[part.start : part.end] for part in known.slices]
    moved = [cells * (1 + shift * np.arange(len(cells))) for cells in columns]
    for _ in range(count):
        yield Tally(200, np.concatenate([rng.multinomial(200, each / each.sum()) for each in moved]))


def _detector(name: str) -> Detector:
    return Detectors(Settings(detector=name, window_rows=1000, design_effect=1.0)).new(reference(), 1000)  # type: ignore[arg-type]


def _said(detector: Detector, ticks: list[Tally], start: int = 0) -> list[tuple[object, ...]]:
    return [
        (tick, each.detector, each.name, each.finding.deviates, each.finding.value, each.finding.explain())
        for tick, tally in enumerate(ticks, start)
        for each in detector.update(tick, tally)
    ]


@EACH
def test_a_detector_finds_a_large_change_and_says_which_column(name: str) -> None:
    said = _said(_detector(name), [*_ticks(150), *_ticks(150, 1.0, 1)])
    assert any(deviates for tick, _, column, deviates, *_ in said if tick >= 150 and column == "wind")
    assert not any(deviates for tick, _, _, deviates, *_ in said if tick < 150)


@EACH
@pytest.mark.parametrize("cut", [1, 77, 160])
def test_a_detector_goes_on_from_its_dump_as_if_nothing_had_happened(name: str, cut: int) -> None:
    ticks = [*_ticks(150), *_ticks(30, 1.0, 1), *_ticks(40, 0.0, 2)]
    whole, first, second = (_detector(name) for _ in range(3))
    expected = _said(whole, ticks)
    found = _said(first, ticks[:cut])
    second.load(json.loads(json.dumps(first.dump())))
    assert found + _said(second, ticks[cut:], cut) == expected
    assert json.dumps(second.dump()) == json.dumps(whole.dump())


@EACH
def test_a_tick_without_a_single_value_is_no_change(name: str) -> None:
    nothing = Tally.empty(len(reference().tally.cells))
    assert not any(deviates for _, _, _, deviates, *_ in _said(_detector(name), [*_ticks(60), *[nothing] * 20]))


def test_a_deployment_may_ask_for_each_detector_that_there_is() -> None:
    assert get_args(Monitor.model_fields["detector"].annotation) == NAMES


def test_a_tally_survives_its_dump() -> None:
    (tally,) = _ticks(1)
    assert load_tally(json.loads(json.dumps(dump_tally(tally)))) == tally


def _fold(name: str) -> ProfileFold:
    settings = Settings(detector=name, window_rows=1000, design_effect=1.0)  # type: ignore[arg-type]
    return ProfileFold(DEPLOYMENT, {reference().digest: reference()}, 4, settings)


@pytest.mark.parametrize(("before", "after"), [("windows", "e_detector"), ("e_detector", "windows")])
def test_another_detector_closes_what_the_one_before_had_open_and_starts_anew(before: str, after: str) -> None:
    source = Batches(profiler())
    first, then = _fold(before), _fold(after)
    folding, outs = Folding(first, 0, 0), []
    for value in [*source.batches(20), *source.batches(40, shift=1.0)]:
        outs += folding.apply(Record(0, folding.position, None, value))
    opened = [(detector, name) for state, detector, name in told(outs) if state == "opened"]
    assert ("psi" if before == "windows" else before, "wind") in opened
    assert folding.fold.facts(folding.state)["open_alerts"] == len(opened)
    again = Folding(then, 0, folding.position, folding.dump())
    later = []
    for value in source.batches(40, shift=1.0):
        later += again.apply(Record(0, again.position, None, value))
    closed = [(detector, name) for state, detector, name in told(later) if state == "closed"]
    assert sorted(closed) == sorted(opened)
    fresh = [detector for state, detector, name in told(later) if state == "opened" and name == "wind"]
    assert fresh == ["psi" if after == "windows" else after]


def test_the_same_detector_goes_on_and_closes_nothing() -> None:
    source, fold = Batches(profiler()), _fold("e_detector")
    values = [*source.batches(20), *source.batches(60, shift=1.0)]
    folding, outs = Folding(fold, 0, 0), []
    for at, value in enumerate(values):
        outs += folding.apply(Record(0, at, None, value))
        folding = Folding(_fold("e_detector"), 0, folding.position, folding.dump())
    assert outs == fold_all(fold, values)
    assert "closed" not in [state for state, *_ in told(outs)]


@EACH
def test_the_same_events_give_the_same_alerts_over_any_number_of_partitions(name: str) -> None:
    def outs(sources: int) -> list[object]:
        source = Batches(profiler(), sources=sources)
        settings = Settings(detector=name, window_rows=1000, design_effect=1.0)  # type: ignore[arg-type]
        fold = ProfileFold(DEPLOYMENT, {reference().digest: reference()}, sources, settings)
        return list(fold_all(fold, [*source.batches(120), *source.batches(60, shift=1.5)]))

    assert outs(1) == outs(4) == outs(12)
    assert outs(4)
