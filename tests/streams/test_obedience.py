"""What becomes of the states that control asks for: built and offered, refused, tried again, or moved to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from models.errors import ModelRefused, RepositoryUnavailable
from schemas.control import Running, State
from streams import obedience
from streams.building import Wanted
from streams.obedience import Obedience


def state(revision: int, paused: bool = False) -> State:
    return State("d", revision, "{}", "{}", (), paused=paused)


def built(revision: int, site: str = "here", paused: bool = False) -> Any:
    wanted = SimpleNamespace(revision=revision, paused=paused)
    return SimpleNamespace(
        wanted=wanted, site=site, plan=f"plan {revision}", arms=(Running("active", "m", f"v{revision}", "d"),)
    )


class Builder:
    """Builds states by their revision: what `outcomes` holds is returned or raised, one after the other."""

    def __init__(self) -> None:
        self.outcomes: dict[int, list[Any]] = {}
        self.kept: list[list[int]] = []

    def build(self, wanted: Any) -> Any:
        waiting = self.outcomes.get(wanted, [built(wanted)])
        outcome = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def keep(self, *states: Any) -> None:
        self.kept.append([each.wanted.revision for each in states])


class Worker:
    """Takes an offer at once, unless it is `busy` with a batch."""

    def __init__(self) -> None:
        self.plan, self.offers, self.busy = "plan 1", list[str](), False

    def offer(self, plan: str) -> None:
        self.offers.append(plan)
        if not self.busy:
            self.plan = plan


class Reports:
    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def tell(self, **facts: Any) -> None:
        self.told |= facts


class Scene:
    def __init__(self) -> None:
        self.builder, self.worker, self.reports, self.moves = Builder(), Worker(), Reports(), list[Any]()
        self.obedience = Obedience(
            self.builder,  # type: ignore[arg-type]
            built(1),
            self.worker,  # type: ignore[arg-type]
            self.reports,  # type: ignore[arg-type]
            lambda state, worker: self.moves.append((state.wanted.revision, worker)),
        )
        self.obedience.start()

    def want(self, revision: int, paused: bool = False) -> None:
        self.obedience.want(state(revision, paused))

    def wait(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not true():
            assert time.monotonic() < deadline, (self.worker.offers, self.reports.told)
            time.sleep(0.002)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(Wanted, "of_state", lambda state: state.revision)
    monkeypatch.setattr(obedience, "RETRY_SECONDS", (0.01,))
    made = Scene()
    yield made
    made.obedience.close()


def test_a_state_that_can_run_is_offered_and_told(scene: Scene) -> None:
    scene.want(2)
    scene.wait(lambda: scene.reports.told.get("revision") == 2)
    assert scene.worker.offers == ["plan 2"]
    assert scene.reports.told["arms"][0].version == "v2"
    assert (scene.reports.told["wanted"], scene.reports.told["refused"], scene.reports.told["state"]) == (
        2,
        None,
        "running",
    )


def test_a_state_that_cannot_run_is_refused_and_what_runs_goes_on(scene: Scene) -> None:
    scene.builder.outcomes[2] = [ModelRefused("it does not load")]
    scene.want(2)
    scene.wait(lambda: scene.reports.told.get("refused") == 2)
    assert scene.worker.offers == []
    assert scene.reports.told["detail"] == "it does not load"
    scene.want(3)
    scene.wait(lambda: scene.worker.offers == ["plan 3"])
    scene.wait(lambda: scene.reports.told["refused"] is None)


def test_a_repository_that_is_away_is_asked_again(scene: Scene) -> None:
    scene.builder.outcomes[2] = [RepositoryUnavailable("away"), RepositoryUnavailable("away"), built(2)]
    scene.want(2)
    scene.wait(lambda: scene.worker.offers == ["plan 2"])
    assert "refused" not in scene.reports.told or scene.reports.told["refused"] is None


def test_a_newer_state_goes_before_one_that_cannot_be_built_now(scene: Scene) -> None:
    scene.builder.outcomes[2] = [RepositoryUnavailable("away")]
    scene.want(2)
    scene.wait(lambda: scene.reports.told.get("detail") == "away")
    scene.want(3)
    scene.wait(lambda: scene.worker.offers == ["plan 3"])
    time.sleep(0.05)
    assert scene.worker.offers == ["plan 3"]


def test_whatever_a_state_is_the_worker_goes_on(scene: Scene) -> None:
    scene.builder.outcomes[2] = [ValueError("a defect of ours")]
    scene.want(2)
    scene.want(3)
    scene.wait(lambda: "plan 3" in scene.worker.offers)
    assert scene.obedience.is_alive()


def test_models_stay_loaded_that_score_and_that_came_before(scene: Scene) -> None:
    """The way back loads nothing; and nothing is taken from under a worker that is amid a batch."""
    scene.want(2)
    scene.wait(lambda: scene.builder.kept == [[1, 2]])
    scene.worker.busy = True  # it goes on by revision 2 whatever is offered
    for revision in (3, 4):
        scene.want(revision)
        scene.wait(lambda revision=revision: f"plan {revision}" in scene.worker.offers)  # type: ignore[misc]
    scene.wait(lambda: len(scene.builder.kept) == 3)
    assert scene.builder.kept[-1] == [2, 3, 4]


def test_a_state_elsewhere_is_moved_to_after_it_was_built(scene: Scene) -> None:
    scene.builder.outcomes[2] = [built(2, site="there")]
    scene.want(2)
    scene.wait(lambda: scene.moves == [(2, scene.worker)])
    assert scene.worker.offers == []


def test_the_state_that_runs_is_not_built_again(scene: Scene) -> None:
    scene.want(1)
    scene.want(2, paused=True)
    scene.builder.outcomes[2] = [built(2, paused=True)]
    scene.wait(lambda: len(scene.worker.offers) == 1)
    scene.wait(lambda: scene.reports.told.get("state") in ("paused", "running"))
