"""A slot that Kafka calls fenced: another worker has it only when the group knows a member that is not us and lives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.fencing import was_taken

AWAY = KafkaException(KafkaError(KafkaError._TRANSPORT))


def asked(answers: Sequence[str | KafkaException | None]) -> tuple[Callable[[], str | None], list[float]]:
    """Return an `ask` that gives the answers in turn, the last one for ever, and the times of the pauses."""
    left, pauses = list(answers), [0.0]

    def ask() -> str | None:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, KafkaException):
            raise answer
        return answer

    return ask, pauses


@pytest.mark.parametrize(
    ("answers", "taken"),
    [
        (["me"], False),
        ([None], False),
        (["other"], True),
        (["other", "other", None], False),  # it was us, joining: the answer to that was lost
        ([AWAY, AWAY, "me"], False),
        ([AWAY], True),  # nobody knows: starting over could fence a worker that is there
    ],
)
def test_a_slot_was_taken_only_by_another_member_that_lives(
    answers: Sequence[str | KafkaException | None], taken: bool
) -> None:
    ask, clock = asked(answers)

    def sleep(seconds: float) -> None:
        clock.append(clock[-1] + seconds)

    assert was_taken(ask, "me", 8.0, now=lambda: clock[-1], sleep=sleep) is taken
    assert clock[-1] <= 8.0
