"""What the benchmarks call good."""

from __future__ import annotations

import pytest

from benchmarks.hotpath import CARRIED_MS, p95_ratios, verdict
from benchmarks.soak import TOLERANCE, growth


def test_a_worker_that_answers_late_misses() -> None:
    assert verdict(p95_ratios("job", {10_000: [12.0, 11.0]}, {10_000: [10.0, 10.0]}))
    assert not verdict(p95_ratios("job", {10_000: [13.0, 14.0]}, {10_000: [10.0, 10.0]}))


def test_one_second_that_the_machine_stood_still_decides_nothing() -> None:
    assert p95_ratios("job", {10_000: [10.0, 10.0, 900.0]}, {10_000: [10.0, 10.0, 10.0]}) == {"job p95 at 10000/s": 1.0}


def test_a_rate_beyond_the_machine_is_not_judged_and_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    bare = {10_000: [10.0], 100_000: [CARRIED_MS + 1]}
    assert list(p95_ratios("job", {10_000: [10.0], 100_000: [9_000.0]}, bare)) == ["job p95 at 10000/s"]
    assert "100,000/s is not judged" in capsys.readouterr().out


def test_a_machine_that_carries_no_rate_has_measured_nothing() -> None:
    with pytest.raises(RuntimeError, match="lower --rates"):
        p95_ratios("job", {100_000: [900.0]}, {100_000: [CARRIED_MS + 1]})


@pytest.mark.parametrize(
    ("name", "ratio", "good"),
    [
        ("job throughput", 0.79, False),
        ("job throughput", 0.81, True),
        ("job cpu", 1.26, False),
        ("job cpu", 1.24, True),
        ("job throughput with 1 % bad messages", 0.29, False),
        ("job throughput with 1 % bad messages", 0.31, True),
    ],
)
def test_the_bounds_are_those_of_the_claim(name: str, ratio: float, good: bool) -> None:
    assert verdict({name: ratio}) is good


def test_memory_that_climbs_misses() -> None:
    climbs = [200.0 + 4 * tenth for tenth in range(10)]
    assert growth(climbs, behind=False)[1] > TOLERANCE
    assert growth(climbs, behind=True)[1] > TOLERANCE


def test_caches_that_fill_at_first_are_no_climb() -> None:
    assert growth([150.0, *[200.0] * 9], behind=False) == (200.0, 1.0)
    assert growth([150.0, 180.0, *[200.0] * 8], behind=True) == (200.0, 1.0)
