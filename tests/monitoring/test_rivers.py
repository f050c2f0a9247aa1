"""River's detectors, rebuilt by replaying, are those that ran on."""

from __future__ import annotations

import random

import pytest

from monitoring.rivers import KINDS, Replayed

ERRORS = {"ddm", "hddm_a", "hddm_w"}


def _values(name: str, count: int, moved: bool, seed: int) -> list[float]:
    rng = random.Random(seed)
    if name in ERRORS:
        return [float(rng.random() < (0.5 if moved else 0.05)) for _ in range(count)]
    return [(0.8 if moved else 0.5) + rng.gauss(0, 0.02) for _ in range(count)]


@pytest.mark.parametrize("name", KINDS)
def test_one_that_is_rebuilt_after_each_value_alarms_when_the_one_that_ran_on_does(name: str) -> None:
    values = [*_values(name, 320, False, 1), *_values(name, 200, True, 2)]
    whole, parted = Replayed(name), Replayed(name)
    alarms = []
    for at, value in enumerate(values):
        if at % 20 == 0:
            parted = Replayed(name, parted.dump())
        assert whole.update(value) == parted.update(value)
        alarms.append(whole.dump() == [])
    assert whole.dump() == parted.dump()
    assert any(alarms[320:])
    assert not any(alarms[:320])


@pytest.mark.parametrize("name", KINDS)
def test_what_is_written_down_is_bounded(name: str) -> None:
    detector, keep = Replayed(name), KINDS[name].keep
    for value in _values(name, 2 * keep + 20, False, 3):
        detector.update(value)
    assert len(detector.dump()) <= 2 * keep
