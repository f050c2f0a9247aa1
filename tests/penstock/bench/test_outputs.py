"""What the comparison calls exact, fast and late."""

from __future__ import annotations

import math

import numpy as np
import pytest

from penstock.bench.latency import latencies
from penstock.bench.outputs import Outputs, check, numbers, throughput, wrong_scores

PARTITIONS = 4


def outputs(events: list[int], partitions: list[int] | None = None) -> Outputs:
    event = np.array(events, np.int64)
    target = event % PARTITIONS if partitions is None else np.array(partitions, np.int64)
    return Outputs(event, target, np.arange(len(events), dtype=np.float64))


def test_every_event_once_and_in_order_is_exact() -> None:
    found = check(outputs(list(range(100))), 100, PARTITIONS)
    assert found.exact
    assert str(found) == "exact"


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([0, 1, 2, 3, 4, 5, 6], "1 lost"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 7, 7], "2 repeated"),
        ([4, 1, 2, 3, 0, 5, 6, 7], "1 reordered"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8], "1 unknown"),
        ([0, 1, 2, 3, 4, 5, 6, 7, -1], "1 unknown"),
        ([4, 4, 0], "6 lost, 1 repeated, 1 reordered"),
    ],
)
def test_what_is_lost_repeated_or_reordered_is_marked(events: list[int], told: str) -> None:
    found = check(outputs(events), 8, PARTITIONS)
    assert str(found) == told
    assert not found.exact


def test_order_counts_within_a_source_partition_and_an_output_partition() -> None:
    assert check(outputs([1, 0, 3, 2, 5, 4, 7, 6], [0] * 8), 8, PARTITIONS).exact
    assert check(outputs([4, 0, 1, 2, 3, 5, 6, 7], [0, 1, 1, 2, 3, 1, 2, 3]), 8, PARTITIONS).exact


def test_a_repeated_event_that_comes_later_reorders_nothing() -> None:
    assert str(check(outputs([0, 4, 0, 1, 2, 3, 5, 6, 7]), 8, PARTITIONS)) == "1 repeated"


def test_a_wrong_score_is_found_by_its_event() -> None:
    assert wrong_scores([0, 1, 2, 3], [0.5, 0.25, 0.5, 0.25], [0.5, 0.25]) == 0
    assert wrong_scores([0, 1, 3], [0.5, 0.5, 0.25], [0.5, 0.25]) == 1
    assert wrong_scores([0], [math.nan], [0.5]) == 1


def test_keys_that_are_no_numbers_are_no_events() -> None:
    assert numbers([b"0", b"12"]).tolist() == [0, 12]
    assert numbers([b"0", b"x", b""]).tolist() == [0, -1, -1]
    assert numbers([]).tolist() == []


def test_throughput_is_that_of_the_middle() -> None:
    times = 1_000.0 + 2 * np.arange(1_000)
    times[:100], times[901:] = 0.0, 90_000.0  # a late start and a late end count for nothing
    assert throughput(Outputs(np.arange(1_000), np.zeros(1_000, np.int64), times)) == (500.0, 1_200.0, 2_400.0)
    assert math.isnan(throughput(outputs(list(range(10))))[0])


@pytest.mark.parametrize("size", [1, 10, 100, 250])
def test_throughput_of_large_batches_is_that_of_small_ones(size: int) -> None:
    times = np.arange(1_000) // size * size * 2.0 + np.arange(1_000) % size * 1e-3  # each batch is written at once
    rate, began, ended = throughput(Outputs(np.arange(1_000), np.zeros(1_000, np.int64), times))
    assert rate == pytest.approx(500.0)
    assert began % (2 * size) == ended % (2 * size) == 0


def test_latency_is_from_append_to_first_arrival_without_the_first_events() -> None:
    appended = np.arange(10, dtype=np.float64)
    events = np.array([0, 5, 6, 7, 8, 9, 9, -1], np.int64)
    arrived = np.array([1e9, 15, 16, 17, 18, 19, 1e9, 1e9])
    found = latencies(events, arrived, appended, first=5)
    assert (found.p50, found.p95, found.p99) == (10, 10, 10)
    assert found.seconds == [10.0]


@pytest.mark.parametrize("size", [400, 1_000])
def test_throughput_of_what_is_committed_in_one_go_is_not_known(size: int) -> None:
    times = np.arange(1_000) // size * size * 2.0 + np.arange(1_000) % size * 1e-3
    rate, _, _ = throughput(Outputs(np.arange(1_000), np.zeros(1_000, np.int64), times))
    assert math.isnan(rate) == (size == 1_000)
