"""What slots say of themselves becomes alerts: each trouble is found, told once, and over when it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from monitoring.errors import SnapshotInvalid
from monitoring.folds import Folding, Record
from monitoring.operations import OperationsFold, tick_of
from monitoring.troubles import Thresholds
from schemas import records
from schemas.control import Status
from schemas.vitals import Vitals, Wait

BEGAN = 1_767_225_600_000  # 2026-01-01
LIMITS = Thresholds(no_traffic_seconds=600, late=0.05)
Words = list[tuple[int, Status]]


def word(second: int, slot: str = "0", **facts: Any) -> tuple[int, Status]:
    """What a slot says: it scored 1,000 events a second, and nothing is wrong but what `facts` say."""
    at = BEGAN + 1000 * second
    counts = {"events": 1000 * second, "inferences": 1000 * second, **facts.pop("counts", {})}
    waits = facts.pop("waits", (Wait(0, 1000 * second, 0, 0.0),))
    vitals = Vitals(at, 1, 1, 1, 0, counts=counts, circuits=facts.pop("circuits", ()), waits=waits)
    status = Status("flights", slot, "penstock.flights", "h", 7, at, 1, 1, (), "running", vitals=vitals)
    return second, replace(status, **facts)


def clock(second: int) -> tuple[int, Status]:
    return second, tick_of("flights", "0", BEGAN + 1000 * second)


def told(words: Iterable[tuple[int, Status]], limits: Thresholds = LIMITS, every: int = 0) -> list[dict[str, Any]]:
    """The alerts that follow; `every`: starts over from a snapshot so often."""
    fold = OperationsFold("flights", limits)
    folding, outs = Folding(fold, 0, 0), []
    for offset, (_, status) in enumerate(words):
        outs += folding.apply(Record(0, offset, status.key, status.encode()))
        if every and offset % every == 0:
            assert fold.dump(fold.load(folding.dump())) == folding.dump()
            folding = Folding(fold, 0, folding.position, folding.dump())
    return [records.decode("alert", out.value) for out in outs]


def short(alerts: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    return [(each["name"], each["state"], int(each["at"].timestamp()) - BEGAN // 1000) for each in alerts]


def words(until: int, wrong: Callable[[int], dict[str, Any]] = lambda second: {}, begin: int = 0) -> Words:
    """A word every ten seconds, wrong as said."""
    return [word(second, **wrong(second)) for second in range(begin, until, 10)]


def between(start: int, end: int, **facts: Any) -> Callable[[int], dict[str, Any]]:
    return lambda second: facts if start <= second < end else {}


def test_nothing_is_told_of_slots_that_are_well() -> None:
    assert told(words(3600)) == []


def test_nobody_scores_while_only_the_monitor_speaks_and_it_is_over_when_a_slot_does() -> None:
    silent = [clock(second) for second in range(600, 1200, 10)]
    found = told([*words(600), *silent, *words(1500, begin=1200)])
    assert short(found) == [("workers", "opened", 660), ("workers", "updated", 960), ("workers", "closed", 1250)]
    assert found[0]["severity"] == "critical"
    assert found[0]["kind"] == "operations"
    assert found[0]["arm"] == "active"
    assert found[0]["summary"] == "nobody scores: no slot has said anything since 2026-01-01 00:09:50Z"
    assert "penstock status" in found[0]["action"]


@pytest.mark.parametrize("state", ["stopped", "refused"])
def test_slots_that_ended_in_order_are_not_missed(state: str) -> None:
    last = word(600, state=state)
    assert told([*words(600), last, *(clock(second) for second in range(610, 3000, 10))]) == []


def test_one_slot_of_two_may_be_gone() -> None:
    both = [each for second in range(0, 600, 10) for each in (word(second), word(second, "1"))]
    assert told([*both, *words(1800, begin=600)]) == []


def test_a_monitors_word_of_another_deployment_is_no_clock() -> None:
    other = [(second, tick_of("other", "0", BEGAN + 1000 * second)) for second in range(600, 1200, 10)]
    assert told([*words(600), *other]) == []
    assert told([*words(600), *(clock(second) for second in range(600, 1200, 10))]) != []


def test_a_refused_revision_is_told_with_its_reason() -> None:
    found = told(words(300, between(100, 200, refused=4, detail="no such model")))
    assert short(found) == [("revision", "opened", 100), ("revision", "closed", 250)]
    assert found[0]["summary"] == "1 of 1 slots refuse revision 4: no such model"


def test_a_model_that_is_not_called_any_more_is_told() -> None:
    found = told(words(300, between(100, 200, circuits=("canary",))))
    assert short(found) == [("circuit", "opened", 100), ("circuit", "closed", 250)]
    assert found[0]["summary"].startswith("the model of canary keeps failing")


def test_a_partition_that_stands_still_is_told_unless_somebody_paused_it() -> None:
    still = between(100, 400, waits=(Wait(3, 5_000, 70, 20.0), Wait(4, 1, 0, 0.0)))
    found = told(words(700, still))
    assert short(found) == [("stuck", "opened", 220), ("stuck", "closed", 450)]
    assert found[0]["summary"].startswith("nothing is scored in partition 3 since 2026-01-01 00:01:40Z")
    assert told(words(700, between(100, 400, waits=(Wait(3, 5_000, 70, 20.0),), state="paused"))) == []
    moving = [word(second, waits=(Wait(3, second, 70, 20.0),)) for second in range(0, 700, 10)]
    assert told(moving) == []


def test_events_that_wait_for_long_are_told() -> None:
    late = [word(second, waits=(Wait(0, second, 9, max(0.0, second - 1000.0)),)) for second in range(0, 1400, 10)]
    assert short(told(late)) == [("lag", "opened", 1300)]
    assert told(late[:-1])[0]["severity"] == "warning"


def test_no_traffic_is_told_where_it_was_declared() -> None:
    silent = words(1500, between(100, 1400, waits=(Wait(0, 100_000, 0, 0.0),)))
    found = told(silent)
    assert short(found) == [("traffic", "opened", 700), ("traffic", "closed", 1450)]
    assert "no event has come in partition 0" in found[0]["summary"]
    assert told(silent, replace(LIMITS, no_traffic_seconds=None)) == []


def counted(name: str, from_: int, to: int, share: float) -> Words:
    """Of 1,000 events a second so many are counted under a name, between two seconds."""
    total = 0
    found = []
    for second in range(0, 1500, 10):
        total += round(10_000 * share) if from_ <= second < to else 0
        found.append(word(second, counts={name: total}))
    return found


@pytest.mark.parametrize(
    ("name", "share", "told_of"),
    [
        ("dead_letters", 0.1, "became dead letters in the last 300 s; 1.00% may"),
        ("fallbacks", 0.1, "were scored by another arm than theirs in the last 300 s; 1.00% may"),
        ("late", 0.3, "were committed later than latency_ms in the last 300 s; 5.00% may"),
    ],
)
def test_a_share_over_its_budget_is_told_once_and_its_end(name: str, share: float, told_of: str) -> None:
    found = [alert for alert in told(counted(name, 500, 700, share)) if alert["state"] != "updated"]
    assert [(alert["name"], alert["state"]) for alert in found] == [(name, "opened"), (name, "closed")]
    opened, closed = (int(alert["at"].timestamp()) - BEGAN // 1000 for alert in found)
    assert 500 < opened <= 600
    assert 900 <= closed <= 1100
    assert told_of in found[0]["summary"]
    assert told(counted(name, 500, 700, share / 20 if name != "late" else 0.04)) == []


def test_few_events_say_nothing_of_shares() -> None:
    few = [word(second, counts={"events": second // 10, "dead_letters": second // 10}) for second in range(0, 900, 10)]
    assert told(few) == []
    assert told(few, replace(LIMITS, rows=5)) != []


def test_what_was_counted_before_anybody_looked_is_not_held_against_a_slot() -> None:
    assert told(words(900, lambda second: {"counts": {"lost": 500, "dead_letters": 10**6}})) == []


def test_lost_events_are_told_and_so_are_those_that_a_new_process_counts_from_0_on() -> None:
    def lost(second: int) -> dict[str, Any]:
        return {"pid": 8, "counts": {"lost": 30}} if second >= 500 else {"counts": {"lost": 7}}

    found = told(words(1500, lost))
    assert [alert["state"] for alert in found] == ["opened", "closed"]
    assert found[0]["summary"] == "30 events were removed by retention before they were scored"
    assert found[0]["severity"] == "critical"


def test_arms_are_told_apart() -> None:
    shadow = [word(second, group="penstock.flights.shadow", circuits=("shadow",)) for second in range(0, 100, 10)]
    found = told([each for pair in zip(words(100), shadow, strict=True) for each in pair])
    assert [(alert["name"], alert["arm"]) for alert in found] == [("circuit", "shadow")]


def test_words_of_other_deployments_and_of_newer_releases_are_passed_over() -> None:
    fold = OperationsFold("flights", LIMITS)
    folding = Folding(fold, 0, 0)
    for offset, value in enumerate([None, b"", b"junk", replace(word(0)[1], deployment="other").encode()]):
        assert folding.apply(Record(0, offset, None, value)) == []
    assert fold.facts(folding.state) == {"slots": 0, "open_alerts": 0}


def everything() -> Words:
    """Troubles of all kinds, one after the other, of two slots."""
    found = []
    for second in range(0, 4000, 10):
        found.append(word(second, **between(300, 500, circuits=("active",))(second)))
        if not 1000 <= second < 1200:
            found.append(word(second, "1", **between(2000, 2400, waits=(Wait(1, 5, 5, 400.0),))(second)))
    return [*found, *(clock(second) for second in range(4000, 5000, 10)), *words(5200, begin=5000)]


@pytest.mark.parametrize("every", [1, 7, 100])
def test_starting_over_from_snapshots_changes_no_alert(every: int) -> None:
    found = told(everything())
    assert {alert["name"] for alert in found} == {"circuit", "stuck", "lag", "workers"}
    assert told(everything(), every=every) == found


def test_words_that_compaction_removed_hide_nothing_that_lasts() -> None:
    """Only the last word of each slot is sure to be kept."""
    kept = [*words(600)[-1:], *(clock(second) for second in range(600, 1200, 10))]
    assert short(told(kept)) == [("workers", "opened", 660), ("workers", "updated", 960)]


def test_a_slot_that_is_gone_for_a_day_is_asked_for_no_more() -> None:
    later = [clock(second) for second in range(600, 100_000, 600)]
    found = told([*words(600), *later])
    assert [alert["state"] for alert in found if alert["state"] != "updated"] == ["opened", "closed"]


@pytest.mark.parametrize("data", [b"", b"junk"])
def test_a_damaged_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotInvalid, match="damaged"):
        OperationsFold("flights", LIMITS).load(data)
