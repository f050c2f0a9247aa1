"""A slot that Kafka calls fenced: another worker has it only when the group knows a member that is not us and lives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams import fencing
from streams.fencing import was_taken

AWAY = KafkaException(KafkaError(KafkaError._TRANSPORT))
Answer = list[str] | KafkaException


def asked(answers: Sequence[Answer]) -> tuple[Callable[[], list[str]], list[float]]:
    """Return an `ask` that gives the answers in turn, the last one for ever, and the times of the pauses."""
    left, pauses = list(answers), [0.0]

    def ask() -> list[str]:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, KafkaException):
            raise answer
        return answer

    return ask, pauses


@pytest.mark.parametrize(
    ("answers", "taken"),
    [
        ([["me"]], False),
        ([[]], False),
        ([["other"]], True),
        ([["me", "other"]], True),  # members that are not static fence no one: both are there
        ([["me", "other"], ["me"]], False),  # a predecessor that was killed
        ([["other"], ["other"], []], False),  # it was us, joining: the answer to that was lost
        ([AWAY, AWAY, ["me"]], False),
        ([AWAY], True),  # nobody knows: starting over could fence a worker that is there
    ],
)
def test_a_slot_was_taken_only_by_another_member_that_lives(answers: Sequence[Answer], taken: bool) -> None:
    ask, clock = asked(answers)

    def sleep(seconds: float) -> None:
        clock.append(clock[-1] + seconds)

    assert was_taken(ask, "me", 8.0, now=lambda: clock[-1], sleep=sleep) is taken
    assert clock[-1] <= 8.0


def test_a_slot_is_known_by_its_instance_or_where_that_is_missing_by_its_client() -> None:
    class Admin:
        def __init__(self, *_: Any, **__: Any) -> None:
            members = [
                SimpleNamespace(member_id="static", client_id="renamed", group_instance_id="g.0"),
                SimpleNamespace(member_id="dynamic", client_id="g.0", group_instance_id=None),
                SimpleNamespace(member_id="another slot's", client_id="g.00", group_instance_id="g.1"),
            ]
            self.answer = SimpleNamespace(result=lambda: SimpleNamespace(members=members))

        def describe_consumer_groups(self, groups: list[str], request_timeout: float) -> Any:
            return {groups[0]: self.answer}

    assert set(fencing.owners_of(Admin, "g", "g.0")()) == {"static", "dynamic"}
