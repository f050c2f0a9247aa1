"""Which state a worker under control starts with, and what it forgets when it moves."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import ModelRefused, RepositoryUnavailable
from schemas.control import ArmState, State
from schemas.deployment import Deployment
from schemas.errors import ArmUnknown, Explained, SourceUnavailable
from streams import control, controlled
from streams.building import Wanted
from streams.controlled import BACK, first_of
from streams.errors import Refused

READER = {"type": "record", "name": "Event", "fields": [{"name": "a", "type": "double"}]}
DECLARED = Deployment.model_validate(
    {
        "name": "d",
        "input": {"topic": "in", "schema": "event.avsc"},
        "output": {"topic": "out"},
        "arms": [{"role": "active", "model": "m@t"}],
    }
)


def state(revision: int, *, paused: bool = False, version: str = "") -> State:
    arms = [ArmState("active", "active", "m@t", "m", version or f"v{revision}", "digest")]
    return State.of(DECLARED, revision, READER, arms, paused=paused)


class Builder:
    """Builds every state but those that it refuses; notes what it was asked for."""

    def __init__(self, refused: dict[int, Explained]) -> None:
        self._refused = refused
        self.asked: list[Wanted] = []

    def build(self, wanted: Wanted) -> Any:
        self.asked.append(wanted)
        if wanted.revision in self._refused:
            raise self._refused[wanted.revision]
        return SimpleNamespace(wanted=wanted)


def start(monkeypatch: pytest.MonkeyPatch, newest: State, refused: dict[int, Explained]) -> tuple[Builder, Any, Any]:
    """Start a worker; returns the builder, what knows of control, and what was built."""
    earlier = [state(revision) for revision in range(newest.revision - 1, 0, -1)]
    monkeypatch.setattr(control, "read", lambda _: SimpleNamespace(states={"d": newest}))
    monkeypatch.setattr(control, "states_of", lambda *_: [newest, *earlier])
    known: Any = SimpleNamespace(name="d", kafka={}, refused=None, awaited=None, given_up=[], made=[])
    known.make_topics = lambda: known.made.append(newest.revision)
    known.give_up = lambda state, _: known.given_up.append(state.revision)
    builder: Any = Builder(refused)
    return builder, known, lambda: first_of(known, builder)


def test_a_start_takes_what_control_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _, known, begin = start(monkeypatch, state(3), {})
    assert begin().wanted.revision == 3
    assert known.refused is None


def test_a_start_for_a_deployment_that_control_does_not_have_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    builder, known, begin = start(monkeypatch, state(3), {})
    known.name = "nothere"
    with pytest.raises(Refused, match=r"control has no deployment nothere \(it has d\)"):
        begin()
    assert (known.made, builder.asked) == ([], [])
    known.name = "d"
    begin()
    assert known.made == [3]


def test_a_start_goes_back_to_the_last_state_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    no = ModelRefused("it does not load")
    builder, known, begin = start(monkeypatch, state(9), {9: no, 8: no})
    assert begin().wanted.revision == 7
    assert [each.revision for each in builder.asked] == [9, 8, 7]
    assert known.refused == (9, "it does not load")


def test_a_start_does_not_go_back_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    no = {revision: ModelRefused(f"{revision} does not load") for revision in range(3, 10)}
    builder, known, begin = start(monkeypatch, state(9), dict(no))
    with pytest.raises(ModelRefused, match="9 does not load"):
        begin()
    assert len(builder.asked) == 1 + BACK
    assert known.given_up == [9]


def test_a_state_that_a_start_goes_back_to_is_paused_where_the_newest_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, begin = start(monkeypatch, state(2, paused=True), {2: ModelRefused("it does not load")})
    found = begin().wanted
    assert (found.revision, found.paused) == (1, True)


AWAY = RepositoryUnavailable("the repository does not answer")


def test_a_start_that_cannot_fetch_a_version_runs_the_state_before_and_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builder, known, begin = start(monkeypatch, state(3), {3: AWAY, 2: AWAY})
    assert begin().wanted.revision == 1
    assert [each.revision for each in builder.asked] == [3, 2, 1]
    assert (known.refused, known.awaited) == (None, (3, "the repository does not answer"))


def test_a_start_that_cannot_fetch_what_was_rolled_back_to_does_not_take_what_was_rolled_back_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """v2 is bad, and in the cache of the workers that ran it; v1, which came back as revision 3, is not any more."""
    builder, known, begin = start(monkeypatch, state(3, version="v1"), {3: AWAY, 1: AWAY})
    with pytest.raises(RepositoryUnavailable, match="does not answer"):
        begin()
    assert [each.revision for each in builder.asked] == [3]
    assert known.awaited == (3, "the repository does not answer")


def test_a_start_that_can_fetch_nothing_ends_and_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, known, begin = start(monkeypatch, state(2), {2: AWAY, 1: AWAY})
    with pytest.raises(RepositoryUnavailable, match="does not answer"):
        begin()
    assert (known.refused, known.given_up) == (None, [])


@pytest.mark.parametrize(("refused", "awaited"), [((3, "no"), None), (None, (3, "away")), (None, None)])
def test_what_a_start_could_not_build_makes_what_it_has_no_older(
    refused: tuple[int, str] | None, awaited: tuple[int, str] | None
) -> None:
    """A process that stands by with an older state would be started again and again."""
    made: Any = controlled.Controlled.__new__(controlled.Controlled)
    made.removed, made.refused, made.awaited, made._newest = False, refused, awaited, state(3)
    built: Any = SimpleNamespace(wanted=SimpleNamespace(revision=2))
    assert made.stale(built) is (refused is None and awaited is None)
    made._newest = state(4)
    assert made.stale(built)


@pytest.mark.parametrize("why", [ArmUnknown("there is no such arm"), SourceUnavailable("away")])
def test_a_start_does_not_go_back_from_an_arm_that_was_taken_away_or_from_brokers_that_are(
    monkeypatch: pytest.MonkeyPatch, why: Explained
) -> None:
    builder, _, begin = start(monkeypatch, state(2), {2: why})
    with pytest.raises(type(why)):
        begin()
    assert len(builder.asked) == 1


def test_a_worker_that_moved_says_no_more_what_its_start_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = controlled.Controlled.__new__(controlled.Controlled)
    made._changeover, made._moved, made.refused = None, SimpleNamespace(), (2, "it does not load")  # type: ignore[assignment]
    assert made.moved() is not None
    assert made.refused is None
    assert made.moved() is None


def test_the_states_of_these_tests_are_what_control_holds() -> None:
    assert json.loads(state(1).declaration)["name"] == "d"
    assert State.decode(state(1).encode()) == state(1)
