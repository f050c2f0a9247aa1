"""What is asked of a cluster about its topics when it answers late, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streams.errors import Refused, Unanswered
from streams.topics import TRIES, Topics


class SlowAdmin:
    """Knows a topic of four partitions that takes 2 MB; its settings are told at the `told`-th time of asking."""

    def __init__(self, told: int, failure: int = KafkaError._TIMED_OUT) -> None:
        self.asked, self._told, self._failure = 0, told, failure

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics={"events": SimpleNamespace(error=None, partitions=range(4))})

    def describe_configs(self, resources: list[Any], request_timeout: float) -> dict[Any, Any]:
        self.asked += 1
        return {resource: SimpleNamespace(result=self._answer) for resource in resources}

    def _answer(self) -> dict[str, Any]:
        if self.asked < self._told:
            raise KafkaException(KafkaError(self._failure))
        return {"max.message.bytes": SimpleNamespace(value="2000000")}


@pytest.fixture
def topics_with() -> Callable[[SlowAdmin], Topics]:
    def make(admin: SlowAdmin) -> Topics:
        topics = Topics({"bootstrap.servers": "127.0.0.1:1"})
        topics.admin = admin  # type: ignore[assignment]
        return topics

    return make


def test_a_limit_that_is_told_late_is_the_one_that_holds(topics_with: Callable[[SlowAdmin], Topics]) -> None:
    topic = topics_with(SlowAdmin(told=TRIES)).require("events")
    assert (topic.partitions, topic.message_bytes) == (4, 2_000_000)


def test_a_limit_that_is_never_told_is_not_guessed(topics_with: Callable[[SlowAdmin], Topics]) -> None:
    admin = SlowAdmin(told=TRIES + 1)
    with pytest.raises(Unanswered, match="cannot read the settings of topic events"):
        topics_with(admin).require("events")
    assert admin.asked == TRIES


class Silent:
    """Answers nothing, or says why not."""

    def __init__(self, failure: int) -> None:
        self._failure = failure

    def list_topics(self, timeout: float) -> Any:
        raise KafkaException(KafkaError(self._failure))


@pytest.mark.parametrize(
    ("failure", "passes"),
    [(KafkaError._TIMED_OUT, True), (KafkaError._TRANSPORT, True), (KafkaError._AUTHENTICATION, False)],
)
def test_a_cluster_that_is_silent_is_told_from_one_that_refuses(
    topics_with: Callable[[Any], Topics], failure: int, passes: bool
) -> None:
    with pytest.raises(Refused, match="cannot list the topics of") as found:
        topics_with(Silent(failure)).require("events")
    assert isinstance(found.value, Unanswered) == passes


def test_a_limit_that_may_not_be_asked_is_kafkas_own(topics_with: Callable[[SlowAdmin], Topics]) -> None:
    admin = SlowAdmin(told=2, failure=KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert topics_with(admin).require("events").message_bytes == 1 << 20
    assert admin.asked == 1
