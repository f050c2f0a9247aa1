"""What `scripts/bench growth` and `scripts/bench budget` call good."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.budget import BUDGETS, SOON, misses
from benchmarks.disk import held
from benchmarks.growth import FLAT, STREAMED, Point, alike, flatness, keep
from benchmarks.stream import AHEAD, BOUNDED, CHUNK, SWEPT, counters, faults, whole
from penstock.bench.latency import Latency

METRICS = """\
# TYPE penstock_inferences_total counter
penstock_inferences_total{arm="active",deployment="d",slot="0"} 1e+06
penstock_inferences_created{arm="active",deployment="d",slot="0"} 1.7e+09
penstock_events_lost_total{arm="active",deployment="d",partition="1",slot="0"} 2.0
penstock_events_lost_total{arm="active",deployment="d",partition="3",slot="0"} 3.0
"""


def points(*cpu: float) -> list[Point]:
    return [Point(10**i, each, 1.0, 1.0) for i, each in enumerate(cpu)]


def test_a_cost_that_grows_with_the_number_is_not_flat() -> None:
    assert flatness(alike("partitions", points(9.0, 3.0, 3.0, 3.1))) <= FLAT
    assert flatness(alike("partitions", points(3.0, 3.0, 3.0, 6.0))) > FLAT
    assert flatness(points(3.0)) == 1.0


def test_events_that_streamed_are_compared_with_the_fewest_that_streamed_and_with_no_backlog() -> None:
    cpu = {10_000: 9.0, 100_000: 3.0, 1_000_000: 3.0, 10_000_000: 3.0, 100_000_000: 6.0}
    found = [Point(number, each, 1.0, 1.0) for number, each in cpu.items()]
    assert [point.number for point in alike("events", found)] == [n for n in cpu if n >= STREAMED]
    assert flatness(alike("events", found)) == 2.0
    assert flatness(alike("events", found[:1])) == 1.0


def test_each_curve_is_kept_beside_the_others_and_the_disk_only_where_it_is_known(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    keep(file, "partitions", points(3.0, 4.0))
    keep(file, "events", [Point(10, 3.0, 2.0, 1.0), Point(100, 3.0, 2.0, 1.0, 64.0)])
    told = json.loads(file.read_text())
    assert told["growth"] == {
        "partitions": [[1, 3.0, 1.0, 1.0], [10, 4.0, 1.0, 1.0]],
        "events": [[10, 3.0, 2.0, 1.0], [100, 3.0, 2.0, 1.0]],
    }
    assert told["disk"] == {"events": [[100, 64.0]]}


def test_no_more_events_wait_than_a_tenth_of_what_retention_keeps() -> None:
    bytes_of_an_event = 300  # of job A, rounded up
    kept = 4 * int(BOUNDED["retention.bytes"])
    assert (AHEAD + CHUNK) * bytes_of_an_event < kept / 10
    assert SWEPT["log.retention.check.interval.ms"] <= 10_000


def test_a_streamed_load_is_refused_where_an_event_was_lost_skipped_repeated_or_rejected() -> None:
    assert counters(METRICS) == {"inferences": 1_000_000, "events_lost": 5}
    assert faults({"inferences": 10}, 10) == []
    assert faults({"inferences": 9}, 10) == ["inferences is 9, not 10"]
    for name in ("dead_letters", "events_lost", "events_skipped", "rescored_events"):
        assert faults({"inferences": 10, name: 2}, 10) == [f"{name} is 2, not 0"]
    assert faults(counters(METRICS), 1_000_000) == ["events_lost is 5, not 0"]


def test_the_last_inferences_are_whole_only_once_each_and_in_order() -> None:
    def read(*events: int) -> bool:
        return whole(np.array(events), 10, 14, 2)

    assert read(10, 11, 12, 13)
    assert read(8, 9, 11, 13, 10, 12)  # earlier ones, and another partition first
    assert not read(10, 11, 12)
    assert not read(10, 11, 12, 13, 13)
    assert not read(12, 11, 10, 13)
    assert not read(10, 11, 12, 13, 14)
    assert not read()


def test_the_disk_that_a_topic_takes_counts_segments_that_are_being_removed_and_no_other_topic(tmp_path: Path) -> None:
    for name in ("a-0/1.log", "a-1/1.log.deleted", "a-1/1.index", "ab-0/1.log"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"xyz")
    assert held(tmp_path, "a") == 6
    assert held(tmp_path, "a", "ab") == 9
    assert held(tmp_path, "none") == 0


def test_a_budget_that_is_not_met_misses_where_the_machine_carries_it() -> None:
    def runs(soonest: float, *p95: float) -> dict[int, dict[str, list[Latency]]]:
        names = [SOON.name, *(side.name for side in BUDGETS)]
        return {1_000: {name: [Latency(1, ms, ms, [])] for name, ms in zip(names, (soonest, *p95), strict=True)}}

    assert misses(runs(5.0, 19.0, 49.0, 99.0, 249.0)) == []
    assert misses(runs(5.0, 21.0, 49.0, 99.0, 249.0)) == ["latency_ms: 20 at 1,000/s is 21 ms"]
    assert misses(runs(30.0, 31.0, 49.0, 99.0, 251.0)) == ["latency_ms: 250 at 1,000/s is 251 ms"]
