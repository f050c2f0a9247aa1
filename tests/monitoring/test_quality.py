"""Parts become totals and alerts: each counted once, in any order of the partitions; what got worse is found."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from monitoring import judging
from monitoring.cells import Group, Tables, merge
from monitoring.errors import PartInvalid, SnapshotInvalid
from monitoring.folds import Folding, Out, Record
from monitoring.outcomes import Usual
from monitoring.quality import Judging, QualityFold, State
from monitoring.quality_metrics import QualityMetrics
from monitoring.ticks import Ticks
from monitoring.totals import part_of, totals_of
from schemas import records
from tests.monitoring import dict_judging

START = 28_000_000  # minutes since 1970
PARTITIONS = 2
WHO = ("active", "late", "v1")


@dataclass
class Joins:
    """What the joins of all partitions write: `share` of predictions are right."""

    seed: int = 0
    tick: int = START
    values: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.ticks = [Ticks(60_000) for _ in range(PARTITIONS)]

    def minute(self, share: float, rows: int = 100, labels: bool = True, task: judging.Task = "binary") -> None:
        for partition, ticks in enumerate(self.ticks):
            time = self.tick * 60_000
            for _ in range(rows // PARTITIONS):
                self._event(ticks, time, share, labels, task)
            ticks.count("events", rows // PARTITIONS)
            ticks.count("labels", rows // PARTITIONS * labels)
            self.values += [value for _, value in ticks.close("flights", partition, time + 60_000)]
        self.tick += 1

    def _event(self, ticks: Ticks, time: int, share: float, labels: bool, task: judging.Task) -> None:
        said = 0.9 if task == "binary" else self.random.gauss(0, 1 / share)
        truth = self.random.random() < share if task == "binary" else 0.0
        found = [*dict_judging.scored(task, said), *(dict_judging.judged(task, said, truth) if labels else ())]
        for what, name, cell, by in found:
            for place in (("", ""), ("origin", self.random.choice("AB"))):
                dict_judging.add(ticks, time, Group(*WHO, *place, what, name), [(cell, by)])


def fold(within: int = 600, partitions: int = PARTITIONS) -> QualityFold:
    return QualityFold(Judging("flights", partitions, within, design_effect=1.0))


def read(values: list[bytes], kept: QualityFold | None = None, begin: int = 0) -> tuple[Folding[State], list[Out]]:
    folding = Folding(kept or fold(), 0, begin)
    return folding, [out for at, value in enumerate(values, begin) for out in folding.apply(Record(0, at, None, value))]


def told(outs: list[Out]) -> list[tuple[str, str, str]]:
    alerts = [records.decode("alert", out.value or b"") for out in outs]
    return [(alert["state"], alert["kind"], alert["name"]) for alert in alerts]


def truth(values: list[bytes]) -> Tables:
    tables: Tables = {}
    for value in values:
        merge(tables, part_of(value).tables)
    return tables


def test_totals_are_the_sum_of_the_parts_however_often_they_come_and_whoever_starts_over() -> None:
    joins = Joins()
    for _ in range(10):
        joins.minute(0.8, rows=20)
    draw, kept, position = random.Random(1), fold(), 0
    folding, snapshots = Folding(kept, 0, 0), [(0, 0, fold().dump(fold().new(0)))]
    log = [*joins.values]
    for _ in range(30):  # a zombie repeats old parts
        at = draw.randrange(len(log))
        log.insert(draw.randint(at + 1, len(log)), log[at])
    while position < len(log):
        folding.apply(Record(0, position, None, log[position]))
        position += 1
        if draw.random() < 0.2:
            snapshots.append((position, position, folding.dump()))
        if draw.random() < 0.1:
            position, _, state = draw.choice(snapshots)
            folding = Folding(kept, 0, position, state)
    assert folding.state.totals.tables == truth(joins.values)
    totals, counts = totals_of(map(part_of, log))
    assert totals.tables == folding.state.totals.tables
    assert totals.sequences == folding.state.totals.sequences
    assert counts == {"events": 200, "labels": 200}
    assert fold().facts(folding.state)["labels"] == 200


def test_a_part_whose_predecessor_was_lost_is_left_until_both_come() -> None:
    joins = Joins()
    for _ in range(3):
        joins.minute(0.8, rows=4)
    mine = [value for value in joins.values if part_of(value).partition == 0]
    folding, _ = read([mine[1], mine[2], *joins.values], fold())
    assert folding.state.totals.tables == truth(joins.values)
    assert folding.state.counts["gaps"] == 2


def test_a_log_whose_beginning_retention_removed_is_read_from_where_it_begins() -> None:
    joins = Joins()
    for _ in range(5):
        joins.minute(0.8, rows=4)
    folding, _ = read(joins.values[4:], fold(), begin=100)
    assert folding.state.totals.tables == truth(joins.values[4:])


def test_a_tick_is_told_when_every_partition_has_passed_it() -> None:
    joins = Joins()
    joins.minute(0.8)
    folding, _ = read(joins.values[:1])
    assert folding.state.totals.tables == {}
    assert folding.state.closed == 0
    folding.apply(Record(0, 1, None, joins.values[1]))
    assert folding.state.closed == (START + 1) * 60_000


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_version_that_became_worse_opens_an_alert_that_closes_when_it_is_as_before(task: judging.Task) -> None:
    joins = Joins()
    for share, minutes in ((0.9, 60), (0.5, 40), (0.9, 300)):
        for _ in range(minutes):
            joins.minute(share, task=task)
    _, outs = read(joins.values)
    name = "accuracy" if task == "binary" else "errors"
    assert ("opened", "quality", name) in told(outs)
    assert ("closed", "quality", name) in told(outs)
    alert = next(records.decode("alert", out.value or b"") for out in outs)
    assert (START + 57) * 60_000 <= alert["onset"].timestamp() * 1000 <= (START + 70) * 60_000


def test_a_version_that_stays_as_it_was_or_becomes_better_opens_none() -> None:
    joins = Joins()
    for share, minutes in ((0.8, 300), (0.97, 200)):
        for _ in range(minutes):
            joins.minute(share)
    assert read(joins.values)[1] == []


def test_alerts_are_the_same_bytes_after_a_restart_amid() -> None:
    joins = Joins()
    for share, minutes in ((0.9, 60), (0.5, 40)):
        for _ in range(minutes):
            joins.minute(share)
    _, once = read(joins.values)
    half = len(joins.values) - 70
    folding, outs = read(joins.values[:half])
    again = Folding(fold(), 0, half, folding.dump())
    outs += [
        out for at, value in enumerate(joins.values[half:], half) for out in again.apply(Record(0, at, None, value))
    ]
    assert outs == once
    assert once


def test_labels_that_stop_are_told_and_that_they_are_back() -> None:
    joins = Joins()
    for labels, minutes in ((True, 10), (False, 90), (True, 3)):
        for _ in range(minutes):
            joins.minute(0.8, rows=2, labels=labels)
    _, outs = read(joins.values)
    assert told(outs) == [("opened", "quality", "labels"), ("closed", "quality", "labels")]
    assert read(joins.values, fold(within=0))[1] == []  # there are no labels to wait for


def test_what_a_bundle_states_is_held_against_its_version_from_the_first_tick_and_segments_learn_their_own() -> None:
    """Four of five are right: fine where that is usual, an alert where the bundle says nine of ten."""
    joins, asked = Joins(), list[tuple[str, str]]()
    for _ in range(60):
        joins.minute(0.8)

    def judged(wrong: float | None) -> QualityFold:
        def stated(model: str, version: str) -> float | None:
            asked.append((model, version))
            return wrong

        return QualityFold(Judging("flights", PARTITIONS, 600, design_effect=1.0, stated=stated))

    folding, outs = read(joins.values, judged(0.1))
    assert {name for _, _, name in told(outs)} == {"accuracy"}
    assert asked == [WHO[1:]]
    opened = records.decode("alert", outs[0].value or b"")
    assert opened["opened"].timestamp() < (START + 15) * 60
    restored = Folding(judged(0.5), 0, folding.position, folding.dump())
    assert restored.dump() == folding.dump()  # what was stated is part of the state
    assert read(joins.values, judged(0.2))[1] == []
    assert read(joins.values, judged(None))[1] == []
    declared = QualityFold(Judging("flights", PARTITIONS, 600, design_effect=1.0, usual=Usual(errors=0.1)))
    assert {name for _, _, name in told(read(joins.values, declared)[1])} == {"accuracy"}


def test_scores_that_are_further_from_the_truth_are_found_where_no_class_changes() -> None:
    """One in twenty is positive and never said to be: accuracy stays, but scores say less than before."""
    joins = Joins()
    for minute in range(120):
        for partition, ticks in enumerate(joins.ticks):
            time = joins.tick * 60_000
            for _ in range(50):
                truth = joins.random.random() < 0.05
                score = 0.4 if truth and minute < 60 else 0.1
                for what, name, cell, by in dict_judging.judged("binary", score, truth):
                    dict_judging.add(ticks, time, Group(*WHO, "", "", what, name), [(cell, by)])
            ticks.count("labels", 50)
            joins.values += [value for _, value in ticks.close("flights", partition, time + 60_000)]
        joins.tick += 1
    asked = QualityFold(Judging("flights", PARTITIONS, 600, design_effect=1.0, scores=True))
    _, outs = read(joins.values, asked)
    assert ("opened", "quality", "scores") in told(outs)
    assert {name for _, _, name in told(outs)} == {"scores"}
    assert "distance of score and truth above" in records.decode("alert", outs[0].value or b"")["summary"]
    assert read(joins.values)[1] == []


def test_labels_that_never_come_are_told_when_events_have_waited_for_as_long_as_is_declared() -> None:
    joins = Joins()
    for labels, minutes in ((False, 90), (True, 3)):
        for _ in range(minutes):
            joins.minute(0.8, rows=2, labels=labels)
    _, outs = read(joins.values)
    assert told(outs) == [("opened", "quality", "labels"), ("closed", "quality", "labels")]
    opened = records.decode("alert", outs[0].value or b"")
    assert opened["summary"].startswith("no label has ever come for 61 minutes")
    patient = QualityFold(Judging("flights", PARTITIONS, 600, silent=95 * 60))
    assert read(joins.values, patient)[1] == []
    hasty = QualityFold(Judging("flights", PARTITIONS, 600, silent=600))
    _, outs = read(joins.values, hasty)
    assert (records.decode("alert", outs[0].value or b"")["at"].timestamp() / 60 - START) == 12


def test_labels_that_stop_with_the_events_are_not_missed() -> None:
    joins = Joins()
    for minute in range(200):
        joins.minute(0.8, rows=2 if minute < 10 else 0, labels=minute < 8)
    assert read(joins.values)[1] == []


def pairs(joins: Joins, differ: float, minutes: int, second: str = "shadow/late@v2", task: str = "binary") -> None:
    """Minutes in which another arm scored the same 100 events; `differ`: the share of other classes, or numbers."""
    for _ in range(minutes):
        for partition, ticks in enumerate(joins.ticks):
            time = joins.tick * 60_000
            for _ in range(50):
                other = joins.random.random() < differ
                if task == "binary":
                    found = dict_judging.compared("binary", 0.9, 0.2 if other else 0.9, second)
                else:
                    spread = 10.0 if other else 1.0
                    found = dict_judging.compared("regression", 5.0, 5.0 + joins.random.gauss(0, spread), second)
                for what, name, cell, by in found:
                    dict_judging.add(ticks, time, Group(*WHO, "", "", what, name), [(cell, by)])
            ticks.count("events", 50)
            joins.values += [value for _, value in ticks.close("flights", partition, time + 60_000)]
        joins.tick += 1


@pytest.mark.parametrize(
    ("task", "names"),
    [("binary", {"agreement with shadow", "differences with shadow"}), ("regression", {"differences with shadow"})],
)
def test_arms_that_differ_more_than_before_are_told_of_without_labels(task: str, names: set[str]) -> None:
    joins = Joins()
    for share, minutes in ((0.05, 60), (0.25, 40), (0.05, 400)):
        pairs(joins, share, minutes, task=task)
    _, outs = read(joins.values, fold(within=0))
    assert {name for state, kind, name in told(outs) if (state, kind) == ("opened", "divergence")} == names
    assert {name for state, _, name in told(outs) if state == "closed"} == names
    opened = records.decode("alert", outs[0].value or b"")
    assert (opened["arm"], opened["version"]) == ("active", "v1")
    assert (START + 57) * 60_000 <= opened["onset"].timestamp() * 1000 <= (START + 65) * 60_000
    assert "who of both is right" in opened["action"]
    quiet = QualityFold(Judging("flights", PARTITIONS, 0, design_effect=1.0, divergence=False))
    assert read(joins.values, quiet)[1] == []


def test_arms_that_differ_as_ever_or_less_are_not_told_of() -> None:
    joins = Joins()
    for share, minutes in ((0.1, 400), (0.02, 200)):
        pairs(joins, share, minutes)
    assert read(joins.values, fold(within=0))[1] == []


def test_another_version_of_the_second_arm_is_compared_anew_and_what_was_told_is_closed() -> None:
    joins = Joins()
    for share, minutes, second in ((0.05, 60, "v2"), (0.4, 30, "v2"), (0.4, 200, "v3")):
        pairs(joins, share, minutes, f"shadow/late/{second}")
    folding, outs = read(joins.values, fold(within=0))
    assert sorted(told(outs)) == sorted(
        (state, "divergence", f"{name} with shadow")
        for state in ("opened", "closed")
        for name in ("agreement", "differences")
    )
    assert {each.name for each in folding.state.outcomes} == {"shadow/late/v3"}
    closed = records.decode("alert", outs[-1].value or b"")
    assert closed["summary"].endswith("late/v3 is compared from here on")


def test_a_version_that_is_gone_is_forgotten_and_its_episodes_are_closed() -> None:
    joins = Joins()
    for share, minutes in ((0.9, 60), (0.5, 40)):
        for _ in range(minutes):
            joins.minute(share)
    joins.tick += 36 * 24 * 60
    joins.values += [
        v for p, ticks in enumerate(joins.ticks) for _, v in ticks.close("flights", p, joins.tick * 60_000)
    ]
    folding, outs = read(joins.values, fold(within=0))
    assert folding.state.totals.tables == {}
    assert told(outs)[-1][0] == "closed"


def test_of_too_many_versions_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.quality.MOST_GROUPS", 3)
    joins = Joins()
    joins.minute(0.8, rows=20)
    time = joins.tick * 60_000
    for ticks in joins.ticks:
        dict_judging.add(ticks, time, Group("active", "late", "v2", "", "", "scored"), [(1, 1)])
    joins.minute(0.8, rows=0)
    folding, _ = read(joins.values)
    assert {group.version for group in folding.state.totals.tables} == {"v2"}
    assert set(folding.state.seen) == {("active", "late", "v2")}


def test_without_labels_a_partition_without_samples_is_not_waited_for_for_ever() -> None:
    joins = Joins()
    for _ in range(20):
        joins.minute(0.8, rows=20, labels=False)
    alone = [value for value in joins.values if part_of(value).partition == 0]
    folding, _ = read(alone, fold(within=0))
    assert folding.state.closed == (joins.tick - 10) * 60_000
    folding, _ = read(alone, fold(within=600))
    assert folding.state.closed == 0


def test_what_is_no_part_of_this_deployment_is_counted() -> None:
    other = next(iter(Ticks(60_000).close("other", 0, 60_000)))[1]
    folding, _ = read([b"", b"junk", other])
    assert folding.state.counts == {"records": 3, "poison": 2, "foreign": 1}
    with pytest.raises(PartInvalid):
        part_of(b"junk")


def test_metrics_tell_numbers_and_intervals_of_the_last_hour_and_of_all() -> None:
    joins = Joins()
    for share, minutes in ((0.5, 100), (1.0, 70)):
        for _ in range(minutes):
            joins.minute(share, rows=20)
    registry = CollectorRegistry()
    folding, _ = read(joins.values)
    metrics = QualityMetrics(registry, "flights")
    metrics.show(folding.state)
    text = generate_latest(registry).decode()
    place = 'arm="active",deployment="flights",metric="accuracy",model="late",of="",segment="",value="",version="v1"'
    assert f'penstock_quality{{{place},window="hour"}} 1.0' in text
    low, high = (
        float(text.partition(f'penstock_quality_{side}{{{place},window="all"}} ')[2].split("\n")[0])
        for side in ("low", "high")
    )
    assert low < 1240 / 1700 < high
    assert 'segment="origin",value="A"' in text


@pytest.mark.parametrize("data", [b"", b"x", fold().dump(State())[:-4]])
def test_a_damaged_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotInvalid):
        fold().load(data)


def test_ticks_that_hold_too_much_are_closed_early_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitoring.ticks.MOST_CELLS", 3)
    ticks = Ticks(60_000)
    for minute in range(5):
        dict_judging.add(ticks, minute * 60_000, Group(*WHO, "", "", "binary"), [(0, 1)])
    found = [part_of(value) for _, value in ticks.close("flights", 0, 0)]
    assert [part.tick for part in found] == [0, 1]
    assert ticks.counts == {"forced": 2}
    ticks.count_moved(np.array([0]))
    assert ticks.counts == {"forced": 2, "moved": 1}
    assert Ticks.load(60_000, ticks.dump()) == ticks
