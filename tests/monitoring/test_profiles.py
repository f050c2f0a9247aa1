"""The fold of profiles: ticks, windows, episodes; the same alerts however the events were spread."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from monitoring.episodes import Manners
from monitoring.errors import SnapshotInvalid
from monitoring.folds import Folding, Record
from monitoring.profiles import ProfileFold
from monitoring.settings import Settings
from schemas import records
from tests.monitoring.traffic import DEPLOYMENT, START, Batches, events, fold_all, profiler, reference, told

SETTINGS = Settings(detector="windows", window_rows=1000)
EVIDENCE = Settings(detector="e_detector", design_effect=1.0)
GROUPED = Settings(detector="e_detector", design_effect=1.0, manners=Manners(many=2))
BOTH = pytest.mark.parametrize("settings", [SETTINGS, EVIDENCE, GROUPED], ids=["windows", "e_detector", "grouped"])


def _fold(sources: int = 4, settings: Settings = SETTINGS, deployment: str = DEPLOYMENT) -> ProfileFold:
    return ProfileFold(deployment, {reference().digest: reference()}, sources, settings)


def _story(sources: int = 4) -> list[bytes]:
    """Like the reference, then the wind rises, then it is as before."""
    source = Batches(profiler(), sources=sources)
    return [*source.batches(60), *source.batches(60, shift=1.0), *source.batches(60)]


def test_traffic_like_the_reference_raises_no_alert() -> None:
    assert fold_all(_fold(), list(Batches(profiler()).batches(400))) == []


def test_a_change_opens_an_alert_once_and_its_end_closes_it_once() -> None:
    outs = told(fold_all(_fold(), _story()))
    assert [entry for entry in outs if entry[1] == "psi"] == [
        ("opened", "psi", "wind"),
        ("opened", "psi", "late"),
        ("closed", "psi", "wind"),
        ("closed", "psi", "late"),
    ]


def test_the_e_detector_finds_the_change_within_a_few_ticks_and_its_end() -> None:
    found = [records.decode("alert", out.value) for out in fold_all(_fold(settings=EVIDENCE), _story())]
    told_of = [(alert["state"], alert["detector"], alert["name"]) for alert in found]
    assert told_of[:2] == [("opened", "e_detector", "wind"), ("opened", "e_detector", "late")]
    assert sorted(told_of[2:]) == [("closed", "e_detector", "late"), ("closed", "e_detector", "wind")]
    ends = [alert["at"].timestamp() - START / 1000 for alert in found[2:]]
    assert all(120 < end <= 140 for end in ends)
    opened = found[0]
    onset, at = (opened[name].timestamp() - START / 1000 for name in ("onset", "at"))
    assert (onset, opened["severity"]) == (60, "critical")
    assert 60 < at <= 63
    assert "wind: mean +" in opened["summary"]
    assert opened["value"] >= opened["threshold"] == pytest.approx(np.log(7 * 24 * 3600), abs=1e-5)
    most = opened["evidence"][0]
    assert most["observed"] > most["expected"]


def test_the_e_detector_finds_what_windows_overlook() -> None:
    source = Batches(profiler(), sources=1)
    values = [*source.batches(60), *source.batches(150, shift=0.2)]
    assert ("opened", "e_detector", "wind") in told(fold_all(_fold(1, EVIDENCE), values))
    assert fold_all(_fold(1), values) == []
    assert fold_all(_fold(1, EVIDENCE), list(Batches(profiler(), sources=1).batches(600))) == []


def test_a_change_that_stays_is_one_episode_however_small() -> None:
    source = Batches(profiler(), sources=1)
    values = [*source.batches(30), *source.batches(600, shift=0.3)]
    found = told(fold_all(_fold(1, EVIDENCE), values))
    assert [entry for entry in found if entry[2] == "wind"] == [("opened", "e_detector", "wind")]


def test_the_level_of_the_score_is_watched_by_page_hinkley() -> None:
    settled = Batches(profiler())
    values = [*settled.batches(80), *settled.batches(60, shift=3.0)]
    assert ("opened", "page_hinkley", "late") in told(fold_all(_fold(), values))
    calm = fold_all(_fold(), list(Batches(profiler()).batches(140)))
    assert not any(detector == "page_hinkley" for _, detector, _ in told(calm))


def test_an_alert_says_what_moved_since_when_and_how() -> None:
    opened = records.decode("alert", fold_all(_fold(), _story())[0].value)
    assert (opened["deployment"], opened["arm"], opened["model"], opened["version"]) == (
        DEPLOYMENT,
        "active",
        "late",
        "v1",
    )
    assert (opened["name"], opened["kind"], opened["severity"]) == ("wind", "feature", "critical")
    onset = (opened["onset"].timestamp() * 1000 - START) / 1000
    assert 55 <= onset <= 65
    assert opened["value"] > opened["threshold"] == SETTINGS.opens
    most = opened["evidence"][0]
    assert most["observed"] > most["expected"]
    assert most["bin"] in opened["summary"]


def test_key_and_id_of_an_alert_are_one_and_opening_and_closing_share_it() -> None:
    outs = fold_all(_fold(), _story())
    wind = [(out.key.decode(), records.decode("alert", out.value)) for out in outs]
    wind = [(key, alert) for key, alert in wind if alert["name"] == "wind"]
    assert len({key for key, _ in wind}) == 1
    assert all(key == alert["id"] for key, alert in wind)


def test_columns_that_move_together_are_told_of_by_one_alert_that_closes_with_the_last() -> None:
    found = [records.decode("alert", out.value) for out in fold_all(_fold(settings=GROUPED), _story())]
    assert [(alert["state"], alert["name"]) for alert in found[:3]] == [
        ("opened", "columns"),
        ("opened", "wind"),
        ("opened", "late"),
    ]
    assert found[0]["summary"] == "1 of 3 features and 1 of 1 outputs moved together: wind, late"
    assert {alert["group"] for alert in found if alert["kind"] != "group"} == {found[0]["id"]}
    assert [alert["name"] for alert in found if alert["state"] == "closed"][-1] == "columns"


def test_an_alert_that_grows_is_updated() -> None:
    source = Batches(profiler(), sources=1)
    values = [*source.batches(20), *source.batches(20, shift=0.5), *source.batches(60, shift=2.0)]
    settings = Settings(detector="e_detector", design_effect=1.0, manners=Manners(a_while_ms=30_000))
    found = [records.decode("alert", out.value) for out in fold_all(_fold(1, settings), values)]
    wind = [alert for alert in found if alert["name"] == "wind"]
    assert {alert["state"] for alert in wind[1:]} == {"updated"}
    assert all(later["size"] >= 1.5 * before["size"] for before, later in pairwise(wind))
    assert wind[-1]["at"].timestamp() >= wind[0]["at"].timestamp() + 30
    assert len({alert["id"] for alert in wind}) == 1


@BOTH
@pytest.mark.parametrize("sources", [1, 4, 12])
def test_the_same_events_give_the_same_alerts_over_any_number_of_partitions(sources: int, settings: Settings) -> None:
    spread = fold_all(_fold(sources, settings), _story(sources))
    assert spread == fold_all(_fold(settings=settings), _story())
    assert spread


@BOTH
def test_the_order_in_which_partitions_arrive_does_not_matter(settings: Settings) -> None:
    values = _story()
    by_source: dict[int, list[bytes]] = {}
    for value in values:
        by_source.setdefault(records.decode("profile", value)["partition"], []).append(value)
    shuffled, rng = [], random.Random(3)
    while waiting := [part for part in by_source.values() if part]:
        part = rng.choice(waiting)
        shuffled.append(part.pop(0))
    assert shuffled != values
    assert fold_all(_fold(settings=settings), shuffled) == fold_all(_fold(settings=settings), values)


def test_batches_that_span_ticks_give_the_same_alerts_as_batches_of_one_tick() -> None:
    one, spanning = profiler(), profiler()
    features, scores = events(20_000, 5, shift=1.0)
    times, partitions = START + np.arange(20_000) * 5, (np.arange(20_000) % 4).astype(np.int32)

    def cut(made_by: object, size: int) -> list[bytes]:
        values = []
        for at in range(0, 20_000, size):
            part = slice(at, at + size)
            values += made_by.profiles(features[part], scores[part], partitions[part], times[part])  # type: ignore[attr-defined]
        return values

    outs = fold_all(_fold(), cut(one, 200))
    assert outs
    assert fold_all(_fold(), cut(spanning, 777)) == outs


def test_a_tick_stays_open_until_every_source_partition_has_passed_it() -> None:
    fold = _fold(sources=5)  # the fifth is silent
    values = _story()
    assert fold_all(fold, values) == []
    idle = profiler().progress([4], START + 1_000_000)
    assert told(fold_all(fold, [*idle, *values])) == told(fold_all(_fold(), values))


def test_what_comes_after_its_tick_closed_is_counted_and_not_tested() -> None:
    folding = Folding(_fold(), 0, 0)
    for offset, value in enumerate(_story()):
        folding.apply(Record(0, offset, None, value))
    rows, late = events(50, 1, shift=9.0)
    value = profiler().profiles(rows, late, np.zeros(50, np.int32), np.full(50, START))[0]
    before = folding.fold.facts(folding.state)
    assert folding.apply(Record(0, 10_000, None, value)) == []
    after = folding.fold.facts(folding.state)
    assert (after["late"], after["rows"]) == (50, before["rows"])


def test_progress_for_one_arm_does_not_close_the_ticks_of_another() -> None:
    shadow = profiler(arm="shadow").progress([0, 1, 2, 3], START + 1_000_000)
    values = list(Batches(profiler(), sources=1).batches(60, shift=2.0))
    assert fold_all(_fold(), [*shadow, *values]) == []


def test_versions_are_watched_apart() -> None:
    old, new = Batches(profiler(version="v1")), Batches(profiler(version="v2"), seed=500)
    values = [value for _ in range(60) for value in (*old.batch(shift=2.0), *new.batch())]
    found = [records.decode("alert", out.value) for out in fold_all(_fold(), values)]
    assert {alert["version"] for alert in found} == {"v1"}


def test_a_version_that_scores_no_more_is_forgotten_and_its_alerts_are_closed() -> None:
    fold = _fold(settings=Settings(detector="windows", window_rows=1000, idle_ms=100_000))
    source = Batches(profiler())
    drifted = list(source.batches(40, shift=2.0))
    idle = profiler().progress([0, 1, 2, 3], START + 1_000_000)
    outs = told(fold_all(fold, [*drifted, *idle]))
    assert outs.count(("opened", "psi", "wind")) == outs.count(("closed", "psi", "wind")) == 1
    folding = Folding(fold, 0, 0)
    for offset, value in enumerate([*drifted, *idle]):
        folding.apply(Record(0, offset, None, value))
    assert folding.fold.facts(folding.state)["streams"] == 0


@pytest.mark.parametrize("value", [None, b"", b"junk", b"\xc3\x01" + b"\0" * 30])
def test_a_poisoned_record_is_counted_and_passed(value: bytes | None) -> None:
    folding = Folding(_fold(), 0, 0)
    assert folding.apply(Record(0, 0, None, value)) == []
    assert folding.fold.facts(folding.state)["poison"] == 1
    assert folding.position == 1


def test_profiles_of_another_deployment_or_reference_are_counted_and_not_tested() -> None:
    folding = Folding(ProfileFold("other", {}, 4), 0, 0)
    own = Folding(ProfileFold(DEPLOYMENT, {}, 4), 0, 0)
    for offset, value in enumerate(Batches(profiler()).batches(2)):
        folding.apply(Record(0, offset, None, value))
        own.apply(Record(0, offset, None, value))
    assert folding.fold.facts(folding.state)["foreign"] == 8
    assert own.fold.facts(own.state)["unknown_reference"] == 400


def test_counts_that_do_not_fit_the_reference_are_poison() -> None:
    record = records.decode("profile", Batches(profiler()).batch()[0])
    record["cells"] = b"\xff\x7f\x01"
    folding = Folding(_fold(), 0, 0)
    folding.apply(Record(0, 0, None, records.encode("profile", record)))
    assert folding.fold.facts(folding.state)["poison"] == 1


def test_a_partition_that_holds_back_the_others_costs_bounded_memory() -> None:
    fold = _fold(sources=2, settings=Settings(detector="windows", window_rows=1000, open_ticks=20))
    folding = Folding(fold, 0, 0)
    for offset, value in enumerate(Batches(profiler(), sources=1, rows=20).batches(100)):
        folding.apply(Record(0, offset, None, value))
    facts = fold.facts(folding.state)
    assert facts["open_ticks"] <= 20
    assert facts["forced"] == 80


@BOTH
@pytest.mark.parametrize("every", [1, 7, 50])
def test_starting_over_from_snapshots_changes_no_alert(every: int, settings: Settings) -> None:
    fold, values = _fold(settings=settings), _story()
    outs = fold_all(fold, values, every)
    assert outs == fold_all(fold, values)
    assert outs


def test_a_state_survives_its_dump_byte_for_byte() -> None:
    fold = _fold()
    folding = Folding(fold, 0, 0)
    for offset, value in enumerate(_story()):
        folding.apply(Record(0, offset, None, value))
    assert fold.dump(fold.load(folding.dump())) == folding.dump()


@pytest.mark.parametrize("data", [b"", b"junk"])
def test_a_damaged_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotInvalid, match="damaged"):
        _fold().load(data)


def test_a_snapshot_of_a_model_that_has_gone_is_read_and_its_ticks_are_dropped() -> None:
    folding = Folding(_fold(), 0, 0)
    values = _story()
    for offset, value in enumerate(values[:400]):
        folding.apply(Record(0, offset, None, value))
    gone = ProfileFold(DEPLOYMENT, {}, 4, SETTINGS)
    later = Folding(gone, 0, 400, folding.dump())
    assert [
        out for offset, value in enumerate(values[400:], 400) for out in later.apply(Record(0, offset, None, value))
    ] == []
    assert gone.facts(later.state)["open_ticks"] == 0
