"""Partitions that nobody reads are seen by all slots and taken up by one; a rebalance under way is left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException, TopicPartition

from streams.coverage import LOOK_SECONDS, PATIENCE, Coverage


class Group:
    """A group's coordinator that answers at once, or when told to."""

    def __init__(self, members: Mapping[str, Sequence[int]], state: Any = ConsumerGroupState.STABLE) -> None:
        self.members, self.state, self.ready = dict(members), state, True
        self.failure: Exception | None = None
        self.now = self.asked = 0.0

    def ask(self) -> Group:
        self.asked += 1
        return self

    def done(self) -> bool:
        return self.ready

    def result(self) -> Any:
        if self.failure is not None:
            raise self.failure
        members = [
            SimpleNamespace(
                group_instance_id=name,
                assignment=SimpleNamespace(topic_partitions=[TopicPartition("t", p) for p in partitions]),
            )
            for name, partitions in self.members.items()
        ]
        return SimpleNamespace(state=self.state, members=members)


def looks(group: Group, slot: str = "g.0", seconds: float = 60.0) -> list[list[int]]:
    """What a slot hears in so many seconds, one look a second."""
    coverage = Coverage(group.ask, "t", 4, slot, lambda: group.now)
    heard = []
    for _ in range(int(seconds)):
        group.now += 1
        if found := coverage.orphans():
            heard.append(list(found))
    return heard


def test_what_nobody_reads_is_told_to_the_first_slot_and_to_no_other() -> None:
    members = {"g.1": [3], "g.0": [0]}
    assert looks(Group(members), "g.0", LOOK_SECONDS * 2 + PATIENCE + 3) == [[1, 2]]
    assert looks(Group(members), "g.1") == []


def test_it_is_told_again_while_it_lasts() -> None:
    assert len(looks(Group({"g.0": [0]}), seconds=120)) > 2


def test_whole_groups_are_left_alone() -> None:
    assert looks(Group({"g.0": [0, 1], "g.1": [2, 3]})) == []


def test_a_rebalance_is_left_alone() -> None:
    assert looks(Group({"g.0": [0]}, ConsumerGroupState.PREPARING_REBALANCING)) == []


def test_what_is_without_a_reader_for_a_moment_only_is_left_alone() -> None:
    group = Group({"g.0": [0]})
    coverage = Coverage(group.ask, "t", 4, "g.0", lambda: group.now)
    for second in range(60):
        group.now += 1
        group.members["g.0"] = [0] if second // 6 % 2 else [0, 1, 2, 3]
        assert coverage.orphans() == []


@pytest.mark.parametrize("trouble", ["silent", "denied"])
def test_a_group_that_cannot_be_asked_stops_nothing(trouble: str) -> None:
    group = Group({"g.0": [0]})
    group.ready = trouble != "silent"
    group.failure = KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)) if trouble == "denied" else None
    assert looks(group) == []
    assert group.asked == 1 or trouble == "denied"
