"""What a declaration says: sizes, arms and what goes with what, what arms are called, and who steps in for whom."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.deployment import Declared, Deployment, Quotas
from schemas.errors import ArmUnknown
from schemas.reserved import is_reserved, topics_of
from tests.declared import ACTIVE, ALL, SHADOW, deployment

CANARY = {"role": "canary", "model": "m@candidate", "percent": 5}
CHALLENGER = {"role": "challenger", "model": "other@production", "percent": 20}


def test_arms_go_by_their_role_and_a_number_or_by_the_name_given() -> None:
    named = deployment(CANARY, CHALLENGER, {**CHALLENGER, "name": "blue"}, CHALLENGER, SHADOW).named
    assert list(named) == ["active", "canary", "challenger", "blue", "challenger-3", "shadow"]


def test_active_has_what_the_others_leave() -> None:
    assert deployment().shares() == {"active": 100.0}
    assert deployment(CANARY, CHALLENGER, SHADOW).shares() == {"active": 75.0, "canary": 5.0, "challenger": 20.0}


def test_who_steps_in_for_whom() -> None:
    chain = deployment(CANARY, SHADOW, fallback=["m@stable", "m@old", {"constant": {"score": 0.5}}])
    assert chain.chain("canary") == ["canary", "active", "fallback", "fallback-2", "constant"]
    assert chain.chain("active") == ["active", "fallback", "fallback-2", "constant"]
    assert chain.chain("shadow") == ["shadow"]
    assert deployment(CANARY).chain("canary") == ["canary", "active"]
    assert deployment().chain("active") == ["active"]


def test_what_the_workers_of_an_arm_score_with() -> None:
    declared = deployment(CANARY, SHADOW, fallback=["m@stable"])
    assert declared.models("active") == {"active": "m@production", "canary": "m@candidate", "fallback": "m@stable"}
    assert declared.models("shadow") == {"shadow": "m@candidate"}


def test_an_arm_that_scores_every_event_takes_no_share_and_stands_alone_with_dead_letters_of_its_own() -> None:
    declared = deployment(CANARY, ALL, {**ALL, "name": None}, fallback=["m@stable"])
    assert declared.everywhere == ["trees", "all-2"]
    assert declared.shares() == {"active": 95.0, "canary": 5.0}
    assert list(declared.models("active")) == ["active", "canary", "trees", "all-2", "fallback"]
    assert declared.chain("trees") == ["trees"]
    assert (declared.group("trees"), declared.output_topic("trees")) == ("penstock.d", "out")
    assert declared.dead_letter_topic("trees") == "d.dead-letters.trees"
    assert declared.dead_letter_topic("canary") == declared.dead_letter_topic() == "d.dead-letters"
    with pytest.raises(ArmUnknown, match="has no worker of its own"):
        declared.arm("trees")


def test_a_shadow_has_a_group_and_topics_of_its_own() -> None:
    declared = deployment(CANARY, SHADOW, {**SHADOW, "topic": "d.second"})
    assert [declared.group(name) for name in ("active", "shadow", "shadow-2")] == [
        "penstock.d",
        "penstock.d.shadow",
        "penstock.d.shadow-2",
    ]
    assert [declared.output_topic(name) for name in ("active", "shadow", "shadow-2")] == ["out", "d.shadow", "d.second"]
    assert declared.dead_letter_topic("shadow-2") == "d.dead-letters.shadow-2"


def test_only_active_and_shadows_have_workers() -> None:
    declared = deployment(CANARY, SHADOW)
    assert declared.arm("shadow").topic == "d.shadow"
    with pytest.raises(ArmUnknown, match="run --arm active or --arm shadow"):
        declared.arm("canary")
    with pytest.raises(ArmUnknown, match="its arms are active, canary, shadow"):
        declared.arm("blue")


@pytest.mark.parametrize(
    ("arms", "more", "said"),
    [
        ([ACTIVE], {}, "exactly one arm must have the role active"),
        ([{**CANARY, "percent": None}], {}, "canary and challenger need percent"),
        ([{**SHADOW, "percent": 5}], {}, "no other arm has it"),
        ([{**CANARY, "percent": 100}], {}, "less than 100"),
        ([{**CANARY, "percent": 60}, {**CHALLENGER, "percent": 40}], {}, "nothing is left for active"),
        ([{**ALL, "percent": 5}], {}, "all and shadow have every event"),
        ([{**ALL, "topic": "x"}], {}, "only a shadow has a topic of its own; inferences of all go to"),
        ([{**CANARY, "topic": "x"}], {}, "only a shadow has a topic of its own"),
        ([{**SHADOW, "topic": None}], {}, "a shadow arm needs its own topic"),
        ([{**SHADOW, "topic": "out"}], {}, "two arms write to out"),
        ([SHADOW, SHADOW], {}, "two arms write to d.shadow"),
        ([], {"output": {"topic": "in"}}, "in is the input topic and one that inferences go to"),
        ([{**SHADOW, "topic": "in"}], {}, "in is the input topic and one that inferences go to"),
        (
            [{**SHADOW, "topic": "d.dead-letters"}],
            {},
            "d.dead-letters is where the dead letters, profiles or samples of d go",
        ),
        ([{**SHADOW, "topic": "d.dead-letters.shadow"}], {}, "d.dead-letters.shadow is where"),
        ([], {"output": {"topic": "d.profiles"}}, "d.profiles is where"),
        ([], {"input": {"topic": "d.dead-letters", "schema": "e.avsc"}}, "d.dead-letters is where"),
        (
            [],
            {"input": {"topic": "penstock.audit", "schema": "e.avsc"}},
            "penstock.audit would be",
        ),
        ([], {"output": {"topic": "penstock.control"}}, "penstock.control would be"),
        ([{**SHADOW, "topic": "penstock.not-yet"}], {}, "penstock.not-yet would be"),
        ([], {"output": {"topic": "__consumer_offsets"}}, "__consumer_offsets would be"),
        ([], {"name": "penstock"}, "penstock.profiles would be"),
        ([], {"labels": {"topic": "penstock.labels", "schema": "l.avsc", "value": "late"}}, "penstock.labels would be"),
        ([CANARY, {**CHALLENGER, "name": "canary"}], {}, "two arms have the same name"),
        ([{**CANARY, "name": "active"}], {}, "and no other, is named active"),
        ([{**CANARY, "name": "fallback"}], {"fallback": ["m@stable"]}, "fallback is the name of an arm of the"),
        ([{**CANARY, "name": "constant"}], {}, "constant is the name of an arm of the"),
        ([], {"fallback": [{"constant": {"s": 1.0}}, "m@stable"]}, "a constant can only be the last"),
        ([], {"fallback": ["stable"]}, "fallback"),
        ([{**CANARY, "role": "fallback"}], {}, "role"),
    ],
)
def test_what_does_not_go_together_is_refused(arms: list[dict[str, Any]], more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        deployment(*arms, **more)


def test_every_topic_that_penstock_makes_of_its_own_is_reserved() -> None:
    from monitoring import alerts, setup
    from penstock import audit, followers
    from penstock.client import replays
    from schemas import topic
    from streams import quarantine
    from streams.control import TOPICS

    own = [alerts.TOPIC, setup.SNAPSHOTS, audit.TOPIC, followers.TOPIC, replays.TOPIC, topic.TOPIC, quarantine.TOPIC]
    assert [each for each in (*own, *TOPICS.settings()) if not is_reserved(each)] == []
    assert [each for each in ("flights.events", "penstocks", "_private") if is_reserved(each)] == []


def test_topics_of_every_section_are_found_whatever_it_is_called() -> None:
    class Section(Declared):
        topic: str | None = None

    class More(Declared):
        labels: Section
        others: list[Section]

    named = More(labels=Section(topic="a"), others=[Section(topic="b"), Section()])
    assert list(topics_of(named)) == ["a", "b"]
    assert sorted(topics_of(deployment(SHADOW))) == ["d.shadow", "in", "out"]


SCHEMA = {"type": "record", "name": "E", "fields": [{"name": "a", "type": "double"}]}


def declared(**limits: Any) -> Deployment:
    return deployment(limits=limits)


@pytest.mark.parametrize(("text", "size"), [("512MiB", 512 << 20), ("2GiB", 2 << 30), ("2GB", 2 * 10**9), (7, 7)])
def test_memory_is_a_number_of_bytes_or_a_size(text: object, size: int) -> None:
    assert declared(model_memory=text).limits.model_memory == size


@pytest.mark.parametrize("text", ["a lot", "2TiB", "-1", 0, None])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValidationError, match="model_memory"):
        declared(model_memory=text)


def test_a_limit_on_memory_is_no_new_revision_because_it_changes_no_inference() -> None:
    assert declared(model_memory="2GiB").revision(SCHEMA) == declared().revision(SCHEMA)
    assert declared(model_seconds=2.0).revision(SCHEMA) != declared().revision(SCHEMA)


def test_a_default_that_is_written_out_is_no_new_revision() -> None:
    assert declared(model_seconds=10.0, event_bytes="1MiB").revision(SCHEMA) == declared().revision(SCHEMA)


def test_quotas_are_of_a_slot_and_give_no_other_revision() -> None:
    declared = deployment(quotas={"events_per_second": 500, "cpu": 0.5, "memory": "1GiB"})
    assert (declared.quotas.events_per_second, declared.quotas.cpu, declared.quotas.memory) == (500, 0.5, 1 << 30)
    assert deployment().quotas == Quotas() == Quotas(events_per_second=None, cpu=None, memory=None)
    assert declared.revision({}) == deployment().revision({}) != deployment(latency_ms=5).revision({})
    assert Deployment.model_validate(declared.to_dict()) == declared


@pytest.mark.parametrize(
    "quotas", [{"events_per_second": 0}, {"cpu": 0.01}, {"cpu": 17}, {"memory": "lots"}, {"memory": 0}, {"disk": 1}]
)
def test_quotas_that_mean_nothing_are_refused(quotas: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="quotas"):
        deployment(quotas=quotas)
