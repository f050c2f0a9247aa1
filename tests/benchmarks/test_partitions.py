"""The measurement of a hierarchy of models: its events reach every leaf, and its verdict can fail."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.jobs import MATRIX
from benchmarks.load import DISTINCT, distinct
from benchmarks.partitions import COUNTRIES, ELSEWHERE, MANY, ONE, paths, ranks, verdict, visits
from benchmarks.rig import Backlog
from penstock.bench.outputs import Checked


def test_leaves_are_countries_and_cities_below_them_each_once() -> None:
    every = paths(500)
    assert len(set(every)) == 500
    assert sum(len(path) == 1 for path in every) == COUNTRIES
    assert {path[:1] for path in every} == {path for path in every if len(path) == 1}


def test_every_leaf_has_events_and_the_first_ones_most() -> None:
    counts = Counter(ranks(20_000, 500).tolist())
    assert len(counts) == 500
    assert min(counts.values()) >= 1
    assert counts[0] > 1.5 * counts[1] > 5 * counts[50]


def test_rows_name_the_leaf_that_their_rank_has() -> None:
    job, known = visits(300, 1_000), set(paths(300))
    for row, rank in zip(job.rows(1_000), ranks(1_000, 300).tolist(), strict=True):
        place = (row["country"], row["city"])
        found = place if place in known else place[:1]
        assert found == paths(300)[rank]
        assert (place[1] == ELSEWHERE) == (len(found) == 1)
    assert (distinct(job), distinct(MATRIX)) == (1_000, DISTINCT)
    assert job.matrix(job.rows(3)).shape == (3, 30)


def run(rate: float, rss: float) -> Backlog:
    return Backlog(rate, 5.0, 1.0, 300.0, rss, Checked(100))


@pytest.mark.parametrize(
    ("rates", "rss", "loaded", "good"),
    [
        ([60.0, 55.0, 10.0], 1_000.0, [501], True),
        ([40.0, 45.0, 90.0], 1_000.0, [501], False),  # less than half
        ([60.0], 1_950.0, [501], False),  # more than 2 GB
        ([60.0], 1_000.0, [501, 400], False),  # leaves that no event came to
    ],
)
def test_the_verdict_fails_for_each_target_that_is_missed(
    rates: list[float], rss: float, loaded: list[int], good: bool
) -> None:
    found = {ONE: [run(100.0, 200.0)], MANY: [run(rate, rss) for rate in rates]}
    passed, line = verdict(found, loaded, 500)
    assert passed is good
    assert line.startswith("PASS" if good else "FAIL")
    assert f"{min(loaded):,} models of a hierarchy of 500 leaves" in line
