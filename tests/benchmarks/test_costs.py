"""What each part of a worker costs: the arithmetic, and that what is left out is really out."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from benchmarks.costs import by_chance, lines, share, summary, told
from benchmarks.jobs import MATRIX, MIXED, Job
from benchmarks.parts import EVERYTHING, PARTS, Silent
from benchmarks.replay import OUTPUT, PARTITIONS, PROFILES, SAMPLES, Setup, Sink, everything, messages_of
from streams.budget import BATCH_EVENTS

FOUND = {"everything": [9.0, 4.0, 4.2], "profiles": [3.4, 3.5, 3.6], "metrics": [4.3] * 3}
SIZES = {"everything": 150.0, "profiles": 146.0, "metrics": 150.0}


def test_a_part_costs_the_difference_of_medians() -> None:
    costs = told(FOUND, SIZES)
    assert costs["everything"] == 4.2
    assert costs["bytes"] == 150.0
    assert list(costs["parts"]) == ["profiles", "metrics"]
    assert costs["parts"]["profiles"] == pytest.approx({"cpu": 0.7, "bytes": 4.0})
    assert costs["parts"]["metrics"] == pytest.approx({"cpu": -0.1, "bytes": 0.0})


def test_what_differs_by_chance_falls_with_the_number_of_rounds_and_grows_with_their_spread() -> None:
    calm = by_chance([4.0, 4.1] * 8)
    assert 0 < calm < by_chance([4.0, 4.1] * 2)
    assert calm < by_chance([4.0, 4.2] * 8)


def test_medians_of_the_same_thing_rarely_lie_further_apart_than_by_chance() -> None:
    chance = random.Random(0)
    rounds = [[chance.gauss(4, 0.2) for _ in range(60)] for _ in range(401)]
    apart = [abs(median(a) - median(b)) > by_chance(a) for a, b in pairwise(rounds)]
    assert 0.01 < sum(apart) / len(apart) < 0.1


def test_a_part_that_seems_to_cost_less_than_nothing_pays_for_no_other() -> None:
    assert share(told(FOUND, SIZES)) == pytest.approx(0.7 / 4.2)


def test_the_last_line_tells_the_share_of_every_job() -> None:
    line = summary({"matrix": told(FOUND, SIZES), "mixed": told(FOUND, SIZES)})
    assert line == "what can be left out, matrix: 16.7% of all, mixed: 16.7% of all"


def test_every_part_has_a_line() -> None:
    told_lines = lines(told(FOUND, SIZES))
    assert [line.split("  ")[0].strip() for line in told_lines] == ["everything", "profiles", "metrics", "by chance"]
    assert "16.7%" in told_lines[1]


def test_no_part_is_named_twice() -> None:
    names = [part.name for part in PARTS]
    assert len({*names, EVERYTHING}) == len(names) + 1


class Counted:
    """A run of a worker with everything on, or without one part."""

    def __init__(self, setup: Setup, job: Job) -> None:
        self.sink = Sink(counts=True)
        self.seconds = setup.run(messages_of(job, 2), self.sink)


@pytest.mark.parametrize("job", [MATRIX, MIXED], ids=lambda job: job.name)
def test_what_is_left_out_is_out_and_nothing_else_is(job: Job, tmp_path: Path) -> None:
    whole = everything(job, tmp_path)
    without = {part.name: part.without(whole) for part in PARTS}
    ran = {name: Counted(setup, job) for name, setup in {EVERYTHING: whole, **without}.items()}
    inferences = {name: each.sink.records[OUTPUT] for name, each in ran.items()}
    assert inferences == dict.fromkeys(ran, 2 * BATCH_EVENTS)
    assert {name for name, each in ran.items() if PROFILES not in each.sink.records} == {"profiles"}
    assert {name for name, each in ran.items() if SAMPLES not in each.sink.records} == {"samples"}
    assert ran[EVERYTHING].sink.records[PROFILES] == 2 * PARTITIONS
    assert ran[EVERYTHING].sink.records[SAMPLES] == 2 * 4  # a batch, and partition of the samples
    sizes = {name: each.sink.sizes[OUTPUT] for name, each in ran.items()}
    assert {name for name, size in sizes.items() if size != sizes[EVERYTHING]} == {"lineage"}
    assert sizes["lineage"] == 2 * BATCH_EVENTS * (10 + 5)  # a header, and a float that may be null
    counted = whole.metrics.registry.get_sample_value(
        "penstock_events_total", {"deployment": "costs", "arm": "active", "slot": "0"}
    )
    assert counted == 2 * BATCH_EVENTS * (len(ran) - 1)  # all but the one without metrics
    whole.pool.close()


def test_silence_takes_every_metric() -> None:
    silent = Silent()
    silent.stage("poll", 0.1)
    silent.events.inc(5)
    silent.backlog.took(None)
