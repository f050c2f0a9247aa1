"""What `scripts/bench growth` and `scripts/bench budget` call good."""

from __future__ import annotations

from benchmarks.budget import BUDGETS, SOON, misses
from benchmarks.growth import FLAT, Point, flatness
from penstock.bench.latency import Latency


def points(*cpu: float) -> list[Point]:
    return [Point(10**i, each, 1.0, 1.0) for i, each in enumerate(cpu)]


def test_a_cost_that_grows_with_the_number_is_not_flat() -> None:
    assert flatness(points(9.0, 3.0, 3.0, 3.1)) <= FLAT
    assert flatness(points(3.0, 3.0, 3.0, 6.0)) > FLAT
    assert flatness(points(3.0)) == 1.0


def test_a_budget_that_is_not_met_misses_where_the_machine_carries_it() -> None:
    def runs(soonest: float, *p95: float) -> dict[int, dict[str, list[Latency]]]:
        names = [SOON.name, *(side.name for side in BUDGETS)]
        return {1_000: {name: [Latency(1, ms, ms, [])] for name, ms in zip(names, (soonest, *p95), strict=True)}}

    assert misses(runs(5.0, 19.0, 49.0, 99.0, 249.0)) == []
    assert misses(runs(5.0, 21.0, 49.0, 99.0, 249.0)) == ["latency_ms: 20 at 1,000/s is 21 ms"]
    assert misses(runs(30.0, 31.0, 49.0, 99.0, 251.0)) == ["latency_ms: 250 at 1,000/s is 251 ms"]
