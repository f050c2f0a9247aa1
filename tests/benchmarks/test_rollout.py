"""What `scripts/bench rollout` calls lost, wrong, late or slow, and that each of these is found."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from benchmarks.rollbacks import Command, Log, Rolled, arrivals, firsts_of, late_batches, rolled
from benchmarks.rollout_targets import Judged, line, of_shadow, of_swaps, wrong
from benchmarks.shadows import NONE, ratios
from benchmarks.stand import Turn, judged
from benchmarks.swaps import Asked, Found
from penstock.bench.latency import Latency
from schemas.control import First, Swap
from streams.findings import COUNTS, WRONG

FINE = {**dict.fromkeys(WRONG, 0), "ok": True, "events": 1_000}


def turn(p99: float, lost: int = 0, repeated: int = 0) -> Turn:
    return Turn(Latency(1.0, 2.0, p99, [2.0]), lost, repeated)


def found(**changes: Any) -> dict[str, Any]:
    steady, swapping = [turn(p99) for p99 in (10.0, 8.0, 90.0)], [turn(p99) for p99 in (14.0, 15.0, 5.0)]
    usual = Found(50_000, steady, swapping, 100, 8, [0.1], dict(FINE), [Rolled(400.0, 60.0, 20.0, 0)] * 3)
    return replace(usual, **changes).told()


def misses(judged: Iterable[Judged]) -> list[str]:
    return [str(each) for each in judged if not each.good]


def test_swaps_that_cost_little_and_break_nothing_pass() -> None:
    good, text = line(list(of_swaps(found())))
    assert good
    assert text == (
        "PASS lost, duplicated or wrong of 1,000 events, 100 swaps and 8 kills none (none); p99 during swaps to that "
        "without 1.40x (at most 1.5x); rollback effective after the command 400, at most 400 ms (at most 500 ms); "
        "batches begun after it came 0 (at most 1)"
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"checked": {**FINE, "ok": False, "wrong_version": 1}}, "wrong_version 1 "),
        ({"checked": {**FINE, "ok": False, "wrong_revision": 3}}, "wrong_revision 3"),
        ({"checked": {**FINE, "ok": False, "missing": 2}}, "missing 2"),
        ({"checked": {**FINE, "ok": False, "twice": 2}}, "twice 2"),
        ({"checked": {**FINE, "ok": False}}, "not ok 1"),  # a kind of finding that this page does not name
        ({"steady": [turn(10.0, lost=1)]}, "lost for a reader 1"),
        ({"swapping": [turn(9.0, repeated=1)]}, "repeated for a reader 1"),
        ({"swapping": [turn(15.1)]}, "without 1.51x"),
        ({"swapping": [turn(math.inf)]}, "without infx"),
        ({"rolled": [Rolled(400.0, 60.0, 20.0, 0), Rolled(501.0, 60.0, 20.0, 0)]}, "450, at most 501 ms"),
        ({"rolled": [Rolled(400.0, 60.0, 20.0, 2)]}, "it came 2 "),
    ],
)
def test_each_target_can_be_missed(changes: dict[str, Any], told: str) -> None:
    judged_ = list(of_swaps(found(**changes)))
    (missed,) = misses(judged_)
    assert missed.startswith("MISSED: ")
    assert told in missed
    good, text = line(judged_)
    assert not good
    assert text.startswith("FAIL (1 of 4) ")
    assert missed in text


def test_what_must_be_empty_is_what_a_verification_calls_wrong() -> None:
    assert set(WRONG) < set(COUNTS)
    for name in WRONG:
        assert wrong(found(checked={**FINE, "ok": False, name: 2})) == {name: 2}


def test_a_turn_lasts_as_long_as_its_swaps_and_a_second_that_does_not_count() -> None:
    assert Asked(50_000, turns=5, swaps=100, every=0.75, kills=0, rollbacks=0).seconds == 16


def test_a_stretch_knows_events_that_never_came_and_those_that_came_twice() -> None:
    appended = np.arange(40.0)
    whole = np.arange(40)
    assert judged(whole, appended + 5, appended, 10) == Turn(judged(whole, appended + 5, appended, 10).latency, 0, 0)
    assert judged(whole, appended + 5, appended, 10).latency.p99 == 5
    assert judged(np.array([*whole[:39], 3, 3]), np.full(41, 50.0), appended, 10).lost == 1
    assert judged(np.array([*whole, 3, 3]), np.full(42, 50.0), appended, 10).repeated == 2
    assert math.isinf(judged(whole[:39], appended[:39], appended, 10).latency.p99)


# rollbacks: two partitions, an event each ms, and a batch of each two events of a partition

APPENDED = 1_000.0 + np.arange(40)


def log(late: int = 0) -> Log:
    """Inferences of 40 events, of which each is appended 6 ms after its event; a marker follows each second one."""
    event = np.concatenate([np.arange(0, 40, 2), np.arange(1, 40, 2)])
    at = event // 2
    return Log(event, event % 2, at + at // 2, 1_006.0 + event + late)


def test_a_rollback_is_effective_where_the_last_partition_has_its_first_inference() -> None:
    command = Command(began=600.0, record=1_000.0, arrival=1_015.0)
    judged_ = rolled(command, {0: 10, 1: 12}, log(), APPENDED, 0)  # events 20 and 25
    assert (judged_.command, judged_.record, judged_.arrival) == (431.0, 31.0, 16.0)


def test_only_batches_that_began_after_the_command_came_are_too_late() -> None:
    # Events 0 to 19 are of the version before: partition 0 has 0, 2 .. 18 in batches of two, appended 1000 to 1018.
    firsts = {0: 10, 1: 10}
    assert late_batches(log(), firsts, APPENDED, 0, 1_019.0) == 0
    assert late_batches(log(), firsts, APPENDED, 0, 1_017.5) == 1
    assert late_batches(log(), firsts, APPENDED, 0, 1_011.5) == 2
    assert late_batches(log(), firsts, APPENDED, 0, 1_011.0) == 2
    assert late_batches(log(), firsts, APPENDED, 0, 1_007.0) == 3


def test_an_event_that_a_revision_began_with_and_that_has_no_inference_is_said() -> None:
    with pytest.raises(KeyError, match="only 1 of 2 events"):
        rolled(Command(0.0, 0.0, 0.0), {0: 10, 1: 100}, log(), APPENDED, 0)


def test_a_worker_that_stands_by_hears_of_a_revision_and_does_not_count() -> None:
    head = "2026-11-22 08:43:19,{} INFO deployment=d arm=active slot={}: control asks for revision {}"
    text = "\n".join([head.format("100", "standby", 7), head.format("125", "0", 7), head.format("150", "1", 7), "else"])
    assert arrivals(text) == {7: datetime(2026, 11, 22, 8, 43, 19, 125_000).timestamp() * 1000}


def test_the_first_offset_that_any_slot_told_counts() -> None:
    def swap(deployment: str, revision: int, *firsts: First) -> Swap:
        return Swap(deployment, revision, "active", "m", "v", "d", "0", firsts, 0)

    told = [swap("d", 7, First(0, 12), First(1, 9)), swap("d", 7, First(0, 10)), swap("d", 8, First(0, 1))]
    told.append(swap("e", 7, First(1, 1)))
    assert firsts_of(told, "d", 7) == {0: 10, 1: 9}


# shadows


def test_a_shadow_that_costs_the_active_path_more_than_a_twentieth_is_found() -> None:
    p95 = {NONE: [10.0, 11.0, 9.0], "is well": [10.4, 10.5, 10.4], "hangs": [10.5, 10.5, 30.0]}
    assert ratios(p95) == {"is well": 1.04, "hangs": 1.05}
    missed = "MISSED: p95 beside a shadow that hangs to that without one 1.050x (below 1.05x)"
    assert misses(of_shadow({"ratios": ratios(p95)})) == [missed]
