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
from schemas.control import Running, Status
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


def test_what_is_counted_at_the_end_of_a_minute_is_still_seen_by_the_look_after_it() -> None:
    quiet = {"counts": {"events": 40}}
    bad = {"counts": {"events": 60, "dead_letters": 20}}
    log = [word(45, **quiet), clock(50), word(59, **bad), clock(60), *(word(second, **bad) for second in (69, 79, 89))]
    assert short(told(log, replace(LIMITS, window_seconds=60, rows=10)))[0] == ("dead_letters", "opened", 60)


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


DAY = 86_400_000


def aged(created: int | None, trained: int | None, name: str = "active") -> tuple[Running, ...]:
    made, learned = (None if days is None else BEGAN - days * DAY for days in (created, trained))
    return (Running(name, "late", "v1", "d", made, learned),)


def test_a_version_or_training_data_that_are_too_old_are_told_of_until_another_one_scores() -> None:
    limits = replace(LIMITS, model_days=90, training_days=100)
    log = [*words(600, lambda _: {"arms": aged(91, 101)}), *words(1200, lambda _: {"arms": aged(1, 2)}, begin=600)]
    found = told(log, limits)
    assert {(alert["name"], alert["state"]) for alert in found} == {
        (name, state) for name in ("model_age", "training_age") for state in ("opened", "closed")
    }
    (model,) = (alert for alert in found if (alert["name"], alert["state"]) == ("model_age", "opened"))
    assert model["summary"] == "late@v1 of the arm active was made 91.0 days ago; 90 may pass"
    assert int(model["onset"].timestamp() * 1000) == BEGAN - DAY
    assert told(log, replace(LIMITS, model_days=92, training_days=102)) == []
    assert told(log) == []


def test_of_what_is_not_known_no_age_is_told() -> None:
    limits = replace(LIMITS, model_days=1, training_days=1)
    assert told(words(600, lambda _: {"arms": aged(None, None)}), limits) == []
    assert {each["name"] for each in told(words(600, lambda _: {"arms": aged(5, None)}), limits)} == {"model_age"}


def test_the_oldest_of_several_versions_is_told_of() -> None:
    arms = (*aged(40, None), *aged(50, None, "fallback"), *aged(3, None, "canary"))
    (found,) = told(words(300, lambda _: {"arms": arms}), replace(LIMITS, model_days=30))
    assert (
        found["summary"] == "late@v1 of the arm active, late@v1 of the arm fallback was made 50.0 days ago; 30 may pass"
    )


BOUNDS = {"cpu": 0.9, "memory": 0.8, "disk": 10_000_000, "network": 10_000_000, "gpu": 0.5, "gpu_memory": 0.5}
TAKEN = {
    "cpu": {"cpu": 0.95},
    "memory": {"memory": 0.9},
    "disk": {"disk_read": 6e6, "disk_written": 6e6},
    "network": {"received": 2e6, "sent": 9e6},
    "gpu": {"gpu": 0.6},
    "gpu_memory": {"gpu_memory": 0.6},
}


def loaded(second: int, resources: Mapping[str, float], slot: str = "0") -> tuple[int, Status]:
    second, status = word(second, slot)
    assert status.vitals is not None
    return second, replace(status, vitals=replace(status.vitals, resources=resources))


@pytest.mark.parametrize("name", BOUNDS)
def test_a_slot_that_takes_too_much_for_a_whole_window_is_told_of(name: str) -> None:
    bound = name if name in ("cpu", "memory", "gpu", "gpu_memory") else f"{name}_bytes"
    limits = replace(LIMITS, **{bound: BOUNDS[name]})
    log = [loaded(s, TAKEN[name] if 600 <= s < 1200 else {}) for s in range(0, 2000, 10)]
    found = [alert for alert in told(log, limits) if alert["state"] != "updated"]
    assert [(each["name"], each["state"]) for each in found] == [(name, "opened"), (name, "closed")]
    assert 600 + 240 <= int(found[0]["at"].timestamp()) - BEGAN // 1000 <= 600 + 360
    assert found[0]["summary"].startswith("slot 0 has taken ")
    assert told(log) == []
    a_moment = [loaded(s, {} if s % 300 == 0 else TAKEN[name]) for s in range(0, 2000, 10)]
    assert told(a_moment, limits) == []  # once a window it takes nothing


def test_slots_that_take_too_much_are_told_of_together() -> None:
    log = [loaded(s, {"cpu": 0.95 + int(slot) / 100}, slot) for s in range(0, 600, 10) for slot in "012"]
    opened = told(log, replace(LIMITS, cpu=0.9))[0]
    assert opened["summary"].startswith("slot 2 has taken 97% of its CPU")
    assert opened["summary"].endswith("so have 2 other slots")


def test_dead_letters_of_an_arm_that_scores_beside_the_others_are_told_of_by_its_name() -> None:
    def beside(second: int) -> dict[str, Any]:
        many = 100 * max(0, min(second, 700) - 500)
        return {"counts": {"dead_letters.tryout": many, "dead_letters.other": second}}

    found = [alert for alert in told(words(2000, beside)) if alert["state"] != "updated"]
    assert [(each["name"], each["state"]) for each in found] == [
        ("dead_letters of tryout", "opened"),
        ("dead_letters of tryout", "closed"),
    ]
    assert "became dead letters of the arm tryout in the last 300 s" in found[0]["summary"]


def test_dead_letters_of_an_arm_are_over_when_its_workers_began_anew_and_count_none() -> None:
    def beside(second: int) -> dict[str, Any]:
        return {"pid": 8} if second >= 600 else {"counts": {"dead_letters.tryout": 200 * second}}

    found = [alert["state"] for alert in told(words(2000, beside)) if alert["state"] != "updated"]
    assert found == ["opened", "closed"]


def folded(log: Words, begin: int, snapshot: bytes | None) -> tuple[list[bytes], list[bytes]]:
    """What a monitor publishes that reads the log from an offset on, and its snapshots after each word."""
    folding, outs, snapshots = Folding(OperationsFold("flights", LIMITS), 0, begin, snapshot), [], []
    for offset, (_, status) in enumerate(log[begin:], begin):
        outs += [out.value or b"" for out in folding.apply(Record(0, offset, status.key, status.encode()))]
        snapshots.append(folding.dump())
    return outs, snapshots


def same(one: Iterable[bytes], other: Iterable[bytes]) -> bool:
    """Whether of each id and number all monitors published the same, and one no episode that another has not."""
    found: dict[tuple[str, int], set[bytes]] = {}
    for value in (*one, *other):
        alert = records.decode("alert", value)
        found.setdefault((alert["id"], alert["number"]), set()).add(value)
    known = {records.decode("alert", value)["id"] for value in one}
    return all(len(each) == 1 for each in found.values()) and {identity for identity, _ in found} == known


@pytest.mark.parametrize("begin", [1, 50, 251, 600])
def test_two_monitors_of_one_deployment_tell_the_same_records(begin: int) -> None:
    first, snapshots = folded(everything(), 0, None)
    second, _ = folded(everything(), begin, snapshots[begin - 1])
    assert same(first, second)
    assert second


def test_a_second_monitor_that_began_without_the_firsts_snapshot_would_tell_others() -> None:
    amid = next(at for at, (second, _) in enumerate(everything()) if second >= 450)
    assert not same(folded(everything(), 0, None)[0], folded(everything(), amid, None)[0])


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
